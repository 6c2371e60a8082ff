"""Our CLIP equals transformers' CLIPModel and open_clip's CLIP: features, logits, losses and all gradients.

Weights are randomised first (norms, biases, positions, scale), and images are scaled away from unit size, so
that no epsilon, bias or norm can hide.  Texts have different lengths, and what stands behind their EOS is
noise.
"""

import math

import open_clip
import pytest
import torch
import transformers
from open_clip.push_to_hf_hub import save_for_hf
from safetensors.torch import save_file
from torch import nn

from vlmcourse.interop.clip import from_folder, from_open_clip, from_transformers
from vlmcourse.models.clip import CLIP, info_nce, siglip_loss, zero_shot_classifier
from vlmcourse.training.checkpoints import CheckpointError

BATCH, SIDE, LENGTH, VOCABULARY = 5, 32, 9, 50
LEGACY, NEWER = 2, 30  # eos_token_id in configurations before 2023, and since


def randomised(model: nn.Module) -> nn.Module:
    """Every parameter away from its initial value; norms around 1; the scale 20."""
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        norm = parameter.dim() == 1 and name.endswith("weight")
        nn.init.normal_(parameter, 1.0 if norm else 0.0, 0.3 if parameter.dim() <= 1 else 0.08)
    nn.init.constant_(model.logit_scale, math.log(20))
    return model.eval()


def library(activation="quick_gelu", eos=NEWER) -> transformers.CLIPModel:
    sizes = dict(num_hidden_layers=2, num_attention_heads=4, hidden_act=activation)
    text = dict(hidden_size=48, intermediate_size=80, vocab_size=VOCABULARY, max_position_embeddings=LENGTH,
                eos_token_id=eos, **sizes)  # fmt: skip
    vision = dict(hidden_size=64, intermediate_size=128, image_size=SIDE, patch_size=8, **sizes)
    return randomised(
        transformers.CLIPModel(
            transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=40)
        )
    )


def open_clip_config(quick_gelu=False, bias=None, **text) -> dict:
    return dict(
        embed_dim=40, quick_gelu=quick_gelu, **({} if bias is None else {"init_logit_bias": bias}),
        vision_cfg=dict(layers=2, width=64, head_width=16, patch_size=8, image_size=SIDE, mlp_ratio=2.0),
        text_cfg=dict(context_length=LENGTH, vocab_size=VOCABULARY, width=48, heads=4, layers=2, **text),
    )  # fmt: skip


def library_open_clip(config: dict) -> nn.Module:
    return randomised(open_clip.CLIP(**config))


