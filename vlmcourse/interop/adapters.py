"""LoRA in peft's own format: a few megabytes beside a model that everybody has (notebook 15).

    save_adapter     adapter_config.json and adapter_model.safetensors, which PeftModel.from_pretrained opens
    load_adapter     those of peft, or ours, around the layers of our model
    without_lora     our model as it was before: what llava.save_folder writes for the adapter to stand on

Ours has query, key and value in one matrix, theirs has three. So one of our detours becomes three that share
``down``; three of theirs become one of three times the rank, each part for its own rows. rsLoRA and DoRA are
carried over; what ours cannot represent is refused.
"""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vlmcourse.interop.keys import spell
from vlmcourse.interop.language import llama_rows
from vlmcourse.interop.llava import llava_rows
from vlmcourse.models.language import Llama
from vlmcourse.models.llava import Llava
from vlmcourse.models.lora import LoraLinear, lora_scale
from vlmcourse.models.quantise import QuantisedLinear
from vlmcourse.training.checkpoints import refuse_misfits, sync_folder, written_whole
from vlmcourse.training.reading import CheckpointError, read_json, read_tensors

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PEFT_PREFIX = "base_model.model."
NEEDED = {"peft_type": "LORA", "bias": "none", "fan_in_fan_out": False, "lora_bias": False}
UNKNOWN = ("rank_pattern", "alpha_pattern", "modules_to_save", "layer_replication", "trainable_token_indices",
           "target_parameters", "alora_invocation_tokens", "use_qalora", "arrow_config")  # fmt: skip


def save_adapter(model: Llava | Llama, folder: str | Path, base: str = "") -> None:
    """Write the LoRA of a model for peft; the folder is new, or empty.

    Args:
        base: name or folder of the model it stands on, which the file mentions.

    Raises:
        ValueError: if the model has no LoRA, or layers of different ranks, scales or kinds.
        CheckpointError: if it cannot be written; then there is no half folder.
    """
    layers = _lora_layers(model)
    if not layers:
        raise ValueError("this model has no LoRA; add_lora puts it there")
    kinds = {(len(one.down), one.alpha, one.stabilised, one.magnitude is not None) for one in layers.values()}
    if len(kinds) > 1:
        raise ValueError(f"peft's file has one rank, alpha and kind for all layers; here are {sorted(kinds)}")
    tensors, targets = {}, []
    for name, keys in _their_layers(model, layers).items():
        tensors |= _theirs(layers[name], keys, _rows_of(model, name, len(keys)))
        targets += keys
    ((rank, alpha, stabilised, decomposed),) = kinds
    described = NEEDED | dict(task_type=None, base_model_name_or_path=base, r=rank, lora_alpha=alpha,
                              lora_dropout=0.0, target_modules=targets, use_rslora=stabilised,
                              use_dora=decomposed, inference_mode=True)  # fmt: skip
    with written_whole(Path(folder)) as draft:
        draft.mkdir(parents=True, exist_ok=True)
        save_file(tensors, draft / WEIGHTS, metadata={"format": "pt"})
        (draft / CONFIG).write_text(json.dumps(described, indent=2) + "\n")
        sync_folder(draft)


def load_adapter(model: Llava | Llama, folder: str | Path) -> None:
    """Put the adapter of a folder of peft's around the layers of a model that has none.

    Raises:
        ValueError: if it uses an option that ours does not have, or the model has LoRA already.
        CheckpointError: if a file is damaged, or a weight is missing, matches nothing or has another shape.
    """
    folder = Path(folder)
    config, tensors = read_json(folder / CONFIG), read_tensors(folder / WEIGHTS)
    strange = {name: config[name] for name, needed in NEEDED.items() if config.get(name, needed) != needed}
    strange |= {name: config[name] for name in UNKNOWN if config.get(name)}
    if strange:
        raise ValueError(f"ours cannot represent this adapter: {strange}")
    if _lora_layers(model):
        raise ValueError("this model has LoRA already; merge it first, or take another one")
    linear = {
        name: one for name, one in model.named_modules() if isinstance(one, nn.Linear | QuantisedLinear)
    }
    known = {name: keys for name, keys in _their_layers(model, linear).items() if keys}
    given = {key.removeprefix(PEFT_PREFIX).partition(".lora_")[0] for key in tensors}
    kinds = ["lora_A.weight", "lora_B.weight"] + ["lora_magnitude_vector"] * bool(config.get("use_dora"))
    wanted = {
        f"{PEFT_PREFIX}{key}.{kind}"
        for keys in known.values()
        for key in keys
        if key in given
        for kind in kinds
    }
    refuse_misfits(f"{folder} does not hold LoRA for this {type(model).__name__}", wanted, tensors)
    if not wanted:
        raise CheckpointError(f"{folder / WEIGHTS} holds no LoRA")
    for name, keys in known.items():
        if given.intersection(keys):
            parts = {
                key: [tensors[f"{PEFT_PREFIX}{key}.{kind}"] for kind in kinds] for key in keys if key in given
            }
            _put(model, name, keys, parts, config)


