import pytest

from vlmcourse.world.instructions import SENTENCE, in_a_sentence
from vlmcourse.world.questions import KINDS, ask
from vlmcourse.world.reading import true_answer, understand
from vlmcourse.world.scenes import COLOURS, SHAPES, sample
from vlmcourse.world.truth import Attribute, Count, Thing, Who, list_things

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
