"""Grids, tiles and sizes are LLaVA-NeXT's, Idefics3's and Qwen2-VL's, on pictures of every form."""

from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from transformers import Idefics3ImageProcessor, LlavaNextImageProcessor
from transformers.models.idefics3.image_processing_idefics3 import get_resize_output_image_size
from transformers.models.llava_next.modeling_llava_next import (
    LlavaNextModel,
    get_anyres_image_grid_shape,
    image_size_to_num_patches,
    unpad_image,
)
from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from tests.parity.library import assert_equal
from vlmcourse.models.tiles import (
    choose_grid,
    covering_grid,
    cut_tiles,
    empty_lines,
    grids_within,
    lay_tiles,
    smart_size,
    squash,
    tile_tokens,
)

SIZES = [
    (64, 64), (64, 256), (256, 64), (128, 128), (128, 192), (63, 65), (65, 63), (17, 301), (301, 17),
    (200, 7), (7, 200), (96, 96), (97, 191), (190, 97), (480, 640), (640, 480), (333, 999), (999, 333),
    (1, 150), (150, 1), (128, 64), (129, 64), (72, 250), (250, 72), (31, 33),
]  # fmt: skip
GRIDS = [(1, 2), (2, 1), (2, 2), (1, 3), (3, 1), (2, 3), (1, 4), (4, 1)]
SIDE, PATCH = 32, 8


def pinpoints(side: int, grids=GRIDS) -> list[list[int]]:
    return [[rows * side, columns * side] for rows, columns in grids]


def picture(size, seed: int = 0) -> torch.Tensor:
    dice = torch.Generator().manual_seed(seed)
    return torch.rand(3, *size, generator=dice)


@pytest.mark.parametrize("side", [32, 64, 336])
def test_the_grid_is_llava_nexts(side):
    mine = [choose_grid(*size, GRIDS, side) for size in SIZES]
    assert mine == [get_anyres_image_grid_shape(size, pinpoints(side), side) for size in SIZES]
    counts = [1 + rows * columns for rows, columns in mine]
    assert counts == [image_size_to_num_patches(size, pinpoints(side), side) for size in SIZES]
    assert len(SIZES) >= 20 and len(set(mine)) >= 4


def test_the_grid_of_a_budget_is_llava_nexts_too():
    for budget in (64, 200, 400, 1000):
        grids = grids_within(budget, 8)
        theirs = [get_anyres_image_grid_shape(size, pinpoints(64, grids), 64) for size in SIZES]
        assert [choose_grid(*size, grids, 64) for size in SIZES] == theirs


@pytest.mark.parametrize("size", SIZES)
def test_tiles_are_llava_nexts(size):
    processor = LlavaNextImageProcessor(
        size=dict(height=SIDE, width=SIDE), crop_size=dict(height=SIDE, width=SIDE), resample=Image.BILINEAR,
        image_grid_pinpoints=pinpoints(SIDE), do_rescale=False, do_normalize=False, do_convert_rgb=False,
    )  # fmt: skip
    image = picture(size)
    theirs = processor(image, return_tensors="pt")["pixel_values"][0]
    grid = choose_grid(*size, GRIDS, SIDE)
    mine = cut_tiles(image, grid, SIDE)
    assert mine.shape == theirs.shape and len(mine) == 1 + grid[0] * grid[1]
    assert_equal(mine, theirs)


@pytest.mark.parametrize("size", SIZES)
def test_rows_of_tokens_are_llava_nexts(size):
    side, patches, width = 32, 4, 5
    grid = choose_grid(*size, GRIDS, side)
    tokens = torch.randn(1 + grid[0] * grid[1], patches**2, width)
    separator = torch.randn(width)
    vision = SimpleNamespace(image_size=side, patch_size=side // patches)
    model = SimpleNamespace(
        config=SimpleNamespace(vision_config=vision, image_grid_pinpoints=pinpoints(side))
    )
    theirs, counts = LlavaNextModel.pack_image_features(
        model, [tokens], torch.tensor([size]), "default", separator
    )
    mine = lay_tiles(tokens, grid, separator, size)
    assert_equal(mine, theirs[0])
    assert len(mine) == counts[0] == tile_tokens(grid, patches, size)
    processor = SimpleNamespace(
        image_processor=SimpleNamespace(image_grid_pinpoints=pinpoints(side)), patch_size=side // patches,
        num_additional_image_tokens=0,
    )  # fmt: skip
    processor._get_unpadded_features = LlavaNextProcessor._get_unpadded_features.__get__(processor)
    assert len(mine) == LlavaNextProcessor._get_number_of_features(processor, *size, side, side)


def test_what_is_empty_is_what_llava_next_takes_away():
    for size in SIZES:
        for lines in ((8, 8), (8, 16), (24, 8), (5, 7)):
            down, right = empty_lines(size, lines)
            theirs = unpad_image(torch.zeros(1, *lines), size)
            assert theirs.shape[1:] == (lines[0] - 2 * down, lines[1] - 2 * right)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("longest", [128, 352])
def test_covering_grids_and_their_tiles_are_idefics3s(size, longest):
    """They first make the longer edge as long as told; pictures from there on are split as here."""
    side = 64
    processor = Idefics3ImageProcessor(
        size=dict(longest_edge=longest), max_image_size=dict(longest_edge=side), resample=Image.BILINEAR,
        do_rescale=False, do_normalize=False, do_convert_rgb=False, do_pad=False,
    )  # fmt: skip
    image = picture(size)
    theirs = processor(image, return_tensors="pt", return_row_col_info=True)
    first = get_resize_output_image_size(image, longest)
    grid = covering_grid(*first, side)
    assert grid == (theirs["rows"][0][0], theirs["cols"][0][0])
    image = squash(squash(image, first), (grid[0] * side, grid[1] * side))
    expected = (
        theirs["pixel_values"][0, 0] if theirs["pixel_values"].dim() == 6 else theirs["pixel_values"][0]
    )
    assert_equal(cut_tiles(image, grid, side), expected.roll(1, dims=0))


def test_sizes_are_qwen2_vls():
    limits = [(28, 56 * 56, 14 * 14 * 4 * 1280), (16, 4096, 16384), (8, 64, 4096), (14, 196, 50_000)]
    for multiple, least, most in limits:
        mine = [smart_size(*size, multiple, least, most) for size in SIZES]
        assert mine == [smart_resize(*size, multiple, least, most) for size in SIZES]
    assert smart_size(20, 12, 8, 8, 10**6) == smart_resize(20, 12, 8, 8, 10**6) == (16, 16)  # halves to even
    assert smart_size(1, 200, 8, 64, 10**6) == smart_resize(1, 200, 8, 64, 10**6)
    for module in (smart_size, smart_resize):
        with pytest.raises(ValueError):
            module(1, 201, 8, 64, 10**6)
