"""Clips: the truth of a direction, and that neither a frame nor their crowd gives it away."""

import itertools
from collections import Counter

import numpy as np
import pytest

from vlmcourse.world import motion, scenes
from vlmcourse.world.scenes import SPLITS, editable
from vlmcourse.world.truth import Who, list_things

PATHS_AND_FRAMES = [
    ("straight", 2),
    ("straight", 4),
    ("straight", 7),
    ("round", 4),
    ("round", 8),
    ("round", 16),
]


def crowds(path: str, frames: int) -> list[Counter]:
    """For each direction how often each set of places occurs, over all ways; the order of frames is lost."""
    ways = np.round(motion.tracks(path, frames) * 12).astype(int) + 0
    return [Counter(tuple(sorted(map(tuple, way.tolist()))) for way in direction) for direction in ways]


def spots(path: str, frames: int) -> list[Counter]:
    """For each direction how often each place occurs, over all ways and frames."""
    ways = np.round(motion.tracks(path, frames) * 12).astype(int) + 0
    return [Counter(map(tuple, direction.reshape(-1, 2).tolist())) for direction in ways]


def test_a_straight_way_goes_from_side_to_side_in_its_lane():
    left, right, up, down = motion.tracks("straight", 3)
    assert right[0].tolist() == [[-1, -1], [0, -1], [1, -1]] and left[2].tolist() == [[1, 1], [0, 1], [-1, 1]]
    assert up[1].tolist() == [[0, 1], [0, 0], [0, -1]] and down[1].tolist() == [[0, -1], [0, 0], [0, 1]]


def test_a_round_way_begins_in_its_direction_and_comes_round():
    left, right, up, down = motion.tracks("round", 4)
    assert right[0].tolist() == [[-1, -1], [1, -1], [1, 1], [-1, 1]]
    assert right[1].tolist() == [[-1, 1], [1, 1], [1, -1], [-1, -1]]
    assert (
        up[0].tolist() == [[-1, 1], [-1, -1], [1, -1], [1, 1]] and left[0, 0, 0] == 1 and down[0, 0, 1] == -1
    )
    assert motion.tracks("round", 8)[1, 0].tolist()[:3] == [[-1, -1], [0, -1], [1, -1]]


@pytest.mark.parametrize(("path", "frames"), PATHS_AND_FRAMES)
def test_one_frame_says_nothing_of_the_direction(path, frames):
    """Whatever the direction, a frame drawn by chance shows every place of the square equally often."""
    first, *others = spots(path, frames)
    assert all(other == first for other in others)


@pytest.mark.parametrize("frames", [4, 8, 16])
def test_round_frames_in_any_order_say_nothing_of_the_direction(frames):
    first, *others = crowds("round", frames)
    assert all(other == first for other in others)


@pytest.mark.parametrize("frames", [2, 4, 7])
def test_straight_frames_in_any_order_say_the_axis_and_no_more(frames):
    left, right, up, down = crowds("straight", frames)
    assert left == right and up == down and not left & up


def test_two_round_frames_leave_two_directions():
    """They show opposite corners, in order: two of the four directions begin like this."""
    ways = motion.tracks("round", 2)
    begins = [{str(way.tolist()) for way in direction} for direction in ways]
    meets = [sum(bool(one & other) for other in begins) for one in begins]
    assert meets == [3, 3, 3, 3] and all(len(one) == 2 for one in begins)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("path", motion.PATHS)
def test_what_is_asked_is_what_the_frames_show(split, path):
    clips = motion.sample_clips(split, 60, frames=5 if path == "straight" else 4, path=path, objects=(1, 3))
    shown = [motion.true_direction(clips.things(n), who) for n, who in enumerate(clips.moving())]
    assert shown == clips.answers() and set(shown) == set(motion.MOVES)
    backwards = [motion.true_direction(clips.things(n)[::-1], who) for n, who in enumerate(clips.moving())]
    opposite = dict(left="right", right="left", up="down", down="up")
    if path == "straight":
        assert backwards == [opposite[answer] for answer in shown]


def test_one_thing_moves_and_the_others_rest():
    clips = motion.sample_clips("test", 40, frames=4, objects=(3, 3))
    x = clips.scenes.x.reshape(40, 4, 4) * 100 + clips.scenes.y.reshape(40, 4, 4)
    assert (x[:, 1:, 1:] == x[:, :1, 1:]).all() and (x[:, 1:, 0] != x[:, :1, 0]).all()
    for name in ("shape", "colour", "size", "light"):
        column = getattr(clips.scenes, name).reshape(40, 4, -1)
        assert (column == column[:, :1]).all()


@pytest.mark.parametrize("path", motion.PATHS)
def test_every_frame_keeps_the_rules_of_its_split(path):
    for split, residue in SPLITS.items():
        clips = motion.sample_clips(split, 50, frames=8, path=path, objects=(1, 3))
        batch = clips.scenes
        assert ((batch.x + batch.y)[batch.present] % 3 == residue).all()
        assert editable(split)[batch.shape[batch.present], batch.colour[batch.present]].all()
        boxes = batch.boxes()
        assert boxes[batch.present].min() >= scenes.MARGIN
        assert boxes[batch.present].max() <= scenes.SIDE - scenes.MARGIN
        for number in range(0, len(batch), 3):
            things = list_things(batch, number)
            for one, other in itertools.pairwise(things):
                across, down = abs(one.x - other.x), abs(one.y - other.y)
                assert max(across, down) > one.radius + other.radius + scenes.GAP


def test_the_thing_asked_for_is_the_only_one_of_its_look():
    clips = motion.sample_clips("train", 400, objects=(3, 3))
    assert all(who.only(clips.things(n)[0]) == clips.things(n)[0][0] for n, who in enumerate(clips.moving()))


