"""The language model of transformers' Qwen2-VL -> our Qwen (notebook 16)."""

import transformers
from torch import nn

from vlmcourse.interop.keys import represent, take_weights
from vlmcourse.interop.language import LLAMA_WORDS, llama_rows
from vlmcourse.models.qwen import Qwen, QwenConfig

BIASES = {"blocks.#.attention.project_in.bias": "layers.#.self_attn.(q k v)_proj.bias"}


def from_transformers(theirs: nn.Module) -> Qwen:
    """Our Qwen with the words of a Qwen2VLForConditionalGeneration (5.0 or newer), in evaluation mode.

    Its image encoder, the keys under ``model.visual``, stays behind: our Qwen reads vectors that stand among
    the words already.

    Raises:
        ValueError: if it is another model, or uses an option that ours does not have.
        CheckpointError: if a weight is missing, or has no place in ours.
    """
    if not isinstance(theirs, transformers.Qwen2VLForConditionalGeneration):
        raise ValueError(f"this reads a Qwen2VLForConditionalGeneration, not a {type(theirs).__name__}")
    tied = theirs.config.tie_word_embeddings
    model = Qwen(qwen_config(theirs.config.text_config, tied))
    words = {key: value for key, value in theirs.state_dict().items() if not key.startswith("model.visual.")}
    below = "model.language_model."
    rows = llama_rows(tied, theirs=below) | {ours: below + key for ours, key in BIASES.items()}
    return take_weights(model, words, rows, "the language model of this Qwen2-VL")


def qwen_config(config: transformers.Qwen2VLTextConfig, tied: bool) -> QwenConfig:
    """Our configuration for transformers'; ValueError for options that ours does not have."""
    fields = {ours: name for ours, name in LLAMA_WORDS.items() if ours != "tied"}
    words = represent(config, fields, "rope_parameters", "max_position_embeddings", "max_window_layers",
                      "layer_types", "sliding_window",
                      hidden_act="silu", use_sliding_window=False)  # fmt: skip
    rope = dict(config.rope_parameters)
    base, sections = rope.pop("rope_theta"), tuple(rope.pop("mrope_section"))
    strange = {name: value for name, value in rope.items() if (name, value) != ("rope_type", "default")}
    if strange:
        named = ", ".join(f"{name} {value!r}" for name, value in strange.items())
        raise ValueError(f"our qwen turns by plain M-RoPE; this one has {named}")
    return QwenConfig(**words, tied=tied, base=base, sections=sections)
