"""Carry weights from transformers' language models into ours: LLaMA, GPT-2, BERT and T5 (notebook 05).

transformers keeps query, key and value apart; ours are one matrix.
"""

import transformers
from torch import nn

from vlmcourse.interop.keys import Names, nested, represent, require, spell, take_weights
from vlmcourse.interop.vit import ENCODER_WORDS, LAYER_WORDS
from vlmcourse.models.bert import Bert, BertConfig, BertForMaskedLM
from vlmcourse.models.gpt import GPT, GPTConfig
from vlmcourse.models.language import Llama, LlamaConfig
from vlmcourse.models.t5 import T5, T5Config


def from_transformers(theirs: nn.Module) -> nn.Module:
    """Our model with the weights of a transformers one (5.0 or newer), in evaluation mode.

    Raises:
        ValueError: if the model is another one, or uses an option that ours does not have.
        CheckpointError: if a weight is missing, has no place in ours, or has another shape.
    """
    kind, config, state = type(theirs).__name__, theirs.config, theirs.state_dict()
    match kind:
        case "LlamaForCausalLM":
            model, rows = Llama(llama_config(config)), llama_rows(config.tie_word_embeddings)
        case "GPT2LMHeadModel":
            model, rows = GPT(_gpt_config(config)), GPT2
        case "BertModel":
            model, rows = Bert(_bert_config(config), pooler="pooler.dense.weight" in state), BERT
        case "BertForMaskedLM":
            require(config, tie_word_embeddings=True)
            model, rows = BertForMaskedLM(_bert_config(config)), MASKED
        case "T5ForConditionalGeneration":
            model = T5(t5_config(config))
            rows = t5_rows(model.config.tied, model.config.gated)
        case _:
            raise ValueError(f"the course knows {', '.join(KNOWN)}, not {kind}")
    return take_weights(model, state, rows, f"this {kind}")


