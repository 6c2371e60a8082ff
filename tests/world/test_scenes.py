import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmcourse.world import scenes
from vlmcourse.world.scenes import ARRAYS, MOST, PLACES, RADII, RELATIONS, SIDE, SPLITS, sample

KNOBS = st.fixed_dictionaries(
    {
        "split": st.sampled_from(list(SPLITS)),
        "seed": st.integers(0, 2**32),
        "objects": st.tuples(st.integers(1, 4), st.integers(1, 4)).map(lambda pair: tuple(sorted(pair))),
        "language_bias": st.floats(0, 1),
        "printed_words": st.floats(0, 1),
        "duplicates": st.floats(0, 1),
    }
)
examples = settings(max_examples=40, deadline=None, derandomize=True)


def same(a, b):
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ARRAYS)


@examples
@given(KNOBS, st.integers(0, 10**9), st.integers(0, 30))
def test_a_scene_does_not_depend_on_how_many_are_asked_for(knobs, start, offset):
    batch = sample(count=40, start=start, **knobs)
    assert same(batch[offset : offset + 9], sample(count=9, start=start + offset, **knobs))
    assert same(batch[offset], batch[offset : offset + 1])


@examples
@given(KNOBS)
def test_every_object_is_whole_and_alone(knobs):
    batch = sample(count=200, **knobs)
    boxes, present = batch.boxes(), batch.present
    assert (boxes[present] >= 1).all() and (boxes[present] < SIDE).all()
    grown = boxes + np.array([-1, -1, 1, 1])
    for a in range(MOST):
        for b in range(a):
            both = present[:, a] & present[:, b]
            meet = (grown[:, a, :2] < boxes[:, b, 2:]) & (boxes[:, b, :2] < grown[:, a, 2:])
            assert not (meet.all(-1) & both).any()
    low, high = knobs["objects"]
    assert (batch.count >= low).all() and (batch.count <= high).all()
    for name in ("shape", "colour", "size", "x", "y"):
        assert ((getattr(batch, name) >= 0) == present).all()


@examples
@given(KNOBS)
def test_splits_stand_on_different_pixels_and_novel_looks_are_novel(knobs):
    batch = sample(count=300, **knobs)
    here = batch.present
    assert (((batch.x + batch.y) % 3)[here] == SPLITS[knobs["split"]]).all()
    looks = set(zip(batch.shape[here].tolist(), batch.colour[here].tolist(), strict=True))
    seen = {(s, c) for s, colours in enumerate(scenes.palette("train").tolist()) for c in colours}
    assert looks.isdisjoint(seen) if knobs["split"] == "novel" else looks <= seen


def test_seen_and_novel_combinations_share_every_shape_and_colour_but_no_pair():
    seen, novel = (
        {(s, c) for s, cs in enumerate(scenes.palette(p).tolist()) for c in cs} for p in ("test", "novel")
    )
    assert len(seen) == 25 and len(novel) == 10 and not seen & novel
    for part in (0, 1):
        assert {pair[part] for pair in seen} == {pair[part] for pair in novel}


def test_counts_looks_and_relations_are_equally_frequent():
    batch = sample(count=40_000)
    here = batch.present
    pairs = np.unique(batch.shape[here] * 7 + batch.colour[here], return_counts=True)[1]
    related = scenes.relation(batch)
    for numbers in (
        np.bincount(batch.count)[1:],
        pairs,
        np.bincount(batch.size[here]),
        np.bincount(related[related >= 0]),
    ):
        expected = numbers.mean()
        assert ((numbers - expected) ** 2 / expected).sum() < len(numbers) + 4 * np.sqrt(2 * len(numbers)), (
            numbers
        )
    assert len(pairs) == 25 and (related >= 0).sum() == (batch.count > 1).sum()


def test_relations_and_places_follow_the_coordinates():
    batch = sample(count=2000, objects=(2, 2))
    dx, dy = batch.x[:, 0] - batch.x[:, 1], batch.y[:, 0] - batch.y[:, 1]
    named = np.array(RELATIONS)[scenes.relation(batch)]
    assert (dx[named == "left of"] < -13).all() and (dx[named == "right of"] > 13).all()
    assert (dy[named == "above"] < -13).all() and (dy[named == "below"] > 13).all()
    opposite = dict(zip(RELATIONS, ("right of", "left of", "below", "above"), strict=True))
    assert [opposite[name] for name in named] == np.array(RELATIONS)[scenes.relation(batch, 1, 0)].tolist()
    corner = np.array(PLACES)[batch.place[:, 0]]
    assert all(
        ("left" in c) == (x < 32) and ("top" in c) == (y < 32)
        for c, x, y in zip(corner, batch.x[:, 0], batch.y[:, 0], strict=True)
    )


