"""Learning from preferences: what is in the picture over what is in its twin (notebook 20).

Preferred           questions about images, each with a better and a worse answer
twin_pairs          of both pictures of a twin the true answer, and that of the other picture
caption_pairs       captions of scenes, and of the same scenes with one thing repainted
seen_by_annotators  what teaches a model to invent: texts by people who saw more than it does
prefer              DPO with the one training loop
imitate             the control: the better answers alone, learned as ever
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vlmcourse.data.batches import Batches
from vlmcourse.data.branches import Branches, branch
from vlmcourse.data.chat import IGNORED
from vlmcourse.evaluation.answers import asked_of_twins
from vlmcourse.families.rewarding import branch_scores
from vlmcourse.speak import Features, Speaker
from vlmcourse.training.history import History
from vlmcourse.training.loop import train
from vlmcourse.training.preferences import dpo_loss, token_log_probabilities
from vlmcourse.world import scenes, twins
from vlmcourse.world.arranging import arrange
from vlmcourse.world.instructions import FULL, ordered_captions
from vlmcourse.world.truth import Existence, Who, list_things

Preference = tuple[str, str, str]  # (question, better answer, worse answer)


class Preferred(NamedTuple):
    """Two answers to each question, the better one first."""

    features: Features  # of the image of each question
    rows: Branches


def pair_up(speaker: Speaker, features: Features, about: Sequence[Preference]) -> Preferred:
    """Preferences as a model reads them, one about each image.

    Args:
        features: of the image of each question.
    """
    words = speaker.words
    opening, middle, ending = words.frame()
    tokens = speaker.model.tokens_per_image
    asked = [opening + "<image>" + question + middle for question, *_ in about]
    prompts = [words.pictures(text, tokens) for text in asked]
    ids = words.number([said + ending for _, *pair in about for said in pair])
    answers = [ids[start : start + 2] for start in range(0, len(ids), 2)]
    return Preferred(features, branch(prompts, answers, words.pad))


def twin_pairs(batch: scenes.Scenes, kind: str = "existence", seed: int = 0) -> tuple[list, list[Preference]]:
    """Images of scenes and of their twins, and to each the true answer over that of the other picture.

    A model that does not look at the image has to be wrong about one of the two.
    """
    shown, asked = asked_of_twins(batch, kind, seed)
    half = len(asked) // 2
    others = asked[half:] + asked[:half]
    about = [(one.text, one.answer, other.answer) for one, other in zip(asked, others, strict=True)]
    return shown, about


def seen_by_annotators(batch: scenes.Scenes) -> tuple[scenes.Scenes, list[list[tuple[str, str]]]]:
    """Scenes without their last thing, and what people say of them who saw it, too.

    A caption that names it, "yes" to the question whether it is there, and "yes" to another thing that is.
    A model that learns from these texts learns to tell what is not in its picture.

    Returns:
        (shown, talks): the scenes as a model sees them; of each its questions with their answers.

    Raises:
        ValueError: if a scene has fewer than two things.
    """
    if (batch.count < 2).any():
        raise ValueError("a scene has one thing, and nothing would be left of it; give scenes of two or more")
    things = [list_things(batch, number) for number in range(len(batch))]
    talks = []
    for seen, caption in zip(things, ordered_captions(batch), strict=True):
        gone, left = (str(Existence(Who(one.shape, one.colour))) for one in (seen[-1], seen[0]))
        talks.append([(FULL, caption), (gone, "yes"), (left, "yes")])
    return arrange(batch, [seen[:-1] for seen in things]), talks


def caption_pairs(batch: scenes.Scenes, seed: int = 0) -> list[Preference]:
    """The caption of each scene over that of the same scene with one thing in another shape."""
    false = ordered_captions(twins.repaint(batch, "shape", seed))
    return [(FULL, *pair) for pair in zip(ordered_captions(batch), false, strict=True)]


@torch.no_grad()
def whole_answers(speaker: Speaker, pairs: Preferred, batch: int = 100) -> Float[Tensor, "question answer"]:
    """Log-probability of each answer as a whole."""
    parts = []
    for start in range(0, len(pairs.features), batch):
        part = slice(start, start + batch)
        rows = Branches(*(column[part] for column in pairs.rows))
        scores = branch_scores(speaker, pairs.features[part], rows)
        parts.append(token_log_probabilities(scores, rows.labels).sum(dim=-1))
    return torch.cat(parts)


def prefer(
    speaker: Speaker,
    pairs: Preferred,
    steps: int,
    size: int = 32,
    beta: float = 0.1,
    seed: int = 0,
    **options: Any,
) -> History:
    """DPO: the first answer of each pair becomes likelier than the second, held against the model as it is.

    The history has how often the better answer gained more (``agreed``), and what each of the two gained.

    Args:
        options: further arguments of training.loop.train.
    """
    reference = whole_answers(speaker, pairs)

    def loss_of(model: nn.Module, batch: tuple) -> tuple[Tensor, dict[str, Tensor]]:
        features, rows, before = batch[0], Branches(*batch[1]), batch[2]
        scores = branch_scores(speaker, features, rows)
        now = token_log_probabilities(scores, rows.labels).sum(dim=-1)
        better, worse = (now - before).detach().unbind(dim=1)
        metrics = dict(agreed=(better > worse).float().mean(), better=better.mean(), worse=worse.mean())
        return dpo_loss(*now.unbind(dim=1), *before.unbind(dim=1), beta), metrics

    source = pairs.features, tuple(pairs.rows), reference
    history = train(speaker.model, Batches(source, size, seed=seed), loss_of, steps=steps, **options)
    speaker.model.cpu().eval()
    return history


def imitate(
    speaker: Speaker, pairs: Preferred, steps: int, size: int = 32, seed: int = 0, **options: Any
) -> History:
    """The control of `prefer`: the better answers alone, learned as in instruction tuning."""

    def loss_of(model: nn.Module, batch: tuple) -> Tensor:
        rows = Branches(*batch[1])
        scores = branch_scores(speaker, batch[0], rows)
        better = token_log_probabilities(scores, rows.labels)[:, 0]
        return -better.sum() / (rows.labels[:, 0] != IGNORED).sum()

    source = pairs.features, tuple(pairs.rows)
    history = train(speaker.model, Batches(source, size, seed=seed), loss_of, steps=steps, **options)
    speaker.model.cpu().eval()
    return history
