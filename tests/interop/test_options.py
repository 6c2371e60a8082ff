"""Every option of a library that changes numbers is represented, or refused by its name, at every door."""

import copy
import functools
import json
from functools import partial

import open_clip
import pytest
import timm
import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.interop.families import FAMILIES, OPEN_CLIP, randomised
from vlmcourse.interop import clip, hub, language, llava, vit
from vlmcourse.models.language import LlamaConfig, rope_angles
from vlmcourse.models.llava import Llava, LlavaConfig
from vlmcourse.models.lora import add_lora, merge_lora
from vlmcourse.models.vit import ViTConfig
from vlmcourse.training.checkpoints import CheckpointError

SIZES = dict(hidden_size=12, num_hidden_layers=1, num_attention_heads=3, intermediate_size=8)
PICTURES = SIZES | dict(image_size=8, patch_size=4)
TIMM = dict(img_size=(8, 12), patch_size=4, in_chans=2, embed_dim=12, depth=2, num_heads=3, num_classes=5)
without_weights = partial(torch.nn.LayerNorm, elementwise_affine=False)


@pytest.fixture(scope="module")
def library():
    """Made once each."""
    return functools.cache(lambda name: randomised(FAMILIES[name].make()))


def timm_vit(**options):
    return timm.models.vision_transformer.VisionTransformer(**TIMM | options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (dict(act_layer=torch.nn.ReLU), "ReLU"),
        (dict(act_layer="quick_gelu"), "QuickGELU"),
        (dict(act_layer="gelu_tanh"), "GELUTanh"),
        (dict(act_layer=partial(torch.nn.GELU, approximate="tanh")), "approximate = 'tanh'"),
        (dict(block_fn=timm.models.vision_transformer.ResPostBlock), "ResPostBlock"),
        (dict(block_fn=timm.models.vision_transformer.ParallelScalingBlock), "ParallelScalingBlock"),
        (dict(init_values=0.1), "LayerScale"),
        (dict(norm_layer="rmsnorm"), "RmsNorm"),
        (dict(mlp_layer=timm.layers.SwiGLU), "SwiGLU"),
        (dict(global_pool="map"), "AttentionPoolLatent"),
        (dict(class_token=False, global_pool="avg"), "has_class_token = False"),
        (dict(reg_tokens=2), "num_reg_tokens = 2"),
        (dict(no_embed_class=True), "no_embed_class = True"),
        (dict(dynamic_img_size=True, dynamic_img_pad=True), "dynamic_img_pad = True"),
        (dict(patch_size=(4, 6)), "patches that are not square"),
        (dict(embed_norm_layer=without_weights), "elementwise_affine = False"),
        (dict(global_pool="avg"), "no norm where ours has one"),
    ],
)
def test_a_timm_vit_with_another_part_is_refused_by_its_name(options, named):
    with pytest.raises(ValueError, match=f"this one has (.*, )?{named}"):
        vit.from_timm(timm_vit(**options))


TIMM_CHANGES = {
    "norms that differ": lambda theirs: setattr(theirs.blocks[1].norm2, "eps", 0.5),
    "scores of another scale": lambda theirs: setattr(theirs.blocks[1].attn, "scale", 1.0),
    "blocks that differ": lambda theirs: setattr(theirs.blocks[1].attn, "num_heads", 2),
    "patches that overlap": lambda theirs: setattr(theirs.patch_embed.proj, "stride", (2, 2)),
    "ReLU": lambda theirs: setattr(theirs.blocks[1].mlp, "act", torch.nn.ReLU()),
}


@pytest.mark.parametrize("named", TIMM_CHANGES)
def test_a_timm_vit_that_was_changed_is_refused(named):
    theirs = timm_vit()
    TIMM_CHANGES[named](theirs)
    with pytest.raises(ValueError, match=f"this one has {named}"):
        vit.from_timm(theirs)