def test_where_it_stands_tells_no_direction():
    """The best guess from the place of a frame drawn by chance, learned on half of 20,000 clips: chance."""
    clips = motion.sample_clips("train", 20_000, path="round")
    frame = np.random.default_rng(0).integers(4, size=20_000)
    x, y = (
        axis.reshape(-1, 4, 4)[np.arange(20_000), frame, 0] // 8 for axis in (clips.scenes.x, clips.scenes.y)
    )
    votes = np.zeros((8, 8, 4))
    np.add.at(votes, (x[::2], y[::2], clips.direction[::2]), 1)
    right = (votes.argmax(-1)[x[1::2], y[1::2]] == clips.direction[1::2]).mean()
    assert abs(right - 0.25) < 0.015
    assert np.bincount(clips.direction).min() > 4800


def test_clips_are_the_same_however_many_are_asked_for_and_however_often_they_are_seen():
    many = motion.sample_clips("test", 12, seed=3)
    few = motion.sample_clips("test", 4, start=5, seed=3)
    assert (many[5:9].pictures() == few.pictures()).all() and many[5:9].answers() == few.answers()
    assert (many[7].pictures() == few.pictures()[2:3]).all() and len(many[7]) == 1
    assert many[-1].questions() == many.questions()[-1:]
    other = motion.sample_clips("test", 12, seed=4)
    assert (many.pictures() != other.pictures()).any()
    often = motion.sample_clips("test", 12, seed=3, frames=8, path="round")
    seldom = motion.sample_clips("test", 12, seed=3, frames=4, path="round")
    assert (often.pictures()[:, ::2] == seldom.pictures()).all()


def test_questions_and_times():
    clips = motion.sample_clips("test", 3)
    assert clips.questions()[0] == f"Which way does the {clips.moving()[0]} move?"
    turns = motion.sample_clips("test", 3, path="round", frames=8)
    assert turns.questions()[0] == f"Which way does the {turns.moving()[0]} move first?"
    assert clips.stamps() == ["<0.0 seconds>", "<1.0 seconds>", "<2.0 seconds>", "<3.0 seconds>"]
    assert turns.stamps()[:3] == ["<0.0 seconds>", "<0.5 seconds>", "<1.0 seconds>"]
    assert "4 frames, straight" in repr(clips)


def test_when_is_asked_only_where_time_matters():
    clips = motion.sample_clips("test", 100)
    asked = motion.ask_when(clips)
    assert 5 < sum(question is not None for question in asked) < 50
    for number, question in enumerate(asked):
        places = [things[0].position for things in clips.things(number)]
        if question is None:
            assert len({place for place in places if place is not None}) < 2
            continue
        frame = int(float(question[0].split(" at ")[1].split()[0]))
        assert question[0] == f"Where is the {clips.moving()[number]} at {frame}.0 seconds?"
        assert question[1] == scenes.PLACES[places[frame]]
    assert motion.ask_when(clips, 1) != asked


def test_controls_are_made_of_the_frames_of_the_clip():
    clips = motion.sample_clips("test", 30)
    pictures, shuffled, still = clips.pictures(), clips.shuffled(), clips.still()
    kept = []
    for own, mixed, one in zip(pictures, shuffled, still, strict=True):
        frames = [frame.tobytes() for frame in own]
        assert sorted(frames) == sorted(frame.tobytes() for frame in mixed)
        assert len({frame.tobytes() for frame in one}) == 1 and one[0].tobytes() in frames
        kept.append(frames.index(one[0].tobytes()))
    assert (
        set(kept) == {0, 1, 2, 3} and (shuffled != pictures).any() and (clips.shuffled(1) != shuffled).any()
    )


def test_the_truth_is_read_from_frames_alone():
    one, other = motion.Thing(0, 2, 0, 20, 20), motion.Thing(1, 2, 0, 40, 40)
    who, moved = Who(0, 2), one._replace(y=14)
    assert motion.true_direction([[one, other], [moved, other]], who) == "up"
    assert motion.true_direction([[one], [one._replace(x=17)], [moved]], who) == "left"
    assert motion.true_direction([[one], [one._replace(x=26, y=23)]], who) == "right"
    assert motion.true_direction([[one], [one._replace(x=23, y=26)]], who) == "down"
    assert motion.true_direction([[one], [one]], who) is None
    assert motion.true_direction([[one], [other]], who) is None


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="unknown path 'zigzag'; choose one of straight, round"):
        motion.sample_clips("test", 1, path="zigzag")
    with pytest.raises(ValueError, match="2 to 64 frames, not 1"):
        motion.sample_clips("test", 1, frames=1)
    with pytest.raises(ValueError, match="2 to 64 frames, not 65"):
        motion.tracks("round", 65)
    with pytest.raises(ValueError, match=r"1 to 3 objects.*got \(1, 4\)"):
        motion.sample_clips("test", 1, objects=(1, 4))
    with pytest.raises(ValueError, match="unknown split"):
        motion.sample_clips("tset", 1)


def test_unless_told_otherwise_all_is_drawn_with_seed_0():
    clips = motion.sample_clips("test", 12, path="round")
    assert motion.ask_when(clips) == motion.ask_when(clips, 0) != motion.ask_when(clips, 1)
    assert motion.point_when(clips) == motion.point_when(clips, 0) != motion.point_when(clips, 1)
    for control in (clips.shuffled, clips.still):
        assert (control() == control(0)).all() and (control() != control(1)).any()
    again = motion.sample_clips("test", 12, seed=0, frames=4, path="round", objects=(1, 2))
    assert (clips.pictures() == again.pictures()).all()
