"""Carry weights from published CLIPs into ours (notebook 04).

    from_transformers   transformers' CLIPModel -> our CLIP
    from_open_clip      a state dict and configuration of open_clip -> our CLIP
    from_folder         either, from a folder in the format of the Hugging Face hub

Every key is named here once and loaded strictly: one that is missing or matches nothing is an error that
names it. Files are safetensors, or torch files read with weights_only, so loading never runs code or touches
the network.
"""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from open_clip import CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import load_file
from torch import Tensor, nn

from vlmcourse.interop.keys import fuse
from vlmcourse.interop.vit import LAYER_NAMES, OUR_NAMES, patch_matrix
from vlmcourse.models.clip import CLIP, CLIPConfig, TextConfig
from vlmcourse.models.vit import ViTConfig
from vlmcourse.training.checkpoints import CheckpointError, load_strict

State = dict[str, Tensor]


class Library(NamedTuple):
    """How a library calls what we have."""

    front: dict[str, str]  # our module or parameter -> theirs
    towers: dict[str, str]  # our list of blocks -> theirs
    project_in: tuple[str, ...]  # in a block; several are put side by side
    block: tuple[str, ...]  # the rest of a block, in the order of OUR_NAMES


TRANSFORMERS = Library(
    front={
        "logit_scale": "logit_scale",
        "vision.class_token": "vision_model.embeddings.class_embedding",
        "vision.embed_patch.weight": "vision_model.embeddings.patch_embedding.weight",
        "vision.positions": "vision_model.embeddings.position_embedding.weight",
        "vision.norm_before_blocks": "vision_model.pre_layrnorm",
        "vision.norm": "vision_model.post_layernorm",
        "project_image.weight": "visual_projection.weight",
        "text.embed_token.weight": "text_model.embeddings.token_embedding.weight",
        "text.positions": "text_model.embeddings.position_embedding.weight",
        "text.norm": "text_model.final_layer_norm",
        "project_text.weight": "text_projection.weight",
    },
    towers={"vision.blocks": "vision_model.encoder.layers", "text.blocks": "text_model.encoder.layers"},
    project_in=tuple(LAYER_NAMES["clip"][0].format(letter) + "." for letter in "qkv"),
    block=(*LAYER_NAMES["clip"][1:], "mlp.fc1", "mlp.fc2"),
)
OPEN_CLIP = Library(
    front={
        "logit_scale": "logit_scale",
        "vision.class_token": "visual.class_embedding",
        "vision.embed_patch.weight": "visual.conv1.weight",
        "vision.positions": "visual.positional_embedding",
        "vision.norm_before_blocks": "visual.ln_pre",
        "vision.norm": "visual.ln_post",
        "project_image.weight": "visual.proj",
        "text.embed_token.weight": "token_embedding.weight",
        "text.positions": "positional_embedding",
        "text.norm": "ln_final",
        "project_text.weight": "text_projection",
    },
    towers={"vision.blocks": "visual.transformer.resblocks", "text.blocks": "transformer.resblocks"},
    project_in=("attn.in_proj_",),
    block=("attn.out_proj", "ln_1", "ln_2", "mlp.c_fc", "mlp.c_proj"),
)
FILES = {  # configuration -> weights, the safer format first
    "open_clip_config.json": ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
    "config.json": ("model.safetensors", "pytorch_model.bin"),
}
OPEN_CLIP_OPTIONS = {
    "embed_dim",
    "vision_cfg",
    "text_cfg",
    "quick_gelu",
    "init_logit_scale",
    "init_logit_bias",
}
OPEN_CLIP_SIZES = {  # what our towers can vary; any other field must have its default
    CLIPVisionCfg: {"layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size"},
    CLIPTextCfg: {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "pool_type", "eos_id",
                  "pad_id", "hf_tokenizer_name", "tokenizer_mode", "tokenizer_kwargs"},
}  # fmt: skip


