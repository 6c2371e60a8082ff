"""Blind baselines and twins: habit is counted right, and it never gets a whole pair."""

import pytest
import torch

from vlmcourse.diagnostics.controls import Blind, answer_prior, twin_accuracy, twin_score
from vlmcourse.world import questions, scenes, twins


def test_the_most_frequent_answer_of_each_kind_wins():
    asked, answers = torch.tensor([0, 0, 0, 2, 2, 2, 2]), torch.tensor([1, 1, 3, 3, 0, 3, 2])
    assert answer_prior(asked, answers, 4).tolist() == [1, 3, 3, 3]  # kinds 1 and 3 get the best of all


def test_equally_frequent_answers_are_settled_by_number():
    assert answer_prior(torch.tensor([0, 0]), torch.tensor([2, 1]), 1).tolist() == [1]


def test_blind_answers_by_habit_and_falls_back_for_what_is_new():
    blind = Blind(["sky?", "sky?", "sky?", "sea?", "sun?"], ["blue", "grey", "blue", "green", "blue"])
    assert blind(["sky?", "sea?", "moon?"]) == ["blue", "green", "blue"]
    with pytest.raises(ValueError, match="expected an answer for each question, got 2 and 1"):
        Blind(["sky?", "sea?"], ["blue"])
    with pytest.raises(ValueError, match="got 0 and 0"):
        Blind([], [])


def test_whole_pairs_are_counted_apart_from_single_answers():
    guesses, answers = torch.tensor([[1, 2], [1, 1], [0, 3]]), torch.tensor([[1, 2], [1, 0], [3, 0]])
    accuracy, both = twin_accuracy(guesses, answers)
    assert accuracy == pytest.approx(3 / 6) and both == pytest.approx(1 / 3)


def test_twin_score_takes_texts():
    assert twin_score(["red", "yes"], ["red", "yes"], ["blue", "yes"], ["blue", "no"]) == (0.75, 0.5)
    with pytest.raises(ValueError, match=r"equally many, got \[1, 2, 1, 1\]"):
        twin_score(["red"], ["red"], ["red", "red"], ["red"])


@pytest.mark.parametrize("kind", list(questions.KINDS))
def test_habit_gets_at_most_half_of_any_twins_and_never_a_pair(kind):
    world = scenes.sample("test", 120, language_bias=0.9)
    posed = questions.ask(world, kind)
    kept = [n for n, question in enumerate(posed) if question]
    posed = [posed[n] for n in kept]
    _, other = twins.twins(world[kept], posed)
    blind = Blind([q.text for q in posed], [q.answer for q in posed])
    guesses = blind([q.text for q in posed]), blind([q.text for q in other])
    accuracy, both = twin_score(guesses[0], [q.answer for q in posed], guesses[1], [q.answer for q in other])
    assert 0.1 < accuracy <= 0.5 and both == 0


def test_a_new_question_gets_the_most_frequent_answer_of_all_and_not_the_last_kinds():
    blind = Blind(["a", "a", "a", "z", "z"], ["yes", "yes", "yes", "no", "no"])
    assert blind(["new", "z", "a"]) == ["yes", "no", "yes"]
