"""Does the answer depend on the image? Show another one, or none, and ask again (notebook 14).

    deranged     whose image each question is shown instead of its own
    swap_rates   accuracy with each kind of image, and how often the answer changes
    paper_of     the colour of an image's paper, and blank an image of nothing but paper
    swap_test    both rates, measured on a model

A model that answers from habit gives the same answers whatever it is shown. For pairs that must be answered
differently see world/twins.py.

Source: images exchanged or taken away as a control, Goyal et al. 2017, arXiv:1612.00837; Zhang et al. 2016,
    arXiv:1511.05099.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from vlmcourse.slots import slot

_Images = UInt8[np.ndarray, "image rows columns 3"]


@slot
def deranged(count: int, seed: int) -> Int[Tensor, "count"]:
    """A random order in which nobody keeps their place, so that every question gets a foreign image.

    All are put in a random ring, and each takes what belongs to its neighbour there. A random permutation
    leaves one item in its place on average.

    Raises:
        ValueError: if there are not two at least.
    """
    if count < 2:
        raise ValueError(f"{count} images cannot be exchanged; give two at least")
    ring = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    order = torch.empty_like(ring)
    order[ring] = ring.roll(1)
    return order


@slot
def swap_rates(
    given: Int[Tensor, "condition question"], answers: Int[Tensor, "question"]
) -> tuple[Float[Tensor, "condition"], Float[Tensor, "condition"]]:
    """Accuracy under each condition, and how often the answer is another one than under condition 0.

    Args:
        given: numbers of the model's answers; condition 0 shows the right image.
        answers: numbers of the right answers to the right images.

    Returns:
        accuracy: share of right answers; what remains of it without the right image is habit.
        changed: share of questions whose answer changed, right or wrong; 0 under condition 0.
    """
    accuracy = (given == answers).float().mean(dim=1)
    return accuracy, (given != given[0]).float().mean(dim=1)


class Swapped(NamedTuple):
    """What swap_test found; each a share of the questions, 0 to 1."""

    right: float  # accuracy with the right image
    blind: float  # with blank paper
    shuffled: float  # with another question's image
    changed_blind: float  # how often the answer changes when the image is blank
    changed: float  # and when it is another one


def paper_of(image: UInt8[np.ndarray, "rows columns 3"]) -> UInt8[np.ndarray, "3"]:
    """The colour of most of an image's border; of a scene, of its paper."""
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    colours, counts = np.unique(border, axis=0, return_counts=True)
    return colours[counts.argmax()]


def blank(images: _Images) -> _Images:
    """_Images that show nothing but the paper of each."""
    papers = np.stack([paper_of(image) for image in images])
    return np.broadcast_to(papers[:, None, None], images.shape).copy()


def swap_test(
    speaker: Any, images: _Images, instructions: Sequence[str], answers: Sequence[str], seed: int = 0
) -> Swapped:
    """Ask about the right image, about blank paper and about another question's image.

    Args:
        speaker: any model with its words, see speak.Speaker.
        answers: the right ones; capitals and spaces around them do not count.

    Raises:
        ValueError: if images, instructions and answers are not equally many, or fewer than two.
    """
    if not len(images) == len(instructions) == len(answers):
        counts = f"{len(images)} images, {len(instructions)} instructions and {len(answers)} answers"
        raise ValueError(f"{counts}; give one of each per question")
    shown = [images, blank(images), images[deranged(len(images), seed).numpy()]]
    said = [list(answers), *(speaker.answer(some, list(instructions)) for some in shown)]
    texts = [[text.strip().lower() for text in row] for row in said]
    numbers = torch.from_numpy(np.unique(texts, return_inverse=True)[1].reshape(len(texts), -1))
    accuracy, changed = swap_rates(numbers[1:], numbers[0])
    return Swapped(*accuracy.tolist(), *changed[1:].tolist())
