"""Training sets with one fault each, and what mends them, on a few pictures; learning itself: notebook 12."""

from collections import Counter

import numpy as np
import pytest
import torch

from vlmcourse.families import spoiling as sp
from vlmcourse.world import questions
from vlmcourse.world.render import render
from vlmcourse.world.scenes import COLOURS, SHAPES, WORD_STRIP, sample
from vlmcourse.world.truth import list_things


def false_rows(found):
    """Rows whose answer is not true of what their picture shows."""
    from vlmcourse.world.grammar import true_answer

    return [
        row
        for row in found.rows
        if true_answer(row.question, list_things(found.true, row.picture)) != row.answer
    ]


def test_clean_rows_are_true_and_of_every_kind():
    found = sp.clean(40, seed=3)
    assert not false_rows(found) and {row.kind for row in found.rows} == set(sp.ASKED)
    assert (found.images == render(found.true)).all() and (found.true.count == 2).all()
    assert Counter(row.picture for row in found.rows).most_common(1)[0][1] == len(sp.ASKED)


def test_pictures_captions_and_scenes_belong_together():
    found = sp.clean(4)
    with pytest.raises(ValueError, match="got 3 pictures, 4 captions, 4 scenes"):
        sp.TrainingSet(found.images[:3], found.rows, found.told, found.true)


def test_mismatched_pictures_trade_places():
    right, found = sp.clean(100), sp.mismatched(100)
    moved = (right.images != found.images).any(axis=(1, 2, 3))
    assert moved.sum() == 60 and found.rows == right.rows and found.told == right.told
    assert Counter(map(bytes, right.images)) == Counter(map(bytes, found.images))
    assert (found.images == render(found.true)).all()
    assert all(moved[row.picture] for row in false_rows(found)) and len(false_rows(found)) > 60


def test_clip_finds_most_of_the_pairs_that_fit():
    found = sp.mismatched(100)
    kept = sp.closest(found)
    assert len(kept.images) == 40 and len(false_rows(kept)) < 0.15 * len(kept.rows)
    assert (kept.images == render(kept.true)).all()
    assert {row.picture for row in kept.rows} <= set(range(40))


def test_keep_renumbers_pictures():
    found = sp.clean(6)
    kept = sp.keep_pictures(found, [4, 1])
    assert kept.told == [found.told[1], found.told[4]] and (kept.images == found.images[[1, 4]]).all()
    before = [(row.question, {1: 0, 4: 1}[row.picture]) for row in found.rows if row.picture in (1, 4)]
    assert [(row.question, row.picture) for row in kept.rows] == before


def test_shallow_rows_say_nothing_and_are_described_anew():
    found = sp.shallow(60)
    bare = [row for row in found.rows if not row.kind]
    assert 0.8 < len(bare) / len(found.rows) < 0.97 and {row[1:3] for row in bare} == {sp.EMPTY}
    assert len(found.rows) == len(sp.clean(60).rows) and not false_rows(
        sp.replace(found, rows=[r for r in found.rows if r.kind])
    )
    anew = sp.described_anew(found)
    assert len(anew.rows) > 0.9 * len(found.rows) and {row.kind for row in anew.rows} == set(sp.ASKED)
    assert len(false_rows(anew)) < 0.05 * len(anew.rows)


def test_descriptions_are_asked_and_unreadable_ones_left_out():
    batch = sample("train", 3, objects=(2, 2))
    told = [
        "a small red circle at the top left and a large blue star at the top right",
        "what?",
        "a red circle",
    ]
    rows = sp.ask_of_texts(batch, told)
    assert {row.picture for row in rows} == {0}  # the third says no size
    answers = {row.kind: row.answer for row in rows}
    assert answers["colour"] in ("red", "blue") and answers["size"] in ("small", "large")


