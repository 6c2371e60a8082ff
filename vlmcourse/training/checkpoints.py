"""Checkpoints: stop a training run at any moment, even with kill -9, and carry on as if nothing had happened.

Accelerate's save_state writes its files one by one into their final place, and the position in the data is
not among them. A run that dies while writing leaves half a checkpoint that looks like a whole one. Here
everything goes to the folder `.writing`, is forced to the disk, hashed, and renamed: a rename happens or
does not. Tensors are stored as safetensors and the rest as JSON, so loading never runs code (no pickle).
"""

import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from vlmcourse.data.assets import written_beside
from vlmcourse.data.keeping import keep_trained
from vlmcourse.training.reading import CheckpointError, read_json, read_tensors, unusable

Tensors = Mapping[str, Tensor]
WRITING = ".writing"  # the folder of a checkpoint that is not whole yet
COMING = ".json.coming"  # a card whose weights may not have got their name yet
SHOWN = 20  # misfits in one error


def open_folder(folder: str | Path) -> Path:
    """Make sure that checkpoints can be written to `folder`, and clear what a killed run left half-done."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in (WRITING, ".old"):
            shutil.rmtree(folder / leftover, ignore_errors=True)
        (folder / WRITING).mkdir()
        (folder / WRITING).rmdir()
    except OSError as error:
        refused = f"no checkpoint can be written to {folder} ({error}); choose another folder"
        raise CheckpointError(refused) from error
    return folder


@contextmanager
def written_whole(path: Path, draft: Path | None = None) -> Iterator[Path]:
    """Where to write what is to be `path`, see written_beside.

    Raises:
        CheckpointError: if it cannot be written, the disk being full, say; what was at `path` is as before.
    """
    try:
        with written_beside(path, draft) as writing:
            yield writing
    except (OSError, SafetensorError) as error:
        there = next(folder for folder in path.absolute().parents if folder.is_dir())
        raise CheckpointError(
            f"could not write {path} ({error}); {shutil.disk_usage(there).free / 1e6:,.0f} MB are free. What "
            "was written before is untouched: make room or choose another folder, then try again"
        ) from error


def list_checkpoints(folder: str | Path) -> list[Path]:
    """All checkpoint folders, oldest step first, whole or not."""
    named = [path for path in Path(folder).glob("step-*") if re.fullmatch(r"step-\d{8}", path.name)]
    return sorted(path for path in named if path.is_dir())


def save_checkpoint(
    folder: str | Path, step: int, tensors: Mapping[str, Tensors], state: dict[str, Any], keep: int = 2
) -> Path:
    """Write `folder`/step-XXXXXXXX in one indivisible act, then remove all but the newest `keep`.

    Args:
        tensors: file stem -> name -> tensor, e.g. {"model": model.state_dict(), ...}.
        state: everything that is not a tensor; must survive JSON.
        keep: how many checkpoints to leave, this one included; at least 1.

    Raises:
        CheckpointError: if the disk is full or the folder cannot be written; earlier checkpoints stay whole.
    """
    folder = open_folder(folder)
    final = folder / f"step-{step:08d}"
    with written_whole(final, folder / WRITING) as writing:
        writing.mkdir()
        for stem, named in tensors.items():
            _write_tensors(writing / f"{stem}.safetensors", named)
        _write_json(writing / "state.json", state)
        manifest = {file.name: _fingerprint(file) for file in sorted(writing.iterdir())}
        _write_json(writing / "manifest.json", {"files": manifest})
        _sync(writing)
        if final.exists():  # a damaged one, from before the run was resumed
            _remove(final)
    _sync(folder)
    paths = list_checkpoints(folder)
    kept = [path for path in paths if path <= final][-keep:]
    for path in paths:  # later ones too, which are damaged: a run only goes back behind those
        if path not in kept:
            _remove(path)
    keep_trained(final)
    return final


def newest_checkpoint(folder: str | Path) -> Path:
    """The newest checkpoint whose every byte is as it was written; damaged newer ones cause a warning.

    Raises:
        CheckpointError: if there is none, with the reason for each that was refused.
    """
    reasons = []
    for path in reversed(list_checkpoints(folder)):
        if damage := find_damage(path):
            reasons.append(f"checkpoint refused: {path}/{damage}")
            continue
        if reasons:
            warnings.warn("; ".join(reasons) + f". Carrying on from {path.name}.", stacklevel=2)
        return path
    raise CheckpointError("; ".join(reasons) or f"{folder} holds no checkpoint (step-00000200, say)")


def find_damage(path: Path) -> str | None:
    """Which file of checkpoint `path` is missing, truncated or changed, and how; None if it is whole."""
    try:
        files = json.loads((path / "manifest.json").read_text())["files"]
        for name, written in files.items():
            if not (path / name).is_file():
                return f"{name} is missing"
            if (now := _fingerprint(path / name)) != written:
                return f"{name} has {now['bytes']:,} of {written['bytes']:,} bytes and another SHA-256"
        if unlisted := {"state.json", *(file.name for file in path.glob("*.safetensors"))} - set(files):
            return f"{min(unlisted)} is not in the manifest"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"manifest.json cannot be read ({type(error).__name__}: {error})"
    return None


def load_checkpoint(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Tensors (file stem -> name -> tensor, on the CPU) and state of a whole checkpoint."""
    tensors = {file.stem: read_tensors(file) for file in path.glob("*.safetensors")}
    return tensors, read_json(path / "state.json")


