"""Instructions and answers: true, in every format, the same for the same seed."""

import re

import numpy as np
import pytest

from vlmcourse.evaluation.statements import true_and_complete
from vlmcourse.world import captions, questions, scenes
from vlmcourse.world.grammar import stated
from vlmcourse.world.instructions import (
    FULL,
    PALE,
    SENTENCE,
    SHORT,
    close_call,
    halves,
    hard_talks,
    in_a_sentence,
    last_talks,
    ordered_captions,
    ordered_pair,
    paired_talks,
    pale_talks,
    quarter,
    talks,
    turns,
)
from vlmcourse.world.scenes import COLOURS, PLACES
from vlmcourse.world.truth import Relation, Thing, Who, list_things

BATCH = scenes.sample("train", 60)


@pytest.mark.parametrize("text, sentence", [
    ("What colour is the circle?", "The circle is red."),
    ("What shape is the purple thing?", "The purple thing is a cross."),
    ("What size is the black thing?", "The black thing is medium."),
    ("Where is the black thing?", "The black thing is at the top right."),
    ("How many red things are there?", "There is 1 red thing."),
    ("How many blue things are there?", "There are 0 blue things."),
    ("Is there a pink star?", "No, there is no pink star."),
    ("Is the black cross right of the purple thing?",
     "No, the black cross is not right of the purple thing."),
    ("Is the red thing above the star?", "Yes, the red thing is above the star."),
    ("Is the black cross larger than the red circle?", "Yes, the black cross is larger than the red circle."),
])  # fmt: skip
def test_sentences(text, sentence):
    asked = [q for kind in questions.KINDS for q in questions.ask(scenes.sample("train", 5), kind) if q]
    assert in_a_sentence(next(q for q in asked if q.text == text)) == sentence


def test_every_question_has_a_sentence_that_holds_its_answer():
    kinds = set()
    for kind in questions.KINDS:
        for question in filter(None, questions.ask(BATCH, kind)):
            assert question.answer in in_a_sentence(question).lower()
            kinds.add(type(question.asked).__name__)
    assert kinds == {"Attribute", "Count", "Existence", "Relation", "Larger", "SameColour", "More"}


def test_a_row_has_a_question_of_each_kind_and_a_caption():
    rows = talks(BATCH, sentences=0.5)
    full, short = ordered_captions(BATCH), captions.captions(BATCH, "short")
    assert {len(row) for row in rows} == {len(questions.KINDS) + 1}
    for row, long, brief in zip(rows, full, short, strict=True):
        assert row[-1] in ((FULL, long), (SHORT, brief))
        assert all(said.endswith(".") == text.endswith(SENTENCE) for text, said in row[:-1])
    share = sum(text.endswith(SENTENCE) for row in rows for text, _ in row) / sum(map(len, rows))
    assert 0.35 < share < 0.55


def test_full_captions_go_from_place_to_place():
    told, any_order = ordered_captions(BATCH), captions.captions(BATCH, "full")
    assert told != any_order and true_and_complete(told, BATCH).all()
    for text, other in zip(told, any_order, strict=True):
        places = [mention.place for mention in stated(text)]
        assert places == sorted(places) and sorted(stated(text)) == sorted(stated(other))


def test_the_seed_chooses_the_questions():
    assert talks(BATCH, 3) == talks(BATCH, 3) != talks(BATCH, 4)
    assert all(len(row) == len(questions.KINDS) for row in talks(BATCH, captioned=False))


def test_turns():
    assert turns("Describe the image.") == [("user", "<image>Describe the image.")]
    assert turns("How many?", "2")[1] == ("assistant", "2")


def test_hard_talks_name_a_thing_by_its_size_alone():
    rows = [[one for one in row if " at the " not in one[0]] for row in hard_talks(BATCH)]
    asked = [text for row in rows for text, _ in row]
    looks = [text for text in asked if text.startswith("What")]
    assert all(
        re.fullmatch(r"What (colour|shape) is the (small|medium|large) thing\?", text) for text in looks
    )
    assert len(looks) > 60 and len(asked) - len(looks) > 30 and hard_talks(BATCH, 1) != rows


