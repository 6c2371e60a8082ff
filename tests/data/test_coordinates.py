"""Every rule of data/coordinates.py: by small numbers, and by pixels that really move."""

import pytest
import torch

from vlmcourse.data.coordinates import (
    Placement,
    from_tiles,
    into_tiles,
    place_in_letterbox,
    place_in_squash,
    place_of_tiles,
    read_boxes,
    spell_box,
    to_model,
    to_picture,
)
from vlmcourse.data.text import load_tokenizer
from vlmcourse.models.tiles import cut_tiles, letterbox, squash

BOXES = torch.tensor([[10.0, 4.0, 30.0, 20.0], [0.0, 0.0, 40.0, 24.0]])  # in a picture 40 wide and 24 high
SIZE = (24, 40)


def test_x_and_y_are_scaled_and_moved_each_on_its_own():
    placement = Placement(2.0, 3.0, 5.0, 7.0)
    assert to_model(BOXES, placement).tolist() == [[25, 19, 65, 67], [5, 7, 85, 79]]
    assert to_picture(torch.tensor([[25.0, 19.0, 65.0, 67.0]]), placement).tolist() == [BOXES[0].tolist()]
    assert to_picture(torch.tensor([[0.0, 0.0, 5.0, 7.0]]), placement)[0, 0] == -2.5  # beyond the edge


def test_boxes_keep_their_kind_and_their_device():
    placement = Placement(2.0, 3.0, 5.0, 7.0)
    for change in (to_model, to_picture):
        assert change(BOXES.bfloat16(), placement).dtype == torch.bfloat16
    away = torch.device("meta")
    assert to_model(BOXES.to(away), placement).device == to_picture(BOXES.to(away), placement).device == away
    assert into_tiles(BOXES.to(away), (1, 2), 24).device == away


def test_the_way_back_undoes_the_way_there():
    for place in (place_in_squash, place_in_letterbox):
        for frame in ((64, 64), (33, 200), (200, 33)):
            placement = place(SIZE, frame)
            assert torch.allclose(to_picture(to_model(BOXES, placement), placement), BOXES, atol=1e-4)


def test_where_a_picture_lies():
    assert place_in_squash(SIZE, (48, 20)) == (0.5, 2.0, 0, 0)
    assert place_in_letterbox(SIZE, (80, 80)) == (2.0, 2.0, 0, 16)
    assert place_in_letterbox((40, 24), (80, 81)) == (2.0, 2.0, 16, 0)  # 33 pixels of padding, 16 before it
    assert place_in_letterbox((10, 30), (64, 64)) == (64 / 30, 2.2, 0, 21)  # 22 pixels high, not 21.3


@pytest.mark.parametrize("size", [(24, 40), (40, 24), (17, 61), (64, 64)])
@pytest.mark.parametrize("frame", [(64, 64), (32, 96), (96, 32)])
def test_boxes_go_where_pixels_go(size, frame):
    """A white picture covers exactly the box of the whole picture, and a white half the half's."""
    whole = torch.tensor([[0.0, 0.0, size[1], size[0]]])
    for place, draw in ((place_in_letterbox, letterbox), (place_in_squash, squash)):
        left, top, right, bottom = to_model(whole, place(size, frame))[0].round().int().tolist()
        expected = torch.zeros(1, *frame)
        expected[:, top:bottom, left:right] = 1
        assert (draw(torch.ones(1, *size), frame) - expected).abs().max() < 1e-5


def test_boxes_go_into_the_tiles_that_show_them():
    image = torch.zeros(1, 24, 40)
    image[:, 5:20, 10:30] = 1
    placement = place_of_tiles(SIZE, (2, 3), 16)
    box = to_model(torch.tensor([[10.0, 5.0, 30.0, 20.0]]), placement)
    parts, tiles = into_tiles(box, (2, 3), 16)[0], cut_tiles(image, (2, 3), 16)[1:, 0]
    for part, tile in zip(parts, tiles, strict=True):
        left, top, right, bottom = part.tolist()
        area = (right - left) * (bottom - top)
        assert abs(tile.sum().item() - area) < 0.1 * 256
        assert (area > 0) == bool((tile > 0.9).any())


def test_a_box_in_several_tiles_is_cut():
    box = torch.tensor([[6.0, 2.0, 14.0, 13.0], [0.0, 0.0, 8.0, 8.0]])
    parts = into_tiles(box, (2, 3), 8)
    assert parts.shape == (2, 6, 4)
    assert parts[0].tolist() == [
        [6, 2, 8, 8], [0, 2, 6, 8], [0, 0, 0, 0],
        [6, 0, 8, 5], [0, 0, 6, 5], [0, 0, 0, 0],
    ]  # fmt: skip
    assert parts[1, 0].tolist() == [0, 0, 8, 8] and parts[1, 1:].abs().sum() == 0