def refuse_misfits(
    sentence: str, needed: Collection[str], given: Collection[str], others: Sequence[str] = ()
) -> None:
    """Compare the names that a model needs with those that are given.

    Args:
        sentence: what is wrong if they differ, naming the file, without its full stop.
        others: further misfits, a line each.

    Raises:
        CheckpointError: lists what is missing, unexpected and the others; after the first 20, how many more.
    """
    misfits = [f"missing: {name}" for name in needed if name not in given]
    misfits += [f"unexpected: {name}" for name in given if name not in needed]
    misfits += others
    if misfits:
        more = [f"and {len(misfits) - SHOWN} more"] if len(misfits) > SHOWN else []
        raise CheckpointError("\n  ".join([f"{sentence}:", *misfits[:SHOWN], *more]))


def load_strict(model: nn.Module, weights: Tensors, source: str | Path) -> None:
    """Copy `weights` into `model`; every name and shape must fit, and every number be one.

    Raises:
        CheckpointError: lists missing and unexpected names, shapes that differ, NaN, infinity and whole
            numbers; the model is unchanged.
    """
    own = model.state_dict()
    shapes = [
        f"{name} is {tuple(weights[name].shape)}, the model needs {tuple(own[name].shape)}"
        for name in own
        if name in weights and own[name].shape != weights[name].shape
    ]
    refuse_misfits(f"{source} was written by another model than {type(model).__name__}", own, weights, shapes)
    if lines := unusable({name: value for name, value in weights.items() if own[name].is_floating_point()}):
        refuse_misfits(f"{source} holds weights that no model can use", (), (), lines)
    model.load_state_dict(weights)


def save_weights(
    model: nn.Module, path: str | Path, card: dict[str, Any], beside: Path | None = None
) -> Path:
    """Write the weights as fp16 to `path` (.safetensors) and `card` beside it (.json) with their SHA-256.

    Both in one act: wherever a process dies, there are the former weights with their card or the new ones
    with theirs, see card_of.

    Args:
        card: recipe, seed, seconds, hardware, metrics: whatever lets a reader repeat the training.
        beside: other weights in the same folder; what is the same in them is not stored again. A part that
            is named "vision:norm:weight" here may be "vision.norm.weight" there.

    Raises:
        CheckpointError: if a weight is not finite in fp16, whose largest number is 65,504; if the disk is
            full; if `beside` is in another folder.
    """
    path = Path(path)
    if beside is not None and beside.absolute().parent != path.absolute().parent:
        raise CheckpointError(f"{path} cannot share weights with {beside}: both must be in one folder")
    weights = model.state_dict()
    once: dict[tuple, Tensor] = {}  # tied weights stay one tensor, see _write_tensors
    half = {
        name: once.setdefault((value.data_ptr(), value.shape, value.stride()), value.half())
        if value.is_floating_point()
        else value
        for name, value in weights.items()
    }
    for name, value in half.items():
        if not value.isfinite().all():
            largest = weights[name].abs().max()
            raise CheckpointError(f"{name} reaches {largest:g}, but fp16 holds at most 65,504")
    if beside is not None:
        there = read_tensors(beside)
        shared = {name: there[own] for name in half if (own := _name_beside(name)) in there}
        half = {
            name: value
            for name, value in half.items()
            if name not in shared or not torch.equal(value.cpu(), shared[name])
        }
        card = card | {"beside": {"file": beside.name, "sha256": _hash(beside)}}
    final, coming = path.with_suffix(".json"), path.with_suffix(COMING)
    if card_of(path) == coming:  # of a process that died
        os.replace(coming, final)
    with written_whole(path) as writing:
        _write_tensors(writing, half)
        with written_beside(coming) as draft:
            _write_json(draft, {**card, "sha256": _hash(writing)})
    os.replace(coming, final)
    _sync(path.parent)
    keep_trained(path, final)
    return path