def test_hard_talks_ask_for_places_one_axis_at_a_time():
    placed = [one for row in hard_talks(BATCH) for one in row if " at the " in one[0]]
    found = {text.split(" at the ")[1]: set() for text, _ in placed}
    for text, said in placed:
        found[text.split(" at the ")[1]].add(said)
    assert found == {"top or the bottom?": {"top", "bottom"}, "left or the right?": {"left", "right"}}
    for question in filter(None, questions.ask(BATCH, "position")):
        (_, upright), (_, sideways) = halves(question.asked.who, question.answer)
        assert f"{upright} {sideways}" == question.answer


def test_every_fourth_scene_asks_for_the_side_of_the_thing_nearest_to_a_middle_line():
    rows, near = hard_talks(BATCH), 0
    for number in range(0, len(BATCH), 4):
        things, batch = list_things(BATCH, number), BATCH[number]
        off = np.minimum(abs(batch.x - 31.5), abs(batch.y - 31.5))[batch.present]
        thing, place = things[off.argmin()], PLACES[batch.place[0, off.argmin()]]
        who = Who(thing.shape, thing.colour, thing.size)
        assert set(halves(who, place)) <= set(rows[number]) or not who.only(things)
        near += thing.position is None
    assert near > 5 and not set(close_call(list_things(BATCH, 1))) & set(rows[1])
    twice = [Thing(0, 0, 0, 10, 10), Thing(0, 0, 0, 40, 30)]
    assert close_call(twice) == close_call([]) == []
    assert close_call([*twice, Thing(1, 2, 1, 32, 31)])[0] == (
        "Is the medium red square at the top or the bottom?",
        "top",
    )


@pytest.mark.parametrize("axis", ["x", "y"])
def test_a_middle_line_is_between_two_pixels(axis):
    """As near on either side: the first is asked for."""
    one, other = (Thing(shape, 0, 0, 10, 10)._replace(**{axis: 31 + shape}) for shape in (0, 1))
    assert "circle" in close_call([one, other])[0][0] and "square" in close_call([other, one])[0][0]


def test_last_talks_describe_every_scene_and_ask_what_is_learned_late():
    rows, full, short = last_talks(BATCH), ordered_captions(BATCH), captions.captions(BATCH, "short")
    asked, hard = talks(BATCH, captioned=False), hard_talks(BATCH)
    for number, row in enumerate(rows):
        near = close_call(list_things(BATCH, number))
        assert row[: 1 + len(near)] == [(FULL, full[number]), *near]
        assert ((SHORT, short[number]) in row) == (number % 4 == 0)
        assert set(asked[number]) | set(hard[number]) <= set(row)
    for kind in ("comparison", "count"):
        more = questions.ask(BATCH, kind, seed=4)
        assert all((asked.text, asked.answer) in row for asked, row in zip(more, rows, strict=True) if asked)
    assert last_talks(BATCH, 1) == last_talks(BATCH, 1) != rows


def test_paired_talks_ask_of_every_kind_and_mostly_of_two_things():
    rows, asked = paired_talks(BATCH, relations=4), talks(BATCH, captioned=False)
    assert all({*few} <= {*row} for few, row in zip(asked, rows, strict=True))
    assert all(len(row) == len(dict(row)) for row in rows)
    crowded = [row for row, count in zip(rows, BATCH.count, strict=True) if count > 2]
    pairs = [sum(bool(re.search("left of|right of|above|below", text)) for text, _ in row) for row in crowded]
    assert 4 <= np.mean(pairs) <= 5 and paired_talks(BATCH, 1, 4) != rows
    seeds = range(10, 14)
    true = [set() for _ in rows]
    for kind in ("relation", "comparison"):
        for seed in seeds:
            for there, question in zip(true, questions.ask(BATCH, kind, seed), strict=True):
                there |= {(question.text, question.answer)} if question else set()
    assert all({*row} <= {*few} | there for row, few, there in zip(rows, asked, true, strict=True))


