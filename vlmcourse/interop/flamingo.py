"""Carry weights from transformers' Idefics, the open Flamingo, into ours (notebook 09)."""

from dataclasses import replace

import transformers
from torch import nn

from vlmcourse.interop.clip import VISION
from vlmcourse.interop.keys import nested, represent, require_family, take_weights
from vlmcourse.interop.language import LLAMA_WORDS, llama_rows
from vlmcourse.interop.vit import vision_fields
from vlmcourse.models.flamingo import Flamingo, FlamingoConfig
from vlmcourse.models.language import LlamaConfig
from vlmcourse.models.vit import ViTConfig

GATED = {
    "norm_before_attention.scale": "input_layernorm.weight",
    "attention.project_in.weight": "cross_attn.q_proj.weight",
    "attention.project_context.weight": "cross_attn.(k v)_proj.weight",
    "attention.project_out.weight": "cross_attn.o_proj.weight",
    "norm_before_mlp.scale": "post_attention_layernorm.weight",
    "gate.weight": "mlp.gate_proj.weight",
    "up.weight": "mlp.up_proj.weight",
    "down.weight": "mlp.down_proj.weight",
    "look_gate": "alpha_cross_attn, number",
    "think_gate": "alpha_dense, number",
}
RESAMPLER = {  # in each of their blocks 0 is the attention, 1 the MLP
    "norm_latents.*": "0.latents_layer_norm.*",
    "norm_patches.*": "0.context_layer_norm.*",
    "attention.project_in.weight": "0.q_proj.weight",
    "attention.project_context.weight": "0.(k v)_proj.weight",
    "attention.project_out.weight": "0.output_proj.weight",
    "norm_before_mlp.*": "1.ln.*",
    "expand.weight": "1.fc.weight",
    "contract.weight": "1.c_proj.weight",
}
IDEFICS = {
    **nested(VISION, "vision.", "model.vision_model."),
    **nested(GATED, "gated.#.", "model.gated_cross_attn_layers.#."),
    **nested(RESAMPLER, "resampler.blocks.#.", "model.perceiver_resampler.blocks.#."),
    "resampler.latents": "model.perceiver_resampler.latents",
    "resampler.norm.*": "model.perceiver_resampler.layer_norm.*",
}
RESAMPLER_WORDS = {
    "latents": "resampler_n_latents", "resampler_depth": "resampler_depth",
    "resampler_heads": "resampler_n_heads", "resampler_part": "resampler_head_dim",
}  # fmt: skip


def from_transformers(theirs: nn.Module, image_token: int) -> Flamingo:
    """Our Flamingo with the weights of an IdeficsForVisionText2Text (5.0 or newer), in evaluation mode.

    Args:
        image_token: id of the placeholder; the library's model is given masks instead.

    Raises:
        ValueError: if it is another model, or uses an option that ours does not have.
        CheckpointError: if a weight is missing, or has no place in ours.
    """
    require_family(theirs, "idefics")
    config = theirs.config
    ours = flamingo_config(config, image_token)
    ours = replace(ours, language=replace(ours.language, base=_turned_by(theirs, ours.language.base)))
    model = Flamingo(ours)
    rows = IDEFICS | llama_rows(config.tie_word_embeddings, "language.")
    return take_weights(model, theirs.state_dict(), rows, f"this {type(theirs).__name__}")


def _turned_by(theirs: nn.Module, base: float) -> float:
    """What its RoPE turns by: in transformers 5.15 attention has its own base, not the config's."""
    own = [part.base for part in theirs.modules() if hasattr(part, "inv_freq") and hasattr(part, "base")]
    return own[0] if own else base


def flamingo_config(config: transformers.IdeficsConfig, image_token: int) -> FlamingoConfig:
    """Our configuration for theirs; ValueError for options that ours does not have."""
    words = {ours: theirs for ours, theirs in LLAMA_WORDS.items() if ours != "groups"}
    seen = ("vision_config", "perceiver_config", "rope_parameters", "max_position_embeddings",
            "cross_layer_interval", "alpha_initializer", "alphas_initializer_range")  # fmt: skip
    frozen = [name for name in vars(config) if name.startswith("freeze_")]
    language = represent(config, words, *seen, *frozen, use_resampler=True, hidden_act="silu",
                         additional_vocab_size=0, alpha_type="float", qk_layer_norms=False)  # fmt: skip
    rope = dict(config.rope_parameters)
    if rope.get("rope_type") != "default":
        raise ValueError(f"our llama turns by plain RoPE; this Idefics has {rope}")
    perceiver = config.perceiver_config
    resampler = represent(perceiver, RESAMPLER_WORDS, "use_resampler", qk_layer_norms_perceiver=False)
    vision = ViTConfig(**vision_fields(config.vision_config), patch_bias=False, norm_before_blocks=True)
    llama = LlamaConfig(**language, groups=language["heads"], base=rope["rope_theta"])
    return FlamingoConfig(vision, llama, image_token, every=config.cross_layer_interval, **resampler)
