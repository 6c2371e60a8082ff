"""Key maps lead there and back, and pass nothing over."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from vlmcourse.interop.keys import (
    FORMS,
    fuse,
    give_weights,
    nested,
    require,
    require_family,
    spell,
    take_weights,
    translate,
    unfuse,
)
from vlmcourse.training.checkpoints import CheckpointError

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


# ---- the dialect --------------------------------------------------------------------------------


class Small(nn.Module):
    """A part of every kind: fused, transposed, tied, numbered, optional, a single number."""

    def __init__(self, gate: bool = True):
        super().__init__()
        self.embedding, self.head = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"qkv": nn.Linear(4, 8), "up": nn.Linear(4, 6)}) for _ in range(11)
        )
        self.gate = nn.Linear(2, 2) if gate else None
        self.scale = nn.Parameter(torch.tensor(3.0))
        self.patch = nn.Linear(12, 5, bias=False)


ROWS = {
    "embedding.weight": "words",
    "head.weight": "words = copy",
    "blocks.#.qkv.*": "layer_#.(q k v)_proj.*",
    "blocks.#.up.*": "layer_#.up.*, transposed",
    "gate.*": "gate.*",
    "scale": "temperature",
    "patch.weight": "conv, patches",
}


class Theirs(nn.Module):
    """The same as a library keeps it."""

    def __init__(self):
        super().__init__()
        shapes = {
            "words": (7, 4),
            "gate.weight": (2, 2),
            "gate.bias": (2,),
            "temperature": (),
            "conv": (5, 3, 2, 2),
        }
        for layer in range(11):
            parts = {"q": 4, "k": 2, "v": 2}
            shapes |= {f"layer_{layer}.{part}_proj.weight": (rows, 4) for part, rows in parts.items()}
            shapes |= {f"layer_{layer}.{part}_proj.bias": (rows,) for part, rows in parts.items()}
            shapes |= {f"layer_{layer}.up.weight": (4, 6), f"layer_{layer}.up.bias": (6,)}
        torch.manual_seed(0)
        self.tensors = {key: torch.randn(shape) for key, shape in shapes.items()}

    def state_dict(self):
        return dict(self.tensors)

    def load_state_dict(self, state, strict):
        assert strict and state.keys() == self.tensors.keys()
        self.tensors = state


def test_a_name_is_spelled_by_the_row_that_fits_it():
    names, forms, copies = spell(ROWS, ["blocks.10.qkv.bias", "scale", "blocks.3.up.weight"])
    parts = tuple(f"layer_10.{part}_proj.bias" for part in "qkv")
    assert names == {"blocks.10.qkv.bias": parts, "scale": ("temperature",),
                     "blocks.3.up.weight": ("layer_3.up.weight",)}  # fmt: skip
    assert forms["layer_3.up.weight"] is FORMS["transposed"] and forms["temperature"] is FORMS[""]
    assert not copies and spell(ROWS, ["embedding.weight", "head.weight"])[2] == {"words": ["copy"]}


@pytest.mark.parametrize(
    "name", ["block.1.up.weight", "blocks.one.up.weight", "blocks.1.up.a.b", "xscale", "scale.x"]
)
def test_a_name_without_a_row_is_an_error(name):
    with pytest.raises(KeyError, match=f"0 rows are for {name}"):
        spell(ROWS, [name])


def test_a_name_with_two_rows_is_an_error():
    with pytest.raises(KeyError, match="2 rows are for scale"):
        spell(ROWS | {"*": "everything.*"}, ["scale"])


def test_rows_can_stand_deeper():
    assert nested({"a.*": "b.*"}, "ours.", "theirs.") == {"ours.a.*": "theirs.b.*"}


def test_weights_are_taken_and_given_back():
    library = Theirs()
    state = library.state_dict()
    model = take_weights(Small(), state, ROWS, "a file")
    assert not model.training and model.scale == state["temperature"]
    assert torch.equal(model.blocks[10]["qkv"].weight[4:6], state["layer_10.k_proj.weight"])
    assert torch.equal(model.blocks[10]["qkv"].bias[6:], state["layer_10.v_proj.bias"])
    assert torch.equal(model.blocks[2]["up"].weight, state["layer_2.up.weight"].T)
    assert torch.equal(model.blocks[2]["up"].bias, state["layer_2.up.bias"])
    pixels = [(row, column, channel) for row in range(2) for column in range(2) for channel in range(3)]
    for place, (row, column, channel) in enumerate(pixels):
        assert model.patch.weight[1, place] == state["conv"][1, channel, row, column]
    other = Theirs()
    other.tensors = {key: torch.zeros_like(value) for key, value in other.tensors.items()}
    back = give_weights(model, other, ROWS)
    assert not back.training and all(torch.equal(back.tensors[key], state[key]) for key in state)


def test_a_tied_copy_is_given_where_the_library_keeps_it():
    library = Theirs()
    state = library.state_dict()
    library.tensors["copy"] = torch.zeros(7, 4)
    back = give_weights(take_weights(Small(), state, ROWS, "a file"), library, ROWS)
    assert torch.equal(back.tensors["copy"], state["words"])


@pytest.mark.parametrize("first", ["words", "copy"])
def test_a_tied_weight_may_have_any_of_its_names(first):
    state = Theirs().state_dict()
    state[first] = state.pop("words")
    assert torch.equal(take_weights(Small(), state, ROWS, "a file").head.weight, state[first])


def test_tied_weights_that_differ_are_named_with_their_file():
    state = Theirs().state_dict()
    state["copy"] = state["words"] + 1
    with pytest.raises(CheckpointError, match="a file: words and copy should be one tensor"):
        take_weights(Small(), state, ROWS, "a file")


def test_what_a_model_lacks_needs_no_row_and_is_not_taken():
    state = Theirs().state_dict()
    with pytest.raises(
        CheckpointError, match=r"a file .* this Small:\n  unexpected: gate\.weight\n.*gate\.bias"
    ):
        take_weights(Small(gate=False), state, ROWS, "a file")
    model = take_weights(Small(gate=False), state, ROWS, "a file", dropped=("gate.weight", "gate.bias"))
    assert model.gate is None


def test_only_the_endings_of_keys_are_dropped():
    state = Theirs().state_dict() | {"inner.gate.bias.more": torch.ones(1)}
    with pytest.raises(CheckpointError, match=r"unexpected: inner\.gate\.bias\.more"):
        take_weights(Small(gate=False), state, ROWS, "a file", dropped=("gate.weight", "gate.bias"))


def test_a_shape_that_differs_is_named_and_nothing_is_taken():
    state, model = Theirs().state_dict(), Small()
    before = model.embedding.weight.clone()
    state["layer_3.q_proj.weight"] = torch.randn(5, 4)
    with pytest.raises(
        CheckpointError, match=r"blocks\.3\.qkv\.weight is \(9, 4\), the model needs \(8, 4\)"
    ):
        take_weights(model, state, ROWS, "a file")
    assert torch.equal(model.embedding.weight, before)


@pytest.mark.parametrize(
    ("form", "shape"),
    [("", (2, 3)), ("transposed", (2, 3)), ("transposed", (3,)), ("patches", (5, 3, 2, 4)),
     ("frames", (5, 3, 2, 4, 4)), ("matrix", (3, 2, 1, 1)), ("matrix", (1, 1, 1, 1)), ("matrix", (3,)),
     ("rows", (1, 3, 2)), ("vector", (1, 1, 4))],
)  # fmt: skip
def test_a_form_is_undone(form, shape):
    weight = torch.randn(shape)
    read = FORMS[form].read(weight)
    assert torch.equal(FORMS[form].write(read, weight.shape), weight)


def test_forms_have_the_shapes_of_ours():
    shapes = {("transposed", (2, 3)): (3, 2), ("patches", (5, 3, 2, 4)): (5, 24),
              ("matrix", (3, 2, 1, 1)): (3, 2), ("rows", (1, 3, 2)): (3, 2),
              ("vector", (1, 1, 4)): (4,)}  # fmt: skip
    for (form, shape), expected in shapes.items():
        assert FORMS[form].read(torch.zeros(shape)).shape == expected
    # what should be 1×1 and is not keeps all its numbers, and so another shape than ours
    assert FORMS["matrix"].read(torch.zeros(3, 2, 3, 3)).shape == (3, 18)
    assert FORMS["rows"].read(torch.zeros(2, 3, 2)).shape == (6, 2)


def test_configurations_are_translated_and_options_refused():
    config = SimpleNamespace(hidden_size=3, layers=2, model_type="tiny", bias=True)
    assert translate(config, {"width": "hidden_size", "depth": "layers"}) == {"width": 3, "depth": 2}
    require(config, bias=True, unknown="anything")
    with pytest.raises(ValueError, match="our tiny needs bias = False; this one has True"):
        require(config, bias=False)
    theirs = nn.Linear(1, 1)
    theirs.config = config
    require_family(theirs, "small", "tiny")
    with pytest.raises(ValueError, match="this Linear is a model of type 'tiny', not 'small' or 'big'"):
        require_family(theirs, "small", "big")


@pytest.mark.parametrize(("key", "shape"), [("conv", (5, 12)), ("layer_3.q_proj.weight", (4, 9))])
def test_a_weight_that_cannot_be_ours_is_an_error_that_names_it(key, shape):
    state = Theirs().state_dict() | {key: torch.ones(shape)}
    with pytest.raises(CheckpointError, match="a file holds weights of other shapes than ours") as refused:
        take_weights(Small(), state, ROWS, "a file")
    assert f"  {key} {shape}" in str(refused.value) and "words" not in str(refused.value)
