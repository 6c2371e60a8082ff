"""Instructions and answers: true, in every format, the same for the same seed."""

import re

import pytest

from vlmcourse.world import captions, questions, scenes
from vlmcourse.world.instructions import (
    FULL,
    PALE,
    SENTENCE,
    SHORT,
    halves,
    hard_talks,
    in_a_sentence,
    pale_talks,
    talks,
    turns,
)
from vlmcourse.world.scenes import COLOURS

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
    full, short = captions.captions(BATCH, "full"), captions.captions(BATCH, "short")
    assert {len(row) for row in rows} == {len(questions.KINDS) + 1}
    for row, long, brief in zip(rows, full, short, strict=True):
        assert row[-1] in ((FULL, long), (SHORT, brief))
        assert all(said.endswith(".") == text.endswith(SENTENCE) for text, said in row[:-1])
    share = sum(text.endswith(SENTENCE) for row in rows for text, _ in row) / sum(map(len, rows))
    assert 0.35 < share < 0.55


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
        (_, upright), (_, sideways) = halves(question)
        assert f"{upright} {sideways}" == question.answer


def test_pale_talks_say_nothing_of_colours_and_are_true():
    rows = pale_talks(BATCH)
    words = " ".join(text + " " + said for row in rows for text, said in row if text != PALE)
    assert not set(re.findall(r"\w+", words)) & {"colour", *COLOURS}
    full = captions.captions(BATCH, "full")
    for row, text in zip(rows, full, strict=True):
        assert row[-1] == (PALE, " ".join(word for word in text.split() if word not in COLOURS))
        assert len({asked for asked, _ in row}) == len(row)
    assert sum(map(len, rows)) > 3 * len(rows)
