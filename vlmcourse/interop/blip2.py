"""Carry weights from transformers' BLIP-2 into ours (notebook 11): Q-Former, stage 1 and the whole."""

from typing import Any

import transformers
from torch import nn

from vlmcourse.interop.blip import BLIP_TEXT, BLIP_TEXT_WORDS, BLIP_VISION
from vlmcourse.interop.keys import nested, represent, take_weights
from vlmcourse.interop.language import llama_config, llama_rows, t5_config, t5_rows
from vlmcourse.interop.vit import vision_fields
from vlmcourse.models.bert import BertConfig
from vlmcourse.models.blip2 import Blip2, Blip2Config, Blip2T5
from vlmcourse.models.qformer import Matcher, MatcherConfig, QFormerConfig
from vlmcourse.models.vit import ViTConfig


def _as_qformer(theirs: str) -> str:
    """A key of BLIP's text stack as the Q-Former spells it."""
    return theirs.replace(".self.", ".attention.").replace("embeddings.LayerNorm", "layernorm")


QFORMER = {
    ours: _as_qformer(theirs)
    for ours, theirs in BLIP_TEXT.items()
    if not theirs.endswith("_embeddings.weight")
}
QFORMER |= {
    "blocks.#.query_mlp.expand.*": "encoder.layer.#.intermediate_query.dense.*",
    "blocks.#.query_mlp.contract.*": "encoder.layer.#.output_query.dense.*",
    "blocks.#.query_mlp.norm.*": "encoder.layer.#.output_query.LayerNorm.*",
}
READER = {  # the Q-Former and what stands beside it in a whole model
    **nested(QFORMER, "qformer.", "qformer."),
    "qformer.queries": "query_tokens, rows",
    "qformer.embedding.weight": "embeddings.word_embeddings.weight",
    "qformer.positions.weight": "embeddings.position_embeddings.weight",
    **nested(BLIP_VISION, "vision.", "vision_model."),
}
MATCHER = READER | {
    "project_image.*": "vision_projection.*",
    "project_text.*": "text_projection.*",
    "match.*": "itm_head.*",
}
QFORMER_WORDS = BLIP_TEXT_WORDS | {
    "every": "cross_attention_frequency",
    "context_width": "encoder_hidden_size",
}


def from_transformers(theirs: nn.Module) -> Matcher | Blip2 | Blip2T5:
    """Our model with the weights of a transformers one (5.0 or newer), in evaluation mode.

    Raises:
        ValueError: if it is another model, or uses an option that ours does not have.
        CheckpointError: if a weight is missing, or has no place in ours.
    """
    kind, config = type(theirs).__name__, theirs.config
    match kind:
        case "Blip2ForImageTextRetrieval":
            model, rows = Matcher(_matcher_config(config)), MATCHER
        case "Blip2ForConditionalGeneration":
            model, rows = _whole(config)
        case _:
            known = "Blip2ForImageTextRetrieval and Blip2ForConditionalGeneration"
            raise ValueError(f"the course knows {known}, not {kind}")
    return take_weights(model, theirs.state_dict(), rows, f"this {kind}")


def _whole(config: transformers.Blip2Config) -> tuple[Blip2 | Blip2T5, dict[str, str]]:
    """Our BLIP-2, still empty, and its key map."""
    vision, qformer = _parts(config)
    text = config.text_config
    rows = READER | {"projector.*": "language_projection.*"}
    options = dict(image_token=config.image_token_index)
    if text.model_type == "llama":
        whole = Blip2Config(vision, qformer, llama_config(text), **options)
        return Blip2(whole), rows | llama_rows(
            whole.language.tied, "language.", "language_model.model.", "language_model."
        )
    if text.model_type != "t5":
        raise ValueError(f"ours writes with a llama or a t5; this BLIP-2 has a {text.model_type}")
    whole = Blip2Config(
        vision, qformer, t5_config(text), **options, start=text.pad_token_id, end=text.eos_token_id
    )
    mine = t5_rows(whole.language.tied, whole.language.gated)
    return Blip2T5(whole), rows | nested(mine, "language.", "language_model.")


def _matcher_config(config: transformers.Blip2Config) -> MatcherConfig:
    return MatcherConfig(*_parts(config), config.image_text_hidden_size, writes=False)


def _parts(config: transformers.Blip2Config) -> tuple[ViTConfig, QFormerConfig]:
    """Our configurations of image encoder and Q-Former."""
    represent(config, {}, "vision_config", "qformer_config", "text_config", "num_query_tokens",
              "image_token_index", "image_text_hidden_size", "use_decoder_only_language_model",
              "is_encoder_decoder", "tie_word_embeddings")  # fmt: skip
    given = config.qformer_config
    words: dict[str, Any] = represent(given, QFORMER_WORDS, "use_qformer_text_input")
    every, width = words.pop("every"), words.pop("context_width")
    text = BertConfig(**words, segments=0)
    vision = ViTConfig(**vision_fields(config.vision_config, qkv_bias=True))
    return vision, QFormerConfig(text, width, config.num_query_tokens, every, given.use_qformer_text_input)
