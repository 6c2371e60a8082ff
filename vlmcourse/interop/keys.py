"""Key maps: whose weight is whose, between a library's state dict and ours (notebook 17).

    take_weights     fill our model with a library's weights, every one accounted for;  give_weights: back
    fuse, unfuse     several of their weights put on top of each other, and cut apart
    represent        a library's configuration in our words; whatever else could change a number is refused

Each published family is written down once, as rows ``ours: theirs``:

    "norm.*": "post_layernorm.*"                           * is the kind, such as weight or bias
    "blocks.#.expand.*": "encoder.layers.#.mlp.fc1.*"      # is the number of the layer
    "project_in.*": "self_attn.(q k v)_proj.*"             ours is made of several of theirs
    "project_image.weight": "visual.proj, transposed"      theirs has another form, see FORMS
    "head.weight": "wte.weight = lm_head.weight"           theirs are one tensor; a file may hold any of them

A row may be there for a parameter that only some models have: what a model needs is read off the model.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
import transformers
from torch import Size, Tensor, cat, nn
from transformers import GenerationConfig

from vlmcourse.models.attention import ACTIVATIONS
from vlmcourse.slots import slot
from vlmcourse.training.checkpoints import CheckpointError, load_strict, refuse_misfits

Names = dict[str, tuple[str, ...]]  # our name -> the name, or names, of theirs it is made of
Rows = Mapping[str, str]
PARTS = re.compile(r"([^(]*)(?:\((.*)\))?(.*)")  # what stands before, in and after brackets
SAME = {"swish": "silu", "gelu_pytorch_tanh": "gelu_new"}  # activations under another name of theirs
# fields of a library's configuration that change no number of a model in evaluation mode
HARMLESS = re.compile(
    r"_.*|.*drop.*|.*token_id|.*use_cache|.*initializer.*|summary_.*|problem_type|task_specific_params|prefix"
    r"|model_type|auto_map|tokenizer_class|torch_dtype|finetuning_task|gradient_checkpointing|quantization_config"
    r"|is_llama_config|transformers\.js_config|pretraining_tp|.*_config_dict|projection_dim|logit_scale_init_value"
    r"|encoder_stride|pooler_.*|n_ctx|num_labels|output_past|tf_legacy_loss|torchscript|num_image_tokens"
    r"|base_model_\w+_plan"
)
UNLEARNED = (".position_ids", ".attn.masked_bias")  # endings of keys in old files: 0, 1, 2 …; −10000


@slot
def fuse(state: dict[str, Tensor], names: Names) -> dict[str, Tensor]:
    """Our state dict from theirs, in the order of ``names``.

    Several of their weights become one of ours along the first axis: rows of a linear layer's matrix are its
    outputs, so q, k and v in one product give q, k and v side by side.

    Raises:
        KeyError: if a name of theirs is missing, or a weight of theirs belongs to no name.
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


class Form(NamedTuple):
    """How a weight of theirs becomes ours, and how ours becomes theirs of a given shape."""

    read: Callable[[Tensor], Tensor]
    write: Callable[[Tensor, Size], Tensor]


FORMS = {
    "": Form(lambda theirs: theirs, lambda ours, shape: ours),
    "transposed": Form(Tensor.t, lambda ours, shape: ours.t()),  # for x @ weight; a bias stays as it is
    "patches": Form(  # a patch convolution as a matrix over patchify's pixels (row, column, channel)
        lambda theirs: theirs.permute(0, 2, 3, 1).flatten(1),
        lambda ours, shape: ours.reshape(shape[0], *shape[2:], shape[1]).permute(0, 3, 1, 2),
    ),
    "frames": Form(  # the same of a convolution over frames too: (frame, row, column, channel)
        lambda theirs: theirs.permute(0, 2, 3, 4, 1).flatten(1),
        lambda ours, shape: ours.reshape(shape[0], *shape[2:], shape[1]).permute(0, 4, 1, 2, 3),
    ),
    "matrix": Form(lambda theirs: theirs.flatten(min(theirs.dim() - 1, 1)), Tensor.reshape),  # 1×1 filters
    "rows": Form(lambda theirs: theirs.flatten(0, 1), Tensor.reshape),  # without a batch axis of one
    "number": Form(lambda theirs: theirs.reshape(()), Tensor.reshape),  # without axes
    "vector": Form(lambda theirs: theirs.flatten(), Tensor.reshape),  # without axes of one
}


def nested(rows: Rows, ours: str, theirs: str) -> dict[str, str]:
    """The rows of a part that stands deeper in the whole: a prefix on either side."""
    return {f"{ours}{mine}": theirs + key.replace(" = ", f" = {theirs}") for mine, key in rows.items()}


def spell(rows: Rows, names: Iterable[str]) -> tuple[Names, dict[str, Form], dict[str, list[str]]]:
    """The key map of a model with these ``names``, the form of every key of theirs, and its copies if any.

    Raises:
        KeyError: if no row, or more than one, is for a name.
    """
    patterns = {_pattern(ours): theirs for ours, theirs in rows.items()}
    spelled, forms, copies = {}, {}, {}
    for name in names:
        fits = [(match, theirs) for ours, theirs in patterns.items() if (match := re.fullmatch(ours, name))]
        if len(fits) != 1:
            raise KeyError(f"{len(fits)} rows are for {name}; there should be one")
        match, theirs = fits[0]
        keys, _, form = theirs.replace("#", "{layer}").replace("*", "{kind}").partition(", ")
        key, *others = keys.format(**match.groupdict()).split(" = ")
        before, parts, after = PARTS.fullmatch(key).groups()
        spelled[name] = tuple(f"{before}{part}{after}" for part in (parts or "").split() or [""])
        forms |= dict.fromkeys(spelled[name], FORMS[form])
        if others:
            copies.setdefault(key, []).extend(others)
    return spelled, forms, copies