def without_lora(model: nn.Module) -> nn.Module:
    """A copy of the model as it was before LoRA, all its layers in ordinary numbers."""
    bare = copy.deepcopy(model)
    for parent in list(bare.modules()):
        for name, layer in list(parent.named_children()):
            layer = layer.frozen if isinstance(layer, LoraLinear) else layer
            setattr(parent, name, _ordinary(layer) if isinstance(layer, QuantisedLinear) else layer)
    return bare


@torch.no_grad()
def _ordinary(layer: QuantisedLinear) -> nn.Linear:
    made = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None)
    made.weight, made.bias = nn.Parameter(layer.weight), layer.bias
    return made


def _lora_layers(model: nn.Module) -> dict[str, LoraLinear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLinear)}


def _their_layers(model: Llava | Llama, layers: Any) -> dict[str, list[str]]:
    """Our layer -> the layers of theirs that it is made of; none for the head, which shares its numbers."""
    rows = llava_rows(model) if isinstance(model, Llava) else llama_rows(model.config.tied)
    names = [name for name in layers if not name.endswith("head") and not name.startswith("vision.")]
    names = [name for name in names if not name.endswith(".frozen")]
    spelled = spell(rows, [f"{name}.weight" for name in names])[0]
    return {name: [key.removesuffix(".weight") for key in spelled[f"{name}.weight"]] for name in names}


def _rows_of(model: Llava | Llama, name: str, parts: int) -> list[int]:
    """How many rows each of their layers has of ours."""
    layer = model.get_submodule(name)
    layer = layer.frozen if isinstance(layer, LoraLinear) else layer
    if parts == 1:
        return [layer.out_features]
    attention = model.get_submodule(name.rpartition(".")[0])
    return [heads * attention.part for heads in (attention.heads, attention.groups, attention.groups)]


def _theirs(layer: LoraLinear, keys: list[str], rows: list[int]) -> dict[str, Tensor]:
    """One of our detours as detours of theirs, which share ``down``."""
    tensors = {}
    for key, up in zip(keys, layer.up.detach().split(rows), strict=True):
        tensors[f"{PEFT_PREFIX}{key}.lora_A.weight"] = layer.down.detach().clone()
        tensors[f"{PEFT_PREFIX}{key}.lora_B.weight"] = up.clone()
    if layer.magnitude is not None:
        for key, magnitude in zip(keys, layer.magnitude.detach().split(rows), strict=True):
            tensors[f"{PEFT_PREFIX}{key}.lora_magnitude_vector"] = magnitude.clone()
    return tensors


@torch.no_grad()
def _put(model: Llava | Llama, name: str, keys: list[str], parts: dict, config: dict[str, Any]) -> None:
    """Put their detours around one of our layers, as one."""
    frozen, rows, rank = model.get_submodule(name), _rows_of(model, name, len(keys)), config["r"]
    downs = [parts[key][0] for key in parts]
    shared = all(torch.equal(down, downs[0]) for down in downs)  # as ours are written
    count = rank if shared else rank * len(downs)
    layer = LoraLinear(frozen, count, config["lora_alpha"], config.get("use_rslora", False),
                       config.get("use_dora", False))  # fmt: skip
    layer.scale = lora_scale(config["lora_alpha"], rank, config.get("use_rslora", False))
    layer.down.copy_(downs[0] if shared else torch.cat(downs))
    layer.up.zero_()
    row = column = 0
    for key, height in zip(keys, rows, strict=True):
        if key in parts:
            layer.up[row : row + height, column : column + rank] = parts[key][1]
            if layer.magnitude is not None:
                layer.magnitude[row : row + height] = parts[key][2].flatten()
            column += 0 if shared else rank
        row += height
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, layer.to(frozen.weight.device))
