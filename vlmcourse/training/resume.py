"""Resume: everything a training run must remember so that a resumed run cannot be told from an unbroken one.

A run is more than its weights. The optimizer keeps running averages, the schedule a position, the data stream
another, and dropout draws from random generators. Forget one and the loss curve shows a kink.
"""

import hashlib
import json
import random
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from filelock import FileLock, Timeout
from torch import Tensor, nn

from vlmcourse.training import checkpoints
from vlmcourse.training.checkpoints import CheckpointError
from vlmcourse.training.history import History
from vlmcourse.training.sharding import whole
from vlmcourse.training.sharing import alike_in_all

STEPPING = ("foreach", "fused")  # how an optimizer steps: as the run that goes on does, not as the one before


@dataclass
class Run:
    """The parts of a running training that change from step to step."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    stream: Iterator
    history: History
    accelerator: Accelerator
    origin: dict[str, Any] | None = None  # what it begins from, see train
    lock: FileLock | None = None  # held while checkpoints are written

    def save(self, folder: str | Path, keep: int) -> None:
        """Write a checkpoint, whole whether the model is sharded or not. Every process must call it; the
        first one writes."""
        randoms = gather_object([random_state(self.accelerator.device)])
        averages, groups = pack_optimizer(self.optimizer)
        tensors = {"model": self.model.state_dict(keep_vars=True), "optimizer": averages}
        tensors = {stem: self._for_the_writer(named) for stem, named in tensors.items()}
        if self.accelerator.is_main_process:
            schedule, scaler = self.schedule.state_dict(), self.accelerator.scaler
            state = {
                "optimizer": groups,
                "schedule": schedule | {"lr_lambdas": [None] * len(schedule["lr_lambdas"])},
                "scaler": scaler and scaler.state_dict(),
                "stream": self.stream.state_dict(),
                "history": asdict(self.history),
                "random": randoms,
                "origin": self.origin,
            }
            checkpoints.save_checkpoint(folder, self.history.steps, tensors, state, keep)
        self.accelerator.wait_for_everyone()

    def _for_the_writer(self, named: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors as they are stored: each put together once, and kept by the first process alone."""
        known: dict[int, Tensor] = {}  # tied weights have two names
        for tensor in named.values():
            if id(tensor) not in known:
                together = whole(tensor.detach())
                known[id(tensor)] = together if self.accelerator.is_main_process else together.new_empty(0)
        return {name: known[id(tensor)] for name, tensor in named.items()}

    def open(self, folder: str | Path, resume: bool) -> None:
        """Get `folder` ready; with `resume`, go back to its newest whole checkpoint if it has one.

        Raises:
            CheckpointError: if the folder holds a run, or another process writes to it; with `resume`, if all
                are damaged, of another model, or began from something else.
        """
        if not hasattr(self.stream, "state_dict"):
            raise CheckpointError("a list keeps no position to resume from; checkpoints need a Batches")
        first = self.accelerator.is_main_process
        if self.origin is not None:
            self.origin = self.origin | {"weights": hash_weights(self.model)}
        try:
            # the first process looks, and tells the others: they must not find what it is about to remove
            path, refused = alike_in_all(self._find(folder, resume) if first else None)
            if refused:
                raise CheckpointError(refused)
            if path is not None:
                self.load(path)
        except BaseException:
            self.close()  # a run that is refused leaves the folder to the next one
            raise

    def _find(self, folder: str | Path, resume: bool) -> tuple[Path | None, str]:
        """The checkpoint to go on from, if there is one; or why the folder cannot be used."""
        try:
            self.lock = lock(checkpoints.open_folder(folder))
            steps = checkpoints.list_checkpoints(folder)
            if steps and not resume:
                held = f"{folder} already holds a run up to {steps[-1].name}"
                raise CheckpointError(f"{held}; pass resume=True to carry on, or choose another folder")
            return (checkpoints.newest_checkpoint(folder) if steps else None), ""
        except CheckpointError as error:
            return None, str(error)

    def close(self) -> None:
        """Let others write to the folder."""
        if self.lock is not None:
            self.lock.release()

    def load(self, path: Path) -> None:
        """Put everything back as it was in checkpoint `path`."""
        tensors, state = checkpoints.load_checkpoint(path)
        if self.origin is not None:
            refuse_other_origin(self.origin, state.get("origin") or {}, path)
        checkpoints.load_strict(self.model, tensors["model"], path)
        groups = self.optimizer.param_groups
        own = [{name: group[name] for name in STEPPING if name in group} for group in groups]
        try:
            self.optimizer.load_state_dict(unpack_optimizer(tensors["optimizer"], state["optimizer"]))
            for group, kept in zip(self.optimizer.param_groups, own, strict=True):
                group.update(kept)
            self.stream.load_state_dict(state["stream"])
        except ValueError as error:
            raise CheckpointError(f"{path} does not fit this run: {error}") from error
        self.schedule.load_state_dict(state["schedule"])
        if self.accelerator.scaler and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        vars(self.history).update(state["history"])
        rank, known = self.accelerator.process_index, len(state["random"])
        if rank < known:
            set_random_state(state["random"][rank], self.accelerator.device)
        else:
            warnings.warn(f"{path} knows {known} processes; process {rank} draws anew", stacklevel=2)