def pairs(eos: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images, and texts of 2 to LENGTH tokens with several EOS and noise behind the first."""
    torch.manual_seed(2)
    images, ids = 3 * torch.randn(BATCH, 3, SIDE, SIDE), torch.randint(3, 29, (BATCH, LENGTH))
    for row, place in enumerate((1, 3, 5, 6, LENGTH - 1)):
        ids[row, place + 1 :] = (
            eos - 1 if eos == VOCABULARY - 1 else eos + 9
        )  # a higher id misleads an argmax
        ids[row, place] = ids[row, min(place + 2, LENGTH - 1)] = eos
    return images, ids


def assert_equal(mine: torch.Tensor, theirs: torch.Tensor) -> None:
    assert mine.shape == theirs.shape
    assert (mine - theirs).abs().max() <= 1e-5 * max(1.0, theirs.abs().max().item())


def assert_equal_gradients(mine: CLIP, theirs: nn.Module, convert) -> None:
    """Matched by converting the other model once more, with its gradients as weights."""
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(parameter.grad)
    gradients = dict(convert(theirs).named_parameters())
    for name, parameter in mine.named_parameters():
        assert_equal(parameter.grad, gradients[name])
        assert gradients[name].abs().max() > 1e-7, f"nothing reaches {name}"


@pytest.mark.parametrize("eos", [LEGACY, NEWER], ids=["legacy eos", "eos"])
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_features_logits_loss_and_gradients_equal_transformers(activation, eos):
    theirs = library(activation, eos)
    mine = from_transformers(theirs)
    images, ids = pairs(VOCABULARY - 1 if eos == LEGACY else eos)
    image, text, scale = mine(images, ids)
    his = theirs(input_ids=ids, pixel_values=images, return_loss=True)
    assert_equal(image, his.image_embeds)
    assert_equal(text, his.text_embeds)
    assert_equal(scale * image @ text.T, his.logits_per_image)
    assert_equal(mine.encode_image(images), theirs.get_image_features(images).pooler_output)
    assert_equal(mine.encode_text(ids), theirs.get_text_features(ids).pooler_output)
    loss = mine.loss(images, ids)
    assert_equal(loss, his.loss)
    loss.backward()
    his.loss.backward()
    assert_equal_gradients(mine, theirs, from_transformers)


def test_every_layer_of_both_towers_equals_transformers():
    theirs = library()
    mine = from_transformers(theirs)
    images, ids = pairs(NEWER)
    with torch.no_grad():
        stream = theirs.vision_model(images, output_hidden_states=True).hidden_states
        for ours, his in zip(mine.vision.layers(images), stream, strict=True):
            assert_equal(ours, his)
        assert_equal(mine.text(ids), theirs.text_model(ids).last_hidden_state)


@pytest.mark.parametrize("pooling", [{}, {"pool_type": "eos", "eos_id": NEWER}], ids=["argmax", "eos"])
@pytest.mark.parametrize("quick_gelu", [True, False])
def test_features_clip_loss_and_gradients_equal_open_clip(quick_gelu, pooling):
    config = open_clip_config(quick_gelu, **pooling)
    theirs = library_open_clip(config)
    mine = from_open_clip(theirs.state_dict(), config)
    images, ids = pairs(pooling.get("eos_id", VOCABULARY - 1))
    features, his = mine(images, ids), theirs(images, ids)
    for one, other in zip(features, his, strict=True):
        assert_equal(one, other)
    loss, his_loss = info_nce(*features), open_clip.ClipLoss()(*his)
    assert_equal(loss, his_loss)
    loss.backward()
    his_loss.backward()
    assert_equal_gradients(mine, theirs, lambda model: from_open_clip(model.state_dict(), config))


def test_siglip_loss_and_gradients_equal_open_clip():
    config = open_clip_config(bias=-10)
    theirs = library_open_clip(config)
    mine = from_open_clip(theirs.state_dict(), config)
    images, ids = pairs(VOCABULARY - 1)
    loss, his = mine.loss(images, ids), open_clip.loss.SigLipLoss()(*theirs(images, ids))
    assert_equal(loss, his)
    assert_equal(loss, siglip_loss(*mine(images, ids)))
    loss.backward()
    his.backward()
    assert_equal_gradients(mine, theirs, lambda model: from_open_clip(model.state_dict(), config))


def test_zero_shot_classifier_equals_open_clips():
    config = open_clip_config()
    theirs = library_open_clip(config)
    mine = from_open_clip(theirs.state_dict(), config)
    _, ids = pairs(VOCABULARY - 1)  # each row stands for a class; templates shift its first word
    templates = [lambda row: row, lambda row: (int(row[0]) % 20 + 3, *row[1:]), lambda row: (7, *row[1:])]
    weights = open_clip.build_zero_shot_classifier(
        theirs, tokenizer=lambda rows: torch.tensor([list(row) for row in rows]),
        classnames=[tuple(row.tolist()) for row in ids], templates=templates, num_classes_per_batch=2,
    )  # fmt: skip
    prompts = torch.tensor([[template(row) for template in templates] for row in ids.tolist()])
    with torch.no_grad():
        assert_equal(
            zero_shot_classifier(mine.encode_text(prompts.flatten(0, 1)).unflatten(0, (BATCH, 3))), weights.T
        )


# ---- folders, exactly as the hub serves them --------------------------------------------------------------


def saved_by_transformers(folder, **options):
    theirs = library()
    theirs.save_pretrained(folder, **options)
    return theirs


def saved_by_open_clip(folder, config=None, **changed):
    config = config or open_clip_config(quick_gelu=True)
    theirs = library_open_clip(config)
    theirs.visual.image_mean, theirs.visual.image_std = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)

    class Tokenizer:
        def save_pretrained(self, _):
            pass

    save_for_hf(theirs, Tokenizer(), {**config, **changed}, folder, safe_serialization=True)
    return theirs


def test_a_folder_saved_by_transformers_loads(tmp_path):
    theirs = saved_by_transformers(tmp_path)
    images, ids = pairs(NEWER)
    assert (tmp_path / "model.safetensors").is_file()
    assert_equal(
        from_folder(tmp_path)(images, ids)[0], theirs(input_ids=ids, pixel_values=images).image_embeds
    )


@pytest.mark.parametrize("both", [False, True], ids=["alone", "beside transformers'"])
def test_a_folder_saved_by_open_clip_loads(tmp_path, both):
    if both:  # as laion's are; ours are read from open_clip's
        saved_by_transformers(tmp_path)
    theirs = saved_by_open_clip(tmp_path)
    images, ids = pairs(VOCABULARY - 1)
    mine = from_folder(tmp_path)
    assert mine.config.vision.activation == "quick_gelu"
    for one, other in zip(mine(images, ids), theirs(images, ids), strict=True):
        assert_equal(one, other)


def test_position_counters_of_old_files_are_no_weights(tmp_path):
    theirs = library()
    state = theirs.state_dict() | {
        "text_model.embeddings.position_ids": torch.arange(LENGTH)[None],
        "vision_model.embeddings.position_ids": torch.arange(17)[None],
    }
    theirs.config.save_pretrained(tmp_path)
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    _, ids = pairs(NEWER)
    assert_equal(from_folder(tmp_path).encode_text(ids), theirs.get_text_features(ids).pooler_output)


@pytest.mark.parametrize(
    "key", ["text_model.final_layer_norm.bias", "vision_model.encoder.layers.1.self_attn.k_proj.weight"]
)
def test_a_missing_key_is_named(key):
    theirs = library()
    state = {name: value for name, value in theirs.state_dict().items() if name != key}
    theirs.state_dict = lambda: state
    with pytest.raises(CheckpointError, match=f"missing: {key}"):
        from_transformers(theirs)


@pytest.mark.parametrize(
    "key", ["visual.transformer.resblocks.2.ln_1.weight", "module.ln_final.weight", "logit_bias"]
)
def test_a_key_that_matches_nothing_is_named(key):
    config = open_clip_config()
    state = library_open_clip(config).state_dict() | {key: torch.ones(())}
    with pytest.raises(CheckpointError, match=f"unexpected: {key}"):
        from_open_clip(state, config)


def test_a_weight_of_another_size_is_named():
    config = open_clip_config()
    state = library_open_clip(config).state_dict() | {
        "token_embedding.weight": torch.ones(VOCABULARY + 1, 48)
    }
    with pytest.raises(
        CheckpointError, match=r"embed_token.weight is \(51, 48\), the model needs \(50, 48\)"
    ):
        from_open_clip(state, config)


def test_options_that_ours_does_not_have_are_named():
    config = open_clip_config(no_causal_mask=True)
    config["vision_cfg"] |= {"pool_type": "avg", "ls_init_value": 0.1}
    with pytest.raises(ValueError, match="ls_init_value, pool_type, no_causal_mask"):
        from_open_clip({}, config)
    with pytest.raises(ValueError, match="custom_text"):
        from_open_clip({}, open_clip_config() | {"custom_text": True})
    with pytest.raises(ValueError, match="'vit', not 'clip'"):
        from_transformers(transformers.ViTModel(transformers.ViTConfig(num_hidden_layers=1, hidden_size=12)))


def test_a_folder_without_weights_says_what_it_needs(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no config\.json or open_clip_config\.json"):
        from_folder(tmp_path)
    (tmp_path / "open_clip_config.json").touch()
    with pytest.raises(FileNotFoundError, match=r"lacks open_clip_model\.safetensors"):
        from_folder(tmp_path)


@pytest.mark.parametrize("config", ["open_clip_config.json", "config.json"])
def test_a_torch_file_could_run_code_and_is_refused(tmp_path, config):
    (tmp_path / config).touch()
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(
        FileNotFoundError, match=r"only as a pickle \(pytorch_model\.bin\), which could run code"
    ):
        from_folder(tmp_path)
