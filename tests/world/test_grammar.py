import pytest

from vlmcourse.world.grammar import SENTENCE, stated, true_answer, understand
from vlmcourse.world.questions import KINDS, ask
from vlmcourse.world.scenes import COLOURS, SHAPES, sample
from vlmcourse.world.truth import Attribute, Count, Thing, Who, in_a_sentence, list_things

SCENES = sample("test", 300)


@pytest.mark.parametrize("kind", KINDS)
def test_every_question_is_understood_and_answered_as_it_was_meant(kind):
    asked = [(number, question) for number, question in enumerate(ask(SCENES, kind)) if question]
    assert len(asked) > 100
    for number, question in asked:
        things = list_things(SCENES, number)
        assert understand(question.text) == question.asked
        assert true_answer(question.text, things) == question.answer
        assert true_answer(question.text + SENTENCE, things) == in_a_sentence(question)


def test_capitals_spaces_and_marks_do_not_matter():
    circle = Attribute(Who(shape=SHAPES.index("circle")), "colour")
    for text in (
        "what color is the CIRCLE",
        "  What  colour is a circle ? ",
        "What colour is the circle" + SENTENCE,
    ):
        assert understand(text) == circle
    assert understand("How many crosses are there?") == Count(Who(shape=SHAPES.index("cross")))
    assert understand("how many purple things are there") == Count(Who(colour=COLOURS.index("purple")))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "?",
        "Describe the image.",
        "What colour is the sky?",
        "Is there a red?",
        "What colour is the circle? And the star?",
        "Where is the red small circle?",
    ],
)
def test_other_texts_are_not_taken_for_questions_of_the_course(text):
    assert understand(text) is None
    assert true_answer(text, list_things(SCENES, 0)) is None


def test_a_question_without_an_answer_there_says_so():
    circles = [Thing(0, 2, 1, 20, 20), Thing(0, 3, 1, 44, 40)]
    assert true_answer("What colour is the circle?", circles) == ""
    assert true_answer("What colour is the circle?", []) == ""
    assert true_answer("What colour is the circle?", circles[1:]) == COLOURS[3]
    assert true_answer("How many circles are there?", []) == "0"


def test_what_captions_state():
    assert stated("a small red circle at the top left and a large blue star at the bottom right") == [
        (0, 2, 0, 0), (2, 3, 4, 3)]  # fmt: skip
    assert stated("a red circle left of a blue square") == [(-1, 2, 0, -1), (-1, 3, 1, -1)]
    assert stated("some coloured things") == []