@pytest.mark.parametrize("size", [(4, 8), (16, 12)])
@torch.no_grad()
def test_a_vit_from_timm_resizes_its_positions_as_timm_does(size):
    theirs, images = randomised(timm_vit(dynamic_img_size=True)), torch.randn(2, 2, *size)
    ours = copy.deepcopy(vit.from_timm(theirs))
    torch.testing.assert_close(ours(images), theirs.forward_features(images), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "part", "field", "value"),
    [
        ("vit", "", "qkv_bias", False),
        ("vit", "", "hidden_act", "tanh"),
        ("vit", "", "patch_size", [4, 2]),
        ("vit", "", "new_option", "on"),
        ("clip", "", "new_option", True),
        ("clip", "text_config", "hidden_act", "selu"),
        ("clip", "vision_config", "new_option", 3),
        ("llama", "", "sliding_window", 8),
        ("llama", "", "new_option", True),
        ("gpt2", "", "new_option", 0.5),
        ("bert", "", "hidden_act", "tanh"),
        ("bert", "", "add_cross_attention", True),
        ("bert", "", "new_option", 1),
        ("t5", "", "dense_act_fn", "silu"),
        ("t5", "", "is_gated_act", True),
        ("t5", "", "new_option", 1),
        ("resnet", "", "downsample_in_bottleneck", True),
        ("resnet", "", "layer_type", "wide"),
        ("resnet", "", "new_option", 1),
        ("efficientnet", "", "pooling_type", "max"),
        ("efficientnet", "", "new_option", 1),
        ("llava", "", "new_option", 1),
        ("llava", "text_config", "sliding_window", 8),
        ("llava", "vision_config", "new_option", 1),
        ("llava", "", "vision_feature_layer", -5),
        ("idefics", "", "new_option", 1),
        ("idefics", "", "hidden_act", "gelu"),
        ("idefics", "", "alpha_type", "vector"),
        ("idefics", "", "qk_layer_norms", True),
        ("idefics", "perceiver_config", "qk_layer_norms_perceiver", True),
        ("idefics", "vision_config", "new_option", 1),
        ("blip, retrieval", "", "new_option", 1),
        ("blip, retrieval", "text_config", "hidden_act", "tanh"),
        ("blip, retrieval", "text_config", "new_option", 1),
        ("blip, captions", "vision_config", "hidden_act", "tanh"),
        ("blip-2", "", "new_option", 1),
        ("blip-2", "qformer_config", "hidden_act", "tanh"),
        ("blip-2", "qformer_config", "new_option", 1),
        ("blip-2", "text_config", "sliding_window", 8),
        ("blip-2", "vision_config", "qkv_bias", False),
    ],
)
def test_a_field_that_ours_does_not_know_is_refused_by_its_name(name, part, field, value, library):
    theirs = copy.copy(library(name))
    theirs.config = copy.deepcopy(theirs.config)
    setattr(getattr(theirs.config, part) if part else theirs.config, field, value)
    with pytest.raises(ValueError, match="layer = -5" if value == -5 else f"{field} = "):
        FAMILIES[name].convert(theirs)


def test_what_is_told_beside_a_model_and_changes_no_number_is_passed(library):
    theirs = copy.copy(library("llama"))
    theirs.config = copy.deepcopy(theirs.config)
    for name, value in {"is_llama_config": True, "transformers.js_config": {"dtype": "q4"}, "num_beams": 3,
                        "attention_dropout": 0.3, "eos_token_id": 9, "rope_interleaved": False,
                        "quantization_config": {}}.items():  # fmt: skip
        setattr(theirs.config, name, value)
    assert FAMILIES["llama"].convert(theirs)


@pytest.mark.parametrize(
    ("name", "ours"), [("swish", "silu"), ("relu", "relu"), ("gelu_pytorch_tanh", "gelu_new")]
)
@torch.no_grad()
def test_an_activation_may_have_another_name(name, ours):
    theirs = transformers.BertModel(transformers.BertConfig(**SIZES, vocab_size=18, hidden_act=name))
    mine, ids = language.from_transformers(randomised(theirs)), torch.tensor([[3, 4, 5]])
    assert mine.config.activation == ours
    torch.testing.assert_close(mine(ids), theirs(ids).last_hidden_state, atol=1e-4, rtol=1e-4)


