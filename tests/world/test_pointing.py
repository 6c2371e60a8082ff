"""Pointing in words: the words tell of the box that is true, as well as two cells can."""

import numpy as np
import pytest
import torch

from vlmcourse.evaluation.boxes import box_iou
from vlmcourse.world import pointing, scenes
from vlmcourse.world.truth import Thing, Who, list_things


def test_the_words_of_a_box_are_written_and_read():
    thing = Thing(0, 2, 0, 20, 33)  # box 14, 27, 27, 40: columns 3 and 6, rows 6 and 9
    assert pointing.write_box(thing) == "<loc_99><loc_150>"
    assert pointing.read_box("<loc_99><loc_150>") == (14.0, 26.0, 26.0, 38.0)
    assert pointing.read_box(" <loc_99> <loc_150> ") == (14.0, 26.0, 26.0, 38.0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "left",
        "<loc_99>",
        "<loc_150><loc_99>",
        "<loc_3><loc_256>",
        "<loc_18><loc_33>",
        "<loc_99><loc_150>.",
    ],
)
def test_what_is_no_box_is_none(text):
    assert pointing.read_box(text) is None


def test_there_is_a_word_for_every_cell():
    words = pointing.location_words()
    assert len(words) == len(set(words)) == 256 and words[17] == "<loc_17>"


def test_a_thing_is_asked_for_by_a_name_of_its_own():
    batch = scenes.sample("test", 200)
    talks, boxes = pointing.point_talks(batch), pointing.true_boxes(batch)
    told, numbers = [], []
    for scene, row in enumerate(talks):
        things = list_things(batch, scene)
        if not row:
            assert boxes[scene].tolist() == [0] * 4
            assert not any(Who(*thing[:2]).only(things) for thing in things)
            continue
        ((question, answer),) = row
        (meant,) = [t for t in things if f"Where is the {Who(*t[:2])}? Answer with a box." == question]
        assert meant.box == tuple(boxes[scene]) and answer == pointing.write_box(meant)
        numbers.append(things.index(meant))
        told.append((pointing.read_box(answer), meant.box))
    fits = [box_iou(torch.tensor([one]), torch.tensor([other]).float()).item() for one, other in told]
    assert min(fits) > 0.5 and 0.7 < np.mean(fits) < 0.9 and set(numbers) == {0, 1, 2, 3}
    assert pointing.point_talks(batch, 1) != talks


def test_twins_have_no_name():
    twin = dict(shape=[0, 0], colour=[2, 2], size=[0, 0], x=[12, 45], y=[12, 40])
    batch = scenes.sample("test", 1, objects=(2, 2))
    for name, values in twin.items():
        getattr(batch, name)[0, :2] = values
    assert pointing.point_talks(batch) == [[]]


def test_unless_told_otherwise_a_thing_is_drawn_with_seed_0():
    batch = scenes.sample("test", 40)
    assert pointing.point_talks(batch) == pointing.point_talks(batch, 0)
    assert (pointing.true_boxes(batch) == pointing.true_boxes(batch, 0)).all()
    assert (pointing.true_boxes(batch) != pointing.true_boxes(batch, 1)).any()
