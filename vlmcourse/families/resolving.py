"""What a picture may cost, and what is lost: nano-native's pages read in every way (notebook 19).

PageExam          pages, a question about each, and the right answers
page_scores       the share of right answers for a way to see them, by kind, and the tokens it costs
page_grades       the same question by question
page_controls     the same at native size, and without the pictures
reading_errors    character error rate of words, at native size and squashed
page_boxes        boxes told as text: how well they fit, beside the mean box
things_to_point_at  a thing of each page and the question where it is; told_boxes asks a model
pruned_scores     the share of right answers by kind when image tokens are dropped inside the language model
measure_native    every number of the card of nano-native
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vlmcourse.data.coordinates import read_boxes
from vlmcourse.data.pixels import to_bytes
from vlmcourse.evaluation.answers import accuracy
from vlmcourse.evaluation.boxes import box_accuracy, box_middles, mean_boxes, paired_iou, pointing_accuracy
from vlmcourse.evaluation.spelling import character_error_rate
from vlmcourse.families.sights import SQUARE, collect_sights, grade_sights, show_page
from vlmcourse.models.generation import write_greedily
from vlmcourse.models.pruning import PrunedReader, random_scores, spread_scores
from vlmcourse.speak import Images, Speaker, blinded, shown
from vlmcourse.world import chance, pages, scenes

NATIVE_BUDGETS, TILED_BUDGETS, SQUASHED = (16, 32, 64, 128, 256), (64, 128, 256), 16
ENOUGH_TOKENS = 512  # no page has more
ANSWER_TOKENS, BOX_TOKENS = 12, 32  # of an answer in words or numbers, and of a box
# for so many pages of one grid the score of each token; None: how much the last word looks at it
PRUNING_WAYS: dict[str, Callable] = dict(
    attention=lambda pages, grid, seed: None,
    evenly=lambda pages, grid, seed: spread_scores(*grid).expand(pages, -1),
    random=lambda pages, grid, seed: random_scores(pages, grid[0] * grid[1], seed),
)


@dataclass(frozen=True)
class PageExam:
    """Pages, a question about each, and the right answers; boxes are asked for apart, see page_boxes."""

    pictures: Images
    kinds: tuple[str, ...]  # of the pages
    questions: tuple[str, ...]
    answers: tuple[str, ...]

    def blank(self) -> "PageExam":
        """The control in which every page is empty."""
        return PageExam(blinded(self.pictures), self.kinds, self.questions, self.answers)


def about_pages(batch: pages.Pages, seed: int = 0) -> PageExam:
    """Of each page one of its questions that are not answered with a box, each equally likely."""
    draws = chance.uniform(chance.derive(batch.key, "exam", seed), 1)[:, 0]
    chosen = []
    for questions, draw in zip(batch.asked, draws, strict=True):
        plain = [question for question in questions if question.kind != "where"]
        chosen.append(plain[int(draw * len(plain))])
    texts, answers = (tuple(getattr(one, name) for one in chosen) for name in ("text", "answer"))
    return PageExam(batch.pictures, tuple(batch.kinds), texts, answers)


def page_scores(
    speaker: Speaker, exam: PageExam, way: str = "native", budget: int = ENOUGH_TOKENS
) -> dict[str, float]:
    """Shares of right answers by kind of page and of all, where pages are seen like this; and their tokens.

    Args:
        way, budget: see sights.show_page.
    """
    right, tokens = page_grades(speaker, exam, way, budget)
    return _by_kind(exam, right) | {"tokens": tokens.mean().item()}


def page_grades(
    speaker: Speaker, exam: PageExam, way: str = "native", budget: int = ENOUGH_TOKENS
) -> tuple[Float[Tensor, "question"], Float[Tensor, "question"]]:
    """Which answers are right, 1 or 0, and how many tokens each page has; arguments as page_scores'."""
    sights = collect_sights(speaker.model, [show_page(page, way, budget) for page in exam.pictures])
    talks = [[pair] for pair in zip(exam.questions, exam.answers, strict=True)]
    right = grade_sights(speaker, sights, speaker.encode(talks, images=sights.pixels))
    return right.float(), sights.tokens().float()


