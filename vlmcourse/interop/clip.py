"""Carry weights from published CLIPs into ours (notebook 04).

from_transformers   transformers' CLIPModel -> our CLIP
from_open_clip      a state dict and configuration of open_clip -> our CLIP
from_folder         either, from a folder in the format of the Hugging Face hub
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers
from open_clip import CLIPTextCfg, CLIPVisionCfg
from torch import Tensor

from vlmcourse.interop import hub
from vlmcourse.interop.keys import nested, represent, require_family, take_weights
from vlmcourse.interop.vit import ENCODER_WORDS, MLP_ROWS, vision_fields
from vlmcourse.models.clip import CLIP, CLIPConfig, TextConfig
from vlmcourse.models.vit import ViTConfig
from vlmcourse.training.reading import Stored, read_json, read_tensors, refuse_memory, refuse_sizes

LAYER = {  # of both towers, in transformers
    "attention.project_in.*": "self_attn.(q k v)_proj.*",
    "attention.project_out.*": "self_attn.out_proj.*",
    "norm_before_attention.*": "layer_norm1.*",
    "norm_before_mlp.*": "layer_norm2.*",
    **MLP_ROWS,
}
VISION = {  # transformers' CLIPVisionModel, which LLaVA has too
    "class_token": "embeddings.class_embedding",
    "embed_patch.weight": "embeddings.patch_embedding.weight, patches",
    "positions": "embeddings.position_embedding.weight",
    "norm_before_blocks.*": "pre_layrnorm.*",
    "norm.*": "post_layernorm.*",
    **nested(LAYER, "blocks.#.", "encoder.layers.#."),
}
TRANSFORMERS_CLIP = {
    "logit_scale": "logit_scale",
    "project_image.weight": "visual_projection.weight",
    "project_text.weight": "text_projection.weight",
    "text.embed_token.weight": "text_model.embeddings.token_embedding.weight",
    "text.positions": "text_model.embeddings.position_embedding.weight",
    "text.norm.*": "text_model.final_layer_norm.*",
    **nested(LAYER, "text.blocks.#.", "text_model.encoder.layers.#."),
    **nested(VISION, "vision.", "vision_model."),
}
OPEN_CLIP_LAYER = {
    "attention.project_in.*": "attn.in_proj_*",
    "attention.project_out.*": "attn.out_proj.*",
    "norm_before_attention.*": "ln_1.*",
    "norm_before_mlp.*": "ln_2.*",
    "expand.*": "mlp.c_fc.*",
    "contract.*": "mlp.c_proj.*",
}
OPEN_CLIP = {
    "logit_scale": "logit_scale",
    "logit_bias": "logit_bias",  # only in models for SigLIP's loss
    "vision.class_token": "visual.class_embedding",
    "vision.embed_patch.weight": "visual.conv1.weight, patches",
    "vision.positions": "visual.positional_embedding",
    "vision.norm_before_blocks.*": "visual.ln_pre.*",
    "vision.norm.*": "visual.ln_post.*",
    "project_image.weight": "visual.proj, transposed",
    "text.embed_token.weight": "token_embedding.weight",
    "text.positions": "positional_embedding",
    "text.norm.*": "ln_final.*",
    "project_text.weight": "text_projection, transposed",
    **nested(OPEN_CLIP_LAYER, "vision.blocks.#.", "visual.transformer.resblocks.#."),
    **nested(OPEN_CLIP_LAYER, "text.blocks.#.", "transformer.resblocks.#."),
}
TEXT_WORDS = ENCODER_WORDS | {"vocabulary": "vocab_size", "length": "max_position_embeddings"}
OPEN_CLIP_OPTIONS = {
    "embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "init_logit_scale", "init_logit_bias",
}  # fmt: skip
OPEN_CLIP_SIZES = {  # what our towers can vary; any other field must have its default
    CLIPVisionCfg: {"layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size"},
    CLIPTextCfg: {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "pool_type",
                  "eos_id", "pad_id", "hf_tokenizer_name", "tokenizer_mode", "tokenizer_kwargs"},
}  # fmt: skip


def from_transformers(theirs: transformers.CLIPModel) -> CLIP:
    """Our CLIP with the weights of a transformers ``CLIPModel`` (5.0 or newer), in evaluation mode.

    Raises:
        ValueError: if it is another model, or uses an option that ours does not have.
        CheckpointError: if a weight is missing, or has no place in ours.
    """
    require_family(theirs, "clip")
    text = theirs.config.text_config
    # Published configurations before 2023 say 2, which is wrong: the tokenizer's EOS is the last id of the
    # vocabulary. The library then looks for the highest id of each text, which is the first EOS.
    eos = text.vocab_size - 1 if text.eos_token_id == 2 else text.eos_token_id
    represent(theirs.config, {}, "text_config", "vision_config")
    reader = TextConfig(eos=eos, **represent(text, TEXT_WORDS))
    eye = vision_config(theirs.config.vision_config)
    model = CLIP(CLIPConfig(eye, reader, theirs.config.projection_dim))
    return take_weights(model, theirs.state_dict(), TRANSFORMERS_CLIP, f"this {type(theirs).__name__}")


def from_open_clip(state: Mapping[str, Tensor], config: dict[str, Any], source: str = "this model") -> CLIP:
    """Our CLIP with the weights of open_clip's CLIP, in evaluation mode.

    Args:
        config: what open_clip calls model_cfg: embed_dim, vision_cfg, text_cfg, and quick_gelu=True for
            weights that were trained with it, as OpenAI's were; otherwise gelu.
        source: where the weights are from, for error messages.

    Raises:
        ValueError: if the configuration holds an option that ours does not have.
        CheckpointError: if a weight is missing, or has no place in ours.
    """
    vision, text = _open_clip_part(config, CLIPVisionCfg), _open_clip_part(config, CLIPTextCfg)
    _refuse_options(config, vision, text)
    stored = {name: Stored("", tuple(value.shape)) for name, value in state.items()}
    refuse_sizes(config, stored, source)
    activation = "quick_gelu" if config.get("quick_gelu") else "gelu"
    size = vision.image_size if isinstance(vision.image_size, int) else tuple(vision.image_size)
    eye = ViTConfig(
        image_size=size, patch_size=vision.patch_size, width=vision.width, depth=vision.layers,
        heads=vision.width // vision.head_width, hidden=int(vision.width * vision.mlp_ratio),
        activation=activation, epsilon=1e-5, patch_bias=False, norm_before_blocks=True,
    )  # fmt: skip
    reader = TextConfig(
        vocabulary=text.vocab_size, eos=text.eos_id if text.pool_type == "eos" else text.vocab_size - 1,
        length=text.context_length, width=text.width, depth=text.layers, heads=text.heads,
        hidden=int(text.width * text.mlp_ratio), activation=activation,
    )  # fmt: skip
    whole = CLIPConfig(eye, reader, config["embed_dim"], bias=config.get("init_logit_bias"))
    refuse_memory(lambda: CLIP(whole), stored, source)
    return take_weights(CLIP(whole), state, OPEN_CLIP, source)


def from_folder(folder: str | Path) -> CLIP:
    """Our CLIP from a folder of open_clip's or transformers' format, as they save and the hub serves it.

    Raises:
        MissingModel: if no configuration lies there with its weights as safetensors, in one file or several.
        ValueError, CheckpointError: as from_transformers and from_open_clip.
    """
    found = hub.resolve(folder, fetch=False)
    config, weights = found.folder / "open_clip_config.json", found.folder / "open_clip_model.safetensors"
    if not (config.is_file() and weights.is_file()):
        return from_transformers(found.open(transformers.CLIPModel))
    return from_open_clip(read_tensors(weights), read_json(config).get("model_cfg"), str(weights))


def vision_config(config: transformers.CLIPVisionConfig) -> ViTConfig:
    """Our configuration of CLIP's vision encoder."""
    return ViTConfig(**vision_fields(config), patch_bias=False, norm_before_blocks=True)