def lock(folder: Path) -> FileLock:
    """A lock that one training at a time holds on its folder, until it ends, however it ends.

    Raises:
        CheckpointError: if another process holds it.
    """
    held = FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        held.acquire(timeout=0)
        return held
    except Timeout as error:
        raise CheckpointError(
            f"another training writes to {folder}; wait for it, stop it, or choose another folder"
        ) from error


def hash_weights(model: nn.Module) -> str:
    """SHA-256 of all names and numbers of a model's state."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def refuse_other_origin(ours: dict[str, Any], saved: dict[str, Any], path: Path) -> None:
    """Raise CheckpointError unless a run that begins from `ours` may go on from what began from `saved`."""
    ours = json.loads(json.dumps(ours))  # as JSON keeps it: tuples are lists
    differ = [
        f"{name}: {saved.get(name)} there, {ours.get(name)} now"
        for name in sorted({*ours, *saved} - {"weights"})
        if saved.get(name) != ours.get(name)
    ]
    if ours["weights"] != saved.get("weights"):
        differ.append("weights: it began with others, as another stage before it leaves them")
    if differ:
        raise CheckpointError(
            "\n  ".join([f"{path} is of a run that began from something else:", *differ])
            + "\nChoose another folder, or begin anew there (vlmcourse train ... --fresh)"
        )


def pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split an optimizer's state into tensors, named "parameter/quantity", and the rest, fit for JSON."""
    packed, tensors, rest = optimizer.state_dict(), {}, {}
    for index, quantities in packed["state"].items():
        for name, value in quantities.items():
            (tensors if isinstance(value, Tensor) else rest)[f"{index}/{name}"] = value
    return tensors, {"rest": rest, "groups": packed["param_groups"]}


def unpack_optimizer(tensors: dict[str, Tensor], packed: dict[str, Any]) -> dict[str, Any]:
    """Undo `pack_optimizer`: what `optimizer.load_state_dict` takes."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **packed["rest"]}.items():
        index, name = key.split("/", 1)
        state.setdefault(int(index), {})[name] = value
    return {"state": state, "param_groups": packed["groups"]}


def random_state(device: torch.device) -> dict[str, Any]:
    """State of the generators of Python, NumPy and torch (CPU and `device`), fit for JSON."""
    kind, words, *rest = np.random.get_state()
    state = {"python": random.getstate(), "numpy": [kind, words.tolist(), *rest]}
    return state | {name: module.get_rng_state().tolist() for name, module in _generators(device).items()}


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Put back what `random_state` returned; a device of another type than then keeps its own state."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(tuple(state["numpy"]))
    for name, module in _generators(device).items():
        if name in state:
            module.set_rng_state(torch.tensor(state[name], dtype=torch.uint8))


def _generators(device: torch.device) -> dict[str, Any]:
    """torch's modules that keep a random state, by the type of device."""
    return {device.type: torch.get_device_module(device), "cpu": torch}