@pytest.mark.parametrize("relation, words, back", [
    (0, "left of", "right of"), (1, "right of", "left of"), (2, "above", "below"), (3, "below", "above"),
])  # fmt: skip
def test_a_relation_is_turned_round_whether_true_or_not(relation, words, back):
    circle, star = Thing(0, 2, 0, 10, 40), Thing(4, 3, 2, 50, 33)
    asked = Relation(Who(shape=0), Who(colour=3), relation)
    assert ordered_pair(asked, [star, circle]) == [
        (f"Turn round: the circle is {words} the blue thing.", f"the blue thing is {back} the circle"),
        ("Where are the circle and the blue thing?", "bottom left and bottom right"),
    ]


def test_orders_are_added_to_the_first_relations_alone():
    plain, few = paired_talks(BATCH, 3, 2, 1), paired_talks(BATCH, 3, 2, 1, orders=1)
    asked = [questions.ask(BATCH, "relation", seed=seed) for seed in (13, 14)]
    for number, (row, first) in enumerate(zip(few, asked[0], strict=True)):
        more = ordered_pair(first.asked, list_things(BATCH, number)) if first else []
        assert row == plain[number] + more
    both = paired_talks(BATCH, 3, 2, 1, orders=2)
    assert both == paired_talks(BATCH, 3, 2, 1, orders=9) != few  # there are no relations beyond the second
    assert any(first and second and len(dict(row)) == len(row) == len(short) + 4
               for first, second, row, short in zip(*asked, both, plain, strict=True))  # fmt: skip


def test_paired_talks_ask_as_often_as_they_are_told():
    assert paired_talks(BATCH) == paired_talks(BATCH, 0, 5, 2, 0) != paired_talks(BATCH, 0, 5, 3)
    rows, asked = paired_talks(BATCH, 3, 0, 2), talks(BATCH, 3, captioned=False)
    for seed in (13, 14):  # no relation, two comparisons
        more = questions.ask(BATCH, "comparison", seed=seed)
        for few, question in zip(asked, more, strict=True):
            few += [(question.text, question.answer)] if question else []
    assert [dict(row) for row in rows] == [dict(few) for few in asked]


@pytest.mark.parametrize("x, y, place", [
    (31, 31, "top left"), (32, 31, "top right"), (31, 32, "bottom left"), (32, 32, "bottom right"),
])  # fmt: skip
def test_everything_is_in_some_quarter(x, y, place):
    assert quarter(Thing(0, 0, 0, x, y)) == place


def test_of_a_share_of_scenes_last_talks_ask_for_little_but_a_description():
    rows, some = last_talks(BATCH), last_talks(BATCH, described=0.5)
    little = [row == [(FULL, full), *close_call(list_things(BATCH, n))]
              for n, (row, full) in enumerate(zip(some, ordered_captions(BATCH), strict=True))]  # fmt: skip
    assert 0.3 < np.mean(little) < 0.7
    assert all(row == whole for row, whole, short in zip(some, rows, little, strict=True) if not short)


def test_pale_talks_say_nothing_of_colours_and_are_true():
    rows = pale_talks(BATCH)
    words = " ".join(text + " " + said for row in rows for text, said in row if text != PALE)
    assert not set(re.findall(r"\w+", words)) & {"colour", *COLOURS}
    full = ordered_captions(BATCH)
    for row, text in zip(rows, full, strict=True):
        assert row[-1] == (PALE, " ".join(word for word in text.split() if word not in COLOURS))
        assert len({asked for asked, _ in row}) == len(row)
    assert sum(map(len, rows)) > 3 * len(rows)