KNOWN = "LlamaForCausalLM", "GPT2LMHeadModel", "BertModel", "BertForMaskedLM", "T5ForConditionalGeneration"
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
    words = represent(config, LLAMA_WORDS, "rope_parameters", "max_position_embeddings",
                      hidden_act="silu", attention_bias=False, mlp_bias=False,
                      head_dim=config.hidden_size // config.num_attention_heads)  # fmt: skip
    rope = dict(config.rope_parameters)
    base = rope.pop("rope_theta")
    strange = {name: value for name, value in rope.items() if (name, value) != ("rope_type", "default")}
    if strange:
        named = ", ".join(f"{name} {value!r}" for name, value in strange.items())
        raise ValueError(f"our llama turns by plain RoPE; this one has {named}")
    return LlamaConfig(**words, base=base)


def llama_names(depth: int) -> Names:
    """Every parameter of our Llama but its head -> those of transformers' LlamaModel."""
    names = [name.replace("#", str(number)) for number in range(depth) for name in LLAMA]
    return spell(LLAMA, dict.fromkeys(names))[0]


def llama_rows(tied: bool, ours: str = "", theirs: str = "model.", head: str = "") -> dict[str, str]:
    """The rows of a LLaMA below these prefixes, and below ``head`` its head, which may be the embedding."""
    apart = f"{head}lm_head.weight"
    key = f"{theirs}embed_tokens.weight = {apart}" if tied else apart
    return nested(LLAMA, ours, theirs) | {f"{ours}head.weight": key}


GPT2 = {
    "embedding.weight": "transformer.wte.weight",
    "head.weight": "transformer.wte.weight = lm_head.weight",
    "positions.weight": "transformer.wpe.weight",
    "norm.*": "transformer.ln_f.*",
    "blocks.#.norm_before_attention.*": "transformer.h.#.ln_1.*",
    "blocks.#.attention.project_in.*": "transformer.h.#.attn.c_attn.*, transposed",
    "blocks.#.attention.project_out.*": "transformer.h.#.attn.c_proj.*, transposed",
    "blocks.#.norm_before_mlp.*": "transformer.h.#.ln_2.*",
    "blocks.#.expand.*": "transformer.h.#.mlp.c_fc.*, transposed",
    "blocks.#.contract.*": "transformer.h.#.mlp.c_proj.*, transposed",
}
GPT2_WORDS = {
    "vocabulary": "vocab_size", "width": "n_embd", "depth": "n_layer", "heads": "n_head", "hidden": "n_inner",
    "positions": "n_positions", "epsilon": "layer_norm_epsilon",
}  # fmt: skip


def _gpt_config(config: transformers.GPT2Config) -> GPTConfig:
    words = represent(config, GPT2_WORDS, "reorder_and_upcast_attn", activation_function="gelu_new",
                      scale_attn_weights=True, add_cross_attention=False, tie_word_embeddings=True,
                      scale_attn_by_inverse_layer_idx=False)  # fmt: skip
    return GPTConfig(**words)


BERT = {
    "embedding.weight": "embeddings.word_embeddings.weight",
    "positions.weight": "embeddings.position_embeddings.weight",
    "segments.weight": "embeddings.token_type_embeddings.weight",
    "norm.*": "embeddings.LayerNorm.*",
    "blocks.#.attention.project_in.*": "encoder.layer.#.attention.self.(query key value).*",
    "blocks.#.attention.project_out.*": "encoder.layer.#.attention.output.dense.*",
    "blocks.#.norm_after_attention.*": "encoder.layer.#.attention.output.LayerNorm.*",
    "blocks.#.mlp.expand.*": "encoder.layer.#.intermediate.dense.*",
    "blocks.#.mlp.contract.*": "encoder.layer.#.output.dense.*",
    "blocks.#.mlp.norm.*": "encoder.layer.#.output.LayerNorm.*",
    "pooler.*": "pooler.dense.*",
}
WORD_HEAD = {
    "head.transform.*": "cls.predictions.transform.dense.*",
    "head.norm.*": "cls.predictions.transform.LayerNorm.*",
    "head.score.weight": "bert.embeddings.word_embeddings.weight = cls.predictions.decoder.weight",
    "head.score.bias": "cls.predictions.bias = cls.predictions.decoder.bias",
}
MASKED = nested(BERT, "bert.", "bert.") | WORD_HEAD
BERT_WORDS = ENCODER_WORDS | {
    "vocabulary": "vocab_size", "positions": "max_position_embeddings", "segments": "type_vocab_size",
}  # fmt: skip


def _bert_config(config: transformers.BertConfig) -> BertConfig:
    words = represent(config, BERT_WORDS, "tie_word_embeddings", position_embedding_type="absolute",
                      is_decoder=False, add_cross_attention=False)  # fmt: skip
    return BertConfig(**words)


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
T5_MLP = {
    "norm_before_mlp.scale": "layer_norm.weight",
    "mlp.gate.weight": "DenseReluDense.wi_0.weight",
    "mlp.contract.weight": "DenseReluDense.wo.weight",
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


def t5_config(config: transformers.T5Config) -> T5Config:
    gated = config.feed_forward_proj == "gated-gelu"
    activation = "gated-gelu" if gated else "relu"
    words = represent(config, T5_WORDS, "tie_word_embeddings", feed_forward_proj=activation, is_decoder=False,
                      dense_act_fn="gelu_new" if gated else "relu", is_gated_act=gated,
                      decoder_start_token_id=config.pad_token_id)  # fmt: skip
    return T5Config(**words, gated=gated)


def t5_rows(tied: bool, gated: bool) -> dict[str, str]:
    rows = {
        "embedding.weight": "shared.weight = encoder.embed_tokens.weight = decoder.embed_tokens.weight",
        "head.weight": "shared.weight = lm_head.weight" if tied else "lm_head.weight",
    }
    mlp = T5_MLP | {"mlp.expand.weight": f"DenseReluDense.{'wi_1' if gated else 'wi'}.weight"}
    for stack, layers, last in (("encoder", T5_ATTENTION, 1), ("decoder", T5_ATTENTION | T5_CROSS, 2)):
        rows |= nested(layers | nested(mlp, "", f"{last}."), f"{stack}.#.", f"{stack}.block.#.layer.")
        rows |= nested(T5_STACK, stack, stack)
    return rows
