"""What earns a reward, and what does not."""

import pytest

from vlmcourse.evaluation.rewards import format_reward, truth_reward

WISH = "Is there a star? Answer in a sentence."


@pytest.mark.parametrize(
    ("reply", "answer", "reward"),
    [
        ("red", "red", 1.0),
        ("Red.", "red", 1.0),
        ("two", "2", 1.0),
        ("2 or 3", "2", 0.0),
        ("", "2", 0.0),
        ("top", "top left", 0.0),
        ("Yes, there is a star.", "yes, there is a star", 1.0),
    ],
)
def test_truth_is_the_answer_and_nothing_else(reply, answer, reward):
    assert truth_reward(reply, answer) == reward


@pytest.mark.parametrize(
    ("reply", "asked", "reward"),
    [
        ("Yes, there is a star.", WISH, 1.0),
        ("Blue cats fly.", WISH, 1.0),  # whatever it says
        ("yes, there is a star.", WISH, 0.0),
        ("Yes, there is a star", WISH, 0.0),
        ("Yes. There is. A star.", WISH, 0.0),
        ("Yes. There is a star", WISH, 0.0),  # a full stop, but not at the end
        ("Yes sir.", WISH, 0.0),
        ("", WISH, 0.0),
        ("yes", "Is there a star?", 1.0),
        ("top left", "Where is it?", 1.0),
        ("at the top left", "Where is it?", 0.0),
        ("left.", "Where is it?", 0.0),
        ("top.left", "Where is it?", 0.0),
        ("red", f"{WISH} Which colour is it?", 1.0),  # what stands at the end is asked for
        ("", "Where is it?", 0.0),
    ],
)
def test_the_form_is_what_the_question_wants(reply, asked, reward):
    assert format_reward(reply, asked) == reward
