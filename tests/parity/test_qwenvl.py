"""QwenVL is Qwen2-VL, eye and all: scores, gradients and written tokens, two pictures of different sizes
in a text."""

from dataclasses import replace

import pytest
import torch
import transformers

from tests.parity.library import assert_equal, assert_equal_gradients, randomised
from tests.parity.test_mrope import SPECIAL, WORDS, qwen3
from vlmcourse.interop.qwen import qwen_inputs, whole_from_transformers, whole_to_transformers
from vlmcourse.models.generation import generate
from vlmcourse.models.qwenvl import QwenVL
from vlmcourse.training.checkpoints import CheckpointError

EYE = dict(
    depth=2, embed_dim=32, hidden_size=64, num_heads=2, patch_size=4, mlp_ratio=3, spatial_merge_size=2
)
SIZES = ((16, 24), (32, 8), (8, 8), (16, 16))  # 2 × 3, 4 × 1, 1 × 1 and 2 × 2 tokens
IMAGE, BEGIN, END = 90, 92, 93


def library(tied: bool = False, **eye) -> transformers.Qwen2VLForConditionalGeneration:
    turned = {"rope_theta": 5000.0, "rope_type": "default", "mrope_section": [2, 3, 3]}
    config = transformers.Qwen2VLConfig(
        text_config=WORDS | {"rope_parameters": turned}, vision_config=EYE | eye, tie_word_embeddings=tied,
        **SPECIAL,
    )  # fmt: skip
    theirs = randomised(transformers.Qwen2VLForConditionalGeneration(config))
    if not tied:
        theirs.lm_head.weight.data[IMAGE:] = 0  # or a random model writes placeholders
    return theirs


def pictures(count: int = 2) -> list[torch.Tensor]:
    dice = torch.Generator().manual_seed(3)
    return [torch.randn(3, *size, generator=dice) for size in SIZES[:count]]


def picture(tokens: int) -> list[int]:
    return [BEGIN, *[IMAGE] * tokens, END]


ROW = [5, *picture(6), 7, 8, 11, *picture(4), 9, 12]
SHORT = [6, 14, *picture(1), 15, *picture(4), 3]


def asked(*rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows padded on the left."""
    length = max(map(len, rows))
    ids = torch.tensor([[0] * (length - len(row)) + row for row in rows])
    real = torch.tensor([[False] * (length - len(row)) + [True] * len(row) for row in rows])
    return ids, real


def as_theirs(model: QwenVL, ids: torch.Tensor, real: torch.Tensor, shown: list) -> dict:
    return dict(input_ids=ids, attention_mask=real.long(), mm_token_type_ids=(ids == IMAGE).long(),
                **qwen_inputs(shown, model.config))  # fmt: skip


@pytest.mark.parametrize("tied", [False, True])
def test_scores_and_gradients_with_two_pictures_and_text_between_them(tied):
    theirs = library(tied)
    mine = whole_from_transformers(theirs)
    ids, real = asked(ROW)
    scores, expected = mine(ids, pictures()), theirs(**as_theirs(mine, ids, real, pictures())).logits
    assert_equal(scores, expected)
    scores.square().sum().backward()
    expected.square().sum().backward()
    assert_equal_gradients(mine, theirs, whole_from_transformers)


def test_a_padded_batch_and_the_tokens_that_are_written():
    theirs = library()
    mine = whole_from_transformers(theirs)
    ids, real = asked(ROW, SHORT)
    shown = pictures(4)
    given = as_theirs(mine, ids, real, shown)
    with torch.no_grad():
        assert_equal(mine(ids, shown, mask=real)[real], theirs(**given).logits[real])
        expected = theirs.generate(**given, max_new_tokens=10, do_sample=False, pad_token_id=0)
    for cached in (True, False):
        written = generate(mine, ids, mask=real, images=shown, steps=10, cached=cached)
        assert written.tolist() == expected.tolist()
    assert len(set(written[:, ids.shape[1] :].flatten().tolist())) > 4
    alone = generate(mine, torch.tensor([ROW]), images=shown[:2], steps=10)
    assert alone[0, len(ROW) :].tolist() == written[0, ids.shape[1] :].tolist()


def test_an_eye_alone_is_theirs():
    theirs = library()
    mine = whole_from_transformers(theirs)
    inputs = qwen_inputs(pictures(4), mine.config)
    expected = theirs.model.visual(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"]).pooler_output
    assert_equal(mine.image_tokens(pictures(4)).vectors, expected)


def test_pictures_are_handed_over_as_its_image_processor_does():
    try:
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
    except ImportError:
        pytest.skip("this release has no image processor that works without torchvision")
    processor = Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, temporal_patch_size=2)
    mine = whole_from_transformers(library())
    inputs = qwen_inputs(pictures(4), mine.config)
    theirs = [processor.patchify(one.numpy(), 4, 2, 2) for one in pictures(4)]
    expected = torch.cat([torch.tensor(patches) for patches, *_ in theirs])
    assert torch.equal(inputs["pixel_values"], expected)
    assert inputs["image_grid_thw"].tolist() == [[1, rows, columns] for _, rows, columns in theirs]


@pytest.mark.parametrize("tied", [False, True])
def test_weights_go_both_ways(tied):
    mine = whole_from_transformers(library(tied))
    theirs = whole_to_transformers(mine)
    again = whole_from_transformers(theirs)
    assert again.config == mine.config
    for name, value in mine.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    ids, real = asked(ROW)
    with torch.no_grad():
        assert_equal(mine(ids, pictures()), theirs(**as_theirs(mine, ids, real, pictures())).logits)


def test_what_ours_does_not_have_is_named():
    with pytest.raises(ValueError, match="Qwen2VLForConditionalGeneration, not a Qwen3VL"):
        whole_from_transformers(qwen3())
    theirs = library()
    theirs.config.vision_config.rope_parameters = {"rope_theta": 500.0, "rope_type": "axial"}
    with pytest.raises(ValueError, match=r"base of 10,000; this one has rope_theta 500\.0"):
        whole_from_transformers(theirs)
    theirs = library()
    del theirs.model.visual.blocks[1].norm2.bias
    with pytest.raises(CheckpointError, match=r"missing: .*visual\.blocks\.1\.norm2\.bias"):
        whole_from_transformers(theirs)


@pytest.mark.parametrize(
    ("part", "change", "says"),
    [
        ("vision", dict(turned=False), "learned positions"),
        ("vision", dict(patch_bias=True), "a ViT with a patch bias"),
        ("vision", dict(norm_before_blocks=True), "a norm before the blocks"),
        ("vision", dict(epsilon=1e-5), "another epsilon"),
        ("vision", dict(hidden=40), "an eye whose MLP is no whole number of times"),
        ("", dict(hidden=64), "a projector of another width inside"),
        ("", dict(normed=False), "no norm before the projector"),
        ("language", dict(interleaved=True, sections=(4, 2, 2)), "interleaved sections"),
    ],
)
def test_what_theirs_does_not_have_is_named(part, change, says):
    config = whole_from_transformers(library()).config
    changed = replace(config, **({part: replace(getattr(config, part), **change)} if part else change))
    with pytest.raises(ValueError, match=f"has no place for {says}"):
        whole_to_transformers(QwenVL(changed))
