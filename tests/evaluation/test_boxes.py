"""Boxes end before their last number, and a point lies in one or in none."""

import pytest
import torch

from vlmcourse.evaluation.boxes import (
    box_accuracy,
    box_iou,
    brightest_points,
    evidence_boxes,
    mean_boxes,
    paired_iou,
    pointing_accuracy,
    points_inside,
)
from vlmcourse.world import questions, scenes


def test_iou_by_hand():
    first = torch.tensor([[0, 0, 4, 3], [2, 1, 6, 5], [3, 3, 3, 9]])
    second = torch.tensor([[0, 0, 4, 3], [4, 3, 8, 9], [10, 10, 12, 11], [0, 0, 0, 0]])
    right = [[1, 0, 0, 0], [4 / 24, 4 / 36, 0, 0], [0, 0, 0, 0]]
    torch.testing.assert_close(box_iou(first, second), torch.tensor(right))
    torch.testing.assert_close(
        box_iou(first.double(), second.double()), torch.tensor(right, dtype=torch.double)
    )


def test_iou_does_not_care_which_is_first():
    torch.manual_seed(0)
    boxes = torch.rand(9, 4)
    boxes[:, 2:] += boxes[:, :2]
    torch.testing.assert_close(box_iou(boxes, boxes[:5]), box_iou(boxes[:5], boxes).T)
    torch.testing.assert_close(box_iou(boxes, boxes).diagonal(), torch.ones(9))


@pytest.mark.parametrize("wrong", [[5, 0, 4, 3], [0, 5, 4, 3]])
def test_a_box_that_ends_before_it_begins_is_named(wrong):
    good = torch.tensor([[0, 0, 4, 3]])
    for pair in ((good, torch.tensor([[0, 0, 1, 0], wrong])), (torch.tensor([wrong]), good)):
        with pytest.raises(ValueError, match=rf"the box \[{wrong[0]}, {wrong[1]}, 4, 3\] ends before"):
            box_iou(*pair)


def test_points_on_the_first_pixel_are_inside_and_on_the_end_are_not():
    box = torch.tensor([[[2, 3, 5, 7]]])
    for x, y, inside in [
        (2, 3, True),
        (4, 6, True),
        (5, 4, False),
        (4, 7, False),
        (1, 4, False),
        (3, 2, False),
    ]:
        assert points_inside(torch.tensor([[x, y]]), box).tolist() == [inside]
    assert points_inside(torch.tensor([[4.9, 6.9]]), box).tolist() == [True]


def test_one_of_several_boxes_is_enough_and_zeros_are_none():
    boxes = torch.tensor([[[0, 0, 2, 2], [5, 5, 9, 9]], [[5, 5, 9, 9], [0, 0, 0, 0]]])
    assert points_inside(torch.tensor([[6, 6], [0, 0]]), boxes).tolist() == [True, False]
    assert pointing_accuracy(torch.tensor([[6, 6], [0, 0]]), boxes) == 0.5
    assert pointing_accuracy(torch.tensor([[6, 6]]), boxes[:1]) == 1
    with pytest.raises(ValueError, match="1 points for the boxes of 2 questions"):
        pointing_accuracy(torch.tensor([[6, 6]]), boxes)
    with pytest.raises(ValueError, match="0 points"):
        pointing_accuracy(torch.zeros(0, 2), torch.zeros(0, 1, 4))


def test_the_brightest_cell_is_pointed_at_in_its_middle():
    maps = torch.zeros(3, 2, 4)
    maps[0, 1, 2] = 1
    maps[1, 0, 3] = maps[1, 1, 0] = 1
    assert brightest_points(maps, 16).tolist() == [[10, 12], [14, 4], [2, 4]]
    assert brightest_points(maps)[0].tolist() == [40, 48]


def test_evidence_of_questions_is_found_by_who_knows_it():
    batch = scenes.sample("test", 60)
    asked = questions.ask(batch)
    boxes = evidence_boxes(asked)
    assert boxes.shape == (60, max(len(question.boxes) for question in asked), 4)
    assert boxes.dtype == torch.long  # pixels are counted
    for row, question in zip(boxes.tolist(), asked, strict=True):
        count = len(question.boxes)
        assert row[:count] == [list(box) for box in question.boxes]
        assert row[count:] == [[0] * 4] * (len(row) - count)
    middles = (boxes[:, 0, :2] + boxes[:, 0, 2:]) / 2
    assert pointing_accuracy(middles, boxes) == 1
    assert pointing_accuracy(middles.roll(1, dims=0), boxes) < 0.5
    assert evidence_boxes([]).shape == (0, 0, 4)


def test_boxes_in_pairs_and_those_that_end_before_they_begin():
    true = torch.tensor([[0.0, 0.0, 2.0, 2.0]] * 4)
    boxes = torch.tensor(
        [[1.0, 0.0, 3.0, 2.0], [2.0, 0.0, 0.0, 2.0], [0.0, 2.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    )
    assert torch.allclose(paired_iou(boxes, true), torch.tensor([1 / 3, 0, 0, 0]))


def test_accuracy_of_boxes_is_the_share_that_overlaps_enough():
    true = torch.tensor([[0.0, 0.0, 4.0, 4.0]] * 4)
    boxes = torch.tensor(
        [[0.0, 0.0, 4.0, 2.0], [0.0, 0.0, 4.0, 1.0], [0.0, 0.0, 4.0, 4.0], [9.0, 9.0, 10.0, 10.0]]
    )
    assert box_accuracy(boxes, true) == 0.5  # one half is enough
    assert box_accuracy(boxes, true, 0.25) == 0.75 and box_accuracy(boxes, true, 0.51) == 0.25
    for wrong in (boxes[:3], boxes[:0]):
        with pytest.raises(ValueError, match=f"{len(wrong)} boxes for 4 true ones; give one for each"):
            box_accuracy(wrong, true)
    with pytest.raises(ValueError, match="0 boxes for 0 true ones"):
        box_accuracy(boxes[:0], true[:0])


def test_the_mean_box_is_a_mean_of_shares():
    known = torch.tensor([[0, 0, 10, 20], [20, 10, 40, 20]])
    found = mean_boxes(known, [(20, 10), (20, 40)], [(100, 200), (8, 8), (50, 10)])
    assert found.tolist() == [[50, 25, 200, 100], [2, 2, 8, 8], [2.5, 12.5, 10, 50]]
