"""Every field of a configuration and every weight arrives: a quick look at each family, on tiny models.

The long look, with gradients, losses and text, is in tests/parity.
"""

import pytest
import torch
import transformers

from tests.interop.families import FAMILIES, randomised
from vlmcourse.interop import clip, cnn, language, llava, vit
from vlmcourse.interop.keys import give_weights
from vlmcourse.training.checkpoints import CheckpointError

UNREAD = {  # what a library keeps and ours has no use for
    "vit": {"pooler.dense.weight", "pooler.dense.bias"}, "timm": {"head.weight", "head.bias"},
}  # fmt: skip


@pytest.fixture(scope="module")
def library():
    """Made once each."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = randomised(FAMILIES[name].make())
        return made[name]

    return get


@pytest.mark.parametrize("name", FAMILIES)
def test_every_field_of_the_configuration_arrives(name, library):
    family = FAMILIES[name]
    ours = family.convert(library(name))
    config = ours.bert.config if name == "masked bert" else ours.config
    assert config == family.config
    assert not ours.training


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_the_outputs_are_the_same(name, library):
    family, theirs = FAMILIES[name], library(name)
    expected, ours = family.theirs(theirs), family.ours(family.convert(theirs))
    assert expected.std() > 1e-3
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_missing_weight_is_named(name, library, monkeypatch):
    family, theirs = FAMILIES[name], library(name)
    state = theirs.state_dict()
    keys = list(state)
    for key in (keys[0], keys[len(keys) // 2]):
        copies = [other for other in state if state[other].data_ptr() == state[key].data_ptr()]
        left = {other: value for other, value in state.items() if other not in copies}
        monkeypatch.setattr(theirs, "state_dict", lambda left=left: left)
        with pytest.raises(CheckpointError, match="missing: ") as refused:
            family.convert(theirs)
        assert any(copy in str(refused.value) for copy in copies)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_weight_that_ours_has_no_place_for_is_named(name, library, monkeypatch):
    family, theirs = FAMILIES[name], library(name)
    state = theirs.state_dict()
    for key in ("surprise.weight", f"{next(iter(state))}.surprise"):
        monkeypatch.setattr(theirs, "state_dict", lambda key=key: state | {key: torch.ones(2)})
        with pytest.raises(CheckpointError, match=f"unexpected: {key}"):
            family.convert(theirs)


MAPS = {
    "vit": vit.TRANSFORMERS_VIT, "timm": vit.TIMM,
    "clip": clip.TRANSFORMERS_CLIP, "open_clip": clip.OPEN_CLIP,
    "efficientnet": cnn.EFFICIENTNET, "bert": language.BERT,
}  # fmt: skip


@pytest.mark.parametrize("name", MAPS)
def test_a_key_map_leads_back(name, library):
    theirs, fresh = library(name), FAMILIES[name].make()
    state = theirs.state_dict()
    for key in UNREAD.get(name, ()):
        fresh.state_dict()[key].copy_(state[key])
    ours = FAMILIES[name].convert(theirs)
    if name in UNREAD:  # ours cannot give what it has not read
        with pytest.raises(RuntimeError, match="Missing key"):
            give_weights(ours, fresh, MAPS[name])
        return
    back = give_weights(ours, fresh.train(), MAPS[name])
    assert not back.training
    assert all(torch.equal(value, state[key]) for key, value in back.state_dict().items())


# ---- options that ours does not have -----------------------------------------------------------------------

LLAMA = dict(vocab_size=9, hidden_size=12, num_hidden_layers=1, num_attention_heads=3, intermediate_size=8)
GPT2 = dict(vocab_size=9, n_embd=12, n_layer=1, n_head=3)
BERT = dict(LLAMA, type_vocab_size=2)
T5 = dict(vocab_size=9, d_model=8, d_kv=2, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0)
REFUSED = [
    (transformers.LlamaForCausalLM, transformers.LlamaConfig, LLAMA, dict(hidden_act="gelu")),
    (transformers.LlamaForCausalLM, transformers.LlamaConfig, LLAMA, dict(attention_bias=True)),
    (transformers.LlamaForCausalLM, transformers.LlamaConfig, LLAMA, dict(mlp_bias=True)),
    (transformers.LlamaForCausalLM, transformers.LlamaConfig, LLAMA, dict(head_dim=6)),
    (transformers.GPT2LMHeadModel, transformers.GPT2Config, GPT2, dict(activation_function="relu")),
    (transformers.GPT2LMHeadModel, transformers.GPT2Config, GPT2, dict(scale_attn_weights=False)),
    (transformers.GPT2LMHeadModel, transformers.GPT2Config, GPT2, dict(scale_attn_by_inverse_layer_idx=True)),
    (transformers.GPT2LMHeadModel, transformers.GPT2Config, GPT2, dict(add_cross_attention=True)),
    (transformers.GPT2LMHeadModel, transformers.GPT2Config, GPT2, dict(tie_word_embeddings=False)),
    (transformers.BertModel, transformers.BertConfig, BERT, dict(is_decoder=True)),
    (transformers.BertModel, transformers.BertConfig, BERT, dict(position_embedding_type="relative_key")),
    (transformers.BertForMaskedLM, transformers.BertConfig, BERT, dict(tie_word_embeddings=False)),
    (
        transformers.T5ForConditionalGeneration,
        transformers.T5Config,
        T5,
        dict(feed_forward_proj="gated-silu"),
    ),
    (transformers.T5ForConditionalGeneration, transformers.T5Config, T5, dict(decoder_start_token_id=3)),
]


@pytest.mark.parametrize(
    ("kind", "config", "usual", "option"),
    REFUSED,
    ids=lambda value: "-".join(value) if type(value) is dict else "",
)
def test_an_option_that_ours_does_not_have_is_named(kind, config, usual, option):
    theirs = torch.nn.Module()
    theirs.config = config(**usual | option)
    theirs.__class__ = type(kind.__name__, (torch.nn.Module,), {})
    with pytest.raises(ValueError, match=f"needs {next(iter(option))} = "):
        language.from_transformers(theirs)


def test_on_which_device_a_part_is_to_stand_changes_no_number():
    config = transformers.LlamaConfig(**LLAMA)
    expected = language.llama_config(config)
    config.base_model_tp_plan = {"embed_tokens": "embedding_rowwise"}  # as transformers 5.15 does on loading
    assert language.llama_config(config) == expected
    config.base_model_scale = 2.0
    with pytest.raises(ValueError, match=r"ours does not know what base_model_scale = 2\.0 does in a llama"):
        language.llama_config(config)


def test_llama_names_are_those_of_the_library_s_model(library):
    theirs = library("llama").model.state_dict()
    names = language.llama_names(2)
    assert sorted(key for keys in names.values() for key in keys) == sorted(theirs)
    ours = language.from_transformers(library("llama")).state_dict()
    assert names.keys() == ours.keys() - {"head.weight"}
    assert names["blocks.1.attention.project_in.weight"] == tuple(
        f"layers.1.self_attn.{letter}_proj.weight" for letter in "qkv"
    )


def test_another_model_is_refused_with_those_that_are_known():
    theirs = torch.nn.Linear(1, 1)
    theirs.config = transformers.BertConfig(**BERT)
    with pytest.raises(ValueError, match=r"the course knows LlamaForCausalLM, .*, T5\w+, not Linear"):
        language.from_transformers(theirs)


def test_a_rope_that_is_scaled_is_refused():
    rope = {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}
    with pytest.raises(ValueError, match="rope_type 'linear'"):
        language.llama_config(transformers.LlamaConfig(**LLAMA, rope_parameters=rope))


@pytest.mark.parametrize(
    ("option", "named"),
    [
        (dict(projector_hidden_act="relu"), "needs projector_hidden_act = 'gelu'"),
        (dict(multimodal_projector_bias=False), "needs multimodal_projector_bias = True"),
        (dict(vision_feature_select_strategy="full"), "needs vision_feature_select_strategy = 'default'"),
        (dict(vision_feature_layer=1), "vision_feature_layer = 1"),
        (dict(vision_feature_layer=[-1, -2]), r"vision_feature_layer = \[-1, -2\]"),
    ],
)
def test_a_llava_that_ours_cannot_be_is_refused(library, option, named):
    theirs = torch.nn.Module()
    theirs.config = transformers.LlavaConfig.from_dict(library("llava").config.to_dict() | option)
    with pytest.raises(ValueError, match=named):
        llava.from_transformers(theirs)


def test_a_timm_vit_with_another_activation_is_refused(library):
    theirs = FAMILIES["timm"].make()
    for block in theirs.blocks:
        block.mlp.act = torch.nn.ReLU()
    with pytest.raises(ValueError, match="GELU; this one has ReLU"):
        vit.from_timm(theirs)


# ---- files that differ from a fresh state dict -------------------------------------------------------------


@pytest.mark.parametrize("name", ["tied llama", "gpt2", "masked bert", "t5", "tied llava"])
def test_copies_of_a_tied_weight_must_agree(name, library, monkeypatch):
    theirs = library(name)
    state = dict(theirs.state_dict())
    head = "cls.predictions.decoder.weight" if name == "masked bert" else "lm_head.weight"
    monkeypatch.setattr(theirs, "state_dict", lambda: state | {head: state[head] + 1})
    with pytest.raises(CheckpointError, match="should be one tensor, but their numbers differ"):
        FAMILIES[name].convert(theirs)


def test_a_file_may_hold_any_name_of_a_tied_weight(library, monkeypatch):
    theirs = library("tied llama")
    state = dict(theirs.state_dict())
    words = state.pop("model.embed_tokens.weight")
    monkeypatch.setattr(theirs, "state_dict", lambda: state)
    assert torch.equal(language.from_transformers(theirs).embedding.weight, words)


def test_position_counters_of_old_clips_are_left_out(library, monkeypatch):
    theirs = library("clip")
    counters = {f"{tower}_model.embeddings.position_ids": torch.arange(3) for tower in ("text", "vision")}
    state = theirs.state_dict() | counters
    monkeypatch.setattr(theirs, "state_dict", lambda: state)
    clip.from_transformers(theirs)


def test_a_bert_may_lack_its_pooler(library, monkeypatch):
    theirs = library("bert")
    state = {key: value for key, value in theirs.state_dict().items() if "pooler" not in key}
    monkeypatch.setattr(theirs, "state_dict", lambda: state)
    assert language.from_transformers(theirs).pooler is None
