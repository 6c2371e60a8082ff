"""Key maps: whose weight is whose, between a library's state dict and ours (notebook 17).

    fuse             their weights under our names; several of theirs are put on top of each other
    unfuse           the way back: our weights under their names, cut apart where they keep several
    take_weights     fill our model with a library's weights, every one accounted for
    give_weights     fill a library's model with ours
    translate        a library's configuration in our words;  require: refuse options that ours does not have
    read_folder      configuration and weights as the Hugging Face hub serves them

Each published family is written down once, as rows ``ours: theirs``:

    "norm.*": "post_layernorm.*"                           * is the kind, such as weight or bias
    "blocks.#.expand.*": "encoder.layers.#.mlp.fc1.*"      # is the number of the layer
    "project_in.*": "self_attn.(q k v)_proj.*"             ours is made of several of theirs
    "project_image.weight": "visual.proj, transposed"      theirs has another form, see FORMS

A row may be there for a parameter that only some models have: what a model needs is read off the model. A new
family needs its rows and its configuration's words.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Size, Tensor, cat, nn

from vlmcourse.slots import slot
from vlmcourse.training.checkpoints import CheckpointError, load_strict, refuse_misfits

State = dict[str, Tensor]
Names = dict[str, tuple[str, ...]]  # our name -> the name, or names, of theirs it is made of
Rows = Mapping[str, str]
PARTS = re.compile(r"([^(]*)(?:\((.*)\))?(.*)")  # what stands before, in and after brackets
COUNTERS = (".position_ids",)  # endings of keys in old files: 0, 1, 2 …; nothing learned


@slot
def fuse(state: dict[str, Tensor], names: Names) -> dict[str, Tensor]:
    """Our state dict from theirs, in the order of ``names``.

    Several of their weights become one of ours along the first axis: rows of a linear layer's matrix are its
    outputs, so q, k and v in one product give q, k and v side by side.

    Raises:
        KeyError: if a name of theirs is missing, or a weight of theirs belongs to no name; nothing is passed
            over.
    """
    wanted = {key for keys in names.values() for key in keys}
    if wanted != state.keys():
        raise KeyError(
            f"missing: {sorted(wanted - state.keys())}, unexpected: {sorted(state.keys() - wanted)}"
        )
    parts = {ours: [state[key] for key in keys] for ours, keys in names.items()}
    return {ours: cat(several) if len(several) > 1 else several[0] for ours, several in parts.items()}


@slot
def unfuse(state: dict[str, Tensor], names: Names, rows: dict[str, int]) -> dict[str, Tensor]:
    """Their state dict from ours, in the order of ``names``: fuse backwards.

    Args:
        rows: how long each of their weights is along its first axis. Query and key need not be alike: with
            grouped queries, SmolLM2's have 576 and 192 rows.
    """
    theirs = {}
    for ours, keys in names.items():
        theirs |= zip(keys, state[ours].split([rows[key] for key in keys]), strict=True)
    return theirs


# ---- forms ---------------------------------------------------------------------------------------------


def patch_matrix(convolution: Float[Tensor, "width channel row column"]) -> Float[Tensor, "width pixel"]:
    """The weight of a patch convolution as a matrix over patchify's pixels (row, column, channel)."""
    return convolution.permute(0, 2, 3, 1).flatten(1)


def patch_convolution(
    matrix: Float[Tensor, "width pixel"], shape: Sequence[int]
) -> Float[Tensor, "width channel row column"]:
    """Undo patch_matrix, for a convolution of that shape."""
    width, channel, row, column = shape
    return matrix.reshape(width, row, column, channel).permute(0, 3, 1, 2)


class Form(NamedTuple):
    """How a weight of theirs becomes ours, and how ours becomes theirs of a given shape."""

    read: Callable[[Tensor], Tensor]
    write: Callable[[Tensor, Size], Tensor]


FORMS = {
    "": Form(lambda theirs: theirs, lambda ours, shape: ours),
    "transposed": Form(Tensor.t, lambda ours, shape: ours.t()),  # for x @ weight; a bias stays as it is
    "patches": Form(patch_matrix, patch_convolution),
    "matrix": Form(lambda theirs: theirs.flatten(min(theirs.dim() - 1, 1)), Tensor.reshape),  # 1×1 filters
    "rows": Form(lambda theirs: theirs.flatten(0, 1), Tensor.reshape),  # without a batch axis of one
    "vector": Form(lambda theirs: theirs.flatten(), Tensor.reshape),  # without axes of one
}


# ---- rows ----------------------------------------------------------------------------------------------


def nested(rows: Rows, ours: str, theirs: str) -> dict[str, str]:
    """The rows of a part that stands deeper in the whole: a prefix on either side."""
    return {f"{ours}{mine}": f"{theirs}{key}" for mine, key in rows.items()}


