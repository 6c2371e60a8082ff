"""The roadmap of the course as a checklist: each point with the cell that proved it (notebook 18)."""

from collections import Counter
from typing import NamedTuple

from vlmcourse.exercises.base import all_exercises
from vlmcourse.workbook.card import Card
from vlmcourse.workbook.chapters import CHAPTERS


class RoadmapPoint(NamedTuple):
    """What one should be able to show, and the cell that shows it."""

    step: str
    says: str
    chapter: str  # two digits
    cell: str  # its id


ROADMAP = [
    RoadmapPoint(*line)
    for line in (
        ("theory", "a model may answer well without looking", "01", "blind-train"),
        ("theory", "images are continuous, words discrete", "01", "continuous-count"),
        ("theory", "contrast aligns images and texts; zero-shot follows", "04", "zero-shot"),
        ("encoder", "patches, class token and positions make a ViT", "02", "real-thing"),
        ("encoder", "the class token alone does not know where", "02", "cls-where"),
        ("encoder", "CNNs start faster, ViTs compare far things", "03", "far-race"),
        ("fusion", "late, cross-attention and injection, on one bill", "06", "table-check"),
        ("connector", "a projector moves one distribution to another", "07", "match"),
        ("connector", "too weak and too strong, measured", "07", "strength"),
        ("connector", "gradients pass through a frozen language model", "07", "gradient"),
        ("stages", "staged against joint: what language costs", "08", "stages-result"),
        ("stages", "only answers are learned, not prompts", "08", "masks-result"),
        ("systems", "LLaVA against Flamingo, bill for bill", "09", "bills"),
        ("systems", "BLIP: match, contrast, write, filter", "10", "capfilt"),
        ("systems", "BLIP-2: queries sum an image up", "11", "stage-2-train"),
        ("data", "five data sets, one model: what data decides", "12", "shop"),
        ("data", "language bias, and balance by twins", "12", "balanced"),
        ("evaluation", "VQA accuracy, BLEU, CIDEr, POPE, by their rules", "13", "real"),
        ("evaluation", "is it better? intervals and paired tests", "13", "paired"),
        ("evaluation", "does it look, and in the right place", "13", "occlusion"),
        ("debugging", "does attention reach the image?", "14", "share-hand"),
        ("debugging", "another image, another answer?", "14", "swap-runs"),
        ("debugging", "broken runs found and repaired", "14", "all-exhibits"),
        ("practice", "memory, counted before it is spent", "15", "peak"),
        ("practice", "four bits and an adapter on a real language model", "15", "real-score"),
        ("practice", "many images, and whether motion is seen", "16", "motion"),
        ("practice", "CLIP eye, projector and LLM: the smallest real VLM", "17", "measure-after"),
        ("practice", "opened in transformers with equal scores", "17", "export-equal"),
        ("practice", "a card that claims no more than was measured", "18", "claims-try"),
    )
]


def not_mine() -> dict[str, list[str]]:
    """By chapter, the exercises whose slots run the course's code: what is left to solve."""
    left: dict[str, list[str]] = {chapter.name: [] for chapter in CHAPTERS}
    for name, task in all_exercises().items():
        if not task.slot.runs_mine:
            left[task.chapter].append(name)
    return left


def roadmap() -> dict[str, list[str]]:
    """Show the checklist, each point with a link to its cell, and how much of its chapter is the learner's.

    Returns:
        by chapter, the exercises that are left to solve, see not_mine.
    """
    names = {chapter.name[:2]: chapter.name for chapter in CHAPTERS}
    left, rows, links = not_mine(), [], {}
    counts = Counter(task.chapter for task in all_exercises().values())
    for point in ROADMAP:
        text = f"{point.chapter} · {point.cell}"
        links[text] = f"{names[point.chapter]}.ipynb#cell-id={point.cell}"
        chapter = names[point.chapter]
        yours = f"{counts[chapter] - len(left[chapter])}/{counts[chapter]}"
        rows.append([point.step, point.says, text, yours])
    header = ["step", "can you show that …", "proved in", "yours"]
    missing = [f"{chapter[:2]}: {', '.join(slots)}" for chapter, slots in left.items() if slots]
    done = ["Every exercise of the course is yours."]
    lines = ["Left to solve, chapter by chapter:", *missing] if missing else done
    Card("plain", "", lines, table=(header, rows), links=links).show()
    return left
