"""VideoLlava: single pictures as Llava reads them, frames with fewer tokens, one after the other."""

from dataclasses import replace

import pytest
import torch

from vlmcourse.models.frames import pool_frame
from vlmcourse.models.language import LlamaConfig
from vlmcourse.models.llava import Llava
from vlmcourse.models.video import VideoConfig, VideoLlava
from vlmcourse.models.vit import ViTConfig

VISION = ViTConfig((16, 32), 4, width=16, depth=2, heads=2)  # a grid of 4 × 8
CONFIG = VideoConfig(VISION, LlamaConfig(50, 24, 2, 4), image_token=4, layer=-1, side=2)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return VideoLlava(CONFIG).eval()


@pytest.fixture
def frames():
    return torch.randn(2, 3, 3, 16, 32, generator=torch.Generator().manual_seed(1))


def test_a_single_picture_is_read_as_llava_reads_it(model, frames):
    other = Llava(CONFIG).eval()
    other.load_state_dict(model.state_dict())
    assert model.tokens_per_image == 32 and model.tokens_per_frame == 8
    torch.testing.assert_close(
        model.image_tokens(frames[:, 0]), other.image_tokens(frames[:, 0]), rtol=0, atol=0
    )
    features = model.image_features(frames[:, 0])
    torch.testing.assert_close(model.connect(features), other.connect(features), rtol=0, atol=0)


def test_a_frame_has_the_means_of_squares_of_its_tokens(model, frames):
    tokens = model.image_tokens(frames)
    assert tokens.shape == (6, 8, 24)
    whole = model.image_tokens(frames.flatten(0, 1)).unflatten(1, (4, 8))
    torch.testing.assert_close(tokens[4, 5], whole[4, 2:4, 2:4].mean(dim=(0, 1)))
    features = model.image_features(frames)
    assert features.shape == (2, 3, 32, 16)
    torch.testing.assert_close(model.connect(features), tokens)


def test_frames_stand_in_their_order_at_their_places(model, frames):
    ids = torch.tensor([[1] + [4] * 8 + [2] + [4] * 8 + [3] + [4] * 8 + [7]]).repeat(2, 1)
    vectors, tokens = model.embed(ids, frames), model.image_tokens(frames)
    torch.testing.assert_close(vectors[1, 10:18], tokens[4])
    torch.testing.assert_close(vectors[0, 19:27], tokens[2])
    torch.testing.assert_close(vectors[:, 18], model.language.embed(ids)[:, 18])
    swapped = model(ids, images=frames.flip(1))[:, -1]
    assert not torch.allclose(model(ids, images=frames)[:, -1], swapped, atol=1e-4)


def test_another_side_gives_another_number_of_tokens(model, frames):
    model.side = 4
    assert model.tokens_per_frame == 2 and model.image_tokens(frames).shape == (6, 2, 24)
    model.side = 1
    assert model.tokens_per_frame == 32 and model.image_tokens(frames).shape == (6, 32, 24)


def test_the_pooling_is_the_slot(model, frames):
    pool_frame.install(lambda tokens, side, grid=None: tokens[:, :: side**2])
    try:
        assert torch.equal(model.image_tokens(frames), model.image_tokens(frames.flatten(0, 1))[:, ::4])
    finally:
        pool_frame.reset()


def test_shuffled_pixels_and_pooled_frames_go_together(frames):
    torch.manual_seed(0)
    model = VideoLlava(replace(CONFIG, shuffle=2)).eval()
    assert (model.tokens_per_image, model.tokens_per_frame) == (8, 2) and model.grid == (2, 4)


@pytest.mark.parametrize("change", [dict(side=3), dict(side=4, shuffle=2)])
def test_squares_that_do_not_tile_a_picture_are_refused(change):
    with pytest.raises(ValueError, match=r"squares of \d patches do not tile a grid of \(4, 8\)"):
        replace(CONFIG, **change)


def test_a_single_picture_may_have_another_size(frames):
    config = replace(CONFIG, shuffle=2)  # which needs the grid of the picture itself
    torch.manual_seed(0)
    model, other = VideoLlava(config).eval(), Llava(config).eval()
    other.load_state_dict(model.state_dict())
    tall = frames[:, 0].transpose(2, 3).contiguous()
    torch.testing.assert_close(model.image_tokens(tall), other.image_tokens(tall), rtol=0, atol=0)
    assert model.image_tokens(tall).shape == (2, 8, 24)


def test_a_config_keeps_the_rules_of_llavas_and_pools_squares_of_four():
    assert VideoConfig(VISION, CONFIG.language, image_token=4, layer=-1).side == 2
    with pytest.raises(ValueError, match="layer = 3, but the encoder has 3 residual streams"):
        replace(CONFIG, layer=3)