def spell(rows: Rows, names: Iterable[str]) -> tuple[Names, dict[str, Form]]:
    """The key map of a model that has these ``names``, and the form of every key of theirs.

    Raises:
        KeyError: if no row, or more than one, is for a name.
    """
    patterns = {_pattern(ours): theirs for ours, theirs in rows.items()}
    spelled: Names = {}
    forms: dict[str, Form] = {}
    for name in names:
        fits = [(match, theirs) for ours, theirs in patterns.items() if (match := re.fullmatch(ours, name))]
        if len(fits) != 1:
            raise KeyError(f"{len(fits)} rows are for {name}; there should be one")
        match, theirs = fits[0]
        key, _, form = theirs.replace("#", "{layer}").replace("*", "{kind}").partition(", ")
        before, parts, after = PARTS.fullmatch(key.format(**match.groupdict())).groups()
        spelled[name] = tuple(f"{before}{part}{after}" for part in (parts or "").split() or [""])
        forms |= dict.fromkeys(spelled[name], FORMS[form])
    return spelled, forms


def _pattern(ours: str) -> str:
    """A regular expression for the names that a row is for."""
    return re.escape(ours).replace(r"\#", r"(?P<layer>\d+)").replace(r"\*", r"(?P<kind>\w+)")


# ---- both directions -----------------------------------------------------------------------------------


def take_weights(
    model: nn.Module, state: Mapping[str, Tensor], rows: Rows, source: str | Path,
    tied: Iterable[Sequence[str]] = (), dropped: tuple[str, ...] = (),
) -> nn.Module:  # fmt: skip
    """Fill our ``model`` with a library's weights, and put it into evaluation mode.

    Args:
        source: where they are from, for error messages.
        tied: names of theirs for one and the same tensor; a file may hold any of them. Rows use the first.
        dropped: endings of keys that ours has no use for: position counters, masks, a head.

    Raises:
        CheckpointError: if a key is missing, matches nothing or has another shape, or tied tensors differ.
    """
    names, forms = spell(rows, model.state_dict())
    kept = {key: value for key, value in state.items() if not key.endswith(dropped)}
    _untie(kept, tied, source)
    needed = dict.fromkeys(key for keys in names.values() for key in keys)
    refuse_misfits(f"{source} does not hold the weights of this {type(model).__name__}", needed, kept)
    alike = {key: forms[key].read(value) for key, value in kept.items()}
    load_strict(model, fuse(alike, names), source)
    return model.eval()


def give_weights(
    model: nn.Module, theirs: nn.Module, rows: Rows, tied: Iterable[Sequence[str]] = ()
) -> nn.Module:
    """Fill a library's model with ours, and put it into evaluation mode: take_weights backwards.

    Raises:
        RuntimeError: if a key or shape does not fit; from torch.
    """
    ours, old = model.state_dict(), theirs.state_dict()
    names, forms = spell(rows, ours)
    state: State = {}
    for name in [name for name, value in ours.items() if value.dim() == 0]:
        (key,) = names.pop(name)  # a single number, such as a temperature, has no rows to be cut at
        state[key] = ours.pop(name)
    lengths = {key: len(forms[key].read(old[key])) for keys in names.values() for key in keys}
    for key, value in unfuse(ours, names, lengths).items():
        state[key] = forms[key].write(value, old[key].shape)
    for first, *others in tied:
        state |= {key: state[first] for key in others if key in old}
    theirs.load_state_dict(state, strict=True)
    return theirs.eval()


def _untie(state: State, tied: Iterable[Sequence[str]], source: str | Path) -> None:
    """Leave each tied tensor in ``state`` once, under its first name."""
    for first, *others in tied:
        copies = [state.pop(key) for key in (first, *others) if key in state]
        if any(not torch.equal(copy, copies[0]) for copy in copies):
            raise CheckpointError(
                f"{source}: {first} and {', '.join(others)} should be one tensor, but their numbers differ"
            )
        if copies:
            state[first] = copies[0]


# ---- configurations and folders ------------------------------------------------------------------------


def translate(config: Any, words: Mapping[str, str]) -> dict[str, Any]:
    """Arguments for our configuration from theirs; ``words``: our field -> theirs."""
    return {ours: getattr(config, theirs) for ours, theirs in words.items()}


def require(config: Any, **options: Any) -> None:
    """Raise a ValueError if an option of theirs, where it exists, has another value than ours can have."""
    for name, needed in options.items():
        if (given := getattr(config, name, needed)) != needed:
            raise ValueError(f"our {config.model_type} needs {name} = {needed!r}; this one has {given!r}")


def require_family(config: Any, families: Collection[str], source: str | Path) -> None:
    """Raise a ValueError if the configuration is another family's."""
    if config.model_type not in families:
        known = " or ".join(map(repr, families))
        raise ValueError(f"{source} holds a model of type {config.model_type!r}, not {known}")


def weight_files(folder: Path) -> list[str]:
    """Names of the weight files that a folder in the hub's format should hold: one, or those of its index."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return ["model.safetensors"]
    return sorted(set(json.loads(index.read_text())["weight_map"].values()))


def read_folder(folder: str | Path) -> tuple[Any, State]:
    """Configuration and weights from a folder in the hub's format; nothing is fetched, no code runs.

    Raises:
        FileNotFoundError: if a file is not there.
    """
    from transformers import AutoConfig

    folder = Path(folder)
    names = weight_files(folder)
    for file in (folder / name for name in ("config.json", *names)):
        if not file.is_file():
            raise FileNotFoundError(
                f"{file} does not exist; save with save_pretrained, or download that file"
            )
    state: State = {}
    for name in names:
        state |= load_file(folder / name)
    return AutoConfig.from_pretrained(folder, local_files_only=True), state