def _pattern(ours: str) -> str:
    """A regular expression for the names that a row is for."""
    return re.escape(ours).replace(r"\#", r"(?P<layer>\d+)").replace(r"\*", r"(?P<kind>\w+)")


def take_weights(
    model: nn.Module, state: Mapping[str, Tensor], rows: Rows, source: str, dropped: tuple[str, ...] = ()
) -> nn.Module:
    """Fill our ``model`` with a library's weights, and put it into evaluation mode.

    Args:
        source: where they are from, for error messages.
        dropped: endings of keys that ours has no use for, such as a head's.

    Raises:
        CheckpointError: if a key is missing, matches nothing or has another shape, or copies differ.
    """
    names, forms, copies = spell(rows, model.state_dict())
    kept = {key: value for key, value in state.items() if not key.endswith((*UNLEARNED, *dropped))}
    for first, others in copies.items():
        same = [kept.pop(key) for key in (first, *others) if key in kept]
        if any(not torch.equal(copy, same[0]) for copy in same):
            names_of_one = f"{first} and {', '.join(others)}"
            raise CheckpointError(f"{source}: {names_of_one} should be one tensor, but their numbers differ")
        if same:
            kept[first] = same[0]
    refuse_misfits(f"{source} does not hold the weights of this {type(model).__name__}", forms, kept)
    try:
        ours = fuse({key: forms[key].read(value) for key, value in kept.items()}, names)
    except (RuntimeError, IndexError) as error:
        lines = [line for keys in names.values() for line in _unfit(keys, kept, forms)]
        refuse_misfits(f"{source} holds weights of other shapes than ours ({error})", (), (), lines)
        raise
    load_strict(model, ours, source)
    return model.eval()


def _unfit(keys: tuple[str, ...], state: Mapping[str, Tensor], forms: dict[str, Form]) -> list[str]:
    """The names and shapes of those weights, if they cannot be put together."""
    try:
        parts = [forms[key].read(state[key]) for key in keys]
        if len(parts) > 1:
            cat(parts)
    except (RuntimeError, IndexError):
        return [f"{key} {tuple(state[key].shape)}" for key in keys]
    return []


def give_weights(model: nn.Module, theirs: nn.Module, rows: Rows) -> nn.Module:
    """Fill a library's model with ours, and put it into evaluation mode: take_weights backwards.

    Raises:
        RuntimeError: if a key or shape does not fit; from torch.
    """
    ours, old = model.state_dict(), theirs.state_dict()
    names, forms, copies = spell(rows, ours)
    state: dict[str, Tensor] = {}
    for name in [name for name, value in ours.items() if value.dim() == 0]:
        (key,) = names.pop(name)  # a single number, such as a temperature, has no rows to be cut at
        state[key] = ours.pop(name)
    lengths = {key: len(forms[key].read(old[key])) for keys in names.values() for key in keys}
    for key, value in unfuse(ours, names, lengths).items():
        state[key] = forms[key].write(value, old[key].shape)
    for first, others in copies.items():
        state |= {key: state[first] for key in others if key in old}
    theirs.load_state_dict(state, strict=True)
    return theirs.eval()


def represent(config: Any, words: Mapping[str, str], *read: str, **needed: Any) -> dict[str, Any]:
    """Arguments for our configuration from theirs, every field of theirs accounted for.

    Args:
        words: our field -> theirs.
        read: fields of theirs that the caller sees to.
        needed: the only value that a field of theirs, where it exists, can have.

    Raises:
        ValueError: if ours cannot be what a field says, or a field that nobody sees to is not as usual: an
            option of a later library, say.
    """
    require(config, **needed)
    usual, harmless = vars(type(config)()), vars(transformers.PreTrainedConfig()) | vars(GenerationConfig())
    seen = {*words.values(), *read, *needed, *harmless}
    seen |= {real for name, real in config.attribute_map.items() if name in seen}
    for name, value in vars(config).items():
        strange = value != usual[name] if name in usual else value
        if strange and name not in seen and not HARMLESS.fullmatch(name):
            told = f"ours does not know what {name} = {value!r} does in a {config.model_type}"
            raise ValueError(f"{told}; if it changes no number, take it from the configuration")
    ours = translate(config, words)
    if "activation" in ours:
        ours["activation"] = SAME.get(ours["activation"], ours["activation"])
        if ours["activation"] not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise ValueError(f"ours has no {words['activation']} = {ours['activation']!r}; it has {known}")
    return ours


def translate(config: Any, words: Mapping[str, str]) -> dict[str, Any]:
    """Arguments for our configuration from theirs; ``words``: our field -> theirs."""
    return {ours: getattr(config, theirs) for ours, theirs in words.items()}


def require(config: Any, **options: Any) -> None:
    """Raise a ValueError if an option of theirs, where it exists, has another value than ours can have."""
    for name, needed in options.items():
        if (given := getattr(config, name, needed)) != needed:
            raise ValueError(f"our {config.model_type} needs {name} = {needed!r}; this one has {given!r}")


def require_family(theirs: nn.Module, *families: str) -> None:
    """Raise a ValueError if a library's model is of another family."""
    if (given := theirs.config.model_type) not in families:
        known = " or ".join(map(repr, families))
        raise ValueError(f"this {type(theirs).__name__} is a model of type {given!r}, not {known}")
