"""Pairs of pictures: what changed is true of them, and the sentence says nothing else."""

from collections import Counter

import numpy as np
import pytest

from vlmcourse.world import changes, grammar, scenes, truth
from vlmcourse.world.changes import CHANGES, Change, read_change, what_changed
from vlmcourse.world.questions import Dice
from vlmcourse.world.scenes import SPLITS, editable, relation
from vlmcourse.world.truth import Thing, Who

CIRCLE, SQUARE = Thing(0, 2, 0, 12, 12), Thing(1, 3, 1, 50, 46)  # small and red; medium and blue


@pytest.mark.parametrize(
    ("after", "change", "sentence"),
    [
        (
            [CIRCLE._replace(colour=3), SQUARE],
            Change(Who(0, 2), "colour", "blue"),
            "The red circle is now blue.",
        ),
        (
            [CIRCLE._replace(shape=4), SQUARE],
            Change(Who(0, 2), "shape", "star"),
            "The red circle is now a star.",
        ),
        (
            [CIRCLE._replace(size=2), SQUARE],
            Change(Who(0, 2), "size", "large"),
            "The red circle is now large.",
        ),
        (
            [CIRCLE._replace(x=51), SQUARE],
            Change(Who(0, 2), "position", "top right"),
            "The red circle moved to the top right.",
        ),
        ([SQUARE], Change(Who(0, 2), "vanished"), "The red circle vanished."),
        ([SQUARE, CIRCLE, Thing(4, 0, 0, 12, 51)], Change(Who(4, 0), "appeared"), "A black star appeared."),
    ],
)
def test_one_change_has_one_sentence_and_is_read_back(after, change, sentence):
    assert what_changed([CIRCLE, SQUARE], after) == change
    assert change.sentence() == sentence and read_change(sentence) == change
    assert read_change(f"  {sentence.upper()[:-1]}") == change


def test_what_has_no_clear_name_is_no_change():
    things = [CIRCLE, SQUARE]
    assert what_changed(things, things) is None
    assert what_changed(things, [CIRCLE._replace(x=15), SQUARE]) is None  # in the same quarter
    assert what_changed(things, [CIRCLE._replace(x=30), SQUARE]) is None  # into no clear quarter
    assert what_changed(things, [CIRCLE._replace(colour=0, size=1), SQUARE]) is None
    assert what_changed(things, [CIRCLE._replace(colour=0), SQUARE._replace(colour=0)]) is None
    assert what_changed(things, []) is None
    twin = CIRCLE._replace(y=50)
    assert what_changed([CIRCLE, twin], [CIRCLE]) is None  # "the red circle" of two
    assert what_changed([CIRCLE, twin], [CIRCLE, twin._replace(colour=3)]) is None
    assert what_changed([CIRCLE, twin._replace(colour=3)], [CIRCLE, twin]) is None


def test_other_texts_say_no_change():
    for text in (
        "",
        "red",
        "The circle is red.",
        "The red circle is now.",
        "The red circle vanished. And so on.",
    ):
        assert read_change(text) is None


@pytest.mark.parametrize("split", SPLITS)
def test_pairs_keep_the_rules_of_their_split(split):
    pairs = changes.sample_changes(split, 150)
    assert None not in pairs.truths() and None not in pairs.swapped().truths()
    for batch in (pairs.before, pairs.after):
        assert ((batch.x + batch.y)[batch.present] % 3 == SPLITS[split]).all()
        assert editable(split)[batch.shape[batch.present], batch.colour[batch.present]].all()
        assert batch.count.min() >= 1 and batch.boxes()[batch.present].min() >= scenes.MARGIN
        assert (relation(batch) >= 0).sum() == (batch.count > 1).sum()


def test_every_kind_can_be_had_and_all_are_about_equally_frequent():
    for kind in CHANGES:
        assert {change.kind for change in changes.sample_changes("test", 40, kind=kind).truths()} == {kind}
    counts = Counter(change.kind for change in changes.sample_changes("train", 1200).truths())
    assert set(counts) == set(CHANGES) and min(counts.values()) > 140 and max(counts.values()) < 260


def test_a_pair_is_as_likely_the_other_way_round():
    pairs = changes.sample_changes("train", 1200)
    opposite = dict(vanished="appeared", appeared="vanished")
    forth, back = ([change.kind for change in some.truths()] for some in (pairs, pairs.swapped()))
    assert back == [opposite.get(kind, kind) for kind in forth]
    words = [Counter(change.new for change in some.truths()) for some in (pairs, pairs.swapped())]
    for word in ("red", "circle", "small", "large", "top left"):
        assert abs(words[0][word] - words[1][word]) < 45  # four deviations


