"""Joining without a bridge: image features in front of words, read by a language model (notebook 01)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vlmcourse.models.attention import Layer
from vlmcourse.models.language import Ids, LanguageModel, Marks
from vlmcourse.slots import slot


@slot
def join(
    image: Float[Tensor, "batch patch width"],
    text: Float[Tensor, "batch token width"],
    mask: Bool[Tensor, "batch token"],
) -> tuple[Float[Tensor, "batch both width"], Bool[Tensor, "batch both"]]:
    """Put the image features in front of the embedded words; both = patch + token.

    Args:
        mask: True for words, False for padding.

    Returns:
        (sequence, mask): every image feature is real, so the new mask is True for it.

    Source: the order of Liu et al. 2023 (LLaVA), arXiv:2304.08485, section 4.1; there a matrix comes between.
    """
    batch, patch, _ = image.shape
    return torch.cat([image, text], dim=1), torch.cat([mask.new_ones(batch, patch), mask], dim=1)


class Answerer(nn.Module):
    """A language model that answers with one token, read where the question ends.

    Image features pass through the ``bridge`` before the language model reads them; by default it is nothing.
    """

    def __init__(self, language: LanguageModel, bridge: Layer | None = None):
        super().__init__()
        self.language = language
        self.bridge = nn.Identity() if bridge is None else bridge

    def forward(
        self, ids: Ids, mask: Marks, image: Float[Tensor, "batch patch pixel"] | None = None
    ) -> Float[Tensor, "batch vocabulary"]:
        """Scores of every token to be the answer.

        Args:
            ids, mask: questions, padded on the right, as `Tokenizer.encode` gives them.
            image: features that the bridge gives the language model's width; None asks without a picture.

        Raises:
            ValueError: if the features are not as wide as the language model.
        """
        sequence = self.language.embed(ids)
        if image is not None:
            features, width = self.bridge(image), sequence.shape[-1]
            if features.shape[-1] != width:
                raise ValueError(f"image features are {features.shape[-1]} wide and words {width}; a bridge "
                                 "between them, such as nn.Linear, must change the width")  # fmt: skip
            sequence, mask = join(features, sequence, mask)
        vectors = self.language.hidden(sequence, mask=mask)
        last = mask.sum(dim=1) - 1  # padding stands on the right, so this is the end of the question
        return self.language.head(vectors[torch.arange(len(vectors), device=vectors.device), last])