def card_of(path: Path) -> Path:
    """The card of a file of weights; one that had not yet got its name when a process died is found too."""
    coming = path.with_suffix(COMING)
    fits = coming.is_file() and path.is_file() and read_json(coming).get("sha256") == _hash(path)
    return coming if fits else path.with_suffix(".json")


def load_weights(model: nn.Module, path: str | Path) -> dict[str, Any]:
    """Load what `save_weights` wrote into `model`, strictly, and return the card.

    Raises:
        CheckpointError: if a file is missing or changed, or the weights are another model's.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist")
    card = read_json(card_of(path))
    if "sha256" not in card:
        raise CheckpointError(f"{path.with_suffix('.json')} names no sha256 of the weights; fetch it again")
    if _hash(path) != card["sha256"]:
        raise CheckpointError(f"{path} is not the file its card describes (SHA-256 differs); fetch it again")
    *besides, own = (read_tensors(file) for file in files_of(path))
    for there in besides:
        needed = {name: there[other] for name in model.state_dict() if (other := _name_beside(name)) in there}
        own = needed | own
    load_strict(model, own, path)
    return card


def _name_beside(name: str) -> str:
    """How a tensor is called in the file of a whole model; parts of one are named with colons for dots."""
    return name.replace(":", ".")


def files_of(path: Path) -> list[Path]:
    """The files that together hold some weights: `path`, and before it the one `beside` which it was stored.

    Raises:
        CheckpointError: if that one is missing, in another folder, or not the one that the card describes.
    """
    beside = read_json(card_of(path)).get("beside")
    if beside is None:
        return [path]
    named = isinstance(beside, dict) and isinstance(name := beside.get("file"), str)
    if not named or Path(name).name != name or not name.endswith(".safetensors"):
        raise CheckpointError(f"{card_of(path)} names no file of weights beside {path.name}: {beside!r}")
    other = path.with_name(name)
    if not other.is_file():
        raise CheckpointError(f"{path} holds only what it does not share with {other}, which does not exist")
    if _hash(other) != beside.get("sha256"):
        shared = f"{path} shares weights with {name}, but that is another file than its card describes"
        raise CheckpointError(f"{shared} (SHA-256 differs); fetch both again")
    return [other, path]


def _write_tensors(path: Path, tensors: Tensors) -> None:
    """A tensor with several names (tied weights) is stored once; the other names go to the header."""
    first: dict[tuple, str] = {}
    tied = {}
    for name, tensor in tensors.items():
        same = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype) if tensor.numel() else (name,)
        if first.setdefault(same, name) != name:
            tied[name] = first[same]
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items() if name not in tied}
    save_file(kept, path, metadata={"tied": json.dumps(tied)})
    _sync(path)


def _fingerprint(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": _hash(path)}


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))
    _sync(path)


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk and not only in memory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until the files of a folder, and their names, are on the disk."""
    for path in (*folder.iterdir(), folder):
        _sync(path)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(path: Path) -> None:
    """Remove a checkpoint: away under its name at once, so that none is ever seen half-deleted."""
    old = path.with_name(".old")
    shutil.rmtree(old, ignore_errors=True)
    os.replace(path, old)
    shutil.rmtree(old)
