"""Every rule of models/locations.py by small numbers; equal to the library in tests/parity."""

import pytest
import torch

from vlmcourse.models.locations import box_to_locations, locations_to_boxes, read_locations, write_locations


def test_corners_become_cells_row_by_row():
    box = torch.tensor([[0.3, 0.6, 0.8, 0.9]])
    assert box_to_locations(box, 4).tolist() == [[2 * 4 + 1, 3 * 4 + 3]]
    assert box_to_locations(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), 32).tolist() == [[0, 1023]]


def test_an_edge_on_a_line_counts_to_the_cell_inside_the_box():
    assert box_to_locations(torch.tensor([[0.25, 0.5, 0.5, 0.75]]), 4).tolist() == [[9, 9]]


def test_a_box_runs_from_middle_to_middle():
    assert locations_to_boxes(torch.tensor([[9, 15]]), 4).tolist() == [[0.375, 0.625, 0.875, 0.875]]


def test_a_thin_box_spans_its_cells():
    cells = torch.tensor([[9, 9], [9, 11], [1, 9]])  # one cell, one row, one column
    expected = [[0.25, 0.5, 0.5, 0.75], [0.25, 0.5, 1.0, 0.75], [0.25, 0.0, 0.5, 0.75]]
    assert locations_to_boxes(cells, 4).tolist() == expected


@pytest.mark.parametrize("wrong", [[-0.1, 0, 1, 1], [0, 0, 20, 30]])
def test_boxes_are_shares(wrong):
    with pytest.raises(ValueError, match="shares of the picture, from 0 to 1"):
        box_to_locations(torch.tensor([wrong], dtype=torch.float), 8)


@pytest.mark.parametrize("wrong", [[0.5, 0.0, 0.5, 1.0], [0.0, 0.6, 1.0, 0.5]])
def test_boxes_do_not_end_before_they_begin(wrong):
    with pytest.raises(ValueError, match="ends before it begins"):
        box_to_locations(torch.tensor([wrong]), 8)


def test_what_is_written_is_read_back():
    boxes = torch.tensor([[0.4, 0.05, 0.99, 0.83], [0.0, 0.0, 0.5, 0.5]])
    text = f"<phrase> a snowman</phrase>{write_locations(boxes)} and {write_locations(boxes[1:])}"
    begin = "<phrase> a snowman</phrase><object><patch_index_0044><patch_index_0863>"
    assert text.startswith(
        begin + "</delimiter_of_multi_objects/><patch_index_0000><patch_index_0495></object>"
    )
    first, second = read_locations(text)
    assert (first.phrase, second.phrase) == ("a snowman", "")
    assert torch.equal(first.boxes, locations_to_boxes(box_to_locations(boxes, 32), 32))
    assert torch.equal(second.boxes, first.boxes[1:])
    small = write_locations(boxes[1:], 4)
    assert small == "<object><patch_index_0000><patch_index_0005></object>"
    assert read_locations(small, 4)[0].boxes.tolist() == [[0.125, 0.125, 0.375, 0.375]]


def test_what_points_nowhere_is_passed_over():
    for text in ("a snowman", "<object></object>", "<object><patch_index_0001></object>",
                 "<object><patch_index_0000><patch_index_1024></object>",  # outside the grid
                 "<object><patch_index_0033><patch_index_0031></object>",  # ends before it begins
                 "<object><patch_index_0001><patch_index_0032></object>"):  # fmt: skip
        assert read_locations(text) == [], text


@pytest.mark.parametrize(("first", "last"), [(33, 33), (33, 35), (33, 97)])
def test_boxes_within_a_row_or_a_column_are_read(first, last):
    text = f"<object><patch_index_{first:04d}><patch_index_{last:04d}></object>"
    (pointed,) = read_locations(text)
    assert torch.equal(pointed.boxes, locations_to_boxes(torch.tensor([[first, last]]), 32))
