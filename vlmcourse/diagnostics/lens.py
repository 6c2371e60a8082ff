"""Which words does a vector stand next to?  Reading image tokens with the language model's own words
(notebook 07).

    nearest_words   the k words of a table that lie closest to each vector
    logit_lens      the same inside a language model: what its head would say behind every block

A projector's image tokens lie in the space of word vectors, but nothing makes them equal to any word.  The
nearest words are a reading of them, not a translation; the scores say how close they come.

Shapes use one vocabulary throughout: batch, token, width, vocabulary, layer, k.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from vlmcourse.models.language import LanguageModel


class Nearest(NamedTuple):
    """Words and how near they are, best first; both begin with the same axes."""

    words: list  # nested lists of text: [token][k], or [layer][token][k]
    scores: Float[Tensor, "... k"]  # cosines or probabilities


@torch.no_grad()
def nearest_words(
    vectors: Float[Tensor, "token width"],
    table: Float[Tensor, "vocabulary width"],
    names: Sequence[str],
    k: int = 5,
    measure: str = "cosine",
) -> Nearest:
    """The k words closest to each vector.

    Args:
        vectors: image tokens, for instance.
        table: one vector per word: the embedding matrix, or the head's.
        names: the words' texts, one per row of the table.
        measure: "cosine" for the angle alone, -1 to 1; "probability" for the softmax over all words of
            their products with the vector, which is what a language model's head makes of it.

    Raises:
        ValueError: if the widths differ, names and table are not equally long, k is not 1 to vocabulary, or
            measure is something else.
    """
    if vectors.ndim != 2 or table.ndim != 2 or vectors.shape[1] != table.shape[1]:
        raise ValueError(
            "vectors (token, width) and table (vocabulary, width) need one width; got "
            f"{tuple(vectors.shape)} and {tuple(table.shape)}; were the vectors projected?"
        )
    if len(names) != len(table) or not 1 <= k <= len(table):
        raise ValueError(
            f"{len(names)} names for a table of {len(table)} words, k={k}; give one name per word and "
            f"k from 1 to {len(table)}"
        )
    vectors, table = vectors.float(), table.float()
    if measure == "cosine":
        scores = F.normalize(vectors, dim=-1) @ F.normalize(table, dim=-1).T
    elif measure == "probability":
        scores = (vectors @ table.T).softmax(dim=-1)
    else:
        raise ValueError(f"measure is 'cosine' or 'probability', not {measure!r}")
    best, places = scores.topk(k, dim=-1)
    return Nearest([[names[place] for place in row] for row in places.tolist()], best.cpu())


@torch.no_grad()
def logit_lens(
    model: LanguageModel,
    embeddings: Float[Tensor, "batch token width"],
    names: Sequence[str],
    k: int = 5,
    *,
    places: Bool[Tensor, "batch token"] | None = None,
    mask: Bool[Tensor, "batch token"] | None = None,
) -> Nearest:
    """What the language model would say next at each token, if it stopped behind each of its blocks.

    Args:
        model: its norm and head read every layer.
        embeddings: texts with their image tokens, as Llava.embed gives them.
        names: the words' texts, one per word the head knows.
        places: True for the tokens to read, such as ``ids == IMAGE``; all when not given.
        mask: True for real tokens, see LanguageModel.hidden.

    Returns:
        words [layer][token][k] and probabilities (layer, token, k).  Layer 0 is what enters the first block,
        layer n what leaves block n; the last layer is the model's own prediction.  Tokens stand one text
        after another.

    Source: nostalgebraist 2020, "interpreting GPT: the logit lens"; Belrose et al. 2023, arXiv:2303.08112,
        section 2.
    """
    layers = [embeddings]

    def keep(number: int, tokens: Tensor) -> Tensor:
        layers.append(tokens)
        return tokens

    model.hidden(embeddings, mask=mask, after=keep)
    if places is None:
        places = torch.ones(embeddings.shape[:2], dtype=torch.bool, device=embeddings.device)
    read = [
        nearest_words(model.norm(tokens[places]), model.head.weight, names, k, "probability")
        for tokens in layers
    ]
    return Nearest([layer.words for layer in read], torch.stack([layer.scores for layer in read]))
