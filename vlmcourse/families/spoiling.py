"""One student, equal steps, many training sets: clean, spoiled in five ways, and mended again (notebook 12).

    clean, MENDED         sets of so many pictures: as they should be; with one fault each, and what mends it
    learn_from, graded    a small model behind a frozen eye learns from a set; what it answers of another one

All sets begin with as many pictures, and all students take as many steps of as many rows, a row being a
picture and a question with an answer of one word. What mends a set may leave fewer rows, or more; it looks at
pictures, texts and models, never at the truth. One exception is named: `balanced` edits pictures, and so
needs their scenes, where people would look for other pictures.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from vlmcourse.data.batches import Batches
from vlmcourse.data.quality import balanced_rows, clip_filter, first_of_alike
from vlmcourse.data.text import load_tokenizer
from vlmcourse.families import clips, nano
from vlmcourse.models import fusion
from vlmcourse.models.language import LlamaConfig
from vlmcourse.models.projector import pixel_shuffle
from vlmcourse.speak import Images, Speaker
from vlmcourse.training.history import History
from vlmcourse.training.loop import learn
from vlmcourse.training.optimizers import MuonAdamW, warmup_linear
from vlmcourse.world import captions, questions, twins
from vlmcourse.world.arranging import arrange
from vlmcourse.world.grammar import stated, understand
from vlmcourse.world.instructions import FULL
from vlmcourse.world.render import render
from vlmcourse.world.scenes import COLOURS, MOST, WORD_STRIP, Scenes, concatenate, sample
from vlmcourse.world.truth import Question, Thing, list_things, pose

ASKED = ("colour", "shape", "size")  # what each picture is asked, a row for each
EMPTY = ("What is this?", "picture")  # what a shallow row asks and says
COPIED = 20  # pictures of which a duplicated set consists for the most part


class AskedRow(NamedTuple):
    """A question about a picture, and what the set says to it, right or wrong."""

    picture: int
    question: str
    answer: str
    kind: str


@dataclass(frozen=True)
class TrainingSet:
    """Pictures, what is asked of them, and a caption each, as sets from the web have one."""

    images: Images
    rows: list[AskedRow]
    told: list[str]
    true: Scenes  # what the pictures really show; of all that mends, only `balanced` looks at it

    def __post_init__(self):
        if not len(self.images) == len(self.told) == len(self.true):
            counts = f"{len(self.images)} pictures, {len(self.told)} captions, {len(self.true)} scenes"
            raise ValueError(f"each picture needs a caption and a scene, got {counts}")


def clean(count: int, seed: int = 0, **knobs: Any) -> TrainingSet:
    """Scenes of two things, each with a question of every kind of ASKED.

    Args:
        knobs: of scenes.sample.
    """
    return as_set(sample("train", count, seed=seed, objects=(2, 2), **knobs), seed)


def as_set(batch: Scenes, seed: int = 0) -> TrainingSet:
    """A set of these scenes, with true answers."""
    return TrainingSet(render(batch), ask_all(batch, seed), captions.captions(batch, "short"), batch)


def ask_all(batch: Scenes, seed: int = 0) -> list[AskedRow]:
    """A question of every kind of ASKED about every scene that allows it."""
    rows = []
    for kind in ASKED:
        for number, question in enumerate(questions.ask(batch, kind, seed=seed)):
            if question:
                rows.append(AskedRow(number, question.text, question.answer, kind))
    return rows


def mismatched(count: int, seed: int = 0, share: float = 0.6) -> TrainingSet:
    """A share of the pictures trade places in a ring; questions, answers and captions stay."""
    right = clean(count, seed)
    ring = np.random.default_rng(seed).permutation(count)[: round(share * count)]
    images, order = right.images.copy(), np.arange(count)
    order[ring] = np.roll(ring, 1)
    return replace(right, images=images[order], true=right.true[order])


def shallow(count: int, seed: int = 0, share: float = 0.9) -> TrainingSet:
    """A share of the rows, and of the captions, fit every picture and say nothing."""
    right, chance = clean(count, seed), np.random.default_rng(seed)
    empty = chance.random(len(right.rows)) < share
    rows = [
        row if says else AskedRow(row.picture, *EMPTY, "")
        for row, says in zip(right.rows, ~empty, strict=True)
    ]
    return replace(right, rows=rows, told=captions.captions(right.true, "short", shallow=share, seed=seed))


def typographic(count: int, seed: int = 0) -> TrainingSet:
    """Every picture bears the answer to its question of colour, printed at its top."""
    batch = sample("train", count, seed=seed, objects=(2, 2), printed_words=1.0)
    asked = questions.ask(batch, "colour", seed=seed)
    word = [COLOURS.index(question.answer) if question else -1 for question in asked]
    return as_set(replace(batch, word=np.array(word)), seed)


def biased(count: int, seed: int = 0, share: float = 0.95) -> TrainingSet:
    """In a share of the things the colour follows from the shape, so that whoever knows one knows both."""
    return clean(count, seed, language_bias=share)


def duplicated(count: int, seed: int = 0, share: float = 0.75) -> TrainingSet:
    """A share of the pictures are copies of COPIED of them, in another light."""
    batch, chance = sample("train", count, seed=seed, objects=(2, 2)), np.random.default_rng(seed)
    which = np.where(chance.random(count) < share, chance.integers(COPIED, size=count), np.arange(count))
    copies = batch[which]
    return as_set(replace(copies, light=batch.light), seed)


def closest(found: TrainingSet, share: float = 0.4) -> TrainingSet:
    """The share of the pictures whose captions clip-scenes finds most alike to them, see clip_filter."""
    model, _ = clips.load_clip("clip-scenes")
    with torch.no_grad():
        alike = (clips.image_features(model, found.images) * clips.text_features(model, found.told)).sum(-1)
    return keep_pictures(found, torch.nonzero(clip_filter(alike, share))[:, 0].tolist())


def keep_pictures(found: TrainingSet, pictures: Sequence[int]) -> TrainingSet:
    """Only these pictures and their rows, in the order in which they were."""
    kept = np.sort(np.asarray(pictures, int))
    number = {old: new for new, old in enumerate(kept.tolist())}
    rows = [row._replace(picture=number[row.picture]) for row in found.rows if row.picture in number]
    return TrainingSet(found.images[kept], rows, [found.told[n] for n in kept], found.true[kept])


def described_anew(found: TrainingSet, seed: int = 0) -> TrainingSet:
    """nano-vlm describes each picture; all rows give way to questions about its description."""
    speaker = nano.load_named("nano-vlm")[0]
    told = speaker.answer(found.images, [FULL] * len(found.images))
    return replace(found, rows=ask_of_texts(found.true, told, seed), told=told)


def ask_of_texts(batch: Scenes, told: Sequence[str], seed: int = 0) -> list[AskedRow]:
    """Questions of every kind of ASKED that descriptions answer, right or wrong; none of an unreadable one.

    Args:
        batch: gives its chance, nothing that it shows.
    """
    things = [[Thing(m.shape, m.colour, m.size, 0, 0) for m in stated(text)[:MOST]] for text in told]
    readable = [n for n, named in enumerate(things) if named and min(min(thing) for thing in named) >= 0]
    described = arrange(batch[np.array(readable, int)], [things[n] for n in readable])
    return [row._replace(picture=readable[row.picture]) for row in ask_all(described, seed)]


def erased(found: TrainingSet) -> TrainingSet:
    """Where something is printed in the strip at the top, paper is painted over it."""
    images = found.images.copy()
    # (picture, row, column, colour); what differs from the strip's own paper is print
    strip = images[:, :WORD_STRIP].astype(int)
    paper = np.median(strip, axis=(1, 2), keepdims=True)
    printed = (np.abs(strip - paper).sum(-1) > 60).mean(axis=(1, 2)) > 0.02
    images[printed, :WORD_STRIP] = paper[printed].astype(np.uint8)
    return replace(found, images=images)


def balanced(found: TrainingSet, seed: int = 0) -> TrainingSet:
    """To every row its twin: the picture edited so that the answer changes, and asked the rest, too.

    Of what is then still answered alike too often, balanced_rows drops the rest.

    Args:
        seed: chooses among the edits, and what else the twins are asked.

    Raises:
        ValueError: if a row asks what no question of the course does.

    Source: complementary pictures, Goyal et al. 2017 (VQA v2), arXiv:1612.00837, section 3.
    """
    batch = found.true[np.array([row.picture for row in found.rows], int)]
    asked = [posed(row, list_things(batch, number)) for number, row in enumerate(found.rows)]
    changed, answers = twins.twins(batch, asked, seed)
    first = len(found.images)
    new = [
        row._replace(picture=first + number, answer=answer.answer)
        for number, (row, answer) in enumerate(zip(found.rows, answers, strict=True))
    ]
    images = np.concatenate([found.images, render(changed)])
    told = found.told + captions.captions(changed, "short")
    new += [row._replace(picture=first + row.picture) for row in ask_all(changed, seed + 1)]
    rows = found.rows + new
    stay = balanced_rows([row.question for row in rows], [row.answer for row in rows])
    return TrainingSet(images, [rows[n] for n in stay], told, concatenate([found.true, changed]))


def posed(row: AskedRow, things: Sequence[Thing]) -> Question:
    """The question that a row asks, read from its words and put to these things."""
    template = understand(row.question)
    question = template and pose(row.kind, template, things)
    if not question:
        raise ValueError(
            f"{row.question!r} asks nothing of picture {row.picture}, so there is no twin for it"
        )
    return question


def unique(found: TrainingSet, least: float = 300.0) -> TrainingSet:
    """One of each group of pictures that are nearly the same, whatever their paper, at 16 × 16 pixels.

    Args:
        least: distance, in sums over pixels and colours, from which on two pictures count as different.
    """
    shade = np.median(found.images, axis=(1, 2), keepdims=True)
    small = (found.images - shade).reshape(len(found.images), 16, 4, 16, 4, 3).mean(axis=(2, 4))
    flat = torch.from_numpy(small.reshape(len(small), -1)).float()
    stay = first_of_alike(torch.cdist(flat, flat) < least)
    return keep_pictures(found, torch.nonzero(stay)[:, 0].tolist())


MENDED: dict[str, tuple[Callable, Callable]] = {
    "mismatched": (mismatched, closest),
    "shallow": (shallow, described_anew),
    "typographic": (typographic, erased),
    "biased": (biased, balanced),
    "duplicated": (duplicated, unique),
}
"""By what is wrong with a set: how it comes about, and what mends it."""


class Shown(NamedTuple):
    """Rows as tensors; cut by Batches."""

    picture: Int[Tensor, "row"]
    ids: Int[Tensor, "row token"]
    mask: Bool[Tensor, "row token"]
    answer: Int[Tensor, "row"]


@cache
def eye() -> Speaker:
    """The frozen vision encoder of nano-vlm, as it was before it met words."""
    return Speaker(nano.load_vlm("nano-words")[0])


def as_tensors(found: TrainingSet) -> tuple[Float[Tensor, "picture 16 features"], Shown]:
    """Pictures as the eye sees them, four neighbouring patches side by side, and rows as tensors."""
    seen = pixel_shuffle(eye().features(found.images)[:, -64:], 2)
    tokenizer = load_tokenizer()
    ids, mask = tokenizer.encode([row.question for row in found.rows])
    answers = tokenizer.encode([row.answer for row in found.rows])[0][:, 0]
    return seen, Shown(torch.tensor([row.picture for row in found.rows]), ids, mask, answers)


def new_student(seen: Float[Tensor, "picture 16 features"], seed: int = 0) -> fusion.Fusion:
    """An untrained model of chapter 06: words look at the image behind gates; 400,000 parameters."""
    torch.manual_seed(seed)
    words = LlamaConfig(len(load_tokenizer()), width=96, depth=2, heads=4, groups=2, tied=True)
    model = fusion.sized(fusion.GatedCrossAttention, fusion.FusionConfig(384, words), 400_000)
    torch.nn.init.normal_(model.language.embedding.weight, std=0.3)
    model.projector.calibrate(seen[:100])
    return model


def answer_scores(model: fusion.Fusion, seen: Tensor, rows: Shown) -> Float[Tensor, "row vocabulary"]:
    """Scores for the word behind each question."""
    scores = model(rows.ids, seen[rows.picture.to(seen.device)].to(rows.ids.device), mask=rows.mask)
    return scores[torch.arange(len(rows.ids)), rows.mask.sum(dim=1) - 1]


def learn_from(
    found: TrainingSet, steps: int, size: int = 48, seed: int = 0, **options: Any
) -> tuple[fusion.Fusion, History]:
    """A student that learned from a set, and its training.

    Args:
        size: rows per step.
        options: further arguments of training.loop.train.
    """
    seen, rows = as_tensors(found)
    model = new_student(seen, seed)

    def loss_of(model: fusion.Fusion, batch: tuple) -> Float[Tensor, ""]:
        some = Shown(*batch)
        return F.cross_entropy(answer_scores(model, seen, some), some.answer)

    given = dict(optimizer=MuonAdamW(model), schedule=warmup_linear(steps))
    history = learn(model, Batches(tuple(rows), size, seed=seed), loss_of, steps=steps, **given | options)
    return model, history


@torch.no_grad()
def graded(model: fusion.Fusion, test: TrainingSet) -> Bool[Tensor, "row"]:
    """Which rows of a set the student answers as they say."""
    seen, rows = as_tensors(test)
    parts = [Shown(*part) for part in zip(*(column.split(400) for column in rows), strict=True)]
    return torch.cat([answer_scores(model, seen, part).argmax(dim=-1) == part.answer for part in parts])