def test_cover_names_the_object_in_each_patch():
    batch = sample(count=50)
    cover = batch.cover(grid=64)
    for scene, (left, top, right, bottom) in enumerate(batch.boxes()[:, 0]):
        assert (cover[scene, top:bottom, left:right] == 0).all() and (cover[scene] == 0).sum() == (
            right - left
        ) ** 2
    covered = sum((box[:, 2] - box[:, 0]) ** 2 for box in batch.boxes().transpose(1, 0, 2))
    assert ((cover >= 0).sum((1, 2)) == covered).all() and batch.cover(8).shape == (50, 8, 8)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_language_bias_ties_colour_to_shape(share):
    batch = sample(count=20_000, language_bias=share)
    here = batch.present
    favourite = scenes.palette("train")[:, 0][batch.shape[here]] == batch.colour[here]
    assert favourite.mean() == pytest.approx(share + (1 - share) / 5, abs=0.01)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_printed_words_lie_and_keep_their_strip(share):
    batch = sample(count=4000, printed_words=share)
    worded = batch.word >= 0
    assert worded.mean() == pytest.approx(share, abs=0.03)
    assert not (batch.colour[worded] == batch.word[worded, None]).any()
    assert (batch.boxes()[..., 1][batch.present & worded[:, None]] > scenes.WORD_STRIP).all()


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_duplicates_repeat_the_first_of_their_group_of_eight(share):
    batch = sample(count=8000, duplicates=share)
    first = np.arange(8000) // 8 * 8
    repeats = (batch.x == batch.x[first]).all(1) & (batch.colour == batch.colour[first]).all(1)
    assert repeats[np.arange(8000) % 8 > 0].mean() == pytest.approx(share, abs=0.02)


def test_indexing_selects_and_joins_back():
    batch = sample(count=10)
    assert len(batch[-1]) == 1 and batch[-1].key[0] == batch.key[9] and len(batch[batch.count > 2]) < 10
    assert same(scenes.concatenate([batch[:4], batch[4:]]), batch)
    with pytest.raises(IndexError):
        batch[10]
    with pytest.raises(ValueError, match="one split"):
        scenes.concatenate([batch, sample("test", 2)])


@pytest.mark.parametrize(
    "knobs, words",
    [
        (dict(split="tset"), "unknown split 'tset'; choose one of train"),
        (dict(count=-1), "count=-1"),
        (dict(start=-5), "start=-5"),
        (dict(objects=(0, 3)), r"got \(0, 3\)"),
        (dict(objects=(3, 2)), "fewest <= most"),
        (dict(objects=(1, 5)), "<= 4"),
        (dict(language_bias=1.5), "language_bias is a share between 0 and 1, got 1.5"),
        (dict(printed_words=-0.1), "printed_words"),
        (dict(duplicates=float("nan")), "duplicates"),
    ],
)
def test_bad_knobs_are_named(knobs, words):
    with pytest.raises(ValueError, match=words):
        sample(**knobs)


def test_sizes_differ_clearly():
    assert (RADII[1:] / RADII[:-1] >= 1.3).all()


@examples
@given(KNOBS)
def test_reading_order_goes_from_place_to_place_and_then_to_the_right(knobs):
    batch = sample(count=100, **knobs)
    ordered, names = scenes.in_reading_order(batch), ("place", "x", "y", "shape", "colour", "size")
    table, before = (np.stack([getattr(b, name) for name in names], -1).tolist() for b in (ordered, batch))
    for count, things, same_things in zip(batch.count, table, before, strict=True):
        assert sorted(things[:count]) == sorted(same_things[:count])
        assert [thing[:2] for thing in things[:count]] == sorted(thing[:2] for thing in things[:count])
    assert np.array_equal(ordered.shape >= 0, batch.present)
    assert same(scenes.in_reading_order(ordered), ordered)
