"""Is what a model says about images right, and did it look?  (Notebooks 08 and 17.)

Answers are graded without being written, see Speaker.grade; a speaker is a model with its words (speak.py).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vlmcourse.data.packing import Packs
from vlmcourse.evaluation.captioning import plain_words
from vlmcourse.evaluation.statements import true_and_complete
from vlmcourse.evaluation.vqa import normalise_answer
from vlmcourse.world import questions, scenes, truth, twins
from vlmcourse.world.instructions import FULL
from vlmcourse.world.render import render

CONTRAST_DRAWS = 6  # questions that are drawn to find one of the same form with another answer
CHOICES = {"colour": scenes.COLOURS, "shape": scenes.SHAPES, "size": scenes.SIZES, "position": scenes.PLACES}


def asked_of(
    batch: scenes.Scenes, kind: str, seed: int = 0
) -> tuple[scenes.Scenes, list[questions.Question]]:
    """The scenes that allow a question of this kind, and the question to each; see questions.ask."""
    asked = questions.ask(batch, kind, seed)
    rows = [n for n, question in enumerate(asked) if question]
    return batch[np.array(rows, int)], [asked[n] for n in rows]


def asked_of_twins(
    batch: scenes.Scenes, kind: str, seed: int = 0
) -> tuple[scenes.Scenes, list[questions.Question]]:
    """The scenes that allow a question of this kind, then a twin of each; the questions in the same order.

    A scene and its twin are asked the same, and the answers differ (world/twins.py): who does not look is
    right about one of the two at most.
    """
    some, asked = asked_of(batch, kind, seed)
    other, changed = twins.twins(some, asked, seed)
    return scenes.concatenate([some, other]), [*asked, *changed]


def asked_of_contrasts(
    batch: scenes.Scenes, kind: str, seed: int = 0
) -> tuple[scenes.Scenes, list[questions.Question], list[questions.Question]]:
    """Pictures about which one can ask twice in one form, with two answers; and both questions to each.

    "Do the circle and the star have the same colour?" is true of a picture, and "Do the circle and the cross
    ...?" is not. Who looks at the picture as a whole, but not at what the question names, is right about one
    of the two at most. So are those who only see that a twin has fewer colours: twins do not tell them apart.

    Pictures are scenes and twins of scenes; the first questions are those of asked_of_twins, the others are
    drawn by other seeds. Where none of CONTRAST_DRAWS fits, a picture is left out, so is one of one object.
    """
    shown, asked = asked_of_twins(batch, kind, seed)
    more = zip(
        *(questions.ask(shown, kind, seed + again) for again in range(1, CONTRAST_DRAWS + 1)), strict=True
    )
    rows, first, other = [], [], []
    for number, (one, drawn) in enumerate(zip(asked, more, strict=True)):
        fits = (again for again in drawn if again and type(again.asked) is type(one.asked))
        if contrast := next((again for again in fits if again.answer != one.answer), None):
            rows.append(number)
            first.append(one)
            other.append(contrast)
    return shown[np.array(rows, int)], first, other


def grade_questions(
    speaker: Any, batch: scenes.Scenes, asked: Sequence[questions.Question], look: Callable = render
) -> Bool[Tensor, "question"]:
    """Whether the right answer would be written, to one question about each scene.

    Args:
        look: scenes -> the images that are shown of them.
    """
    rows = speaker.encode([[(question.text, question.answer)] for question in asked])
    return speaker.grade(speaker.features(look(batch)), rows)


def agrees(reply: str, question: questions.Question) -> bool:
    """Whether a reply, in a word or a sentence, says the right answer and no other of its kind.

    "red", "Red." and "The circle is red." are right alike; "red or blue" is wrong, and so is "The red circle
    is blue." Words of the question do not count, however often the reply repeats them.
    """
    normal = normalise_answer(reply)
    sentence = normalise_answer(truth.in_a_sentence(question))
    if normal in (normalise_answer(question.answer), sentence):
        return True
    if question.answer in ("yes", "no"):
        return normal.split(" ")[0] == question.answer
    said = f" {normal} "
    for word in plain_words(question.text):
        said = said.replace(f" {word} ", "  ")
    options = CHOICES.get(question.kind, tuple(map(str, range(scenes.MOST + 1))))
    named = {option for option in options if f" {option} " in said}
    return named == {question.answer}


@torch.no_grad()
def answer_probabilities(
    speaker: Any, images: np.ndarray, instructions: Sequence[str], answers: Sequence[str]
) -> Float[Tensor, "question"]:
    """How likely a model gives each answer, end included, to its instruction about its image; 0 to 1.

    Raises:
        ValueError: if there are not equally many images, instructions and answers.
    """
    if not len(images) == len(instructions) == len(answers):
        counts = f"{len(images)} images, {len(instructions)} instructions and {len(answers)} answers"
        raise ValueError(f"{counts}; give one of each per question")
    rows = speaker.encode([[pair] for pair in zip(instructions, answers, strict=True)])
    return chances_of_rows(speaker, images, rows, len(images))


@torch.no_grad()
def chances_of_rows(
    speaker: Any, images: np.ndarray, rows: Packs, count: int
) -> Float[Tensor, "conversation"]:
    """How likely a model gives the answer of each conversation of its rows, end included; 0 to 1.

    Args:
        images: one for each row; a row may hold several conversations, see data/packing.py.
        count: of conversations in all rows.
    """
    return chances_of_features(speaker, speaker.features(images), rows, count)


@torch.no_grad()
def chances_of_features(
    speaker: Any, features: Tensor, rows: Packs, count: int
) -> Float[Tensor, "conversation"]:
    """See chances_of_rows; of images whose features are known."""
    logarithms = torch.zeros(count)
    for scores, right, number in speaker.scores(features, rows):
        chosen = scores.log_softmax(dim=-1).gather(1, right[:, None])[:, 0]
        logarithms.index_add_(0, number, chosen.float())
    return logarithms.exp()


def accuracy(speaker: Any, batch: scenes.Scenes, look: Callable = render) -> dict[str, float]:
    """Share of right answers to one question of each kind about each scene; see grade_questions."""
    graded = {kind: grade_questions(speaker, *asked_of(batch, kind), look) for kind in questions.KINDS}
    return {kind: right.float().mean().item() for kind, right in graded.items()}


def faultless(speaker: Any, batch: scenes.Scenes) -> Bool[np.ndarray, "scene"]:
    """About which scenes the speaker makes no mistake: a question of every kind, and the full caption."""
    described = speaker.answer(render(batch), [FULL] * len(batch))
    good = true_and_complete(described, batch)
    for kind in questions.KINDS:
        rows = [n for n, question in enumerate(questions.ask(batch, kind)) if question]
        good[rows] &= grade_questions(speaker, *asked_of(batch, kind)).numpy()
    return good


def twins_right(speaker: Any, count: int = 75) -> float:
    """Share of twin pairs, of all kinds of questions, with both answers right."""
    shares = []
    for kind in questions.KINDS:
        right = grade_questions(speaker, *asked_of_twins(scenes.sample("test", count, start=5000), kind))
        first, second = right.chunk(2)
        shares.append((first & second).float().mean())
    return float(np.mean(shares))


def prior_accuracy(count: int = 300) -> float:
    """Share of right answers by habit: to every kind the answer given most often in training scenes."""
    shares = []
    for kind in questions.KINDS:
        known, asked = (asked_of(scenes.sample(*s), kind)[1] for s in (("train", 2000), ("test", count)))
        habit = Counter(question.answer for question in known).most_common(1)[0][0]
        shares.append(np.mean([question.answer == habit for question in asked]))
    return float(np.mean(shares))


class Asked(NamedTuple):
    """A question about an image, its answer as a sentence, and its kind."""

    question: str
    answer: str
    kind: str


class Graded(NamedTuple):
    """Two grades of every question."""

    kinds: list[str]
    exact: Float[Tensor, "question"]  # whether the model, left to itself, writes exactly the right sentence
    named: Float[Tensor, "question"]  # whether the right word beats the others of its kind; NaN without one

    def shares(self, kinds: Sequence[str]) -> dict[str, float]:
        """Share of exact answers, by kind."""
        return {kind: self.exact[self.of(kind)].mean().item() for kind in kinds}

    def of(self, *kinds: str) -> Bool[Tensor, "question"]:
        """Which questions are of these kinds."""
        return torch.tensor([kind in kinds for kind in self.kinds])


def grade_sentences(
    speaker: Any, features: Tensor, about: Sequence[Sequence[Asked]], batch: int = 12
) -> Graded:
    """Grade answers that are sentences; one pass gives both grades."""
    kinds, choices = [asked.kind for row in about for asked in row], {}
    for kind, names in (("colour", scenes.COLOURS), ("shape", scenes.SHAPES), ("size", scenes.SIZES)):
        # of a word of several tokens the first decides
        choices[kind] = sorted({tokens[0] for tokens in speaker.words.number([f" {name}" for name in names])})
    exact, named = torch.ones(len(kinds)), torch.full((len(kinds),), torch.nan)
    for scores, right, number in speaker.scores(features, speaker.encode(about), batch):
        exact[number[scores.argmax(dim=-1) != right]] = 0
        for place, (token, question) in enumerate(zip(right.tolist(), number.tolist(), strict=True)):
            options = choices.get(kinds[question], [])
            if token in options:  # the last open word of an answer counts
                named[question] = float(options[int(scores[place, options].argmax())] == token)
    return Graded(kinds, exact, named)


class Stranger:
    """A speaker that is shown every image in a mirror, a fault to be found from its answers (notebook 13)."""

    def __init__(self, speaker: Any):
        self.speaker, self.model = speaker, speaker.model

    def answer(self, images: np.ndarray, instructions: str | Sequence[str], steps: int = 64) -> Any:
        """As the speaker's."""
        return self.speaker.answer(np.ascontiguousarray(images[..., ::-1, :]), instructions, steps)
