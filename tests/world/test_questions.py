import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from tests.world.eyes import answer, close, look
from vlmcourse.world.questions import KINDS, annotators, ask
from vlmcourse.world.render import render
from vlmcourse.world.scenes import SPLITS, sample

PRINT_WORLD = """
import hashlib
from vlmcourse.world import captions, questions, render, scenes, twins
batch = scenes.sample("test", 60, 5, seed=3, printed_words=0.3)
asked = questions.ask(batch)
others, answers = twins.twins(batch, asked)
told = captions.captions(batch, "full", wrong=0.3), asked, questions.annotators(batch, asked), answers
pictures = render.render(batch).tobytes() + render.render(others).tobytes()
print(hashlib.sha256(repr(told).encode() + pictures).hexdigest())
"""


def asked(kind, count, split="train", **knobs):
    """Scenes which allow this kind of question, and the questions."""
    batch = sample(split, count, **knobs)
    questions = ask(batch, kind)
    some = np.array([question is not None for question in questions])
    return batch[some], [question for question in questions if question]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("split", SPLITS)
def test_answers_and_evidence_agree_with_the_pixels(kind, split):
    batch, questions = asked(kind, 250, split)
    assert len(questions) > 150
    for question, image in zip(questions, render(batch), strict=True):
        seen = look(image)
        assert question.kind == kind and answer(question.text, seen) == question.answer, question.text
        assert all(any(close(box, s.box) for s in seen) for box in question.boxes) and question.boxes


@pytest.mark.parametrize(
    "kind", ["colour", "shape", "size", "position", "existence", "relation", "comparison"]
)
def test_evidence_alone_is_enough_for_the_answer(kind):
    batch, questions = asked(kind, 200, "test")
    for question, image in zip(questions, render(batch), strict=True):
        evidence = [s for s in look(image) if any(close(box, s.box) for box in question.boxes)]
        assert answer(question.text, evidence) == question.answer


def test_counts_count_their_evidence():
    _, questions = asked("count", 500)
    assert all(len(q.boxes) == int(q.answer) for q in questions if q.answer != "0")


@pytest.mark.parametrize(
    "kind, answers, share",
    [
        ("existence", 2, 0.45),
        ("relation", 2, 0.45),
        ("comparison", 2, 0.35),
        ("position", 4, 0.2),
        ("colour", 7, 0.08),
        ("shape", 5, 0.15),
    ],
)
def test_no_answer_is_rare(kind, answers, share):
    numbers = Counter(question.answer for question in asked(kind, 3000)[1])
    assert len(numbers) == answers and min(numbers.values()) > share * numbers.total()


def test_mixed_questions_always_exist_and_seeds_differ():
    batch = sample(count=500)
    questions = ask(batch)
    assert None not in questions and {question.kind for question in questions} == set(KINDS)
    assert [q.text for q in ask(batch, seed=1)] != [q.text for q in questions]
    assert ask(batch[100:110]) == questions[100:110]


def test_relations_need_two_objects():
    assert ask(sample(count=20, objects=(1, 1)), "relation") == [None] * 20


def test_ten_annotators_mostly_tell_the_truth():
    batch = sample(count=3000)
    questions = ask(batch)
    people = annotators(batch, questions)
    agree = [answers.count(question.answer) for answers, question in zip(people, questions, strict=True)]
    assert {len(answers) for answers in people} == {10}
    assert min(agree) >= 6 and np.mean(agree) == pytest.approx(8.7, abs=0.1)
    assert (
        annotators(batch[7:9], questions[7:9]) == people[7:9]
        and annotators(batch, questions, seed=1) != people
    )
    vocabulary = {q.answer for q in questions} | {"5"}
    assert {word for answers in people for word in answers} <= vocabulary


def test_another_process_sees_the_same_world():
    def told(hash_seed):
        return subprocess.run(
            [sys.executable, "-c", PRINT_WORLD],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    assert told("1") == told("2") != ""


def test_bad_requests_are_named():
    batch = sample(count=3, objects=(1, 1))
    with pytest.raises(ValueError, match="unknown kind of question 'color'; choose one of colour"):
        ask(batch, "color")
    with pytest.raises(ValueError, match="each of the 3 scenes, got 0 questions and 3 times None"):
        annotators(batch, ask(batch, "relation"))
