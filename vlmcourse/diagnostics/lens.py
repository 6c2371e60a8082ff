"""Which words does a vector stand next to? Image tokens, read with the language model's words (notebook 07).

A projector's image tokens lie in the space of word vectors, but nothing makes them equal to any word. The
nearest words are a reading of them, not a translation; the scores say how close they come.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


class Nearest(NamedTuple):
    """Words and how near they are, best first."""

    words: list[list[str]]  # [token][k]
    scores: Float[Tensor, "token k"]  # cosines, -1 to 1


@torch.no_grad()
def nearest_words(
    vectors: Float[Tensor, "token width"],
    table: Float[Tensor, "vocabulary width"],
    names: Sequence[str],
    k: int = 5,
) -> Nearest:
    """The k words closest to each vector, by the angle alone.

    Args:
        vectors: image tokens, for instance.
        table: one vector per word: the embedding matrix, or the head's.
        names: the words' texts, one per row of the table.

    Raises:
        ValueError: if the widths differ, names and table are not equally long, or k is not 1 to vocabulary.
    """
    if vectors.ndim != 2 or table.ndim != 2 or vectors.shape[1] != table.shape[1]:
        raise ValueError(
            "vectors (token, width) and table (vocabulary, width) need one width; got "
            f"{tuple(vectors.shape)} and {tuple(table.shape)}; were the vectors projected?"
        )
    words = len(table)
    if len(names) != words or not 1 <= k <= words:
        raise ValueError(
            f"{len(names)} names for a table of {words} words, k={k}; give one each, and k from 1 to {words}"
        )
    scores = F.normalize(vectors.float(), dim=-1) @ F.normalize(table.float(), dim=-1).T
    best, places = scores.topk(k, dim=-1)
    return Nearest([[names[place] for place in row] for row in places.tolist()], best.cpu())
