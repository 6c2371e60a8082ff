"""What every vision-language model of the course answers to, whatever its family (notebooks 06 to 08).

    VLM       images and texts in, scores for the next token out, at every position
    Reading   a model and the image it has read: it goes on writing like a language model

Whoever trains, measures, asks or explains a model uses these methods and needs to know no family. In shapes,
batch and token are of texts, image and patch of pictures, width of the language model.
"""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from vlmcourse.models.attention import Cache, Tokens
from vlmcourse.models.language import Ids, Inputs, LanguageModel, Real
from vlmcourse.models.look import Look

ImageTokens = Float[Tensor, "image patch width"]  # of an image, as the language model reads them


class VLM(nn.Module):
    """A language model that also reads images.

    A family is a subclass: it makes ``language`` and says in ``image_tokens`` what an image is to it, and in
    ``hidden`` where image and words meet.
    """

    language: LanguageModel

    @property
    def blocks(self) -> nn.ModuleList:
        return self.language.blocks

    @property
    def head(self) -> nn.Linear:
        return self.language.head

    def image_tokens(self, images: Tensor) -> ImageTokens:
        """Vectors of the language model's width, computed once for an image, whatever is asked about it."""
        raise NotImplementedError

    def hidden(
        self,
        ids: Inputs,
        images: Tensor | None = None,
        features: ImageTokens | None = None,
        look: Look | None = None,
        *,
        mask: Real = None,
        caches: list[Cache] | None = None,
    ) -> Tokens:
        """One vector per token, from which the head reads the next one; see LanguageModel.hidden.

        Args:
            images: what image_tokens takes.
            features: image_tokens of the images, in their place, where they are known already.
        """
        raise NotImplementedError

    def forward(self, *args: Any, **options: Any) -> Float[Tensor, "batch token vocabulary"]:
        """Scores (logits) of every token to come next, at each position; arguments as in hidden."""
        return self.head(self.hidden(*args, **options))

    def begin(self, ids: Ids, images: Tensor | None = None) -> tuple[Any, Tokens]:
        """What writing starts from: what reads on like a language model, and the prompts as vectors."""
        features = None if images is None else self.image_tokens(images)
        return Reading(self, features), self.language.embed(ids)


@dataclass
class Reading:
    """A model with the images it has read; to whoever writes with it, a language model."""

    model: VLM
    features: ImageTokens | None

    def __post_init__(self):
        self.blocks, self.head, self.embed = self.model.blocks, self.model.head, self.model.language.embed

    def hidden(self, embeddings: Tokens, *, mask: Real = None, caches: list[Cache] | None = None) -> Tokens:
        return self.model.hidden(embeddings, features=self.features, mask=mask, caches=caches)
