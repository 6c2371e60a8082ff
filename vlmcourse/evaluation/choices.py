"""Multiple choice without illusions: reading the letter, asking in every order, asking without the image
(notebook 13).

    written_options, rotations, circular_accuracy   the same question with its options in every rotation
    strict_option, leading_option, any_option       three ways to read an answer, and three scores
    gain_and_leakage                                what the image adds, and what was known without it

Options are numbered from 0; the model sees them as letters from A.
"""

import re
import string
from collections.abc import Sequence

from vlmcourse.slots import slot


def written_options(question: str, options: Sequence[str]) -> str:
    """The question, and each option on a line of its own: "What colour is it?", "A. red", "B. blue"."""
    letters = _letters(len(options))
    lines = [f"{letter}. {option}" for letter, option in zip(letters, options, strict=True)]
    return "\n".join([question, *lines])


def _letters(options: int) -> str:
    if not 2 <= options <= len(string.ascii_uppercase):
        raise ValueError(f"a choice has 2 to 26 options, one for each letter; got {options}")
    return string.ascii_uppercase[:options]


@slot
def rotations(options: Sequence[str], right: int) -> list[tuple[list[str], int]]:
    """The options in every rotation, and where the right one stands in each.

    The first rotation is the order given; in each further one the first option has moved to the end.

    Args:
        right: number of the right option.

    Source: circular evaluation, Liu et al. 2023 (MMBench), arXiv:2307.06281.
    """
    turned = []
    for first in range(len(options)):
        order = [*options[first:], *options[:first]]
        turned.append((order, (right - first) % len(options)))
    return turned


@slot
def circular_accuracy(passed: Sequence[Sequence[bool]]) -> float:
    """The share of questions that were answered right in every rotation.

    Who always says A is right in one rotation of each question, so has 0 here; who guesses among four has
    0.4 %, not 25 %.

    Args:
        passed: for each question whether each rotation was answered right.

    Raises:
        ValueError: if there are no questions, or one of them has no rotation.

    Source: Liu et al. 2023 (MMBench), arXiv:2307.06281.
    """
    if not passed or not all(passed):
        raise ValueError("each question needs the answers to its rotations; a list is empty")
    return sum(all(rotation) for rotation in passed) / len(passed)


@slot
def strict_option(answer: str, options: int) -> int | None:
    """The number of the letter that an answer consists of: "B", "(B)", "B." and "B)"; None for anything else.

    Who knows the answer and adds a word gets nothing.
    """
    match = re.fullmatch(rf"\s*\(?([{_letters(options)}])[.):]*\s*", answer)
    return _letters(options).index(match[1]) if match else None


@slot
def leading_option(answer: str, options: int) -> int | None:
    """The number of the letter that an answer begins with, as a word of its own: "B. red", "(B) red" or "B".

    None if it begins with anything else. "A dog" begins with A.
    """
    match = re.match(rf"\s*\(?([{_letters(options)}])\b", answer)
    return _letters(options).index(match[1]) if match else None


@slot
def any_option(answer: str, options: int) -> int | None:
    """The number of the first capital letter that stands as a word anywhere in an answer: "I think it is B".

    None if there is none. "Not A but B" is read as A, and "A dog, so B" as well.
    """
    match = re.search(rf"\b([{_letters(options)}])\b", answer)
    return _letters(options).index(match[1]) if match else None


@slot
def gain_and_leakage(seeing: float, blind: float, text_only: float) -> tuple[float, float]:
    """What a score owes to the image, and what it owes to having met the questions in training.

    Args:
        seeing: the model's score with the images.
        blind: its score on the same questions without the images.
        text_only: the score of the language model it was made from, which never saw an image.

    Returns:
        gain: seeing - blind; may be negative, then the image confuses.
        leakage: blind - text_only, at least 0: learnt in multimodal training without any need of the image.

    Source: Chen et al. 2024 (MMStar), arXiv:2403.20330: multi-modal gain and multi-modal leakage.
    """
    return seeing - blind, max(0.0, blind - text_only)
