"""SmolLM2 looks at OpenMoji: the shipped CLIP, a projector, LoRA; questions about drawings (notebook 17, 12).

    drawing_questions   and their answers as sentences, only those that make sense
    caption_words       stage 1: what the image tokens of each drawing should say
    fit                 stage 1 in closed form: no gradient steps, and no language model runs

The functions of real.py do the rest. The whole drawing becomes one vector (pixel shuffle with factor 4,
chapter 07), and this one TOKENS image tokens: gender and skin tone have no place in the picture, so tokens
stand for words, not for patches. Show openmoji.ATTRIBUTION wherever a drawing is shown.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vlmcourse.data import openmoji
from vlmcourse.data.openmoji import Emoji, Parts
from vlmcourse.evaluation.answers import Asked, grade_sentences
from vlmcourse.families.real import Lessons, assembled, word_vectors
from vlmcourse.families.real import load_named as load_named  # the same for this family
from vlmcourse.models.language import Llama
from vlmcourse.models.projector import Projector, pixel_shuffle
from vlmcourse.recipes.recipe import Made, Options, Recipe
from vlmcourse.recipes.smollm import TOKENS
from vlmcourse.speak import Images, Speaker

QUESTIONS = dict(role="Who or what is shown?", gender="Is it a woman, a man or a person?",
                 tone="Which skin tone is it?", full="Describe the drawing fully.")  # fmt: skip
DRAWING_KINDS = tuple(QUESTIONS)

_PEOPLE = dict(woman="person", man="person", women="people", men="people")
# no noun: it needs a person
_LOOKS = re.compile(r"\b(\w{2,}ing|with|in|hair|beard|bald|deaf|old|older|pregnant)\b")
_PLURALS = ("women", "men", "people")


def drawing_questions(drawings: Emoji) -> list[list[Asked]]:
    """For each drawing what it shows, fully; where it makes sense also role, gender and skin tone."""
    rows = []
    for caption, part in zip(drawings.captions, drawings.parts, strict=True):
        who, _, tone = caption.partition(": ")
        if who == "flag":
            answers = dict(full=f"This is the flag of {tone}.")
        else:
            answers = dict(full=sentence(who or "colour", tone))  # a drawing of nothing but a skin tone
            if part.role and (part.gender or part.tone):
                answers["role"] = sentence(neutral(who))
            if part.gender:
                answers["gender"] = f"This is a {part.gender}."
            if part.tone:
                answers["tone"] = f"The skin tone is {part.tone}."
        rows.append([Asked(text, answers[kind], kind) for kind, text in QUESTIONS.items() if kind in answers])
    return rows


def sentence(who: str, tones: str = "") -> str:
    """A caption as a sentence: of ("woman astronaut", "medium skin tone") "This is a woman astronaut with
    medium skin tone."; of "women holding hands" it begins with "These are"."""
    words = re.sub(r"^(\w+) bald$", r"bald \1", who)
    words = re.sub(r"^(woman|man|person) (\w+ hair)$", r"\1 with \2", words)
    words = re.sub(r"^(woman|man|person) (beard)$", r"\1 with a \2", words)
    hinge = " and " if " with " in words else " with "
    tone = hinge + tones.replace(" skin tone, ", " and ") if tones else ""
    if words.split()[0] in _PLURALS:
        return f"These are {words}{tone}."
    return f"This is {'an' if words[0] in 'aeiou' else 'a'} {words}{tone}."


def neutral(who: str) -> str:
    """What somebody is or does: "woman astronaut" is "astronaut", "man swimming" is "person swimming"."""
    if _LOOKS.search(who):
        return " ".join(_PEOPLE.get(word, word) for word in who.split())
    return " ".join(word for word in who.split() if word not in _PEOPLE) or "person"


def caption_words(
    language: Llama, tokenizer: Any, parts: Sequence[Parts]
) -> Float[Tensor, "drawing token width"]:
    """What the image tokens of each drawing should say, see TOKENS; the mean of all words for nothing.

    A token of several words says them at once: what makes each word special, its vector less the mean of all
    words, is added to that mean. The words "skin tone" are left out where they stand in every caption.
    """
    spoken = []
    for part in parts:
        role, gender, tone = (re.findall(r"[\w-]+", text) for text in part)
        spoken += [role[:1], role[1:2], role[2:], gender, tone]
    names = sorted({word for words in spoken for word in words})
    mean = language.embedding.weight.detach().mean(0)
    table = dict(zip(names, word_vectors(language, tokenizer, names) - mean, strict=True))
    targets = [mean + sum((table[word] for word in words), torch.zeros_like(mean)) for words in spoken]
    return torch.stack(targets).unflatten(0, (len(parts), TOKENS))


