"""Our Flamingo equals transformers' IdeficsForVisionText2Text: scores, gradients, masks."""

from functools import partial

import pytest
import torch
import transformers
from transformers.models.idefics import processing_idefics

from tests.parity.library import assert_equal, assert_equal_gradients, padding, randomised
from vlmcourse.interop import flamingo
from vlmcourse.models.flamingo import media_mask
from vlmcourse.models.generation import generate

TOKEN = 96
convert = partial(flamingo.from_transformers, image_token=TOKEN)
COUNTS = (2, 1, 3)  # images of each text


def library(depth=4, every=2, tied=False):
    vision = dict(embed_dim=20, image_size=12, patch_size=4, intermediate_size=24, num_hidden_layers=2,
                  num_attention_heads=4, hidden_act="gelu")  # fmt: skip
    perceiver = dict(use_resampler=True, resampler_n_latents=5, resampler_depth=2, resampler_n_heads=3,
                     resampler_head_dim=8)  # fmt: skip
    config = transformers.IdeficsConfig(
        vocab_size=97, hidden_size=48, intermediate_size=40, num_hidden_layers=depth, num_attention_heads=4,
        cross_layer_interval=every, use_resampler=True, vision_config=vision, perceiver_config=perceiver,
        tie_word_embeddings=tied, freeze_text_layers=False, freeze_vision_layers=False,
        rope_parameters={"rope_theta": 500.0, "rope_type": "default"},
        pad_token_id=None, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    theirs = randomised(transformers.IdeficsForVisionText2Text(config)).requires_grad_(True)
    for name, parameter in theirs.named_parameters():
        if "alpha" in name:
            parameter.data.fill_(0.7)
    return theirs


def inputs(side="none"):
    """Three texts with two, one and three images; the first words of each see none."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(3, TOKEN, (3, 26), generator=generator)
    for row, places in zip(ids, ((10, 15), (12,), (9, 10, 16)), strict=True):
        row[list(places)] = TOKEN
    return ids, padding(side, 3, 26), torch.randn(sum(COUNTS), 3, 12, 12, generator=generator)


def as_theirs(images):
    """(text, most images, ...), filled up with noise that no mask allows."""
    rows = images.split(COUNTS)
    return torch.stack([torch.cat([row, 9 * torch.randn(3 - len(row), 3, 12, 12)]) for row in rows])


@pytest.mark.parametrize("last_only", [True, False])
@pytest.mark.parametrize("side, depth, every", [("none", 4, 2), ("left", 2, 1), ("none", 2, 1)])
def test_scores_and_gradients(side, depth, every, last_only):
    theirs, (ids, real, images) = library(depth, every), inputs(side)
    mine, more = convert(theirs), {}
    object.__setattr__(mine.config, "last_only", last_only)
    if real is not None:
        more = {"attention_mask": real.long(), "position_ids": (real.long().cumsum(1) - 1).clamp(min=0)}
    mask = media_mask(ids == TOKEN, 3, last_only).long()
    ours = mine(ids, images, mask=real)
    his = theirs(input_ids=ids, pixel_values=as_theirs(images), image_attention_mask=mask, **more).logits
    keep = torch.ones_like(ids, dtype=torch.bool) if real is None else real
    assert_equal(ours[keep], his[keep])
    assert (mine(ids, images.flip(0), mask=real)[keep] - ours[keep]).abs().max() > 0.01  # the images count
    ours[keep].square().mean().backward()
    his[keep].square().mean().backward()
    assert_equal_gradients(mine, theirs, convert, idle=("vision.norm.",))


def test_the_library_s_processor_lets_a_word_see_the_last_image_alone():
    class Words:
        eos_token_id = 1

        def convert_tokens_to_ids(self, word):
            return TOKEN

    ids = inputs()[0]
    number, _ = processing_idefics.image_attention_mask_for_packed_input_ids(ids, Words(), "pt")
    theirs = processing_idefics.incremental_to_binary_attention_mask(number, "pt", num_classes=3)
    assert torch.equal(media_mask(ids == TOKEN, 3, True), theirs.bool())


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("last_only", [True, False])
def test_written_text_is_the_same(cached, last_only):
    """The library keeps no cache for images, so it is asked again for every word."""
    theirs, (ids, _, images) = library(), inputs()
    mine = convert(theirs)
    object.__setattr__(mine.config, "last_only", last_only)
    ids, written = ids[:2], []
    images = images[:3]
    text, mask = ids, media_mask(ids == TOKEN, 2, last_only).long()
    pictures = torch.stack([images[:2], torch.cat([images[2:], images[:1]])])
    with torch.no_grad():
        for _ in range(8):
            scores = theirs(input_ids=text, pixel_values=pictures, image_attention_mask=mask).logits
            written.append(scores[:, -1].argmax(-1, keepdim=True))
            text, mask = torch.cat([text, written[-1]], 1), torch.cat([mask, mask[:, -1:]], 1)
    assert torch.equal(generate(mine, ids, images=images, steps=8, cached=cached), text)
    assert len(torch.cat(written).unique()) > 2


@pytest.mark.parametrize("option", [
    dict(use_resampler=False), dict(additional_vocab_size=2), dict(alpha_type="vector"),
    dict(qk_layer_norms=True), dict(hidden_act="gelu"),
])  # fmt: skip
def test_what_ours_does_not_have_is_refused_by_name(option):
    theirs = library()
    for name, value in option.items():
        setattr(theirs.config, name, value)
    with pytest.raises(ValueError, match=next(iter(option))):
        convert(theirs)


def test_a_library_that_turns_by_a_base_of_its_own_is_followed():
    """transformers 5.15 has one in each attention and does not read the configuration's."""
    theirs = library(depth=2)
    turn = next(part for part in theirs.modules() if hasattr(part, "inv_freq"))
    turn.base = 10_000
    assert convert(theirs).config.language.base == 10_000
