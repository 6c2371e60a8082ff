"""Remedies for a model that learned from language alone, at equal budget (notebook 14).

    twins                              to every row its picture edited so that the answer changes
    image-dependent rows only          rows whose answer the question tells are left out, needs_image
    image-dependent rows more often    or they are drawn rarely, drawn_by_need
    words dropped                      words of the question are hidden while it learns, drop_words
    swap loss                          answers must become unlikely beside a stranger's picture, swap_loss
    contrastive decoding               what is likely without the picture is subtracted, contrast_scores

The patient is a student of families/spoiling.py on its `biased` rows, in which the colour mostly follows from
the shape. REMEDIES is data; learn_with and graded_with carry it out, habit_scores tells what came of it.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from vlmcourse.data.batches import Batches
from vlmcourse.data.text import EOS, UNK
from vlmcourse.diagnostics.swaps import blank
from vlmcourse.families import spoiling
from vlmcourse.families.spoiling import AskedRow, Shown, TrainingSet
from vlmcourse.models import fusion
from vlmcourse.training.history import History
from vlmcourse.training.loop import learn
from vlmcourse.training.optimizers import MuonAdamW, warmup_linear
from vlmcourse.world.scenes import COLOURS, SHAPES, palette

_Scores = Float[Tensor, "row vocabulary"]


def text_guess(asked: Sequence[str], answers: Sequence[str]) -> Float[Tensor, "row"]:
    """How probable each answer is to who reads only the question: its share among the other rows that ask it.

    A row does not count for itself, so a question that is asked once tells nothing: 0.
    """
    pairs, texts = Counter(zip(asked, answers, strict=True)), Counter(asked)
    alike = [pairs[pair] - 1 for pair in zip(asked, answers, strict=True)]
    others = [max(texts[text] - 1, 1) for text in asked]
    return torch.tensor(alike) / torch.tensor(others)


def needs_image(found: TrainingSet, most: float = 0.5) -> TrainingSet:
    """Only the rows whose answer is at most so probable by `text_guess`; pictures stay.

    Source: questions that are answered without their picture are left out of a benchmark, Chen et al. 2024
        (MMStar), arXiv:2403.20330.
    """
    guess = _guess_of(found)
    return replace(found, rows=[row for row, p in zip(found.rows, guess.tolist(), strict=True) if p <= most])


def drawn_by_need(found: TrainingSet, seed: int = 0) -> TrainingSet:
    """As many rows as there are, drawn again and again, each with a chance proportional to 1 - text_guess.

    Source: "reweight" of Clark et al. 2019, arXiv:1909.03683, whose weights are 1 - what a model of the bias
        gives the answer; less weight by a question-only branch also in Cadene et al. 2019 (RUBi),
        arXiv:1906.10169.
    """
    need, dice = 1 - _guess_of(found), torch.Generator().manual_seed(seed)
    drawn = torch.multinomial(need, len(need), replacement=True, generator=dice)
    return replace(found, rows=[found.rows[number] for number in drawn.tolist()])


def _guess_of(found: TrainingSet) -> Float[Tensor, "row"]:
    return text_guess([row.question for row in found.rows], [row.answer for row in found.rows])


def drop_words(
    ids: Int[Tensor, "row token"], mask: Bool[Tensor, "row token"], share: float, dice: torch.Generator
) -> Int[Tensor, "row token"]:
    """Each token becomes UNK with a chance of `share`; the end, where the answer is read, and padding stay.

    Source: "Word dropout and historyless decoding" in Bowman et al. 2016, arXiv:1511.06349, where it makes a
        decoder rely on what is not words.
    """
    chosen = torch.rand(ids.shape, generator=dice).to(ids.device) < share
    return ids.masked_fill(chosen & mask & (ids != EOS), UNK)


def swap_loss(scores: _Scores, answers: Int[Tensor, "row"]) -> Float[Tensor, ""]:
    """Mean of -log(1 - p), in nats: 0 where an answer is impossible beside the stranger's picture shown.

    Args:
        scores: of the word behind each question, asked about the picture of another row.
        answers: the right ones about the row's own picture. A stranger may show the same by chance.

    Source: Welleck et al. 2020 (unlikelihood), arXiv:1908.04319; Zhu et al. 2020, arXiv:2012.11528, make p
        itself small, on pictures of other rows.
    """
    chance = scores.softmax(dim=-1).gather(1, answers[:, None])[:, 0]
    return -torch.log1p(-chance.clamp(max=1 - 1e-6)).mean()


def contrast_scores(seen: _Scores, unseen: _Scores, alpha: float, beta: float = 0.1) -> _Scores:
    """(1 + alpha) · seen - alpha · unseen, and -inf for words less probable than beta times the likeliest.

    Args:
        seen, unseen: scores of the next word with the picture, and with a spoiled one or none.
        alpha: 0 leaves the likeliest word the likeliest.
        beta: above 0, at most 1; how probable a word is, is judged with the picture.

    Source: Leng et al. 2024 (VCD), arXiv:2311.16922; the bound as in Li et al. 2023, arXiv:2210.15097.
    """
    scores = (1 + alpha) * seen - alpha * unseen
    least = seen.max(dim=-1, keepdim=True).values + torch.tensor(beta).log()
    return scores.masked_fill(seen < least, -torch.inf)


@dataclass(frozen=True)
class Remedy:
    """What is changed, in the rows, in learning or in answering; nothing, if nothing is said."""

    rows: Callable[[TrainingSet], TrainingSet] | None = None
    dropped: float = 0.0  # chance of each word of a question to be hidden while it learns
    swapped: float = 0.0  # weight of swap_loss beside the loss of the answer
    alpha: float = 0.0  # of contrast_scores


REMEDIES: dict[str, Remedy] = {
    "nothing": Remedy(),
    "twins": Remedy(rows=spoiling.balanced),
    "image-dependent rows only": Remedy(rows=needs_image),
    "image-dependent rows more often": Remedy(rows=drawn_by_need),
    "words dropped": Remedy(dropped=0.05),
    "swap loss": Remedy(swapped=0.05),
    "contrastive decoding": Remedy(alpha=1.0),
}
"""By name; the numbers were chosen on the validation split with a seed that no result is reported of."""


def learn_with(
    remedy: Remedy, found: TrainingSet, steps: int, size: int = 48, seed: int = 0, **options: Any
) -> tuple[fusion.Fusion, History]:
    """spoiling.learn_from with a remedy; with Remedy() the weights are the same, bit by bit.

    Args:
        found: as sold; what the remedy does to its rows is done here.
        size: rows per step. The swap loss asks each of them twice: about its picture and, further, about that
            of its neighbour in the batch.
        options: further arguments of training.loop.train.
    """
    seen, rows = spoiling.as_tensors(remedy.rows(found) if remedy.rows else found)
    model, dice = spoiling.new_student(seen, seed), torch.Generator().manual_seed(seed)

    def loss_of(model: fusion.Fusion, batch: tuple) -> Float[Tensor, ""]:
        some = Shown(*batch)
        if remedy.dropped:
            some = some._replace(ids=drop_words(some.ids, some.mask, remedy.dropped, dice))
        loss = F.cross_entropy(spoiling.answer_scores(model, seen, some), some.answer)
        if remedy.swapped:
            strangers = some._replace(picture=some.picture.roll(1))
            unlike = swap_loss(spoiling.answer_scores(model, seen, strangers), some.answer)
            loss = loss + remedy.swapped * unlike
        return loss

    given = dict(optimizer=MuonAdamW(model), schedule=warmup_linear(steps))
    history = learn(model, Batches(tuple(rows), size, seed=seed), loss_of, steps=steps, **given | options)
    return model, history


def without_images(found: TrainingSet) -> TrainingSet:
    """The same rows about blank paper."""
    return replace(found, images=blank(found.images))


@torch.no_grad()
def graded_with(remedy: Remedy, model: fusion.Fusion, test: TrainingSet) -> Bool[Tensor, "row"]:
    """spoiling.graded with a remedy; contrastive decoding sees each question's picture, and blank paper."""
    if not remedy.alpha:
        return spoiling.graded(model, test)
    (seen, rows), (unseen, _) = spoiling.as_tensors(test), spoiling.as_tensors(without_images(test))
    right = []
    for part in zip(*(column.split(400) for column in rows), strict=True):
        some = Shown(*part)
        with_image, without = (spoiling.answer_scores(model, images, some) for images in (seen, unseen))
        scores = contrast_scores(with_image, without, remedy.alpha)
        right.append(scores.argmax(dim=-1) == some.answer)
    return torch.cat(right)


