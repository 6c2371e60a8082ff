"""Carry weights from transformers' language models into ours (notebook 05).

    from_transformers   transformers' LLaMA, GPT-2, BERT (plain or for masked tokens) or T5 -> ours
    from_folder         the same from a folder that save_pretrained wrote, or a download of one

Every key is named here once and loaded strictly: a key that matches nothing, or is missing, is an error.
transformers keeps query, key and value apart; ours are one matrix.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import transformers
from torch import nn

from vlmcourse.interop.keys import Names, State, nested, read_folder, require, spell, take_weights, translate
from vlmcourse.interop.vit import ENCODER_WORDS, LAYER_WORDS
from vlmcourse.models.bert import Bert, BertConfig, BertForMaskedLM
from vlmcourse.models.gpt import GPT, GPTConfig
from vlmcourse.models.language import Llama, LlamaConfig
from vlmcourse.models.t5 import T5, T5Config

Config = transformers.PretrainedConfig


def from_transformers(theirs: nn.Module) -> nn.Module:
    """Our model with the weights of a transformers one (5.0 or newer), in evaluation mode.

    Raises:
        ValueError: if the model is another one, or uses an option that ours does not have.
        CheckpointError: if a weight is missing, has no place in ours, or has another shape.
    """
    kind = type(theirs).__name__
    return _convert(kind, theirs.config, theirs.state_dict(), f"this {kind}")


def from_folder(folder: str | Path) -> nn.Module:
    """As from_transformers, from a folder in the hub's format: one file of weights, or several and an index.

    Raises:
        FileNotFoundError: if one of the files is not there.
        ValueError, CheckpointError: as from_transformers.
    """
    config, state = read_folder(folder)
    return _convert((config.architectures or ["?"])[0], config, state, folder)


class Family(NamedTuple):
    """Our model, and how a library's weights come into it; see keys.take_weights."""

    model: nn.Module
    rows: dict[str, str]
    tied: tuple[tuple[str, ...], ...] = ()
    dropped: tuple[str, ...] = ()


def _convert(kind: str, config: Config, state: State, source: str | Path) -> nn.Module:
    if kind not in CONVERTERS:
        raise ValueError(f"the course knows {', '.join(CONVERTERS)}, not {kind}")
    state = dict(state)
    family = CONVERTERS[kind](config, state)
    return take_weights(family.model, state, family.rows, source, family.tied, family.dropped)


# ---- decoders ------------------------------------------------------------------------------------------

LLAMA = {  # all but the head
    "embedding.weight": "embed_tokens.weight",
    "norm.scale": "norm.weight",
    "blocks.#.norm_before_attention.scale": "layers.#.input_layernorm.weight",
    "blocks.#.attention.project_in.weight": "layers.#.self_attn.(q k v)_proj.weight",
    "blocks.#.attention.project_out.weight": "layers.#.self_attn.o_proj.weight",
    "blocks.#.norm_before_mlp.scale": "layers.#.post_attention_layernorm.weight",
    "blocks.#.gate.weight": "layers.#.mlp.gate_proj.weight",
    "blocks.#.up.weight": "layers.#.mlp.up_proj.weight",
    "blocks.#.down.weight": "layers.#.mlp.down_proj.weight",
}
LLAMA_WORDS = LAYER_WORDS | {
    "vocabulary": "vocab_size", "groups": "num_key_value_heads", "epsilon": "rms_norm_eps",
    "tied": "tie_word_embeddings",
}  # fmt: skip


