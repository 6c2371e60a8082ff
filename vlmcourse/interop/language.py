"""Carry weights from transformers' language models into ours (notebook 05).

    from_transformers   transformers' LLaMA, GPT-2, BERT (plain or for masked tokens) or T5 -> ours
    from_folder         the same from a folder that save_pretrained wrote, or a download of one, in one file or several

Every key is named here once and loaded strictly: a key that matches nothing, or is missing, is an error.
transformers keeps query, key and value apart; ours are one matrix.
"""

import json
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn

from vlmcourse.interop.keys import Names, fuse
from vlmcourse.models.bert import Bert, BertConfig, BertForMaskedLM
from vlmcourse.models.gpt import GPT, GPTConfig
from vlmcourse.models.language import Llama, LlamaConfig
from vlmcourse.models.t5 import T5, T5Config
from vlmcourse.training.checkpoints import CheckpointError, load_strict

State = dict[str, Tensor]
Config = transformers.PretrainedConfig


def from_transformers(theirs: nn.Module) -> nn.Module:
    """Our model with the weights of a transformers one (5.0 or newer), in evaluation mode.

    Raises:
        ValueError: if the model is another one, or uses an option that ours does not have.
        CheckpointError: if a weight is missing, has no place in ours, or has another shape.
    """
    return _convert(type(theirs).__name__, theirs.config, theirs.state_dict())


def from_folder(folder: str | Path) -> nn.Module:
    """As from_transformers, from a folder with config.json and model.safetensors, or several such files and an index.

    Raises:
        FileNotFoundError: if one of the files is not there.
        ValueError, CheckpointError: as from_transformers.
    """
    folder = Path(folder)
    names = ["model.safetensors"]
    if (index := folder / "model.safetensors.index.json").is_file():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    for name in ("config.json", *names):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder / name} does not exist; save with save_pretrained, or download that file"
            )
    config = transformers.AutoConfig.from_pretrained(folder)
    state = {key: value for name in names for key, value in load_file(folder / name).items()}
    return _convert((config.architectures or ["?"])[0], config, state)


def _convert(kind: str, config: Config, state: State) -> nn.Module:
    if kind not in KINDS:
        raise ValueError(f"the course knows {', '.join(KINDS)}, not {kind}")
    model, names, shared = KINDS[kind](config, state)
    for first, *others in shared:  # one tensor under several names; a file may hold any of them
        held = [state.pop(name) for name in (first, *others) if name in state]
        if any(not torch.equal(tensor, held[0]) for tensor in held):
            raise CheckpointError(
                f"{first} and {', '.join(others)} should be one tensor, but their numbers differ"
            )
        if held:
            state[first] = held[0]
    load_strict(model, _renamed(state, names, kind), f"this {kind}")
    return model.eval()


def _renamed(state: State, names: Names, kind: str) -> State:
    wanted = {key for keys in names.values() for key in keys}
    problems = [f"missing: {key}" for key in sorted(wanted - state.keys())]
    problems += [f"unexpected: {key}" for key in sorted(state.keys() - wanted)]
    if problems:
        shown = problems[:20] + [f"and {len(problems) - 20} more"] * (len(problems) > 20)
        raise CheckpointError(f"these are not the weights of a {kind}:\n  " + "\n  ".join(shown))
    return fuse(state, names)


def _require(config: Config, **options) -> None:
    for name, needed in options.items():
        if (given := getattr(config, name, needed)) != needed:
            raise ValueError(f"our {config.model_type} needs {name} = {needed!r}; this one has {given!r}")


def _layers(
    ours: str, theirs: str, depth: int, table: dict[str, str], kinds: tuple[str, ...] = ("weight",)
) -> Names:
    """The names of ``depth`` layers: ``table`` maps our modules to theirs; "{}_proj q k v" means three of them."""
    names: Names = {}
    for number in range(depth):
        for mine, his in table.items():
            pattern, *letters = his.split()
            for kind in kinds:
                keys = [
                    f"{theirs.format(number)}{pattern.format(letter)}.{kind}" for letter in letters or [""]
                ]
                scale = (
                    "scale" if "norm" in mine and kinds == ("weight",) else kind
                )  # RMSNorm's only parameter
                names[f"{ours.format(number)}{mine}.{scale}"] = tuple(keys)
    return names


# ---- decoders ------------------------------------------------------------------------------------------------


