"""A killed run, resumed, must end where an unbroken one ends: same bits, on one process and on two."""

import itertools
import multiprocessing
import os
import shutil
import signal
import socket
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from vlmcourse.data.batches import Batches
from vlmcourse.training import checkpoints
from vlmcourse.training.loop import train

# a fork server imports torch once; each run is then a process of its own that can be killed
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(
    ["torch", "accelerate", "vlmcourse.training.loop", "tqdm.notebook", "torch._dynamo"]
)
HOOKS = {
    "fsync": (os, "fsync"),
    "rename": (os, "replace"),
    "remove": (shutil, "rmtree"),
    "write": (checkpoints, "save_file"),
}
DEATHS = [
    ("step", 2),  # before the first checkpoint
    ("step", 5),  # between checkpoints
    ("write", 3),  # in the middle of the model's file of the second checkpoint
    ("write", 4),  # of the optimizer's
    ("fsync", 9),  # before the state is on the disk
    ("fsync", 10),  # before the manifest is
    ("fsync", 11),  # before the folder is
    ("rename", 2),  # before the new checkpoint gets its name
    ("fsync", 12),  # after that, before the name is on the disk
    ("rename", 3),  # before the oldest checkpoint is put aside
    ("remove", 10),  # put aside, but not yet removed
    ("write", 7),  # in the middle of the last checkpoint
]


def run(
    folder: Path, name: str, death: tuple[str, int] | None, dropout: float, rank: int, world: int, port: int
):
    """In a process of its own: twelve steps, a checkpoint every third; dies at `death`."""
    torch.set_num_threads(1)
    if world > 1:
        os.environ.update(
            RANK=f"{rank}", LOCAL_RANK=f"{rank}", WORLD_SIZE=f"{world}", LOCAL_WORLD_SIZE=f"{world}"
        )
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=f"{port}", ACCELERATE_USE_CPU="true")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 3))
    torch.manual_seed(rank)
    generator = torch.Generator().manual_seed(1)
    data = {"x": torch.randn(50, 6, generator=generator), "y": torch.randint(3, (50,), generator=generator)}

    def loss_fn(model, batch):
        return F.cross_entropy(model(batch["x"]), batch["y"]), {"sum": batch["x"].sum()}

    def die_at_step(step, **_):
        if death == ("step", step):
            os.kill(os.getpid(), signal.SIGKILL)

    if death and death[0] != "step":
        arm(*death)
    history = train(
        model,
        Batches(data, 12),
        loss_fn,
        steps=12,
        watch=die_at_step,
        checkpoint=folder,
        save_every=3,
        resume=True,
    )
    if rank == 0:
        numbers = torch.tensor(
            [history.losses, history.metrics["sum"], history.gradient_norms], dtype=torch.float64
        )
        save_file({**model.state_dict(), "history": numbers}, folder / f"{name}.safetensors")


def arm(kind: str, number: int):
    owner, name = HOOKS[kind]
    original, calls = getattr(owner, name), itertools.count(1)

    def deadly(*args, **kwargs):
        if next(calls) == number:
            if kind == "write":
                original(*args, **kwargs)
                os.truncate(args[1], os.path.getsize(args[1]) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(owner, name, deadly)


def spawn(folder: Path, name: str, death=None, dropout: float = 0.2, world: int = 1) -> list[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    runs = [
        FORK.Process(target=run, args=(folder, name, death, dropout, rank, world, port))
        for rank in range(world)
    ]
    for process in runs:
        process.start()
    for process in runs:
        process.join(60)
    return [process.exitcode for process in runs]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    assert spawn(folder, "end") == [0]
    return load_file(folder / "end.safetensors")


@pytest.mark.parametrize("death", DEATHS, ids=lambda death: f"{death[0]}-{death[1]}")
def test_a_killed_run_resumes_bit_equal(tmp_path, unbroken, death):
    assert spawn(tmp_path, "end", death) == [-signal.SIGKILL]
    assert len(list(tmp_path.glob(".writing"))) <= 1
    assert all(checkpoints.find_damage(path) is None for path in checkpoints.list_checkpoints(tmp_path))
    assert spawn(tmp_path, "end") == [0]
    resumed = load_file(tmp_path / "end.safetensors")
    assert all(torch.equal(resumed[name], unbroken[name]) for name in unbroken)
    assert [path.name for path in checkpoints.list_checkpoints(tmp_path)] == [
        "step-00000009",
        "step-00000012",
    ]
    assert not list(tmp_path.glob(".*"))


def test_two_processes_resume_bit_equal_each_with_its_own_dropout(tmp_path):
    assert spawn(tmp_path / "whole", "end", world=2) == [0, 0]
    assert -signal.SIGKILL in spawn(tmp_path / "broken", "end", ("step", 8), world=2)
    assert spawn(tmp_path / "broken", "end", world=2) == [0, 0]
    straight, resumed = (load_file(tmp_path / folder / "end.safetensors") for folder in ("whole", "broken"))
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)


def test_two_processes_train_like_one_on_the_same_global_batch(tmp_path):
    assert spawn(tmp_path / "one", "end", dropout=0) == [0]
    assert spawn(tmp_path / "two", "end", dropout=0, world=2) == [0, 0]
    one, two = (load_file(tmp_path / folder / "end.safetensors") for folder in ("one", "two"))
    one["history"][1] /= 2  # a sum over the batch, of which each process sees half
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)