def from_transformers(theirs: nn.Module) -> CLIP:
    """Our CLIP with the weights of a transformers ``CLIPModel`` (5.0 or newer), in evaluation mode.

    Raises:
        ValueError: if it is another model, or uses an option that ours does not have.
        CheckpointError: if a weight is missing, or has no place in ours.
    """
    return _from_transformers(theirs.state_dict(), theirs.config, type(theirs).__name__)


def from_open_clip(state: State, config: dict[str, Any], source: str | Path = "this open_clip model") -> CLIP:
    """Our CLIP with the weights of open_clip's CLIP, in evaluation mode.

    Args:
        state: its state dict.
        config: what open_clip calls model_cfg: embed_dim, vision_cfg, text_cfg, and quick_gelu=True for
            weights that were trained with it, as OpenAI's were; otherwise gelu.
        source: where the weights are from, for error messages.

    Raises:
        ValueError: if the configuration holds an option that ours does not have.
        CheckpointError: if a weight is missing, or has no place in ours.
    """
    vision, text = CLIPVisionCfg(**config["vision_cfg"]), CLIPTextCfg(**config["text_cfg"])
    _refuse_options(config, vision, text)
    activation = "quick_gelu" if config.get("quick_gelu") else "gelu"
    size = vision.image_size if isinstance(vision.image_size, int) else tuple(vision.image_size)
    ours = CLIPConfig(
        ViTConfig(
            size, vision.patch_size, 3, vision.width, vision.layers, vision.width // vision.head_width,
            int(vision.width * vision.mlp_ratio), activation, 1e-5, patch_bias=False, norm_before_blocks=True,
        ),
        TextConfig(
            text.vocab_size, text.eos_id if text.pool_type == "eos" else text.vocab_size - 1, text.context_length,
            text.width, text.layers, text.heads, int(text.width * text.mlp_ratio), activation,
        ),
        config["embed_dim"], bias=config.get("init_logit_bias"),
    )  # fmt: skip
    upright = {
        key: value.T if key in ("visual.proj", "text_projection") else value for key, value in state.items()
    }
    return _converted(upright, ours, OPEN_CLIP, source)


def from_folder(folder: str | Path) -> CLIP:
    """Our CLIP from a folder of open_clip's or transformers' format, as both libraries save and the hub serves it.

    Raises:
        FileNotFoundError: if no configuration lies there with its weights.
        ValueError, CheckpointError: as from_transformers and from_open_clip.
    """
    folder = Path(folder)
    for config, weights in (
        (folder / config, folder / name) for config, names in FILES.items() for name in names
    ):
        if config.is_file() and weights.is_file():
            break
    else:
        pairs = "; ".join(f"{config} with {' or '.join(names)}" for config, names in FILES.items())
        raise FileNotFoundError(f"no CLIP in {folder}; it needs {pairs}")
    safe = weights.suffix == ".safetensors"
    state = load_file(weights) if safe else torch.load(weights, map_location="cpu", weights_only=True)
    if config.name == "open_clip_config.json":
        return from_open_clip(state, json.loads(config.read_text())["model_cfg"], weights)
    return _from_transformers(state, transformers.AutoConfig.from_pretrained(folder), weights)


def _from_transformers(state: State, config: transformers.PretrainedConfig, source: str | Path) -> CLIP:
    if config.model_type != "clip":
        raise ValueError(f"{source} holds a model of type {config.model_type!r}, not 'clip'")
    vision, text = config.vision_config, config.text_config
    # Published configurations before 2023 say 2, which is wrong: the tokenizer's EOS is the last id of the vocabulary.
    # The library then looks for the highest id of each text, which is the first EOS.
    eos = text.vocab_size - 1 if text.eos_token_id == 2 else text.eos_token_id
    ours = CLIPConfig(
        ViTConfig(
            vision.image_size, vision.patch_size, vision.num_channels, vision.hidden_size, vision.num_hidden_layers,
            vision.num_attention_heads, vision.intermediate_size, vision.hidden_act, vision.layer_norm_eps,
            patch_bias=False, norm_before_blocks=True,
        ),
        TextConfig(
            text.vocab_size, eos, text.max_position_embeddings, text.hidden_size, text.num_hidden_layers,
            text.num_attention_heads, text.intermediate_size, text.hidden_act, text.layer_norm_eps,
        ),
        config.projection_dim,
    )  # fmt: skip
    counters = {
        f"{tower}_model.embeddings.position_ids" for tower in ("vision", "text")
    }  # 0, 1, 2 … in old files
    weights = {key: value for key, value in state.items() if key not in counters}
    return _converted(weights, ours, TRANSFORMERS, source)


