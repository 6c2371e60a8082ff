"""What a chapter trained is taken up by a later one, if it is there and fits; else the course's stays."""

import pytest
import torch
from torch import nn

from vlmcourse.workbook import keep_weights, reuse_weights


@pytest.fixture
def part():
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def test_kept_weights_are_taken_and_said_to_be_yours(part, workspace, capsys):
    keep_weights(part, "projector")
    assert (workspace / "runs" / "projector.safetensors").is_file()
    other = nn.Linear(3, 2)
    assert reuse_weights(other, "projector", "07")
    assert torch.equal(other.weight, part.weight.half().float())
    assert "projector: yours, from " in capsys.readouterr().out


def test_without_yours_the_courses_stay(part, capsys):
    before = part.weight.clone()
    assert not reuse_weights(part, "projector", "07")
    assert torch.equal(part.weight, before)
    assert "you have not trained yours yet (chapter 07)" in capsys.readouterr().out


@pytest.mark.parametrize("spoil", ["another shape", "a changed file"])
def test_weights_that_do_not_fit_are_named_and_left(spoil, part, workspace, capsys):
    keep_weights(nn.Linear(4, 2) if spoil == "another shape" else part, "projector")
    if spoil == "a changed file":
        (workspace / "runs" / "projector.safetensors").write_bytes(b"torn")
    before = part.weight.clone()
    assert not reuse_weights(part, "projector", "07")
    assert torch.equal(part.weight, before)
    assert "yours do not fit" in capsys.readouterr().out


def test_a_full_or_closed_place_is_said_and_stops_nothing(part, workspace, capsys):
    (workspace / "runs").write_text("a file in the way")
    keep_weights(part, "projector")
    assert "Not saved" in capsys.readouterr().out
