"""Each mistake of coordinates is found by undoing it, and has its own pattern."""

import pytest
import torch

from vlmcourse.data.coordinates import read_boxes
from vlmcourse.diagnostics.pointing import (
    ABSOLUTE,
    BEFORE,
    EXCHANGED,
    MISTAKES,
    NO_MISTAKE,
    centre_fit,
    name_mistake,
    undo_mistake,
    write_mistaken,
)

FRAME = (256, 256)
SIZES = [(64, 256), (256, 64), (128, 256), (192, 128)] * 10
BOX = torch.tensor([[20.0, 30.0, 40.0, 36.0]])  # in a picture of 50 × 100


def some_boxes(seed: int = 0) -> torch.Tensor:
    dice = torch.Generator().manual_seed(seed)
    rows = []
    for height, width in SIZES:
        share = torch.rand(2, generator=dice) * 0.7
        left, top = share[0] * width, share[1] * height
        rows.append(torch.stack([left, top, left + 0.25 * width, top + 0.2 * height]))
    return torch.stack(rows)


def written(mistake: str, boxes: torch.Tensor) -> torch.Tensor:
    rows = zip(boxes[:, None], SIZES, strict=True)
    return torch.cat([write_mistaken(mistake, row, size, FRAME) for row, size in rows])


@pytest.mark.parametrize(("mistake", "expected"), [
    (NO_MISTAKE, [200, 600, 400, 720]),
    (EXCHANGED, [600, 200, 720, 400]),
    (ABSOLUTE, [20, 30, 40, 36]),
    (BEFORE, [200, 550, 400, 610]),  # 100 pixels wide in 200: twice as large, and 50 pixels lower
])  # fmt: skip
def test_the_numbers_of_each_mistake(mistake, expected):
    numbers = write_mistaken(mistake, BOX, (50, 100), (200, 200))
    assert torch.allclose(numbers, torch.tensor([expected], dtype=torch.float32))
    assert torch.allclose(undo_mistake(mistake, numbers, (50, 100), (200, 200)), BOX, atol=1e-4)


def test_without_a_mistake_numbers_are_read_as_the_course_reads_them():
    undone = undo_mistake(NO_MISTAKE, torch.tensor([[200.5, 600.5, 400.5, 720.5]]), (50, 100), FRAME)
    assert torch.allclose(undone, read_boxes("[200, 600, 400, 720]", (50, 100)))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_model_with_a_mistake_is_named_by_it(mistake):
    true = some_boxes()
    wobble = 2 * torch.randn(len(true), 4, generator=torch.Generator().manual_seed(1))
    found = name_mistake(written(mistake, true) + wobble, true, SIZES, FRAME)
    others = [overlap for name, overlap in found.overlap.items() if name != mistake]
    assert found.name == mistake and tuple(found.overlap) == MISTAKES
    assert found.overlap[mistake] > 0.6 > 2 * max(others)
    exact = name_mistake(written(mistake, true), true, SIZES, FRAME)
    assert exact.overlap[mistake] == pytest.approx(1, abs=1e-3)


def test_of_equal_overlaps_the_first_is_named_and_they_are_means_over_pictures():
    true, sizes = torch.tensor([[40.0, 40.0, 50.0, 50.0]]).repeat(2, 1), [(100, 100)] * 2
    nowhere = name_mistake(torch.zeros(2, 4), true, sizes, FRAME)
    assert nowhere.name == NO_MISTAKE and set(nowhere.overlap.values()) == {0}
    half = name_mistake(torch.stack([10 * true[0], torch.zeros(4)]), true, sizes, FRAME)
    assert half.overlap[NO_MISTAKE] == pytest.approx(0.5)


def test_on_squares_forgotten_padding_is_no_mistake():
    true = BOX.repeat(4, 1)
    found = name_mistake(true / 100 * 1000, true, [(100, 100)] * 4, FRAME)
    assert found.name == NO_MISTAKE and found.overlap[BEFORE] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("mistake", "expected"), [
    (NO_MISTAKE, [[1, 0], [0, 1], [0, 0]]),
    (EXCHANGED, [[0, 1], [1, 0], [0, 0]]),
    (ABSOLUTE, [[0.256, 0], [0, 0.064], [0, 0]]),
    (BEFORE, [[1, 0], [0, 0.25], [0, 0.375]]),
])  # fmt: skip
def test_each_mistake_has_its_pattern(mistake, expected):
    wide = [(64, 256)] * len(SIZES)
    true = torch.rand(len(SIZES), 4, generator=torch.Generator().manual_seed(2)).sort(dim=1).values * 60
    numbers = torch.cat([write_mistaken(mistake, box[None], (64, 256), FRAME) for box in true])
    boxes = undo_mistake(NO_MISTAKE, numbers, (64, 256), FRAME)
    fit = centre_fit(boxes, true, wide)
    assert torch.allclose(fit, torch.tensor(expected, dtype=torch.float32), atol=1e-3)


def test_of_boxes_of_another_size_only_the_middles_count():
    true = some_boxes()
    shrunk = true + torch.tensor([5.0, 2.0, -5.0, -2.0]) * torch.linspace(0, 1, len(true))[:, None]
    expected = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    assert torch.allclose(centre_fit(shrunk, true, SIZES), expected, atol=1e-5)


def test_true_boxes_of_other_pictures_are_named(unchecked):
    with pytest.raises(ValueError, match="2 boxes, 3 true ones and 2 sizes"):
        name_mistake(torch.zeros(2, 4), torch.zeros(3, 4), SIZES[:2], FRAME)


def test_what_does_not_fit_together_is_named():
    with pytest.raises(ValueError, match="2 boxes, 2 true ones and 40 sizes; give one of each"):
        name_mistake(torch.zeros(2, 4), torch.zeros(2, 4), SIZES, FRAME)
    with pytest.raises(ValueError, match="0 boxes"):
        name_mistake(torch.zeros(0, 4), torch.zeros(0, 4), [], FRAME)
    for change in (write_mistaken, undo_mistake):
        with pytest.raises(ValueError, match="unknown mistake 'typing'; choose one of none, x and y"):
            change("typing", BOX, (50, 100), FRAME)