def _by_kind(exam: PageExam, right: Float[Tensor, "question"]) -> dict[str, float]:
    """Mean over the pages of each kind that there is, and over all."""
    kinds, scores = np.array(exam.kinds), {}
    for kind in pages.PAGE_KINDS:
        if (of_kind := kinds == kind).any():
            scores[kind] = right[torch.from_numpy(of_kind)].mean().item()
    return scores | {"all": right.mean().item()}


def page_controls(speaker: Speaker, exam: PageExam) -> dict[str, float]:
    """Shares of right answers at native size, and of the same questions about empty pages."""
    seen, blind = (page_scores(speaker, each) for each in (exam, exam.blank()))
    scores = {kind: share for kind, share in seen.items() if kind != "tokens"}
    return scores | {f"{kind}, blank": blind[kind] for kind in scores}


def budget_scores(speaker: Speaker, exam: PageExam) -> dict[str, float]:
    """Accuracy and mean tokens of every way and budget, by name such as "tiles 128: all"."""
    ways = [("squash", SQUASHED)] + [("tiles", budget) for budget in TILED_BUDGETS]
    ways += [("native", budget) for budget in NATIVE_BUDGETS]
    found = {f"{way} {budget}": page_scores(speaker, exam, way, budget) for way, budget in ways}
    return {f"{name}: {what}": share for name, scores in found.items() for what, share in scores.items()}


def reading_errors(speaker: Speaker, batch: pages.Pages) -> dict[str, float]:
    """Character error rate of the words on pages, as they are and squashed; and of blank pages.

    Raises:
        ValueError: if no page has a word.
    """
    words = [number for number, kind in enumerate(batch.kinds) if kind == "words"]
    if not words:
        raise ValueError('there is no word on any of these pages; sample some with kind="words"')
    batch = batch[words]
    asked = [questions[0] for questions in batch.asked]
    truths, questions = [one.letters for one in asked], [one.text for one in asked]
    squashed = [to_bytes(show_page(page, "squash", SQUASHED))[0].numpy() for page in batch.pictures]
    ways = {"native": batch.pictures, "squash": squashed, "blank": blinded(batch.pictures)}
    said = {name: speaker.answer(some, questions, ANSWER_TOKENS, 50) for name, some in ways.items()}
    return {name: character_error_rate(answers, truths) for name, answers in said.items()}


def page_boxes(speaker: Speaker, batch: pages.Pages, known: pages.Pages) -> dict[str, float]:
    """How well boxes of things fit that the model tells: mean IoU, the share of at least 1/2, and of boxes
    whose middle lies in the true one.

    What is no box counts as 0. Mean box: the mean of all boxes of known pages, as shares of their pages.

    Raises:
        ValueError: if no page has a thing that can be pointed at.
    """
    asked, learned = things_to_point_at(batch), things_to_point_at(known)
    told = {
        "told": told_boxes(speaker, asked),
        "blank": told_boxes(speaker, asked._replace(pictures=blinded(asked.pictures))),
        "mean box": mean_boxes(learned.true, learned.sizes, asked.sizes),
    }
    scores = {}
    for name, boxes in told.items():
        scores[f"{name}: mean IoU"] = paired_iou(boxes, asked.true).mean().item()
        scores[f"{name}: IoU at least 0.5"] = box_accuracy(boxes, asked.true)
        scores[f"{name}: middle in the box"] = pointing_accuracy(box_middles(boxes), asked.true[:, None])
    return scores


class PointedAt(NamedTuple):
    """A thing of each page, and the question where it is."""

    pages: list[int]  # which of the batch have one that can be asked for
    pictures: Images
    sizes: list[tuple[int, int]]  # height and width of each of these pages
    questions: list[str]
    true: Float[Tensor, "page 4"]  # boxes in pixels


def things_to_point_at(batch: pages.Pages, seed: int = 0) -> PointedAt:
    """Of each page one thing that can be asked for: a mark, the word, a number of a table, or a bar.

    Any of a page's things is equally likely.

    Args:
        seed: another seed asks for others.

    Raises:
        ValueError: if no page has one.
    """
    draws = chance.uniform(chance.derive(batch.key, "point", seed), 1)[:, 0]
    found, questions, boxes = [], [], []
    for number, draw in enumerate(draws):
        if placed := pages.placed_things(batch, number):
            text, _, box = placed[int(draw * len(placed))]
            found.append(number)
            questions.append(text)
            boxes.append(box)
    if not found:
        raise ValueError("there is nothing to point at on these pages; sample more, of any kind")
    part = batch[found]
    return PointedAt(found, part.pictures, part.sizes, questions, torch.tensor(boxes).float())


