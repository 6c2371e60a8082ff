import pytest

from vlmcourse.widgets.quiz import Quiz

CHOICES = [
    ("four", False, "That is the side."),
    ("sixteen", True, "Four rows of four."),
    ("eight", False, "Half."),
]


def test_an_answer_can_be_recorded():
    quiz, heard = Quiz("How many patches?", CHOICES), []
    quiz.observe(lambda change: heard.append((quiz.chosen, quiz.correct)), "chosen")
    quiz.chosen = 2
    quiz.chosen = 1
    assert heard == [(2, False), (1, True)]


def test_the_text_shows_the_choices_and_not_the_answer():
    assert (
        repr(Quiz("How many patches?", CHOICES)) == "How many patches?\n  a) four\n  b) sixteen\n  c) eight"
    )


@pytest.mark.parametrize(
    "choices",
    [
        CHOICES[:1],
        [CHOICES[0], CHOICES[2]],
        [*CHOICES, ("two", False)],
        [*CHOICES, ("two", "no", "text")],
        [*CHOICES, ("two", False, "")],
    ],
)
def test_a_quiz_that_cannot_be_answered_is_refused(choices):
    with pytest.raises(ValueError, match=r"choice|right"):
        Quiz("How many patches?", choices)