def llama_config(config: transformers.LlamaConfig) -> LlamaConfig:
    """Our configuration for transformers'; ValueError for options that ours does not have."""
    require(config, hidden_act="silu", attention_bias=False, mlp_bias=False,
            head_dim=config.hidden_size // config.num_attention_heads)  # fmt: skip
    rope = config.rope_parameters
    if rope["rope_type"] != "default":
        raise ValueError(f"our llama turns by plain RoPE; this one has rope_type {rope['rope_type']!r}")
    return LlamaConfig(**translate(config, LLAMA_WORDS), base=rope["rope_theta"])


def llama_names(depth: int) -> Names:
    """Every parameter of our Llama but its head -> those of transformers' LlamaModel."""
    names = [name.replace("#", str(number)) for number in range(depth) for name in LLAMA]
    return spell(LLAMA, dict.fromkeys(names))[0]


def llama_rows(tied: bool, ours: str = "", theirs: str = "model.") -> tuple[dict[str, str], tuple]:
    """The rows of a LLaMA with its head, which stand below these prefixes, and what is tied in it.

    The head itself, if it is not the embedding matrix, has no prefix in transformers.
    """
    words, head = f"{theirs}embed_tokens.weight", "lm_head.weight"
    rows = nested(LLAMA, ours, theirs) | {f"{ours}head.weight": words if tied else head}
    return rows, ((words, head),) if tied else ()


def _llama(config: transformers.LlamaConfig, state: State) -> Family:
    ours = llama_config(config)
    return Family(Llama(ours), *llama_rows(ours.tied))


GPT2 = {
    "embedding.weight": "wte.weight",
    "head.weight": "wte.weight",
    "positions.weight": "wpe.weight",
    "norm.*": "ln_f.*",
    "blocks.#.norm_before_attention.*": "h.#.ln_1.*",
    "blocks.#.attention.project_in.*": "h.#.attn.c_attn.*, transposed",
    "blocks.#.attention.project_out.*": "h.#.attn.c_proj.*, transposed",
    "blocks.#.norm_before_mlp.*": "h.#.ln_2.*",
    "blocks.#.expand.*": "h.#.mlp.c_fc.*, transposed",
    "blocks.#.contract.*": "h.#.mlp.c_proj.*, transposed",
}
GPT2_WORDS = {
    "vocabulary": "vocab_size", "width": "n_embd", "depth": "n_layer", "heads": "n_head", "hidden": "n_inner",
    "positions": "n_positions", "epsilon": "layer_norm_epsilon",
}  # fmt: skip


def _gpt(config: transformers.GPT2Config, state: State) -> Family:
    require(config, activation_function="gelu_new", scale_attn_weights=True, add_cross_attention=False,
            scale_attn_by_inverse_layer_idx=False, tie_word_embeddings=True)  # fmt: skip
    for key in list(state):  # the hub's gpt2 has no prefix
        state[key.removeprefix("transformer.")] = state.pop(key)
    masks = (".attn.bias", ".attn.masked_bias")  # which the hub's gpt2 carries along
    return Family(
        GPT(GPTConfig(**translate(config, GPT2_WORDS))), GPT2, (("wte.weight", "lm_head.weight"),), masks
    )


# ---- BERT ----------------------------------------------------------------------------------------------

BERT = {
    "embedding.weight": "embeddings.word_embeddings.weight",
    "positions.weight": "embeddings.position_embeddings.weight",
    "segments.weight": "embeddings.token_type_embeddings.weight",
    "norm.*": "embeddings.LayerNorm.*",
    "blocks.#.attention.project_in.*": "encoder.layer.#.attention.self.(query key value).*",
    "blocks.#.attention.project_out.*": "encoder.layer.#.attention.output.dense.*",
    "blocks.#.norm_after_attention.*": "encoder.layer.#.attention.output.LayerNorm.*",
    "blocks.#.expand.*": "encoder.layer.#.intermediate.dense.*",
    "blocks.#.contract.*": "encoder.layer.#.output.dense.*",
    "blocks.#.norm_after_mlp.*": "encoder.layer.#.output.LayerNorm.*",
    "pooler.*": "pooler.dense.*",
}
WORD_TABLE = "bert.embeddings.word_embeddings.weight"
MASKED = nested(BERT, "bert.", "bert.") | {
    "transform.*": "cls.predictions.transform.dense.*",
    "norm.*": "cls.predictions.transform.LayerNorm.*",
    "head.weight": WORD_TABLE,
    "head.bias": "cls.predictions.bias",
}
BERT_WORDS = ENCODER_WORDS | {
    "vocabulary": "vocab_size", "positions": "max_position_embeddings", "segments": "type_vocab_size",
}  # fmt: skip


def _bert_config(config: transformers.BertConfig) -> BertConfig:
    require(config, position_embedding_type="absolute", is_decoder=False)
    return BertConfig(**translate(config, BERT_WORDS))


def _bert(config: transformers.BertConfig, state: State) -> Family:
    return Family(Bert(_bert_config(config), pooler="pooler.dense.weight" in state), BERT)


def _masked(config: transformers.BertConfig, state: State) -> Family:
    require(config, tie_word_embeddings=True)
    head = "cls.predictions."
    tied = ((WORD_TABLE, f"{head}decoder.weight"), (f"{head}bias", f"{head}decoder.bias"))
    return Family(BertForMaskedLM(_bert_config(config)), MASKED, tied)


# ---- T5 ------------------------------------------------------------------------------------------------

# their sublayers are numbered: 0 attention, then in the decoder 1 cross-attention, then the MLP
T5_ATTENTION = {
    "norm_before_attention.scale": "0.layer_norm.weight",
    "attention.project_in.weight": "0.SelfAttention.(q k v).weight",
    "attention.project_out.weight": "0.SelfAttention.o.weight",
}
T5_CROSS = {
    "norm_before_cross.scale": "1.layer_norm.weight",
    "cross.project_in.weight": "1.EncDecAttention.q.weight",
    "cross.project_context.weight": "1.EncDecAttention.(k v).weight",
    "cross.project_out.weight": "1.EncDecAttention.o.weight",
}
T5_STACK = {
    "_norm.scale": ".final_layer_norm.weight",
    "_bias.table.weight": ".block.0.layer.0.SelfAttention.relative_attention_bias.weight",
}
T5_WORDS = {
    "vocabulary": "vocab_size", "width": "d_model", "encoder_depth": "num_layers",
    "decoder_depth": "num_decoder_layers", "heads": "num_heads", "part": "d_kv", "hidden": "d_ff",
    "buckets": "relative_attention_num_buckets", "farthest": "relative_attention_max_distance",
    "epsilon": "layer_norm_epsilon", "tied": "scale_decoder_outputs", "start": "pad_token_id",
}  # fmt: skip


def _t5(config: transformers.T5Config, state: State) -> Family:
    gated = config.feed_forward_proj == "gated-gelu"
    activation = "gated-gelu" if gated else "relu"
    require(config, feed_forward_proj=activation, decoder_start_token_id=config.pad_token_id)
    model = T5(T5Config(**translate(config, T5_WORDS), gated=gated))
    words, head = "shared.weight", "lm_head.weight"
    copies = (words, "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    if model.config.tied:
        return Family(model, _t5_rows(gated, words), ((*copies, head),))
    if head not in state and words in state:  # left out where the two are equal
        state[head] = state[words]
    return Family(model, _t5_rows(gated, head), (copies,))


def _t5_rows(gated: bool, head: str) -> dict[str, str]:
    rows = {"embedding.weight": "shared.weight", "head.weight": head}
    for stack, layers, last in (("encoder", T5_ATTENTION, 1), ("decoder", T5_ATTENTION | T5_CROSS, 2)):
        mlp = {
            "norm_before_mlp.scale": "layer_norm.weight",
            "mlp.expand.weight": f"DenseReluDense.{'wi_1' if gated else 'wi'}.weight",
            "mlp.gate.weight": "DenseReluDense.wi_0.weight",
            "mlp.contract.weight": "DenseReluDense.wo.weight",
        }
        layers = layers | nested(mlp, "", f"{last}.")
        rows |= nested(layers, f"{stack}.#.", f"{stack}.block.#.layer.") | nested(T5_STACK, stack, stack)
    return rows


CONVERTERS: dict[str, Callable[[Config, State], Family]] = {
    "LlamaForCausalLM": _llama,
    "GPT2LMHeadModel": _gpt,
    "BertModel": _bert,
    "BertForMaskedLM": _masked,
    "T5ForConditionalGeneration": _t5,
}