def test_part_of_a_rope_is_refused():
    rope = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
    with pytest.raises(ValueError, match=r"partial_rotary_factor 0\.5"):
        language.llama_config(transformers.LlamaConfig(**SIZES, rope_parameters=rope))


def test_the_part_of_a_llava_that_is_wrong_is_named():
    eye, words = transformers.CLIPVisionConfig(**PICTURES), transformers.LlamaConfig(**SIZES)
    for named, parts in {
        "the eye of this one is of type 'siglip_vision_model'":
            dict(vision_config=transformers.SiglipVisionConfig(**PICTURES), text_config=words),
        "the language model of this one is of type 'mistral'":
            dict(vision_config=eye, text_config=transformers.MistralConfig(**SIZES, sliding_window=4)),
    }.items():  # fmt: skip
        theirs = torch.nn.Module()
        theirs.config = transformers.LlavaConfig(**parts)
        with pytest.raises(ValueError, match=named):
            llava.from_transformers(theirs)


def test_a_llava_that_is_tied_at_the_top_alone_is_tied():
    theirs = FAMILIES["tied llava"].make()
    theirs.config.text_config.tie_word_embeddings = False
    ours = llava.from_transformers(theirs)
    assert ours.config.language.tied and ours.language.head.weight is ours.language.embedding.weight


@pytest.mark.parametrize("kind", ["DeiT", "Dinov2", "Dinov2WithRegisters"])
def test_another_kind_of_vit_is_refused(kind):
    theirs = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**PICTURES))
    with pytest.raises(ValueError, match=f"this {kind}Model is a model of type .*, not 'vit'"):
        vit.from_transformers(theirs)


def test_a_configuration_of_fewer_layers_than_weights_is_refused(library):
    theirs = copy.copy(library("vit"))
    theirs.config = copy.deepcopy(theirs.config)
    theirs.config.num_hidden_layers = 1
    with pytest.raises(CheckpointError, match=r"unexpected: layers\.1"):
        vit.from_transformers(theirs)


def open_clip_with(part, **fields):
    return OPEN_CLIP | {part: OPEN_CLIP[part] | fields}


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (None, "no configuration of a CLIP"),
        ({"embed_dim": 7}, "no configuration of a CLIP"),
        (open_clip_with("vision_cfg", new_option=1), "does not have: new_option"),
        (open_clip_with("text_cfg", act_kwargs={"approximate": "tanh"}), "does not have: act_kwargs"),
        (OPEN_CLIP | {"new_option": 1}, "does not have: new_option"),
    ],
)
def test_an_open_clip_that_ours_cannot_be_is_refused(config, named):
    with pytest.raises(ValueError, match=named):
        clip.from_open_clip({}, config)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        (dict(vocab_size=10**10), "says vocab_size = 10000000000"),
        (dict(layers=10**6), "says layers = 1000000"),
        (dict(vocab_size=10**6), "describes [0-9,]+ weights, but the files hold"),
    ],
)
def test_an_open_clip_that_asks_for_more_than_its_file_holds_is_refused(fields, named):
    state = open_clip.CLIP(**OPEN_CLIP).state_dict()
    with pytest.raises(CheckpointError, match=named):
        clip.from_open_clip(state, open_clip_with("text_cfg", **fields))


@pytest.mark.parametrize("layer", [-4, 3])
def test_a_layer_the_encoder_does_not_have_is_refused(layer):
    with pytest.raises(ValueError, match=f"layer = {layer}, but the encoder has 3 residual streams"):
        LlavaConfig(ViTConfig(depth=2), LlamaConfig(9), 4, layer)


