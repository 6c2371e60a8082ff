"""What every vision-language model of the course answers to, whatever its family (notebooks 06 to 08).

    VLM       images and texts in, scores for the next token out, at every position
    Reading   a model and the image it has read: it goes on writing like a language model

A family is a subclass that says in ``hidden`` where image and words meet. Whoever trains, measures, asks or
explains a model uses these methods and needs to know no family.

Shapes use one vocabulary throughout: batch, token (of texts), image, patch (of its features), width (of the
language model).
"""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vlmcourse.models.attention import Cache
from vlmcourse.models.language import LanguageModel
from vlmcourse.models.look import Look


class VLM(nn.Module):
    """A language model that also reads images.

    A subclass makes ``language`` and says in ``image_tokens`` what an image is to it, and in ``hidden`` how
    words come to know of it.
    """

    language: LanguageModel

    @property
    def blocks(self) -> nn.ModuleList:
        return self.language.blocks

    @property
    def head(self) -> nn.Linear:
        return self.language.head

    def image_tokens(self, images: Tensor) -> Float[Tensor, "image patch width"]:
        """Vectors of the language model's width, computed once for an image, whatever is asked about it."""
        raise NotImplementedError

    def hidden(
        self,
        ids: Int[Tensor, "batch token"] | Float[Tensor, "batch token width"],
        images: Tensor | None = None,
        features: Float[Tensor, "image patch width"] | None = None,
        look: Look | None = None,
        *,
        mask: Bool[Tensor, "batch key"] | None = None,
        caches: list[Cache] | None = None,
    ) -> Float[Tensor, "batch token width"]:
        """One vector per token, from which the head reads the next one; see LanguageModel.hidden.

        Args:
            images: what image_tokens takes.
            features: image_tokens of the images, in their place, where they are known already.
        """
        raise NotImplementedError

    def forward(
        self,
        ids: Int[Tensor, "batch token"] | Float[Tensor, "batch token width"],
        images: Tensor | None = None,
        features: Float[Tensor, "image patch width"] | None = None,
        look: Look | None = None,
        *,
        mask: Bool[Tensor, "batch key"] | None = None,
        caches: list[Cache] | None = None,
    ) -> Float[Tensor, "batch token vocabulary"]:
        """Scores of every token of the vocabulary to come next, at each position; arguments as in hidden."""
        return self.head(self.hidden(ids, images, features, look, mask=mask, caches=caches))

    def begin(
        self, ids: Int[Tensor, "batch token"], images: Tensor | None = None
    ) -> tuple[Any, Float[Tensor, "batch token width"]]:
        """What writing starts from: something that reads on like a language model, and the prompts as
        vectors."""
        features = None if images is None else self.image_tokens(images)
        return Reading(self, features), self.language.embed(ids)


@dataclass
class Reading:
    """A model with the images it has read; to whoever writes with it, a language model."""

    model: VLM
    features: Float[Tensor, "image patch width"] | None

    def __post_init__(self):
        self.blocks, self.head, self.embed = self.model.blocks, self.model.head, self.model.language.embed

    def hidden(
        self,
        embeddings: Float[Tensor, "batch token width"],
        *,
        mask: Bool[Tensor, "batch key"] | None = None,
        caches: list[Cache] | None = None,
    ) -> Float[Tensor, "batch token width"]:
        return self.model.hidden(embeddings, features=self.features, mask=mask, caches=caches)