def habitual(row: AskedRow) -> str:
    """What `biased` rows answer to this question by habit; "" where they have none, as for sizes."""
    first = [COLOURS[colour] for colour in palette("train")[:, 0]]  # of each shape
    habit = dict(zip(SHAPES, first, strict=True)) if row.kind == "colour" else {}
    habit = dict(zip(first, SHAPES, strict=True)) if row.kind == "shape" else habit
    named = [word for word in row.question.rstrip("?").split() if word in habit]
    return habit[named[0]] if named else ""


class HabitScores(NamedTuple):
    """How a student does about a test set, in shares of its rows, 0 to 1."""

    right: float  # with the image
    blank: float  # and beside blank paper
    against: float  # right where the truth is not what habit says, with the image
    along: float  # and where it is

    @property
    def gap(self) -> float:
        """What the image is worth: right with it less right without it."""
        return self.right - self.blank


def habit_scores(remedy: Remedy, model: fusion.Fusion, test: TrainingSet) -> HabitScores:
    """Grade a student with the images of a test set and without them.

    Raises:
        ValueError: if no row of the test goes against a habit, or none goes along with one.
    """
    habits = [habitual(row) for row in test.rows]
    answers = [row.answer for row in test.rows]
    pairs = list(zip(habits, answers, strict=True))
    against = torch.tensor([habit not in ("", answer) for habit, answer in pairs])
    along = torch.tensor([habit == answer for habit, answer in pairs])
    if not (against.any() and along.any()):
        counts = f"{int(against.sum())} rows go against a habit and {int(along.sum())} along with one"
        raise ValueError(f"of {len(answers)} {counts}; test more rows about colour and shape")
    right = graded_with(remedy, model, test).float()
    blind = graded_with(remedy, model, without_images(test)).float()
    parts = (right, blind, right[against], right[along])
    return HabitScores(*(part.mean().item() for part in parts))