def test_lora_is_merged_before_a_llava_is_handed_over():
    eye = ViTConfig(8, 4, width=12, depth=1, heads=3, patch_bias=False, norm_before_blocks=True)
    ours = Llava(LlavaConfig(eye, LlamaConfig(9, 12, 1, 3, 3), 4))
    add_lora(ours.language.blocks)
    with pytest.raises(ValueError, match=r"no place for LoRA; call merge_lora\(model\) first"):
        llava.to_transformers(ours)
    merge_lora(ours)
    assert llava.to_transformers(ours)


def test_a_head_of_an_odd_width_is_refused():
    with pytest.raises(ValueError, match="one of a head's 3 has no partner"):
        LlamaConfig(9, width=12, heads=4)
    with pytest.raises(ValueError, match="3 cannot be paired"):
        rope_angles(torch.arange(4)[None], 3, 1e4)


# ---- folders -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["clip", "resnet", "efficientnet", "llava"])
def test_a_folder_in_several_files_is_read_and_one_of_pickles_is_not(name, tmp_path):
    """One rule at every door."""
    theirs = randomised(FAMILIES[name].make())
    theirs.save_pretrained(tmp_path, max_shard_size="4KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    doors = [lambda: FAMILIES[name].convert(hub.resolve(tmp_path).open(type(theirs)))]
    doors += [lambda: clip.from_folder(tmp_path)] if name == "clip" else []
    expected = FAMILIES[name].convert(theirs).state_dict()
    for door in doors:
        state = door().state_dict()
        assert all(torch.equal(value, state[key]) for key, value in expected.items())
    for path in tmp_path.glob("model*"):
        path.unlink()
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    for door in doors:
        with pytest.raises(hub.MissingModel, match="only as a pickle"):
            door()


def one_of(state, ending):
    return next(name for name in state if name.endswith(ending))


LLAVA_DAMAGES = {
    r"missing: lm_head\.weight": lambda state: state.pop(one_of(state, "lm_head.weight")),
    r"unexpected: surprise": lambda state: state.update(surprise=torch.ones(2)),
    r"unexpected: .*linear_9\.bias": lambda state: state.update(
        {"multi_modal_projector.linear_9.bias": state.pop(one_of(state, "linear_1.bias"))}),
    r"linear_1\.bias is \(3,\), the model needs \(12,\)": lambda state: state.update(
        {one_of(state, "linear_1.bias"): torch.ones(3)}),
    r"linear_1\.bias holds NaN": lambda state: state[one_of(state, "linear_1.bias")].fill_(torch.nan),
}  # fmt: skip


@pytest.mark.parametrize("named", LLAVA_DAMAGES)
def test_a_llava_s_folder_is_as_strict_as_the_rest(named, tmp_path, library):
    library("llava").save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    LLAVA_DAMAGES[named](state)
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=named) as refused:
        hub.resolve(tmp_path).open(transformers.LlavaForConditionalGeneration)
    assert str(tmp_path) in str(refused.value)


def test_a_folder_stated_tied_whose_head_differs_is_refused(tmp_path, library):
    library("llava").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = True
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="should be one tensor, but their numbers differ"):
        llava.from_transformers(hub.resolve(tmp_path).open(transformers.LlavaForConditionalGeneration))


@pytest.mark.parametrize(
    ("file", "data", "named"),
    [
        ("open_clip_config.json", b"[]", r"open_clip_config\.json should hold"),
        ("open_clip_config.json", b"{}", "no configuration of a CLIP"),
        ("open_clip_model.safetensors", b"", r"open_clip_model\.safetensors is empty"),
    ],
)
def test_a_damaged_folder_of_open_clip_is_refused(file, data, named, tmp_path):
    save_file(open_clip.CLIP(**OPEN_CLIP).state_dict(), tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": OPEN_CLIP}))
    assert clip.from_folder(tmp_path)
    (tmp_path / file).write_bytes(data)
    with pytest.raises((CheckpointError, ValueError), match=named):
        clip.from_folder(tmp_path)
