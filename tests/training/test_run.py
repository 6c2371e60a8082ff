"""A run remembers everything that moves, in files that hold numbers only."""

import contextlib
import json
import random

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from vlmcourse.data.batches import Batches
from vlmcourse.training.checkpoints import CheckpointError, list_checkpoints
from vlmcourse.training.history import History
from vlmcourse.training.loop import train
from vlmcourse.training.resume import (
    Run,
    lock,
    pack_optimizer,
    random_state,
    set_random_state,
    unpack_optimizer,
)

CPU = torch.device("cpu")


def made(width: int = 3) -> Run:
    torch.manual_seed(0)
    model = nn.Linear(width, 2)
    optimizer = torch.optim.AdamW(
        [{"params": [model.weight], "lr": 0.5}, {"params": [model.bias], "lr": 0.25, "weight_decay": 0.0}]
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    stream = Batches(torch.arange(20.0).reshape(20, 1), 4).stream()
    return Run(model, optimizer, schedule, stream, History(), Accelerator(cpu=True))


def step(run: Run) -> list[float]:
    """One step, and the numbers of its batch."""
    batch = next(run.stream)
    run.model(torch.ones(2, 3)).square().sum().backward()
    run.optimizer.step()
    run.optimizer.zero_grad()
    run.schedule.step()
    run.history.losses.append(float(len(run.history.losses)))
    return torch.as_tensor(batch).flatten().tolist()


def test_everything_that_moves_comes_back(tmp_path, unchecked):  # the check itself draws random numbers
    run = made()
    run.history.metrics["seen"] = [1.0]
    run.history.seconds, run.history.precision = 5.0, "bf16"
    for _ in range(3):
        step(run)
    run.save(tmp_path, keep=2)
    draws = (random.random(), float(np.random.rand()), float(torch.rand(1)))
    expected = [step(run) for _ in range(4)]
    other = made()
    other.open(tmp_path, resume=True)
    assert (random.random(), float(np.random.rand()), float(torch.rand(1))) == draws
    assert other.history == History("bf16", [0.0, 1.0, 2.0], [], {"seen": [1.0]}, 5.0)
    assert other.optimizer.param_groups[0]["lr"] == 0.125 and other.optimizer.param_groups[1]["lr"] == 0.0625
    assert other.optimizer.param_groups[1]["weight_decay"] == 0.0
    assert [step(other) for _ in range(4)] == expected
    assert torch.equal(other.model.weight, run.model.weight) and torch.equal(other.model.bias, run.model.bias)
    assert other.schedule.state_dict()["last_epoch"] == run.schedule.state_dict()["last_epoch"] == 7


def test_a_checkpoint_is_named_by_its_step_and_older_ones_go(tmp_path):
    run = made()
    for _ in range(3):
        step(run)
        run.save(tmp_path, keep=1)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000003"]


def test_a_folder_with_a_run_is_not_written_over(tmp_path):
    run = made()
    step(run)
    run.save(tmp_path, keep=2)
    with pytest.raises(CheckpointError, match=r"already holds a run up to step-00000001; pass resume=True"):
        made().open(tmp_path, resume=False)


def test_an_empty_folder_is_opened_with_and_without_resume(tmp_path):
    for resume in (True, False):
        run = made()
        run.open(tmp_path / "new", resume)
        assert run.history.steps == 0 and (tmp_path / "new").is_dir()


def test_a_list_keeps_no_position(tmp_path):
    run = made()
    run.stream = iter([1, 2])
    with pytest.raises(CheckpointError, match="a list keeps no position"):
        run.open(tmp_path, resume=False)


def test_another_model_is_refused_and_named(tmp_path):
    run = made()
    step(run)
    run.save(tmp_path, keep=2)
    with pytest.raises(
        CheckpointError, match=r"step-00000001 was written by another model than Linear:\n  weight is"
    ):
        made(width=4).open(tmp_path, resume=True)


def test_another_optimizer_is_refused(tmp_path):
    run = made()
    step(run)
    run.save(tmp_path, keep=2)
    other = made()
    other.optimizer = torch.optim.AdamW(other.model.parameters())
    with pytest.raises(CheckpointError, match="does not fit this run"):
        other.open(tmp_path, resume=True)


def started(folder, rate: float, weight: float = 0.0) -> Run:
    run = made()
    run.origin = {"rates": {"adamw": rate}, "sides": (2, 3)}
    run.model.bias.data += weight
    run.open(folder, resume=True)
    return run


def test_a_run_that_began_from_something_else_is_not_carried_on(tmp_path):
    first = started(tmp_path, 0.5)
    step(first)
    first.save(tmp_path, keep=2)
    first.close()
    again = started(tmp_path, 0.5)
    assert again.history.steps == 1
    again.close()
    with pytest.raises(
        CheckpointError, match=r"rates: \{'adamw': 0.5\} there, \{'adamw': 0.1\} now[^$]*--fresh"
    ):
        started(tmp_path, 0.1)
    with pytest.raises(CheckpointError, match="weights: it began with others"):
        started(tmp_path, 0.5, weight=1.0)
    refused = []
    with pytest.raises(CheckpointError) as error:
        started(tmp_path, 0.1)
    refused.append(error)  # as a notebook keeps the last error, and with it the run
    started(tmp_path, 0.5).close()  # yet the folder is free


def test_a_checkpoint_that_does_not_say_what_it_began_from_is_refused_where_it_counts(tmp_path):
    made().save(tmp_path, keep=2)
    made().open(tmp_path, resume=True)
    with pytest.raises(CheckpointError, match="rates: None there"):
        started(tmp_path, 0.5)


def test_two_trainings_do_not_write_to_one_folder(tmp_path):
    first = started(tmp_path, 0.5)
    with pytest.raises(CheckpointError, match="another training writes to"):
        started(tmp_path, 0.5)
    first.close()
    started(tmp_path, 0.5).close()


def test_a_training_that_ends_or_fails_lets_others_write(tmp_path):
    for loss in (lambda model, batch: model(batch).square().mean(), lambda model, batch: 1 / 0):
        with contextlib.suppress(ZeroDivisionError):
            options = dict(steps=2, checkpoint=tmp_path, resume=True)
            train(nn.Linear(1, 1), Batches(torch.ones(8, 1), 4), loss, **options)
        lock(tmp_path).release()


def test_a_process_that_was_not_there_draws_anew_and_says_so(tmp_path):
    run = made()
    step(run)
    run.save(tmp_path, keep=2)
    (path,) = list_checkpoints(tmp_path)
    state = json.loads((path / "state.json").read_text())
    state["random"] = []
    (path / "state.json").write_text(json.dumps(state))
    with pytest.warns(UserWarning, match="knows 0 processes; process 0 draws anew"):
        made().load(path)


def test_an_optimizer_is_packed_into_tensors_and_json():
    run = made()
    step(run)
    tensors, packed = pack_optimizer(run.optimizer)
    assert {"0/exp_avg", "0/exp_avg_sq", "1/exp_avg", "1/exp_avg_sq"} <= tensors.keys()
    back = unpack_optimizer(tensors, json.loads(json.dumps(packed)))
    original = run.optimizer.state_dict()
    assert back["param_groups"] == json.loads(json.dumps(original["param_groups"]))
    assert back["state"].keys() == original["state"].keys()
    for index, quantities in original["state"].items():
        assert quantities.keys() == back["state"][index].keys()
        assert all(torch.equal(value, back["state"][index][name]) for name, value in quantities.items())


def test_plain_numbers_of_an_optimizer_are_kept_too():
    packed = {"rest": {"0/count": 3}, "groups": []}
    assert unpack_optimizer({"0/mean": torch.ones(1)}, packed)["state"][0]["count"] == 3
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0, momentum=0.5)
    optimizer.state[optimizer.param_groups[0]["params"][0]] = {"count": 3, "mean": torch.ones(1)}
    tensors, packed = pack_optimizer(optimizer)
    assert tensors.keys() == {"0/mean"} and packed["rest"] == {"0/count": 3}


@pytest.mark.parametrize("draw", [random.random, lambda: random.gauss(0, 1), np.random.rand, np.random.randn,
                                  lambda: torch.rand(1).item(), lambda: torch.randn(1).item()])  # fmt: skip
def test_every_generator_goes_on_where_it_was(draw):
    draw()
    state = json.loads(json.dumps(random_state(CPU)))
    expected = [draw() for _ in range(5)]
    set_random_state(state, CPU)
    assert [draw() for _ in range(5)] == expected


def test_a_device_that_was_not_there_keeps_its_own_state():
    state = random_state(CPU)
    assert state.keys() == {"python", "numpy", "cpu"}
    set_random_state(state, torch.device("cuda"))  # asks no GPU
