"""Our Blip equals transformers': matching and contrast scores, captions, answers, gradients."""

import pytest
import torch
import transformers

from tests.parity.library import assert_equal, assert_equal_gradients, padding, randomised
from vlmcourse.interop.blip import from_transformers
from vlmcourse.models.generation import generate

START, END = 95, 96
TEXT = dict(vocab_size=97, hidden_size=24, encoder_hidden_size=24, intermediate_size=40, num_hidden_layers=2,
            num_attention_heads=3, max_position_embeddings=40, hidden_act="gelu", bos_token_id=START,
            sep_token_id=END)  # fmt: skip
VISION = dict(hidden_size=24, intermediate_size=30, num_hidden_layers=2, num_attention_heads=4, image_size=12,
              patch_size=4, hidden_act="gelu")  # fmt: skip
IMAGES = torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(3))


def library(kind, **text):
    config = transformers.BlipConfig(text_config=TEXT | text, vision_config=VISION, image_text_hidden_size=10)
    return randomised(getattr(transformers, kind)(config))


def texts(token=12):
    return torch.randint(3, START, (3, token), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("side", ["none", "right"])
@pytest.mark.parametrize("match", [True, False])
def test_matching_and_contrast(match, side):
    theirs, ids, real = library("BlipForImageTextRetrieval"), texts(), padding(side, 3, 12)
    mine = from_transformers(theirs)
    more = {} if real is None else {"attention_mask": real.long()}
    his = theirs(ids, IMAGES, use_itm_head=match, **more).itm_score
    features = mine.image_features(IMAGES)
    if match:
        ours, idle = mine.match_scores(features, ids, real), ("project_",)
    else:
        ours = mine.image_vectors(features) @ mine.text_vectors(ids, real).T
        idle = (
            "match.",
            *(f"encoder.blocks.{n}.{part}" for n in (0, 1) for part in ("cross.", "norm_after_cross")),
        )
    assert_equal(ours, his)
    ours.square().mean().backward()
    his.square().mean().backward()
    assert_equal_gradients(mine, theirs, from_transformers, idle)


@pytest.mark.parametrize("side", ["none", "right"])
def test_captions(side):
    theirs, ids, real = library("BlipForConditionalGeneration"), texts(), padding(side, 3, 12)
    mine = from_transformers(theirs)
    more = {} if real is None else {"attention_mask": real.long()}
    ours, his = (
        mine.write_scores(mine.image_features(IMAGES), ids, real),
        theirs(IMAGES, ids, **more).logits,
    )
    keep = torch.ones_like(ids, dtype=torch.bool) if real is None else real
    assert_equal(ours[keep], his[keep])
    ours[keep].square().mean().backward()
    his[keep].square().mean().backward()
    assert_equal_gradients(mine, theirs, from_transformers)


def answered(theirs, question, answer, images):
    """The scores of BlipForQuestionAnswering, which its forward keeps to itself."""
    states = theirs.vision_model(images).last_hidden_state
    read = theirs.text_encoder(question, encoder_hidden_states=states).last_hidden_state
    return theirs.text_decoder(answer, encoder_hidden_states=read).logits


@pytest.mark.parametrize("padded", [0, 4])
def test_answers(padded):
    """The library's decoder looks at a question's padding too (transformers 5.24: its mask is dropped on the
    way), so there questions are asked one by one, without any."""
    theirs, ids = library("BlipForQuestionAnswering"), texts(14)
    mine = from_transformers(theirs)
    ids[:, 9] = START
    real = torch.ones_like(ids, dtype=torch.bool)
    real[1, 9 - padded : 9] = False
    rows = [(row[:9][seen[:9]][None], row[9:][None]) for row, seen in zip(ids, real, strict=True)]
    his = torch.cat([answered(theirs, *row, IMAGES[n : n + 1]) for n, row in enumerate(rows)])
    ours = mine(ids, IMAGES, mask=real)[:, 9:]
    assert_equal(ours, his)
    ours.square().mean().backward()
    his.square().mean().backward()
    assert_equal_gradients(mine, theirs, from_transformers)


def test_padding_in_front_of_a_question_changes_no_answer():
    mine, question = from_transformers(library("BlipForQuestionAnswering")), texts(9)
    prompt = torch.cat([question, torch.full((3, 1), START)], dim=1)
    wide, real = torch.nn.functional.pad(prompt, (4, 0)), torch.ones(3, 14, dtype=torch.bool)
    real[:, :4] = False
    alone = generate(mine, prompt, images=IMAGES, steps=8)
    assert torch.equal(generate(mine, wide, mask=real, images=IMAGES, steps=8)[:, 4:], alone)


@pytest.mark.parametrize("cached", [True, False])
def test_written_answers_are_the_same(cached):
    theirs, question = library("BlipForQuestionAnswering"), texts(9)
    expected = theirs.generate(question, IMAGES, max_new_tokens=10, do_sample=False, min_new_tokens=10)
    prompt = torch.cat([question, torch.full((3, 1), START)], dim=1)
    mine = from_transformers(theirs)
    mine.head.score.bias.data[END] = -1e9
    written = generate(mine, prompt, images=IMAGES, steps=10, cached=cached)
    assert torch.equal(written[:, 9:], expected) and len(expected.unique()) > 3


@pytest.mark.parametrize("option", [dict(hidden_act="tanh"), dict(is_decoder=False)])
def test_what_ours_does_not_have_is_refused_by_name(option):
    theirs = library("BlipForConditionalGeneration")
    for name, value in option.items():
        setattr(theirs.config.text_config, name, value)
    with pytest.raises(ValueError, match=next(iter(option))):
        from_transformers(theirs)


def test_another_class_is_refused_by_name():
    config = transformers.BlipConfig(text_config=TEXT, vision_config=VISION)
    with pytest.raises(ValueError, match="not BlipModel"):
        from_transformers(transformers.BlipModel(config))