def _open_clip_part(config: Any, kind: type) -> Any:
    """The part of an open_clip configuration that is of this class; ValueError if it is none."""
    name = {CLIPVisionCfg: "vision_cfg", CLIPTextCfg: "text_cfg"}[kind]
    fields = config.get(name) if isinstance(config, dict) and "embed_dim" in config else None
    if not isinstance(fields, dict):
        raise ValueError("this is no configuration of a CLIP: embed_dim, vision_cfg and text_cfg make one")
    if unknown := [field for field, value in fields.items() if field not in vars(kind()) and value]:
        raise ValueError(f"this CLIP was made with what ours does not have: {', '.join(unknown)}")
    return kind(**{field: value for field, value in fields.items() if field in vars(kind())})


def _refuse_options(config: dict[str, Any], vision: CLIPVisionCfg, text: CLIPTextCfg) -> None:
    """Raise if the model was made with an option that changes its numbers and that ours does not have."""
    strange = [key for key, value in config.items() if key not in OPEN_CLIP_OPTIONS and value]
    for part in (vision, text):
        usual, fixed = vars(type(part)()), vars(part).keys() - OPEN_CLIP_SIZES[type(part)]
        strange += sorted(name for name in fixed if getattr(part, name) != usual[name])
    if not isinstance(vision.layers, int):
        strange.append(f"layers={vision.layers} (a ResNet)")
    if text.pool_type not in ("argmax", "eos"):
        strange.append(f"pool_type={text.pool_type!r}")
    if strange:
        raise ValueError(f"this CLIP was made with what ours does not have: {', '.join(strange)}")