def _refuse_options(config: dict[str, Any], vision: CLIPVisionCfg, text: CLIPTextCfg) -> None:
    """Raise if the model was made with an option that changes its numbers and that ours does not have."""
    strange = [key for key, value in config.items() if key not in OPEN_CLIP_OPTIONS and value]
    for part in (vision, text):
        usual = type(part)()
        strange += [
            field.name for field in fields(part)
            if field.name not in OPEN_CLIP_SIZES[type(part)] and getattr(part, field.name) != getattr(usual, field.name)
        ]  # fmt: skip
    if not isinstance(vision.layers, int):
        strange.append(f"layers={vision.layers} (a ResNet)")
    if text.pool_type not in ("argmax", "eos"):
        strange.append(f"pool_type={text.pool_type!r}")
    if strange:
        raise ValueError(f"this CLIP was made with what ours does not have: {', '.join(strange)}")


def _converted(state: State, config: CLIPConfig, library: Library, source: str | Path) -> CLIP:
    """Our CLIP with their weights, once all keys are known and none is missing."""
    model, names = CLIP(config), _names(config, library)
    expected = {theirs for several in names.values() for theirs in several}
    problems = [f"missing: {key}" for key in expected if key not in state]
    problems += [f"unexpected: {key}" for key in state if key not in expected]
    if problems:
        shown = "\n  ".join(sorted(problems)[:20] + [f"and {len(problems) - 20} more"] * (len(problems) > 20))
        raise CheckpointError(f"{source} does not hold the weights its configuration promises:\n  {shown}")
    ours = fuse(state, names)
    ours["vision.embed_patch.weight"] = patch_matrix(ours["vision.embed_patch.weight"])
    load_strict(model, ours, source)
    return model.eval()


def _names(config: CLIPConfig, library: Library) -> dict[str, tuple[str, ...]]:
    """Every parameter of our CLIP -> the one or three of theirs that it is made of."""
    names = {"logit_bias": ("logit_bias",)} if config.bias is not None else {}
    names |= _front_names(library)
    for tower, depth in zip(library.towers, (config.vision.depth, config.text.depth), strict=True):
        names |= _block_names(tower, depth, library)
    return names


def vision_names(depth: int) -> dict[str, tuple[str, ...]]:
    """Every parameter of the image tower alone -> those of transformers' CLIPVisionModel that it is made of."""
    tower = {
        ours: theirs for ours, theirs in _front_names(TRANSFORMERS).items() if ours.startswith("vision.")
    }
    tower |= _block_names("vision.blocks", depth, TRANSFORMERS)
    return {ours.removeprefix("vision."): tuple(name.removeprefix("vision_model.") for name in theirs)
            for ours, theirs in tower.items()}  # fmt: skip


def _front_names(library: Library) -> dict[str, tuple[str, ...]]:
    """All but the blocks."""
    kinds = {True: (".weight", ".bias"), False: ("",)}
    return {
        ours + kind: (theirs + kind,)
        for ours, theirs in library.front.items()
        for kind in kinds["norm" in ours]
    }


def _block_names(tower: str, depth: int, library: Library) -> dict[str, tuple[str, ...]]:
    names = {}
    for number in range(depth):
        ours, theirs = f"{tower}.{number}.", f"{library.towers[tower]}.{number}."
        for kind in ("weight", "bias"):
            names[f"{ours}attention.project_in.{kind}"] = tuple(
                theirs + part + kind for part in library.project_in
            )
            for mine, name in zip(OUR_NAMES, library.block, strict=True):
                names[f"{ours}{mine}.{kind}"] = (f"{theirs}{name}.{kind}",)
    return names
