import numpy as np
import pytest

from vlmcourse.world.arranging import arrange, check_things, cut_sprites, outside, paste
from vlmcourse.world.render import render
from vlmcourse.world.scenes import ARRAYS, RADII, sample
from vlmcourse.world.truth import Thing, list_things

SCENES = sample("test", 60, printed_words=0.3)
CIRCLE, SQUARE = Thing(0, 2, 1, 20, 20), Thing(1, 3, 2, 44, 30)


def test_things_of_a_scene_arranged_again_give_the_same_picture():
    for number in range(60):
        again = arrange(SCENES[number], [list_things(SCENES, number), []])
        assert len(again) == 2 and again.count[1] == 0
        assert np.array_equal(render(again)[0], render(SCENES[number])[0])


def test_a_batch_is_arranged_scene_by_scene():
    groups = [list_things(SCENES, number) for number in range(60)]
    again = arrange(SCENES, groups)
    assert all(np.array_equal(getattr(again, name), getattr(SCENES, name)) for name in ARRAYS)
    with pytest.raises(ValueError, match="59 groups of things for 60 scenes"):
        arrange(SCENES, groups[1:])


def test_pasted_sprites_are_what_the_renderer_draws():
    for number in range(60):
        one, things = SCENES[number], list_things(SCENES, number)
        paper, sprites = render(arrange(one, [[]]))[0], cut_sprites(render, one)
        assert np.array_equal(paste(paper, sprites, things), render(one)[0])


def test_where_objects_overlap_the_larger_lies_on_top_and_hides_no_more_than_itself():
    one = sample("test", 1)
    paper, sprites = render(arrange(one, [[]]))[0], cut_sprites(render, one)
    below, above = (
        Thing(1, 2, 1, 30, 30),
        Thing(2, 3, 2, 38, 30),
    )  # a square under the corner of a triangle's box
    image, alone = paste(paper, sprites, [above, below]), render(arrange(one, [[above], [below]]))
    ink = (alone != paper).any(axis=-1)
    assert (ink[0] & ink[1]).any() and (image[ink[0]] == alone[0][ink[0]]).all()
    assert (image[ink[1] & ~ink[0]] == alone[1][ink[1] & ~ink[0]]).all()


def test_every_split_keeps_inside_the_training_world_but_for_novel_combinations():
    assert {outside(list_things(SCENES, n)) for n in range(60)} == {""}
    novel = sample("novel", 20)
    assert all("occurs in training" in outside(list_things(novel, n)) for n in range(20))


@pytest.mark.parametrize(
    ("things", "why"),
    [
        ([], "there is no object"),
        ([CIRCLE, SQUARE._replace(x=38)], "objects overlap"),
        ([CIRCLE, SQUARE._replace(x=41)], "objects stand closer than 2 pixels"),
        ([CIRCLE, SQUARE._replace(x=45, y=44)], "objects stand on a diagonal"),
        ([CIRCLE._replace(colour=0)], "no black circle occurs in training"),
        ([CIRCLE, SQUARE], ""),
    ],
)
def test_what_leaves_the_training_world_is_named(things, why):
    assert outside(things) == why


def test_what_cannot_be_drawn_is_refused_with_the_rule():
    for size, radius in enumerate(RADII.tolist()):
        edge = Thing(0, 2, size, 1 + radius, 62 - radius)
        check_things([edge])
        with pytest.raises(ValueError, match=f"its centre at {1 + radius}..{62 - radius}"):
            check_things([edge._replace(x=radius)])
    with pytest.raises(ValueError, match="5 things; a scene has at most 4"):
        check_things([CIRCLE] * 5)
    with pytest.raises(ValueError, match=r"thing 1 has colour 7, expected 0\.\.6"):
        check_things([CIRCLE, CIRCLE._replace(colour=7)])
