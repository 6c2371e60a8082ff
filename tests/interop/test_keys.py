"""Key maps lead there and back, and pass nothing over."""

import pytest
import torch

from vlmcourse.interop.keys import fuse, unfuse

NAMES = {
    "project_in.weight": ("q.weight", "k.weight", "v.weight"),
    "scale": ("logit_scale",),
    "out.bias": ("o.bias",),
}


def theirs():
    torch.manual_seed(0)
    return {"o.bias": torch.randn(5), "q.weight": torch.randn(6, 5), "k.weight": torch.randn(2, 5),
            "v.weight": torch.randn(2, 5), "logit_scale": torch.tensor(2.0)}  # fmt: skip


def test_there_and_back():
    state = theirs()
    ours = fuse(state, NAMES)
    assert list(ours) == list(NAMES) and ours["project_in.weight"].shape == (10, 5)
    assert torch.equal(ours["project_in.weight"][6:8], state["k.weight"])
    del ours["scale"], state["logit_scale"]  # a single number has no rows
    names = {ours: keys for ours, keys in NAMES.items() if ours != "scale"}
    back = unfuse(ours, names, {key: len(value) for key, value in state.items()})
    assert back.keys() == state.keys() and all(torch.equal(back[key], state[key]) for key in back)


@pytest.mark.parametrize("change", [lambda s: s.pop("k.weight"), lambda s: s.update(extra=torch.ones(1))])
def test_a_name_too_few_or_too_many_is_an_error(change):
    state = theirs()
    change(state)
    with pytest.raises(KeyError, match=r"k\.weight|extra"):
        fuse(state, NAMES)
