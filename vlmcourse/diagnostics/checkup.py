"""Checkup: every tool of this folder at once, each number with a verdict and what to do (notebook 14).

    diagnose        all that can be said of a model, of rows to train on, of the losses of a run
    Exam            images with what is asked and answered, and where the evidence lies
    scene_exam      one about scenes that no training has seen
    kurtosis        tells weights as they are drawn from weights that have learned
    weight_report   what is known of each matrix between eye and language model

Verdicts are of the kind "look at this", not proofs; the limits stand beside the checks, and every shipped
model passes them.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vlmcourse.diagnostics.audit import Checked, audit_rows
from vlmcourse.diagnostics.gap import feature_statistics
from vlmcourse.diagnostics.occlusion import explain_all, occlusion_map
from vlmcourse.diagnostics.relevance import NoPatches, cam_map, relevance_map
from vlmcourse.diagnostics.share import attention_share, gradient_share
from vlmcourse.diagnostics.swaps import swap_test
from vlmcourse.models.projector import spectrum
from vlmcourse.slots import slot
from vlmcourse.world import questions, scenes
from vlmcourse.world.render import render

POINTED = ("colour", "shape", "size", "position")  # kinds of questions with one object as evidence
MANY = 32  # questions that are enough for a mean over tokens
FEW = 8  # questions whose maps are made: a map by occlusion shows a model 65 images


class Exam(NamedTuple):
    """Questions with right answers; one image for each."""

    images: UInt8[np.ndarray, "question rows columns 3"]
    instructions: list[str]
    answers: list[str]
    asked: Sequence[Any] = ()  # the questions with their evidence boxes, see world.questions; none if unknown


def scene_exam(count: int = 64, seed: int = 0) -> Exam:
    """Scenes of the validation split, with a question of any kind about each."""
    batch = scenes.sample("validation", count, seed=seed, start=40_000)
    asked = questions.ask(batch, seed=seed)
    return Exam(render(batch), [one.text for one in asked], [one.answer for one in asked], asked)


@slot
def kurtosis(weight: Float[Tensor, "out width"]) -> Float[Tensor, ""]:
    """Mean fourth power of what deviates from the mean, over the squared variance: 3 for normal numbers.

    Uniform ones, as torch's linear layers draw them, have 1.8; training spreads out the largest, so that a
    projector with 1.8 has learned nothing: it was not trained, or its weights were not loaded.
    """
    away = weight - weight.mean()
    return away.pow(4).mean() / away.square().mean().square()


class Matrix(NamedTuple):
    """What weight_report says of a matrix."""

    name: str
    norm: float
    largest: float  # singular value
    rank: float  # effective rank as a share of the highest possible one, 0 to 1, see projector.spectrum
    kurtosis: float


def weight_report(module: nn.Module) -> list[Matrix]:
    """One row for each linear layer inside, itself included."""
    rows = []
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear):
            weight = layer.weight.detach().float()
            values, rank = spectrum(weight)
            numbers = (weight.norm(), values[0], rank / len(values), kurtosis(weight))
            rows.append(Matrix(name, *(number.item() for number in numbers)))
    return rows


def diagnose(
    speaker: Any = None,
    exam: Exam | None = None,
    *,
    rows: Any = None,
    losses: Sequence[float] = (),
    words: Any = None,
) -> list[Checked]:
    """Everything that can be checked with what is given; nothing is trained or changed.

    Args:
        speaker: a model with its words, see speak.Speaker.
        exam: what it is asked, such as a person's own images; scenes when not given. Maps are compared with
            boxes only where the exam has them.
        rows: packed rows that it shall learn from; those of the exam when not given.
        losses: of each step of a run.
        words: whose rows they are, if there is no speaker; the placeholders of an image are then not counted.

    Raises:
        ValueError: if there is nothing to check.
    """
    if speaker is None and rows is None and not len(losses):
        raise ValueError("nothing to diagnose: give a speaker, rows with their words, or losses")
    found = loss_checks(losses) if len(losses) else []
    if rows is not None and speaker is None:
        if words is None:
            raise ValueError("rows alone do not say which id is an image or an end: give words as well")
        return found + audit_rows(rows, words.image, words.end, 0)
    if speaker is None:
        return found
    exam = exam or scene_exam()
    talks = [[pair] for pair in zip(exam.instructions, exam.answers, strict=True)]
    rows = speaker.encode(talks) if rows is None else rows
    found += audit_rows(rows, speaker.words.image, speaker.words.end, speaker.model.tokens_per_image)
    found += connector_checks(speaker, exam)
    found += reach_checks(speaker, exam, talks)
    found += swap_checks(speaker, exam)
    return found + (map_checks(speaker, exam) if exam.asked else [])


def loss_checks(losses: Sequence[float]) -> list[Checked]:
    """Whether a run's losses are numbers, above 0, and fall."""
    broken = sum(not math.isfinite(loss) for loss in losses)
    empty = sum(loss == 0 for loss in losses)
    tenth = max(len(losses) // 10, 1)
    fall = sum(losses[-tenth:]) / sum(losses[:tenth]) if sum(losses[:tenth]) else math.nan
    lower = "a lower learning rate, gradient clipping, bf16 in place of fp16"
    flat = "nothing is learned: check what is trained (requires_grad), the rate, and the labels"
    return [
        Checked("loss: steps without a number", broken, broken == 0, lower),
        Checked("loss: steps at exactly 0", empty, empty == 0, "no answer had a label: see the labels"),
        Checked("loss: last tenth over first tenth", fall, fall < 0.98, flat),
    ]


@torch.no_grad()
def connector_checks(speaker: Any, exam: Exam) -> list[Checked]:
    """What arrives at the language model: vectors as long as words, other ones for other images."""
    model = speaker.model
    tokens = model.connect(speaker.features(exam.images)).float()
    length, *_ = feature_statistics(tokens.flatten(0, 1))
    words = model.language.embedding.weight.float().norm(dim=-1).mean()
    ratio = (length / words).item()
    spread = (tokens.std(dim=0).norm(dim=-1).mean() / length).nan_to_num(0).item()
    scale = "scale the projector before training (Projector.calibrate); 0 means that no image arrives"
    alike = "all images look alike to the language model: check the encoder, its layer, and the connector"
    found = [
        Checked("image: length of its vectors, over words", ratio, 0.05 < ratio < 50, scale),
        Checked("image: how much vectors differ by image", spread, spread > 0.05, alike),
    ]
    drawn = "as drawn at random: train the projector, and check that its weights were loaded"
    if isinstance(getattr(model, "projector", None), nn.Module):
        least = min(matrix.kurtosis for matrix in weight_report(model.projector))
        found.append(Checked("projector: kurtosis of its weights", least, least > 1.9, drawn))
    return found


def reach_checks(speaker: Any, exam: Exam, talks: Sequence) -> list[Checked]:
    """Whether words attend to the image, and whether learning reaches it."""
    few = slice(MANY)
    share = attention_share(speaker, exam.images[few], exam.instructions[few])
    highest = share.at_answer().max().item()
    ratio = gradient_share(speaker, exam.images[few], talks[few]).max().item()
    unread = "no layer reads the image where the answer begins: check mask, gates, and image vectors"
    closed = "the loss hardly pulls at the image: check mask, gates, and whether answers need the image"
    return [
        Checked(f"image: highest share of {share.kind}", highest, highest > 0.1, unread),
        Checked("image: gradient, over that of words", ratio, ratio > 0.01, closed),
    ]


def swap_checks(speaker: Any, exam: Exam) -> list[Checked]:
    """Whether answers are right because of the image."""
    swapped = swap_test(speaker, exam.images, exam.instructions, exam.answers)
    count = len(exam.answers)
    prior = max(exam.answers.count(answer) for answer in set(exam.answers)) / count
    chance = 1 / math.sqrt(count)  # two standard errors of a share, at most
    unlearned = "no better than one answer for everything: train longer, check labels and template"
    unseen = "answers are habit: see the checks of the image; ask what cannot be guessed"
    blind, other = swapped.right - swapped.blind, swapped.right - swapped.shuffled
    return [
        Checked("answers: right", swapped.right, swapped.right > prior + chance, unlearned),
        Checked("answers: right, more than on blank paper", blind, blind > chance, unseen),
        Checked("answers: right, more than with another image", other, other > chance, unseen),
        Checked("answers: changed by another image", swapped.changed, swapped.changed > 0.1, unseen),
    ]


def map_checks(speaker: Any, exam: Exam) -> list[Checked]:
    """Whether the evidence for right answers lies in its box: how many times as much as anywhere else."""
    pointed = [number for number, one in enumerate(exam.asked) if one.kind in POINTED][:FEW]
    asked = [exam.asked[number] for number in pointed]
    elsewhere = "other places decide: look at the maps; is the box right, and are answers right at all?"
    dead = "no gradient arrives at the encoder's features: look for detach, no_grad, a closed gate"
    found = []
    for name, explain, least, remedy in (
        ("evidence in its box, by occlusion", occlusion_map, 1.5, elsewhere),
        ("evidence in its box, by relevance", relevance_map, 1.5, elsewhere),
        ("evidence in its box, by Grad-CAM", cam_map, 0.0, dead),
    ):
        try:
            inside, anywhere = explain_all(explain, speaker, exam.images[pointed], asked)
        except NoPatches:  # as behind pixel shuffle; the other two cover, and weigh, what the encoder says
            continue
        times = inside / anywhere if anywhere else 0.0
        found.append(Checked(name, times, times > least, remedy))
    return found