@torch.no_grad()
def fit(
    projector: Projector,
    features: Float[Tensor, "drawing patch features"],
    targets: Float[Tensor, "drawing token out"],
    weights: Float[Tensor, "drawing"],
) -> None:
    """Stage 1 without a gradient step: the projector becomes the best linear map from drawings to words.

    Least squares, cut to as many directions as the projector has hidden numbers. Each of them enters GELU
    with variance 1 around ``bend``, where GELU is nearly straight.

    Args:
        projector: with two layers, and a shuffle that makes one vector of each drawing.
        targets: see caption_words.
        weights: how much each drawing counts.

    Raises:
        ValueError: if the projector makes several vectors of a drawing, or other tokens than ``targets`` has.

    Source: Izenman 1975, "Reduced-rank regression for the multivariate linear model".
    """
    ridge, bend = 3e-4, 3.0  # penalty on large weights, as a share of the inputs' variance; see above
    spread = projector.spread
    if (count := projector.tokens(features.shape[1]) // spread) != 1:
        remedy = "fit needs 1, so shuffle the whole grid"
        raise ValueError(f"the projector makes {count} vectors of a drawing; {remedy}")
    if targets.shape[1] != spread:
        raise ValueError(f"{targets.shape[1]} tokens to be said, but the projector spreads to {spread}")
    targets = targets.flatten(1)
    inputs, share = pixel_shuffle(features, projector.shuffle)[:, 0], (weights / weights.mean())[:, None]
    mean, middle = (share * inputs).mean(0), (share * targets).mean(0)
    size = (share * (inputs - mean).square()).mean(0).sqrt().clamp(min=1e-6)
    scaled = (inputs - mean) / size
    products = scaled.T @ (share * scaled) / len(scaled) + ridge * torch.eye(len(size))
    matrix = torch.linalg.solve(products, scaled.T @ (share * (targets - middle)) / len(scaled))
    kept = torch.linalg.svd(torch.linalg.cholesky(products).T @ matrix, full_matrices=False).Vh
    kept = kept[: projector.expand.out_features].T
    down = (matrix @ kept) / size[:, None]
    scale = ((inputs - mean) @ down).std(0)
    projector.expand.weight.copy_((down / scale).T)
    projector.expand.bias.copy_(bend - mean @ down / scale)
    projector.contract.weight.copy_(kept * scale)
    projector.contract.bias.copy_(middle - bend * (kept * scale).sum(1))


def counts(parts: Sequence[Parts], people: float) -> Float[Tensor, "drawing"]:
    """How much each drawing counts: one with a gender or a skin tone ``people`` times as much as another."""
    return torch.tensor([people if part.gender or part.tone else 1.0 for part in parts])


def pictures() -> Images:
    """The drawings that the eye saw in training."""
    return openmoji.load("train").images


def run(recipe: Recipe, options: Options) -> Iterator[Made]:
    """Carry out recipes/smollm.py for drawings, see real.assembled."""
    return assembled(recipe, options, drawing_lessons, measure)


def drawing_lessons(recipe: Recipe, speaker: Speaker) -> Lessons:
    """Stage 1, the projector becomes the best map from drawings to words; and what stage 2 learns from."""
    words, answers = recipe.stages
    train, model = openmoji.load("train"), speaker.model
    images = speaker.features(train.images)
    targets = caption_words(model.language, speaker.words.tokenizer, train.parts)
    fit(model.projector, images, targets, counts(train.parts, words.data["people"]))
    weights = counts(train.parts, answers.data["people"])
    chosen = torch.multinomial(weights, answers.steps * answers.size).tolist()
    return images[chosen], drawing_questions(train[np.array(chosen)])


def measure(speaker: Speaker, count: int = openmoji.HELDOUT) -> dict[str, float]:
    """Whole sentences right, all and by kind: with the right drawing, another, a moved one, by habit alone.

    Args:
        count: of the combinations never seen, spread evenly over all of them.

    The other drawing stands half the list away: neighbours often share their role. The moved one is a pixel
    lower. Habit is the share of each kind's most frequent answer.
    """
    drawings = openmoji.load("heldout")[np.linspace(0, openmoji.HELDOUT, count, endpoint=False).astype(int)]
    about, right_images = drawing_questions(drawings), speaker.features(drawings.images)
    moved = speaker.features(np.roll(drawings.images, 1, axis=1))
    other = right_images.roll(count // 2, 0)
    metrics = {}
    for case, given in (("", right_images), (", another image", other), (", a pixel lower", moved)):
        graded = grade_sentences(speaker, given, about, batch=20)
        metrics[f"sentences{case}"] = graded.exact.mean().item()
        metrics |= {kind + case: share for kind, share in graded.shares(DRAWING_KINDS).items()}
    for kind in DRAWING_KINDS:
        answers = Counter(asked.answer for row in about for asked in row if asked.kind == kind)
        metrics[f"{kind}, most frequent answer"] = max(answers.values()) / answers.total()
    return {name: round(value, 4) for name, value in metrics.items()}