def test_parts_come_back_to_where_they_were():
    parts = torch.tensor([[6.0, 2.0, 8.0, 8.0], [0.0, 0.0, 6.0, 5.0], [1.0, 2.0, 3.0, 4.0]])
    back = from_tiles(parts, torch.tensor([0, 4, 5]), 3, 8)
    assert back.tolist() == [[6, 2, 8, 8], [8, 8, 14, 13], [17, 10, 19, 12]]


def test_the_frame_of_a_thumbnail_alone_is_squashed():
    assert place_of_tiles(SIZE, (1, 1), 64) == place_in_squash(SIZE, (64, 64))
    assert place_of_tiles(SIZE, (1, 2), 64) == place_in_letterbox(SIZE, (64, 128))
    assert place_of_tiles(SIZE, (2, 1), 64) == place_in_letterbox(SIZE, (128, 64))


@pytest.mark.parametrize(("box", "size", "expected"), [
    ((0, 0, 40, 24), (24, 40), "[0, 0, 999, 999]"),
    ((10, 6, 20, 18), (24, 40), "[250, 250, 500, 750]"),
    ((1, 2, 3, 4), (7, 9), "[111, 285, 333, 571]"),  # 111.1, 285.7, 333.3, 571.4: rounded down
    ((1, 2, 3, 4), (9, 7), "[142, 222, 428, 444]"),
])  # fmt: skip
def test_boxes_are_written_in_thousandths(box, size, expected):
    assert spell_box(box, size) == expected


@pytest.mark.parametrize("box", [(0, 0, 41, 24), (0, 0, 40, 25), (-1, 0, 2, 2), (0, -1, 2, 2), (5, 5, 5, 9),
                                 (5, 9, 8, 9), (9, 5, 8, 9), (5, 9, 8, 5)])  # fmt: skip
def test_a_box_that_is_none_is_named(box):
    with pytest.raises(ValueError, match="is none within a picture 40 pixels wide and 24 high"):
        spell_box(box, (24, 40))


def test_boxes_are_read_from_any_sentence():
    text = "The star is at [250,  250, 500, 750], and a circle [ 0, 0, 999, 9 ]!"
    expected = torch.tensor([[10.02, 6.012, 20.02, 18.012], [0.02, 0.012, 39.98, 0.228]])
    assert torch.allclose(read_boxes(text, (24, 40)), expected, atol=1e-5)
    assert read_boxes("[250, 250, 500, 750]", (48, 40))[0, 1] == pytest.approx(12.024)


@pytest.mark.parametrize("text", [
    "", "there is none", "[1, 2, 3]", "[1, 2, 3, 4, 5]", "[a, 2, 3, 4]", "(1, 2, 3, 4)", "[1, 2, 3, 4",
    "[1 2 3 4]", "[-1, 2, 3, 4]", "[1, 2, 1000, 4]", "[1, 2, 3, 1000]", "[4, 2, 3, 4]", "[1, 5, 3, 4]",
    "[1.5, 2, 3, 4]",
])  # fmt: skip
def test_what_is_no_box_is_passed_over(text):
    assert read_boxes(text, (24, 40)).shape == (0, 4)
    assert len(read_boxes(f"{text} [1, 2, 3, 4]", (24, 40))) == 1


def test_what_is_written_is_read_within_half_a_thousandth():
    dice = torch.Generator().manual_seed(1)
    for _ in range(200):
        x, y = (
            torch.rand(2, generator=dice).mul(200).sort().values,
            torch.rand(2, generator=dice).sort().values,
        )
        box = (x[0].item(), y[0].item() * 90, x[1].item(), y[1].item() * 90)
        back = read_boxes(spell_box(box, (90, 200)), (90, 200))[0]
        assert (back - torch.tensor(box)).abs().max() <= 0.5 / 1000 * 200 + 1e-4
    assert read_boxes("[7, 7, 7, 7]", (90, 200)).shape == (1, 4)  # a thing smaller than a thousandth


def test_the_courses_tokenizer_can_spell_every_box():
    tokenizer = load_tokenizer()
    texts = ["[12, 7, 998, 400]", "[0, 0, 999, 999]", "[345, 678, 901, 910]"]
    ids, mask = tokenizer.encode(texts)
    assert tokenizer.decode(ids) == texts and int(mask.sum(dim=1).max()) <= 22
