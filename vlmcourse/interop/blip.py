"""Carry weights from transformers' BLIP into ours (notebook 10).

Of the three published classes one scores images against texts, one writes captions, one answers questions;
ours has whichever parts theirs has.
"""

import transformers
from torch import nn

from vlmcourse.interop.keys import nested, represent, require_family, take_weights
from vlmcourse.interop.language import WORD_HEAD
from vlmcourse.interop.vit import ENCODER_WORDS, MLP_ROWS, vision_fields
from vlmcourse.models.bert import BertConfig
from vlmcourse.models.blip import Blip, BlipConfig
from vlmcourse.models.vit import ViTConfig

BLIP_VISION = {  # of BLIP and BLIP-2
    "class_token": "embeddings.class_embedding, vector",
    "embed_patch.weight": "embeddings.patch_embedding.weight, patches",
    "embed_patch.bias": "embeddings.patch_embedding.bias",
    "positions": "embeddings.position_embedding, rows",
    "norm.*": "post_layernorm.*",
    "blocks.#.attention.project_in.*": "encoder.layers.#.self_attn.qkv.*",
    "blocks.#.attention.project_out.*": "encoder.layers.#.self_attn.projection.*",
    "blocks.#.norm_before_attention.*": "encoder.layers.#.layer_norm1.*",
    "blocks.#.norm_before_mlp.*": "encoder.layers.#.layer_norm2.*",
    **nested(MLP_ROWS, "blocks.#.", "encoder.layers.#."),
}
BLIP_TEXT = {
    "embedding.weight": "embeddings.word_embeddings.weight",
    "positions.weight": "embeddings.position_embeddings.weight",
    "norm.*": "embeddings.LayerNorm.*",
    "blocks.#.attention.project_in.*": "encoder.layer.#.attention.self.(query key value).*",
    "blocks.#.attention.project_out.*": "encoder.layer.#.attention.output.dense.*",
    "blocks.#.norm_after_attention.*": "encoder.layer.#.attention.output.LayerNorm.*",
    "blocks.#.cross.project_in.*": "encoder.layer.#.crossattention.self.query.*",
    "blocks.#.cross.project_context.*": "encoder.layer.#.crossattention.self.(key value).*",
    "blocks.#.cross.project_out.*": "encoder.layer.#.crossattention.output.dense.*",
    "blocks.#.norm_after_cross.*": "encoder.layer.#.crossattention.output.LayerNorm.*",
    "blocks.#.mlp.expand.*": "encoder.layer.#.intermediate.dense.*",
    "blocks.#.mlp.contract.*": "encoder.layer.#.output.dense.*",
    "blocks.#.mlp.norm.*": "encoder.layer.#.output.LayerNorm.*",
}
BLIP = {
    **nested(BLIP_VISION, "vision.", "vision_model."),
    **nested(BLIP_TEXT, "encoder.", "text_encoder."),
    **nested(BLIP_TEXT, "language.", "text_decoder.bert."),
    **nested(WORD_HEAD, "language.", "text_decoder."),
    "project_image.*": "vision_proj.*",
    "project_text.*": "text_proj.*",
    "match.*": "itm_head.*",
}
BLIP_TEXT_WORDS = ENCODER_WORDS | {"vocabulary": "vocab_size", "positions": "max_position_embeddings"}
BLIP_PARTS = {  # of each class: what ours reads, writes and matches with
    "BlipForImageTextRetrieval": dict(reads=True, writes=False, matches=True),
    "BlipForConditionalGeneration": dict(reads=False, writes=True, matches=False),
    "BlipForQuestionAnswering": dict(reads=True, writes=True, matches=False),
}


def from_transformers(theirs: nn.Module) -> Blip:
    """Our Blip with the weights of a transformers one (5.0 or newer), in evaluation mode.

    Raises:
        ValueError: if it is another model, or uses an option that ours does not have.
        CheckpointError: if a weight is missing, or has no place in ours.
    """
    require_family(theirs, "blip")
    if (kind := type(theirs).__name__) not in BLIP_PARTS:
        raise ValueError(f"the course knows {', '.join(BLIP_PARTS)}, not {kind}")
    config, text = theirs.config, theirs.config.text_config
    represent(config, {}, "vision_config", "text_config", "image_text_hidden_size", "label_smoothing")
    ours = BlipConfig(
        ViTConfig(**vision_fields(config.vision_config)), text_config(text), start=text.bos_token_id,
        end=text.sep_token_id, shared=config.image_text_hidden_size, tied=False, **BLIP_PARTS[kind],
    )  # fmt: skip
    return take_weights(Blip(ours), theirs.state_dict(), BLIP, f"this {kind}")


def text_config(text: transformers.BlipTextConfig) -> BertConfig:
    """Our configuration of BLIP's text stacks; ValueError for options that ours does not have."""
    read = ("encoder_hidden_size", "label_smoothing", "use_cache")
    words = represent(text, BLIP_TEXT_WORDS, *read, is_decoder=True)
    return BertConfig(**words, segments=0)
