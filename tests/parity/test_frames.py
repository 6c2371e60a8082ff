"""Frames are pooled as torch, LLaVA-NeXT-Video and LLaVA-OneVision do, and timed as Qwen3-VL's processor."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F
from transformers.models.llava_next_video.modeling_llava_next_video import LlavaNextVideoPooler
from transformers.models.llava_onevision.modeling_llava_onevision import LlavaOnevisionModel
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor

from tests.parity.library import assert_equal
from vlmcourse.models.frames import pool_frame, sample_frames, timestamps


@pytest.mark.parametrize(("rows", "columns", "side"), [(6, 8, 2), (6, 9, 3), (4, 4, 4)])
def test_pooling_is_torchs(rows, columns, side):
    tokens = torch.randn(3, rows * columns, 5)
    theirs = F.avg_pool2d(tokens.unflatten(1, (rows, columns)).permute(0, 3, 1, 2), side)
    assert_equal(pool_frame(tokens, side, (rows, columns)), theirs.flatten(2).transpose(1, 2))


def test_pooling_is_llava_next_videos():
    config = SimpleNamespace(
        spatial_pool_mode="average", spatial_pool_stride=2,
        vision_config=SimpleNamespace(image_size=64, patch_size=8, hidden_size=5),
    )  # fmt: skip
    tokens = torch.randn(3, 64, 5)
    assert_equal(pool_frame(tokens, 2), LlavaNextVideoPooler(config)(tokens))


def test_pooling_is_llava_onevisions_on_an_even_grid():
    vision = SimpleNamespace(image_size=64, patch_size=8)
    theirs = SimpleNamespace(config=SimpleNamespace(vision_config=vision))
    tokens = torch.randn(3, 64, 5)
    assert_equal(pool_frame(tokens, 2), LlavaOnevisionModel.apply_pooling(theirs, tokens))


@pytest.mark.parametrize("merge", [1, 2, 3])
@pytest.mark.parametrize("frames", [[0, 12, 25, 49], [3], [0, 7, 9, 31, 100]])
def test_times_are_qwen3_vls(frames, merge):
    theirs = Qwen3VLProcessor._calculate_timestamps(None, list(frames), 24.0, merge)
    assert timestamps(frames, 24.0, merge) == [f"<{second:.1f} seconds>" for second in theirs]


@pytest.mark.parametrize(("count", "budget"), [(100, 8), (33, 4), (1001, 64), (8, 8)])
def test_the_frames_lie_half_a_span_behind_those_of_qwen2_vl(count, budget):
    firsts = torch.arange(0, count, count / budget, dtype=torch.double)  # as its video processor has them
    middles = (firsts + count / budget / 2).long() if budget < count else firsts.long()
    assert sample_frames(count, budget).tolist() == middles.tolist()