def test_printed_answers_are_erased_where_they_are():
    found = sp.typographic(30)
    assert not false_rows(found)
    for row in found.rows:
        if row.kind == "colour":
            assert COLOURS[found.true.word[row.picture]] == row.answer
    bare = render(sp.replace(found.true, word=np.full(30, -1)))
    assert (found.images != bare).any(axis=(1, 2, 3)).mean() > 0.8
    clean = sp.erased(found)
    assert np.abs(clean.images.astype(int) - bare).max() <= 1 and clean.rows == found.rows
    whole = sp.clean(30)
    assert (sp.erased(whole).images[:, WORD_STRIP:] == whole.images[:, WORD_STRIP:]).all()


def test_biased_colours_follow_shapes_until_balanced():
    found = sp.biased(200)
    assert not false_rows(found)

    def by_habit(rows):
        of = {}
        for row in rows:
            if row.kind == "colour":
                of.setdefault(row.question, Counter())[row.answer] += 1
        counts = [count for count in of.values() if count.total() > 5]
        return sum(count.most_common(1)[0][1] for count in counts) / sum(count.total() for count in counts)

    even = sp.balanced(found)
    assert by_habit(found.rows) > 0.85 and by_habit(even.rows) < 0.55
    assert not false_rows(even) and len(even.rows) > len(found.rows)
    assert (even.images == render(even.true)).all() and len(even.told) == len(even.images)


def test_twins_are_of_the_questions_that_the_rows_ask():
    """Sets of another seed ask other questions, and rows of a set may have been dropped or turned round."""
    found = sp.biased(60, seed=5)
    some = sp.replace(found, rows=found.rows[::-2])
    even = sp.balanced(some)
    assert not false_rows(even)
    firsts = {row.question for row in even.rows if row.picture < 60}
    assert firsts <= {row.question for row in some.rows} and len(firsts) > 10
    row = some.rows[0]
    question = sp.posed(row, list_things(some.true, row.picture))
    assert (question.text, question.answer, question.kind) == (row.question, row.answer, row.kind)


def test_a_row_that_asks_nothing_has_no_twin():
    found = sp.clean(2)
    for text in ("Why is it red?", "What colour is the small red circle, please?"):
        odd = sp.replace(found, rows=[sp.AskedRow(1, text, "red", "colour")])
        with pytest.raises(ValueError, match=r"asks nothing of picture 1, so there is no twin"):
            sp.balanced(odd)
    things = list_things(sample("train", 1, objects=(1, 1)), 0)
    with pytest.raises(ValueError, match="asks nothing"):  # of a thing that is not there
        absent = next(shape for shape in ("circle", "square") if shape != SHAPES[things[0].shape])
        sp.posed(sp.AskedRow(0, f"What colour is the {absent}?", "red", "colour"), things)


def test_copies_are_found_in_another_light():
    found = sp.duplicated(200)
    looks = [tuple(list_things(found.true, number)) for number in range(200)]
    alone = len(set(looks))
    assert 50 < alone < 80 and len({image.tobytes() for image in found.images}) > alone
    kept = sp.unique(found)
    left = [tuple(list_things(kept.true, number)) for number in range(len(kept.images))]
    assert set(left) == set(looks) and len(left) <= 1.2 * alone
    assert not false_rows(kept)


def test_a_student_learns_and_is_graded():
    found = sp.clean(30)
    model, history = sp.learn_from(found, steps=120, size=48)
    assert sum(history.losses[-9:]) < 0.5 * sum(history.losses[:9])
    graded = sp.graded(model, found)
    assert graded.shape == (len(found.rows),) and graded.float().mean() > 0.5
    with torch.no_grad():
        seen, rows = sp.as_tensors(found)
        best = sp.answer_scores(model, seen, rows).argmax(-1)
    assert torch.equal(best == rows.answer, graded) and seen.shape[1:] == (16, 384)
    asked = questions.ask(found.true, "colour")[0]
    assert asked is None or asked.text in [row.question for row in found.rows if row.picture == 0]
