"""LLaVA: an image encoder, a projector and a language model (notebooks 07 and 08).

Image tokens stand among the words. Shapes as in models/vlm.py; it writes with models.generation.generate.
"""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from vlmcourse.models.attention import Cache, Tokens
from vlmcourse.models.fusion import check_places, check_rooms, inject
from vlmcourse.models.language import Ids, Llama, LlamaConfig, Real
from vlmcourse.models.look import Look
from vlmcourse.models.native import PatchRow, SomePictures
from vlmcourse.models.projector import Projector
from vlmcourse.models.vit import ViT, ViTConfig
from vlmcourse.models.vlm import VLM, ImageTokens

Pictures = Float[Tensor, "image channel rows columns"]
# or rows of several, see models/video.py; or pictures of different sizes, see models/native_llava.py
PictureRows = Float[Tensor, "*image channel rows columns"] | SomePictures | PatchRow


@dataclass(frozen=True)
class LlavaConfig:
    """What a LLaVA looks like.

    The published LLaVA-1.5 reads the encoder's last layer but one (``layer=-2``) and has 576 image tokens.

    Raises:
        ValueError: if the encoder has no such layer.
    """

    vision: ViTConfig
    language: LlamaConfig
    image_token: int  # id of the placeholder; one stands for each image token
    layer: int = -2  # of the encoder's residual streams, of which the last is -1
    hidden: int | None = None  # inside the projector: None is the language model's width, 0 one layer only
    shuffle: int = 1
    spread: int = 1

    def __post_init__(self):
        streams = self.vision.depth + 1
        if not -streams <= self.layer < streams:
            raise ValueError(f"layer = {self.layer}, but the encoder has {streams} residual streams")


def with_images(language: Any, ids: Ids, features: ImageTokens | None, image_token: int) -> Tokens:
    """Texts as vectors, with image tokens at their placeholders.

    Args:
        language: whose words they are; it has ``embed``.
        features: image tokens of the images, in the order of their placeholders, over all texts.

    Raises:
        ValueError: if placeholders and image tokens are not equally many, or images are missing.
    """
    places = ids == image_token
    if features is None:
        if count := int(places.sum()):
            raise ValueError(f"the texts have {count} image placeholders, but no images were given")
        return language.embed(ids)
    if isinstance(features, PatchRow):
        check_rooms(places, features.counts)
        features = features.vectors[None]
    else:
        check_places(places, len(features), features.shape[1])
    words = language.embed(ids)
    return inject(words, features.to(words.dtype), places)


class Injected(VLM):
    """A VLM whose image tokens stand among the words; once there, the language model goes on alone."""

    config: Any  # has ``image_token``, the id of the placeholder

    def embed(
        self, ids: Ids, images: PictureRows | None = None, features: ImageTokens | None = None
    ) -> Tokens:
        """Texts with their images, as the language model reads them; see with_images.

        Args:
            images: in the order of their placeholders, over all texts.
            features: image_tokens of the images, instead of them, where they are known already.
        """
        features = features if images is None else self.image_tokens(images)
        return with_images(self.language, ids, features, self.config.image_token)

    def begin(self, ids: Ids, images: PictureRows | None = None) -> tuple[Llama, Tokens]:
        """See VLM.begin."""
        return self.language, self.embed(ids, images)

    def hidden(
        self,
        ids: Ids,
        images: PictureRows | None = None,
        features: ImageTokens | None = None,
        look: Look | None = None,
        *,
        mask: Real = None,
        caches: list[Cache] | None = None,
    ) -> Tokens:
        """See VLM.hidden and embed. With caches, images are given once, at the first call."""
        if not (caches and caches[0].length):  # later on, a placeholder is a word that the model wrote itself
            ids = self.embed(ids, images, features)
        return self.language.hidden(ids, look, caches, mask=mask)


class Llava(Injected):
    """An image encoder's patches, projected, among the tokens of a language model.

    Source: Liu et al. 2023, arXiv:2304.08485, section 4.1, with the projector of arXiv:2310.03744. Equal to
    transformers' LlavaForConditionalGeneration, see tests/parity.
    """

    patchwise = True

    def __init__(self, config: LlavaConfig):
        super().__init__()
        self.config = config
        out = config.language.width
        hidden = out if config.hidden is None else config.hidden or None
        self.vision = ViT(config.vision)
        self.projector = Projector(config.vision.width, out, hidden, config.shuffle, config.spread)
        self.language = Llama(config.language)

    @property
    def tokens_per_image(self) -> int:
        rows, columns = self.config.vision.grid
        return self.projector.tokens(rows * columns)

    def image_features(self, images: Pictures) -> Float[Tensor, "image patch features"]:
        """What the encoder says of every patch; the class token stays behind."""
        return self.vision.patches(images, self.config.layer)

    def connect(self, features: Float[Tensor, "image patch features"]) -> Float[Tensor, "image token width"]:
        return self.projector(features)

    def image_tokens(self, images: Pictures) -> ImageTokens:
        size = self.config.vision.patch_size
        return self.projector(self.image_features(images), (images.shape[2] // size, images.shape[3] // size))