def test_swapping_swaps_pictures_and_truth():
    pairs = changes.sample_changes("test", 5)
    pictures, swapped = pairs.pictures(), pairs.swapped()
    assert pictures.shape == (5, 2, 64, 64, 3) and (swapped.pictures() == pictures[:, ::-1]).all()
    assert all((a.reshape(-1) != b.reshape(-1)).any() for a, b in pictures)
    assert swapped.sentences() != pairs.sentences() and "5 pairs of test" in repr(pairs)


def test_which_picture_decides_the_answer():
    pairs = changes.sample_changes("test", 120, objects=(2, 3))
    asked, swapped = changes.ask_which(pairs), changes.ask_which(pairs.swapped())
    kinds = Counter()
    for number, (about_first, about_second) in enumerate(asked):
        things = pairs.things(number)
        for side, (text, answer) in enumerate((about_first, about_second)):
            ordinal, _, question = text.partition(" picture, ")
            assert ordinal == f"In the {changes.ORDINALS[side]}"
            assert grammar.true_answer(question, things[side]) == answer
            kinds[grammar.understand(question).__class__.__name__] += 1
        assert about_first[1] != about_second[1]
    assert set(kinds) == {"Attribute", "Existence", "Count"} and min(kinds.values()) > 12
    for number, (about_first, about_second) in enumerate(swapped):
        assert about_first[1] != about_second[1] and number < 120
    assert changes.ask_which(pairs, 1) != asked


@pytest.mark.parametrize(
    ("kind", "begins"), [("colour", "what colour"), ("position", "where is"), ("count", "how many")]
)
def test_a_kind_of_question_can_be_wished_for(kind, begins):
    asked = [row for row in changes.ask_which(changes.sample_changes("test", 60), kind=kind) if row]
    assert len(asked) >= 5 and all(row[1][0].startswith(f"In the second picture, {begins}") for row in asked)


def test_a_question_does_not_name_what_it_asks_for():
    for row in changes.ask_which(changes.sample_changes("test", 80), kind="colour"):
        for text, answer in row or []:
            assert answer not in text.split(", ")[1]


def test_pairs_are_the_same_however_many_are_asked_for():
    many, few = changes.sample_changes("test", 12, seed=3), changes.sample_changes("test", 4, start=5, seed=3)
    assert (many[5:9].pictures() == few.pictures()).all() and many[5:9].sentences() == few.sentences()
    assert len(many[7]) == 1 and many[7].sentences() == few[2].sentences()
    assert changes.sample_changes("test", 12, seed=4).sentences() != many.sentences()
    growing = changes.sample_changes("test", 30, start=3, kind="size")  # some pictures had to be replaced
    assert changes.sample_changes("test", 20, start=13, kind="size").sentences() == growing.sentences()[10:]


def test_looks_are_made_distinct():
    batch = scenes.sample("train", 3000, objects=(4, 4))
    other = scenes.distinct_looks(batch)
    looks = other.shape * 10 + other.colour
    assert all(len(set(row)) == 4 for row in looks.tolist())
    changed = (other.shape != batch.shape) | (other.colour != batch.colour)
    assert 0 < changed.any(axis=1).mean() < 0.4 and not changed[:, 0].any()
    assert (scenes.palette("train")[other.shape] == other.colour[..., None]).any(-1).all()
    assert (other.x == batch.x).all() and (scenes.distinct_looks(other).shape == other.shape).all()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="unknown change 'mood'; choose one of colour, shape"):
        changes.sample_changes("test", 1, kind="mood")
    with pytest.raises(ValueError, match=r"there can be 1 to 3 before; got objects=\(1, 4\)"):
        changes.sample_changes("test", 1, objects=(1, 4))
    assert len(changes.sample_changes("test", 0)) == 0 and truth.list_things(
        changes.sample_changes().after, 0
    )
    assert np.array_equal(
        changes.sample_changes("test", 3)[[1]].before.x, changes.sample_changes("test", 3).before.x[1:2]
    )


def test_unless_told_otherwise_all_is_drawn_with_seed_0():
    pairs = changes.sample_changes("test", 12)
    again = changes.sample_changes("test", 12, seed=0, objects=(1, 3))
    assert (pairs.pictures() == again.pictures()).all()
    assert changes.ask_which(pairs) == changes.ask_which(pairs, 0) != changes.ask_which(pairs, 1)


def test_a_picture_in_which_nothing_can_change_as_wanted_is_drawn_anew_the_same_everywhere():
    assert changes.sample_changes("train", 1, 24, kind="size").sentences() == ["The red circle is now small."]
    moved = changes.sample_changes("train", 9, 10, kind="position").sentences()
    assert moved[0] == "The green star moved to the bottom right."
    assert moved[7] == "The black star moved to the top right."


def test_of_many_edits_some_are_tried_from_anywhere_on():
    dice = Dice(np.array([0.95, 0.0]))
    assert changes._some(list(range(100)), dice, 5) == [95, 15, 35, 55, 75]
    assert changes._some([3, 4], dice, 5) == [3, 4] and changes._some([], dice) == []