def llama_config(config: transformers.LlamaConfig) -> LlamaConfig:
    """What our Llama is called for with transformers' configuration; ValueError for options that it does not have."""
    _require(config, hidden_act="silu", attention_bias=False, mlp_bias=False,
             head_dim=config.hidden_size // config.num_attention_heads)  # fmt: skip
    rope = config.rope_parameters
    if rope["rope_type"] != "default":
        raise ValueError(f"our llama turns by plain RoPE; this one has rope_type {rope['rope_type']!r}")
    return LlamaConfig(
        config.vocab_size, config.hidden_size, config.num_hidden_layers, config.num_attention_heads,
        config.num_key_value_heads, config.intermediate_size, rope["rope_theta"], config.rms_norm_eps,
        config.tie_word_embeddings,
    )  # fmt: skip


def llama_names(depth: int) -> Names:
    """Every parameter of our Llama but its head -> those of transformers' LlamaModel."""
    table = {
        "norm_before_attention": "input_layernorm", "norm_before_mlp": "post_attention_layernorm",
        "attention.project_in": "self_attn.{}_proj q k v", "attention.project_out": "self_attn.o_proj",
        "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
    }  # fmt: skip
    names = _layers("blocks.{}.", "layers.{}.", depth, table)
    return names | {"embedding.weight": ("embed_tokens.weight",), "norm.scale": ("norm.weight",)}


def _llama(config: transformers.LlamaConfig, state: State) -> tuple[Llama, Names, list]:
    ours = llama_config(config)
    names = {mine: tuple(f"model.{key}" for key in keys) for mine, keys in llama_names(ours.depth).items()}
    words, head = "model.embed_tokens.weight", "lm_head.weight"
    names |= {"head.weight": (words if ours.tied else head,)}
    return Llama(ours), names, [(words, head)] if ours.tied else []


def _gpt(config: transformers.GPT2Config, state: State) -> tuple[GPT, Names, list]:
    _require(config, activation_function="gelu_new", scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False,
             add_cross_attention=False, tie_word_embeddings=True)  # fmt: skip
    model = GPT(
        GPTConfig(config.vocab_size, config.n_embd, config.n_layer, config.n_head, config.n_inner, config.n_positions,
                  config.layer_norm_epsilon)
    )  # fmt: skip
    for key in list(state):
        value = state.pop(key)
        if key.endswith((".attn.bias", ".attn.masked_bias")):  # the hub's gpt2 carries its causal mask along
            continue
        turned = (
            value.T if key.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")) else value
        )  # its "Conv1D"
        state[key.removeprefix("transformer.")] = turned
    table = {
        "norm_before_attention": "ln_1", "norm_before_mlp": "ln_2", "attention.project_in": "attn.c_attn",
        "attention.project_out": "attn.c_proj", "expand": "mlp.c_fc", "contract": "mlp.c_proj",
    }  # fmt: skip
    names = _layers("blocks.{}.", "h.{}.", config.n_layer, table, ("weight", "bias"))
    names |= {f"norm.{kind}": (f"ln_f.{kind}",) for kind in ("weight", "bias")}
    names |= {
        "embedding.weight": ("wte.weight",),
        "head.weight": ("wte.weight",),
        "positions.weight": ("wpe.weight",),
    }
    return model, names, [("wte.weight", "lm_head.weight")]


# ---- BERT ----------------------------------------------------------------------------------------------------


def _bert_config(config: transformers.BertConfig) -> BertConfig:
    _require(config, position_embedding_type="absolute", is_decoder=False)
    return BertConfig(
        config.vocab_size, config.hidden_size, config.num_hidden_layers, config.num_attention_heads,
        config.intermediate_size, config.max_position_embeddings, config.type_vocab_size, config.hidden_act,
        config.layer_norm_eps,
    )  # fmt: skip


def _bert_names(config: transformers.BertConfig, ours: str, theirs: str) -> Names:
    table = {
        "attention.project_in": "attention.self.{} query key value", "attention.project_out": "attention.output.dense",
        "norm_after_attention": "attention.output.LayerNorm", "expand": "intermediate.dense",
        "contract": "output.dense", "norm_after_mlp": "output.LayerNorm",
    }  # fmt: skip
    layers = (f"{ours}blocks.{{}}.", f"{theirs}encoder.layer.{{}}.", config.num_hidden_layers, table)
    tables = {"embedding": "word", "positions": "position", "segments": "token_type"}
    names = _layers(*layers, ("weight", "bias"))
    names |= {
        f"{ours}{mine}.weight": (f"{theirs}embeddings.{his}_embeddings.weight",)
        for mine, his in tables.items()
    }
    return names | {
        f"{ours}norm.{kind}": (f"{theirs}embeddings.LayerNorm.{kind}",) for kind in ("weight", "bias")
    }


def _bert(config: transformers.BertConfig, state: State) -> tuple[Bert, Names, list]:
    pooler = "pooler.dense.weight" in state
    names = _bert_names(config, "", "")
    if pooler:
        names |= {f"pooler.{kind}": (f"pooler.dense.{kind}",) for kind in ("weight", "bias")}
    return Bert(_bert_config(config), pooler), names, []


def _masked(config: transformers.BertConfig, state: State) -> tuple[BertForMaskedLM, Names, list]:
    _require(config, tie_word_embeddings=True)
    words, head = "bert.embeddings.word_embeddings.weight", "cls.predictions."
    names = _bert_names(config, "bert.", "bert.")
    for kind in ("weight", "bias"):
        names[f"transform.{kind}"] = (f"{head}transform.dense.{kind}",)
        names[f"norm.{kind}"] = (f"{head}transform.LayerNorm.{kind}",)
    names |= {"head.weight": (words,), "head.bias": (f"{head}bias",)}
    return BertForMaskedLM(_bert_config(config)), names, [
        (words, f"{head}decoder.weight"), (f"{head}bias", f"{head}decoder.bias")
    ]  # fmt: skip


# ---- T5 ------------------------------------------------------------------------------------------------------


def _t5(config: transformers.T5Config, state: State) -> tuple[T5, Names, list]:
    tied, gated = config.scale_decoder_outputs, config.feed_forward_proj == "gated-gelu"
    _require(
        config,
        feed_forward_proj="gated-gelu" if gated else "relu",
        decoder_start_token_id=config.pad_token_id,
    )
    depths = (config.num_layers, config.num_decoder_layers)
    model = T5(
        T5Config(
            config.vocab_size, config.d_model, *depths, config.num_heads, config.d_kv, config.d_ff, gated,
            config.relative_attention_num_buckets, config.relative_attention_max_distance, config.layer_norm_epsilon,
            tied, config.pad_token_id,
        )
    )  # fmt: skip
    names: Names = {}
    for stack, depth in zip(("encoder", "decoder"), depths, strict=True):
        last = 1 if stack == "encoder" else 2  # the decoder has cross-attention in between
        mlp = {"expand": "wi_1", "gate": "wi_0"} if gated else {"expand": "wi"}
        mlp |= {"contract": "wo"}
        table = {"norm_before_attention": "0.layer_norm", "attention.project_in": "0.SelfAttention.{} q k v",
                 "attention.project_out": "0.SelfAttention.o", "norm_before_mlp": f"{last}.layer_norm"}  # fmt: skip
        table |= {f"mlp.{ours}": f"{last}.DenseReluDense.{theirs}" for ours, theirs in mlp.items()}
        if stack == "decoder":
            table |= {
                "norm_before_cross": "1.layer_norm", "cross.project_in": "1.EncDecAttention.q",
                "cross.project_context": "1.EncDecAttention.{} k v", "cross.project_out": "1.EncDecAttention.o",
            }  # fmt: skip
        names |= _layers(f"{stack}.{{}}.", f"{stack}.block.{{}}.layer.", depth, table)
        names[f"{stack}_norm.scale"] = (f"{stack}.final_layer_norm.weight",)
        bias = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        names[f"{stack}_bias.table.weight"] = (bias,)
    words = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    names |= {"embedding.weight": words[:1], "head.weight": words[:1] if tied else ("lm_head.weight",)}
    if (
        not tied and "lm_head.weight" not in state and "shared.weight" in state
    ):  # left out where the two are equal
        state["lm_head.weight"] = state["shared.weight"]
    return model, names, [(*words, "lm_head.weight") if tied else words]


KINDS: dict[str, Callable[[Config, State], tuple[nn.Module, Names, list]]] = {
    "LlamaForCausalLM": _llama,
    "GPT2LMHeadModel": _gpt,
    "BertModel": _bert,
    "BertForMaskedLM": _masked,
    "T5ForConditionalGeneration": _t5,
}
