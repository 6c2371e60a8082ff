"""Trainings in processes of their own, which can be killed; a fork server imports torch once for all."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

import torch

FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(
    [
        "torch",
        "accelerate",
        "torch._dynamo",
        "torch.distributed.fsdp",
        "tqdm.notebook",
        "vlmcourse.training.loop",
        "vlmcourse.families.making",
        "vlmcourse.families.connectors",
        "vlmcourse.families.real",
    ]
)
SECONDS = 250  # that a process may take


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def join(rank: int, world: int, port: int, sharded: bool) -> None:
    """What `accelerate launch` tells a process that it starts."""
    torch.set_num_threads(1)
    os.environ["CI"] = "true"
    if world > 1:
        local = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=world, LOCAL_WORLD_SIZE=world)
        address = dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, ACCELERATE_USE_FSDP=sharded)
        os.environ.update({name: str(value) for name, value in (local | address).items()})


def _joined(port: int, sharded: bool, rank: int, world: int, work: Callable, given: tuple) -> None:
    join(rank, world, port, sharded)
    work(*given, rank)


def spawn(work: Callable[..., Any], *given: Any, kind: str = "one", world: int = 2) -> list[int]:
    """Call ``work(*given, rank)`` in one process, or in several; their exit codes."""
    world = 1 if kind == "one" else world
    fixed = free_port(), kind == "fsdp"
    ranks = [FORK.Process(target=_joined, args=(*fixed, rank, world, work, given)) for rank in range(world)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(SECONDS)
        process.kill()
    return [process.exitcode for process in ranks]
