"""A projector that chooses words: each image token is a mixture of vectors that a language model knows.

In shapes, features are an image's numbers, width is the language model's.  (Notebook 17.)
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

Summaries = Float[Tensor, "image 1 features"]


class ChoosingProjector(nn.Module):
    """One vector of an image in, as many image tokens out as there are lists of words.

    Two layers score the words of all lists; in each list, softmax makes shares of the scores, and the token
    is the words' vectors mixed by these shares. So no token lies outside of what the language model can
    read, however strange the image. Only the scores are learned; the vectors are the language model's own.

    Args:
        features: numbers of an image.
        hidden: numbers between the two layers.
        vectors: of the words of each list; stored nowhere, since the language model has them.

    Source: Lu et al. 2024 (Ovis), arXiv:2405.20797, section 3.1, with known words in place of learned ones.
    """

    shuffle = 1

    def __init__(self, features: int, hidden: int, vectors: Sequence[Float[Tensor, "word width"]]):
        super().__init__()
        self.counts = [len(each) for each in vectors]
        self.expand = nn.Linear(features, hidden)
        self.contract = nn.Linear(hidden, sum(self.counts))
        self.register_buffer("vectors", torch.cat(list(vectors)).detach().clone(), persistent=False)

    @property
    def spread(self) -> int:
        """Image tokens of an image."""
        return len(self.counts)

    def tokens(self, patches: int) -> int:
        """How many tokens an image of so many patches becomes, which must be one."""
        return patches * self.spread

    def scores(self, features: Summaries) -> list[Float[Tensor, "image word"]]:
        """Of the words of each list."""
        hidden = nn.functional.gelu(self.expand(features[:, 0]))
        return list(self.contract(hidden).split(self.counts, dim=1))

    def forward(self, features: Summaries, grid: Any = None) -> Float[Tensor, "image token width"]:
        """The image tokens; ``grid`` is there since other projectors have it."""
        lists = self.vectors.split(self.counts)
        pairs = zip(self.scores(features), lists, strict=True)
        return torch.stack([scores.softmax(dim=1) @ vectors for scores, vectors in pairs], dim=1)

    @torch.no_grad()
    def calibrate(self, features: Summaries) -> None:
        """Scale the first layer so that its inputs count as if each had mean 0 and deviation 1."""
        deviation, mean = torch.std_mean(features[:, 0].float(), dim=0)
        self.expand.weight /= deviation.clamp(min=1e-6)
        self.expand.bias -= self.expand.weight @ mean
