"""What a picture may cost, and what is lost: nano-native's pages read in every way (notebook 19).

PageExam          pages, a question about each, and the right answers
page_scores       the share of right answers for a way to see them, by kind, and the tokens it costs
page_controls     the same at native size, and without the pictures
reading_errors    character error rate of words, at native size and squashed
page_boxes        boxes told as text: how well they fit, beside the mean box
measure_native    every number of the card of nano-native
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vlmcourse.data.coordinates import read_boxes
from vlmcourse.data.pixels import to_bytes
from vlmcourse.evaluation.answers import accuracy
from vlmcourse.evaluation.boxes import box_accuracy, mean_boxes, paired_iou
from vlmcourse.evaluation.spelling import character_error_rate
from vlmcourse.families.sights import collect_sights, grade_sights, show_page
from vlmcourse.speak import Images, Speaker, blinded
from vlmcourse.world import chance, pages, scenes

NATIVE_BUDGETS, TILED_BUDGETS, SQUASHED = (16, 32, 64, 128, 256), (64, 128, 256), 16
ENOUGH_TOKENS = 512  # no page has more


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
    sights = collect_sights(speaker.model, [show_page(page, way, budget) for page in exam.pictures])
    talks = [[pair] for pair in zip(exam.questions, exam.answers, strict=True)]
    right = grade_sights(speaker, sights, speaker.encode(talks, images=sights.pixels)).float()
    kinds, scores = np.array(exam.kinds), {}
    for kind in pages.PAGE_KINDS:
        if (of_kind := kinds == kind).any():
            scores[kind] = right[torch.from_numpy(of_kind)].mean().item()
    return scores | {"all": right.mean().item(), "tokens": sights.tokens().mean().item()}


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
    shown = {"native": batch.pictures, "squash": squashed, "blank": blinded(batch.pictures)}
    said = {name: speaker.answer(some, questions, 12, 50) for name, some in shown.items()}
    return {name: character_error_rate(answers, truths) for name, answers in said.items()}


def page_boxes(speaker: Speaker, batch: pages.Pages, known: pages.Pages) -> dict[str, float]:
    """How well boxes of marks fit that the model tells: mean IoU, and the share of at least 1/2.

    What is no box counts as 0. Mean box: the mean of all boxes of known pages, as shares of their pages.

    Raises:
        ValueError: if no page has a mark that can be pointed at.
    """
    asked, before = (pages.ask_pages(some, kind="where") for some in (batch, known))
    rows, old = ([n for n, one in enumerate(some) if one] for some in (asked, before))
    if not rows or not old:
        raise ValueError('there is no mark to point at; sample pages with kind="marks"')
    true, learned = (_first_boxes([some[n] for n in which]) for some, which in ((asked, rows), (before, old)))
    sizes, seen = [batch.sizes[n] for n in rows], [batch.pictures[n] for n in rows]
    questions = [asked[n].text for n in rows]
    told = {
        "told": _told(speaker.answer(seen, questions, 32, 50), sizes),
        "blank": _told(speaker.answer(blinded(seen), questions, 32, 50), sizes),
        "mean box": mean_boxes(learned, [known.sizes[n] for n in old], sizes),
    }
    scores = {}
    for name, boxes in told.items():
        scores[f"{name}: mean IoU"] = paired_iou(boxes, true).mean().item()
        scores[f"{name}: IoU at least 0.5"] = box_accuracy(boxes, true)
    return scores


def _first_boxes(asked: Sequence[pages.PageQuestion]) -> Tensor:
    return torch.tensor([one.boxes[0] for one in asked]).float()


def _told(texts: Sequence[str], sizes: Sequence[tuple[int, int]]) -> Tensor:
    """The first box that each text names; zeros where it names none."""
    found = [read_boxes(text, size) for text, size in zip(texts, sizes, strict=True)]
    return torch.stack([boxes[0] if len(boxes) else torch.zeros(4) for boxes in found])


def measure_native(speaker: Speaker, count: int = 400, seed: int = 0) -> dict[str, float]:
    """The metrics of the card, on pages and scenes never seen: shares from 0 to 1, and tokens.

    Args:
        count: of pages of all kinds, and of those with words, with marks; half as many scenes for each kind
            of question.
        seed: another seed draws other pages.
    """
    exam = about_pages(pages.sample_pages("test", count, seed=seed), seed)
    words, marks = (pages.sample_pages("test", count, kind=kind, seed=seed) for kind in ("words", "marks"))
    known = pages.sample_pages("train", count, kind="marks", seed=seed)
    found = {"pages": page_controls(speaker, exam), "letters wrong": reading_errors(speaker, words)}
    found["boxes"] = page_boxes(speaker, marks, known)
    metrics = {f"{what}: {one}": share for what, shares in found.items() for one, share in shares.items()}
    metrics |= budget_scores(speaker, exam)
    batch = scenes.sample("test", max(1, count // 2), seed=seed)
    metrics["scenes, as nano-vlm"] = np.mean(list(accuracy(speaker, batch).values()))
    return {name: round(float(value), 4) for name, value in metrics.items()}