def told_boxes(speaker: Speaker, asked: PointedAt) -> Float[Tensor, "page 4"]:
    """Where a model says that each thing is, see first_boxes."""
    said = speaker.answer(asked.pictures, asked.questions, BOX_TOKENS, 50)
    return first_boxes(said, asked.sizes)


def first_boxes(texts: Sequence[str], sizes: Sequence[tuple[int, int]]) -> Float[Tensor, "text 4"]:
    """The first box that each text names, in pixels of a picture of its size; zeros where it names none."""
    found = [read_boxes(text, size) for text, size in zip(texts, sizes, strict=True)]
    return torch.stack([boxes[0] if len(boxes) else torch.zeros(4) for boxes in found])


@torch.no_grad()
def pruned_scores(
    speaker: Speaker, exam: PageExam, share: float, way: str = "attention", layer: int = 1, seed: int = 0
) -> dict[str, float]:
    """Shares of right answers by kind of page and of all, where so many of a page's tokens are kept.

    Args:
        share: of its image tokens that stay behind the first layers, above 0 and at most 1; one at least.
        way: by which they are chosen, one of PRUNING_WAYS.
        layer: how many layers read everything, see pruning.PrunedReader.

    Raises:
        ValueError: for another way or share.
    """
    if way not in PRUNING_WAYS or not 0 < share <= 1:
        raise ValueError(f"share {share} by {way!r}: keep more than 0 and at most 1, by "
                         f"{', '.join(PRUNING_WAYS)}")  # fmt: skip
    model, words = speaker.model, speaker.words
    grids = [(page.shape[0] // SQUARE, page.shape[1] // SQUARE) for page in exam.pictures]
    ids, known = words.prompts(exam.questions, [rows * columns for rows, columns in grids])
    alike: dict[tuple, list[int]] = {}  # rows of one length with pages of one size are read together
    for number, (grid, length) in enumerate(zip(grids, known.sum(dim=1).tolist(), strict=True)):
        alike.setdefault((grid, length), []).append(number)
    right = torch.zeros(len(grids))
    for (grid, length), numbers in alike.items():
        asked, count = ids[numbers, -length:], grid[0] * grid[1]
        image_tokens = model.image_tokens(shown([exam.pictures[number] for number in numbers]))
        first = int((asked[0] == words.image).nonzero()[0])
        scores, kept = PRUNING_WAYS[way](len(numbers), grid, seed), max(1, round(share * count))
        reader = PrunedReader(model.language, layer, (first, first + count), kept, scores)
        prompt = model.embed(asked, features=image_tokens)
        real = torch.ones_like(asked, dtype=torch.bool)
        written = write_greedily(reader, prompt, real, ANSWER_TOKENS, words.end)
        for number, text in zip(numbers, words.decode(written), strict=True):
            right[number] = text == exam.answers[number]
    return _by_kind(exam, right)


def measure_native(speaker: Speaker, count: int = 400, seed: int = 0) -> dict[str, float]:
    """The metrics of the card, on pages and scenes never seen: shares from 0 to 1, and tokens.

    Args:
        count: of pages of all kinds, and of each kind; half as many scenes for each kind of question.
        seed: another seed draws other pages.
    """
    exam = about_pages(pages.sample_pages("test", count, seed=seed), seed)
    words = pages.sample_pages("test", count, kind="words", seed=seed)
    found = {"pages": page_controls(speaker, exam), "letters wrong": reading_errors(speaker, words)}
    for kind in (None, *pages.PAGE_KINDS):
        asked, known = (pages.sample_pages(split, count, kind=kind, seed=seed) for split in ("test", "train"))
        found[f"boxes, {kind or 'all'}"] = page_boxes(speaker, asked, known)
    metrics = {f"{what}: {one}": share for what, shares in found.items() for one, share in shares.items()}
    metrics |= budget_scores(speaker, exam)
    batch = scenes.sample("test", max(1, count // 2), seed=seed)
    metrics["scenes, as nano-vlm"] = np.mean(list(accuracy(speaker, batch).values()))
    return {name: round(float(value), 4) for name, value in metrics.items()}
