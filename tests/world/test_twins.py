from itertools import product

import numpy as np
import pytest

from tests.world.eyes import answer, different, look
from tests.world.test_questions import asked
from vlmcourse.world.captions import captions, exchange_words
from vlmcourse.world.questions import KINDS
from vlmcourse.world.render import render
from vlmcourse.world.scenes import RADII, SPLITS, apart, editable, sample
from vlmcourse.world.truth import Thing, list_things, pose
from vlmcourse.world.twins import exchange_looks, repaint, twins


@pytest.mark.parametrize("split", ["train", "novel"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_to_a_twin_differs_in_the_pixels_and_little_else_does(kind, split):
    batch, questions = asked(kind, 80, split)
    edited, answers = twins(batch, questions)
    changed = []
    for question, other, before, after in zip(questions, answers, render(batch), render(edited), strict=True):
        before, after = look(before), look(after)
        assert other.text == question.text and other.kind == kind
        assert (
            answer(question.text, before) == question.answer != other.answer == answer(question.text, after)
        )
        changed.append(different(before, after))
    assert min(changed) == 1 and max(changed) <= 4 and np.mean(np.array(changed) == 1) > 0.8
    assert np.array_equal(edited.light, batch.light) and np.array_equal(edited.key, batch.key)


@pytest.mark.parametrize("kind", ["existence", "comparison", "relation", "position"])
def test_two_objects_change_only_where_one_cannot_do(kind):
    """Every scene that differs in one object, up to every fifth place, is searched for a smaller twin."""
    batch, questions = asked(kind, 200)
    edited, _ = twins(batch, questions)
    pairs = [(list_things(batch, n), set(list_things(edited, n)), q) for n, q in enumerate(questions)]
    large = [(things, q) for things, new, q in pairs if len(set(things) - new) > 1]
    assert large
    for things, question in large[:4]:
        for n in range(len(things)):
            others = things[:n] + things[n + 1 :]
            for one in [[], *([thing] for thing in remade(others))]:
                answered = pose(kind, question.asked, others + one)
                assert answered is None or answered.answer == question.answer, (question.text, things, one)


def remade(others):
    """Every object that may stand among the others in a train scene, at every fifth place."""
    for shape, colour, size in product(range(5), range(7), range(3)):
        places = [(x, y) for x in range(12, 52, 5) for y in range(12, 52) if (x + y) % 3 == 0]
        if editable("train")[shape, colour]:
            yield from (
                Thing(shape, colour, size, x, y)
                for x, y in places
                if all(apart(x, y, RADII[size], o.x, o.y, o.radius) for o in others)
            )


@pytest.mark.parametrize("split", SPLITS)
def test_twins_stay_in_their_split(split):
    for kind in ("comparison", "position"):
        batch, questions = asked(kind, 60, split)
        edited, _ = twins(batch, questions)
        here = edited.present
        assert edited.split == split and ((edited.x + edited.y)[here] % 3 == SPLITS[split]).all()
        assert editable(split)[edited.shape[here], edited.colour[here]].all()


def test_every_kind_has_a_twin_in_the_fullest_scenes():
    for kind in KINDS:
        batch, questions = asked(kind, 40, "test", objects=(4, 4), printed_words=0.5)
        assert all(a.answer != b.answer for a, b in zip(questions, twins(batch, questions)[1], strict=True))


def test_missing_questions_are_named():
    batch = sample(count=2)
    with pytest.raises(ValueError, match="each of the 2 scenes, got 0 questions"):
        twins(batch, [None, None])


@pytest.mark.parametrize("what", ["shape", "colour"])
@pytest.mark.parametrize("split", SPLITS)
def test_repainting_changes_one_look_of_one_object_within_the_split(split, what):
    batch = sample(split, 500)
    edited, other = repaint(batch, what), "colour" if what == "shape" else "shape"
    assert ((getattr(edited, what) != getattr(batch, what)).sum(1) == 1).all()
    assert all(
        np.array_equal(getattr(edited, n), getattr(batch, n)) for n in (other, "size", "x", "y", "light")
    )
    assert editable(split)[edited.shape[edited.present], edited.colour[edited.present]].all()
    assert (render(edited) != render(batch)).any((1, 2, 3)).all()
    assert not np.array_equal(getattr(repaint(batch, what, seed=1), what), getattr(edited, what))


def test_a_place_cannot_be_repainted():
    with pytest.raises(ValueError, match="not in another 'place'"):
        repaint(sample("train", 2), "place")


def test_exchanged_looks_are_told_by_the_exchanged_words():
    batch = sample("train", 200, objects=(2, 2))
    other = exchange_looks(batch)
    assert captions(other, "short") == exchange_words(captions(batch, "short"))
    assert np.array_equal(other.x, batch.x) and np.array_equal(other.size, batch.size)
    assert np.array_equal(render(exchange_looks(other)), render(batch))


def test_one_object_alone_has_nothing_to_exchange():
    with pytest.raises(ValueError, match="exactly two objects"):
        exchange_looks(sample("train", 5, objects=(1, 2)))
