"""The second device: what runs on it, and what is noticed there as on a GPU."""

import numpy as np
import pytest
import torch

from tests.workbook.learner import cell
from vlmcourse.exercises.base import all_exercises
from vlmcourse.slots import Slot
from vlmcourse.workbook.check import judge
from vlmcourse.workbook.elsewhere import THERE, DeviceError, Elsewhere, NumpyError, placed, second_device
from vlmcourse.workbook.outcomes import convert, equal, trial_of

X = torch.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize("task", all_exercises().values(), ids=lambda task: task.slot.name)
def test_every_reference_does_the_same_on_the_second_device(task):
    trial = trial_of(task, Slot.changes)
    for case, expected in zip(trial.cases, trial.expected, strict=True):
        if expected.error is None:
            torch.manual_seed(21)  # as outcomes.run does: dropout draws the same
            with second_device():
                output = trial.reference(*convert(case, lambda t: Elsewhere(t.detach().clone())))
            inside = convert((output,), lambda t: getattr(t, "inside", t))
            assert equal(inside[0], expected.value)


@pytest.mark.parametrize("follows", [
    lambda x: x + torch.zeros(3, device=x.device),
    lambda x: x.new_tensor([1.0, 2, 3]) + torch.tensor(2.0) + x,  # one number mixes with anything
    lambda x: x[torch.tensor([1, 0])],  # as do places
    lambda x: torch.tensor(x.tolist(), device=x.device) + torch.as_tensor([1.0], device=x.device) + x,
    lambda x: x.clone().add_(1) if (x > 1).any() else x,
    lambda x: {"a": [x, (x.double(),)]}["a"][1][0],
])  # fmt: skip
def test_what_follows_its_input_ends_there(follows):
    assert placed(follows, (X,)) == [THERE]


def test_a_result_left_behind_is_seen_in_lists_and_dicts_too():
    assert placed(lambda x: {"a": [x, torch.tensor(x.tolist())]}, (X,)) == [THERE, torch.device("cpu")]
    assert placed(lambda x: x.cpu(), (X,)) == [torch.device("cpu")]
    assert placed(lambda x: 3, (X,)) == placed(lambda x: x.nothing, (X,)) == []


@pytest.mark.parametrize("fixed", [
    lambda x: x + torch.zeros(3),
    lambda x: torch.cat([x, torch.ones(1, 3)]),
    lambda x: x.masked_fill(torch.tensor([True, False, True]), 0),
    lambda x: x if x.sum() < 0 else torch.arange(2.0) @ x,  # only behind a condition on values
])  # fmt: skip
def test_two_devices_do_not_mix(fixed):
    with pytest.raises(DeviceError):
        placed(fixed, (X,))


@pytest.mark.parametrize("read", [
    lambda x: torch.tensor(x.numpy(), device=x.device),
    lambda x: torch.from_numpy(np.asarray(x)).to(x.device),
    lambda x: torch.from_numpy(np.maximum(x, 0)).to(x.device),
])  # fmt: skip
def test_numpy_reads_nothing_there_until_it_is_brought_over(read):
    with pytest.raises(NumpyError):
        placed(read, (X,))
    assert placed(lambda x: torch.from_numpy(x.cpu().numpy()).to(x.device), (X,)) == [THERE]
    assert placed(lambda x: torch.from_numpy(x.numpy(force=True)).to(x.device), (X,)) == [THERE]


def test_numpy_without_cpu_is_told_so_with_its_line():
    answer = cell(
        "def image_share(weights, places):\n"
        "    share = np.einsum('lbhqk,bk->lbq', weights.numpy(), places.numpy()) / weights.shape[2]\n"
        "    return torch.from_numpy(share).to(weights)\n",
        np=np,
    )
    verdict = judge(all_exercises()["share.image_share"], answer)
    assert "NumPy cannot read a tensor on a GPU" in verdict.says.en and verdict.line[1] == 2


ALONE = {
    "stages.alignment_loss": (
        "def f(logits, ids, given, mask):\n"
        "    caption = (mask & (torch.arange(ids.shape[1]) >= given[:, None]))[:, 1:]\n"
        "    return F.cross_entropy(logits[:, :-1][caption], ids[:, 1:][caption])\n"
    ),
    "keys.fuse": (
        "def f(state, names):\n"
        "    if set(state) != {key for keys in names.values() for key in keys}:\n"
        "        raise KeyError('names')\n"
        "    empty = torch.zeros(0)\n"
        "    return {ours: torch.cat([empty.to(state[keys[0]].dtype), *map(state.get, keys)])\n"
        "            for ours, keys in names.items()}\n"
    ),
    "chat.label_mask": (
        "def f(ids, start=8, end=9):\n"
        "    rows = []\n"
        "    for row in ids.tolist():\n"
        "        inside = False\n"
        "        rows.append([])\n"
        "        for token in row:\n"
        "            rows[-1].append(inside)\n"
        "            inside = token == start or (inside and token != end)\n"
        "    return torch.tensor(rows)\n"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ALONE)
def test_exercises_with_conditions_on_values_and_dicts_are_checked_too(name):
    verdict = judge(all_exercises()[name], cell(ALONE[name]))
    assert "would fail on a GPU" in verdict.says.en


def test_the_line_that_mixes_is_named():
    verdict = judge(all_exercises()["stages.alignment_loss"], cell(ALONE["stages.alignment_loss"]))
    assert verdict.line[1] == 2
