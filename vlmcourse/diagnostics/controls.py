"""Blind and swapped controls: does a model look at all? (First used in notebook 01.)

Source: a blind baseline by question type and pairs of similar pictures, Goyal et al. 2017 (VQA v2),
    arXiv:1612.00837.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vlmcourse.slots import slot


@slot(name="looks.answer_prior")
def answer_prior(
    asked: Int[Tensor, "question"], answers: Int[Tensor, "question"], kinds: int
) -> Int[Tensor, "kind"]:
    """The most frequent answer to each kind of question, and nothing about any picture.

    Where two answers are equally frequent, the smaller number wins.

    Args:
        asked: number of the kind of each question, 0 to kinds - 1.
        answers: number of each answer, from 0.
        kinds: how many kinds there are; one that was never asked gets the most frequent answer of all.
    """
    counts = torch.zeros(kinds, int(answers.max()) + 1, dtype=torch.long, device=answers.device)
    counts.index_put_((asked, answers), torch.ones_like(answers), accumulate=True)
    unasked = counts.sum(dim=1) == 0
    return torch.where(unasked, counts.sum(dim=0).argmax(), counts.argmax(dim=1))


@slot(name="looks.twin_accuracy")
def twin_accuracy(
    guesses: Int[Tensor, "pair two"], answers: Int[Tensor, "pair two"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """How a model does on twins: two pictures, one question, two different answers.

    Returns:
        accuracy: share of right answers. Without looking both guesses are equal, so at most ½ are right.
        pairs: share of pairs with both answers right. Without looking it is 0.

    Source: Goyal et al. 2017, arXiv:1612.00837, section 3.
    """
    right = guesses == answers
    return right.float().mean(), right.all(dim=1).float().mean()


class Blind:
    """Answers by habit: what was most often right for questions that read the same. Who sees must beat it.

    Args:
        asked: what is known of each training question: its text, or only its kind.
        answers: the right answer to each.

    Raises:
        ValueError: if there are no questions, or not one answer for each.
    """

    def __init__(self, asked: Sequence[str], answers: Sequence[str]):
        if not 0 < len(asked) == len(answers):
            raise ValueError(f"expected an answer for each question, got {len(asked)} and {len(answers)}")
        kinds, kind = np.unique(asked, return_inverse=True)
        self.names, right = np.unique(answers, return_inverse=True)
        self.kinds = {text: number for number, text in enumerate(kinds.tolist())}
        # One kind more, which is never asked: its answer is for questions that are new
        self.prior = answer_prior(torch.tensor(kind), torch.tensor(right), len(kinds) + 1).numpy()

    def __call__(self, asked: Sequence[str]) -> list[str]:
        """An answer to each question; to one that was never asked, the most frequent answer of all."""
        return self.names[self.prior[[self.kinds.get(text, -1) for text in asked]]].tolist()


def twin_score(
    guesses: Sequence[str], answers: Sequence[str], twin_guesses: Sequence[str], twin_answers: Sequence[str]
) -> tuple[float, float]:
    """`twin_accuracy` of texts: answer i and twin answer i belong to one pair.

    Raises:
        ValueError: if the four lists differ in length.
    """
    four = [guesses, twin_guesses, answers, twin_answers]
    if len(set(map(len, four))) != 1:
        raise ValueError(f"guesses and answers of twins must be equally many, got {[*map(len, four)]}")
    numbers = np.unique(four, return_inverse=True)[1].reshape(4, -1)
    accuracy, pairs = twin_accuracy(torch.tensor(numbers[:2].T), torch.tensor(numbers[2:].T))
    return accuracy.item(), pairs.item()
