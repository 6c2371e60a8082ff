"""Flamingo: a frozen language model that looks at images between its blocks (notebook 09).

    media_mask      which images each token may look at
    side_by_side    what each text has to look at: its images, one behind the other
    gated_block     look and think, both behind gates that start closed
    Flamingo        image encoder, resampler, language model; a gated block before every n-th of its blocks

In shapes, image counts the images of one text, latent the vectors that each of them is resampled to.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.models.attention import Attention, Cache, Layer, Tokens
from vlmcourse.models.language import Ids, Inputs, Llama, LlamaConfig, Real, RMSNorm, swiglu
from vlmcourse.models.llava import Pictures
from vlmcourse.models.look import Look
from vlmcourse.models.resampler import Latents, Resampler
from vlmcourse.models.resampler import resample as resample  # an exercise of notebook 09
from vlmcourse.models.vit import ViT, ViTConfig
from vlmcourse.models.vlm import VLM, ImageTokens, Reading
from vlmcourse.slots import slot

Allowed = Bool[Tensor, "batch 1 token read"]  # True where a token may look at a vector of its text's images


@slot
def media_mask(
    starts: Bool[Tensor, "batch token"], images: int, last_only: bool
) -> Bool[Tensor, "batch token image"]:
    """True where a token may look at an image: at one that stands at or before it in the text.

    Args:
        starts: True at the placeholders, one for each image.
        images: how many images there are to look at; a text may have fewer.
        last_only: look at no image but the last of those; what came before is known through the words alone.

    Source: Alayrac et al. 2022 (Flamingo), arXiv:2204.14198, section 2.3: only the last.
    """
    begun = starts.cumsum(dim=1)[..., None]  # images so far, (batch, token, 1)
    number = torch.arange(1, images + 1, device=starts.device)
    return number == begun if last_only else number <= begun


@slot
def side_by_side(
    latents: Float[Tensor, "picture latent features"], counts: Int[Tensor, "batch"]
) -> Float[Tensor, "batch read features"]:
    """The latents of each text's images, one image behind the other, in one row; zeros fill up a shorter row.

    Args:
        latents: of all images of all texts: first those of the first text, in their order.
        counts: how many images each text has; the sum is picture.

    Returns:
        read = the most images that a text has, times latent.
    """
    image = torch.arange(int(counts.max()), device=counts.device)
    there = image < counts[:, None]  # (batch, image): who has so many images
    rows = latents.new_zeros(*there.shape, *latents.shape[1:])
    rows[there] = latents
    return rows.flatten(1, 2)


@slot
def gated_block(
    tokens: Tokens, look: Layer, think: Layer, look_gate: Float[Tensor, ""], think_gate: Float[Tensor, ""]
) -> Tokens:
    """Two steps of the residual stream, each times tanh of its gate; gates of 0 change nothing.

    Args:
        look: what tokens see in the images, by norm and cross-attention.
        think: norm and MLP.

    Source: Alayrac et al. 2022 (Flamingo), arXiv:2204.14198, section 2.2 and figure 4.
    """
    tokens = tokens + look_gate.tanh() * look(tokens)
    return tokens + think_gate.tanh() * think(tokens)


@dataclass(frozen=True)
class FlamingoConfig:
    """What a Flamingo looks like."""

    vision: ViTConfig
    language: LlamaConfig
    image_token: int  # id of the placeholder; one stands for each image
    latents: int = 64  # vectors that an image is resampled to
    resampler_depth: int = 2
    resampler_heads: int = 4
    resampler_part: int = 32  # width of one of its heads
    every: int = 1  # a gated block stands before every n-th block of the language model
    last_only: bool = True  # see media_mask
    gate: float = 0.0  # where the gates start


class GatedBlock(nn.Module):
    """Cross-attention to the images and SwiGLU, behind gates; see gated_block."""

    def __init__(self, config: FlamingoConfig):
        super().__init__()
        language = config.language
        width, hidden = language.width, language.hidden or 8 * language.width // 3
        self.norm_before_attention = RMSNorm(width, language.epsilon)
        self.attention = Attention(width, language.heads, bias=False, context_width=config.vision.width)
        self.norm_before_mlp = RMSNorm(width, language.epsilon)
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)
        self.look_gate = nn.Parameter(torch.tensor(config.gate))
        self.think_gate = nn.Parameter(torch.tensor(config.gate))

    def forward(self, tokens: Tokens, context: Tensor, mask: Allowed, cache: Cache | None = None) -> Tokens:
        def look(tokens: Tensor) -> Tensor:
            return self.attention(self.norm_before_attention(tokens), mask, context, cache=cache)

        def think(tokens: Tensor) -> Tensor:
            return swiglu(self.norm_before_mlp(tokens), self.gate, self.up, self.down)

        return gated_block(tokens, look, think, self.look_gate, self.think_gate)


class Flamingo(VLM):
    """A language model between whose blocks stand gated blocks that look at images.

    Source: Alayrac et al. 2022, arXiv:2204.14198, section 2. Equal to transformers'
    IdeficsForVisionText2Text with a resampler.
    """

    tokens_per_image = 1  # its mark; what it shows stands beside the text

    def __init__(self, config: FlamingoConfig):
        super().__init__()
        self.config = config
        self.vision = ViT(config.vision)
        heads, part = config.resampler_heads, config.resampler_part
        width, depth = config.vision.width, config.resampler_depth
        self.resampler = Resampler(width, config.latents, depth, heads, part)
        self.language = Llama(config.language)
        count = config.language.depth // config.every
        self.gated = nn.ModuleList(GatedBlock(config) for _ in range(count))

    def image_features(self, images: Pictures) -> Float[Tensor, "picture patch features"]:
        """One vector per patch, and before them that of the class token, as the last block left them."""
        return self.vision.read(images)

    def connect(self, features: Float[Tensor, "picture patch features"]) -> Latents:
        return self.resampler(features)

    def media(self, ids: Ids, latents: Latents) -> tuple[Float[Tensor, "batch read features"], Allowed]:
        """What each text can look at, its images side by side, and which of its tokens may.

        Raises:
            ValueError: if placeholders and images are not equally many.
        """
        starts = ids == self.config.image_token
        counts = starts.sum(dim=1)
        if (total := int(counts.sum())) != len(latents):
            raise ValueError(
                f"the texts have {total} image placeholders, but there are {len(latents)} images"
            )
        allowed = media_mask(starts, int(counts.max()), self.config.last_only)
        latents = latents.to(self.language.embedding.weight.dtype)
        return side_by_side(latents, counts), allowed.repeat_interleave(latents.shape[1], dim=-1)[:, None]

    def hidden(
        self,
        ids: Inputs,
        images: Pictures | None = None,
        features: ImageTokens | None = None,
        look: Look | None = None,
        *,
        mask: Real = None,
        caches: list[Cache] | None = None,
        media: tuple[Float[Tensor, "batch read features"], Allowed] | None = None,
        across: list[Cache] | None = None,
    ) -> Tokens:
        """See VLM.hidden.

        Args:
            media: what is looked at, see ``media``, in place of images; without any the words stand alone.
            across: one cache for each gated block, which keeps what it made of the images.
        """
        if media is None and (images is not None or features is not None):
            media = self.media(ids, self.image_tokens(images) if features is None else features)

        def look_at_images(number: int, tokens: Tensor) -> Tensor:
            place, rest = divmod(number, self.config.every)
            if media is None or rest or place == len(self.gated):
                return tokens
            return self.gated[place](tokens, *media, across[place] if across else None)

        return self.language.hidden(ids, look, caches, before=look_at_images, mask=mask)

    def begin(self, ids: Ids, images: Pictures | None = None) -> tuple[Any, Tokens]:
        if images is None:
            return self.language, self.language.embed(ids)
        return Watching(self, *self.media(ids, self.image_tokens(images))), self.language.embed(ids)


@dataclass
class Watching(Reading):
    """A Flamingo and the images of its prompts, see Flamingo.media."""

    allowed: Allowed

    def __post_init__(self):
        super().__post_init__()
        self.across = [Cache() for _ in self.model.gated]

    def hidden(self, embeddings: Inputs, *, mask: Real = None, caches: list[Cache] | None = None) -> Tokens:
        """See LanguageModel.hidden; what is written looks at what the prompt's last token looks at."""
        past, count = caches[0].length if caches else 0, embeddings.shape[1]
        more = max(past + count - self.allowed.shape[2], 0)
        allowed = F.pad(self.allowed, (0, 0, 0, more))
        allowed[:, :, self.allowed.shape[2] :] = self.allowed[:, :, -1:]
        media, across = (self.features, allowed[:, :, past:]), self.across if caches else None
        return self.model.hidden(embeddings, mask=mask, caches=caches, media=media, across=across)

    def select(self, rows: list[int]) -> None:
        super().select(rows)
        self.allowed = self.allowed[rows]
        for cache in self.across:
            cache.select(rows)
