"""Fusion: where and how image features meet the words (notebook 06).

FAMILIES are five models behind one interface: image features and words in, scores out. ``sized`` makes one
of them with a given number of parameters, so that they can be compared.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.models.attention import Attention, Cache, Layer, Tokens
from vlmcourse.models.language import Inputs, Llama, LlamaConfig, Marks, Real, RMSNorm
from vlmcourse.models.look import Look, causal, prefixed
from vlmcourse.models.projector import Projector
from vlmcourse.models.vlm import VLM
from vlmcourse.slots import slot

Patches = Float[Tensor, "batch patch width"]  # projected features of an image for each text
Attend = Callable[[Tensor, Tensor], Tensor]  # queries from the first, keys and values from the second


@slot
def late_fusion(
    image: Float[Tensor, "batch width"], text: Float[Tensor, "batch token width"], mix: Layer
) -> Float[Tensor, "batch token out"]:
    """mix of [text, image, text · image], side by side for every token; · multiplies number by number.

    Source: the product as in the first VQA models, Antol et al. 2015, arXiv:1505.00468, section 4.
    """
    image = image[:, None].expand_as(text)
    return mix(torch.cat([text, image, text * image], dim=-1))


@slot
def cross_attend(tokens: Tokens, context: Patches, norm: Layer, attend: Attend) -> Tokens:
    """One more step of the residual stream: tokens + attend(norm(tokens), context).

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.3; on images Li et al. 2022, arXiv:2201.12086.
    """
    return tokens + attend(norm(tokens), context)


@slot
def gated_cross_attend(
    tokens: Tokens, context: Patches, norm: Layer, attend: Attend, gate: Float[Tensor, ""]
) -> Tokens:
    """tokens + tanh(gate) · attend(norm(tokens), context); a gate of 0 changes nothing.

    Source: Alayrac et al. 2022 (Flamingo), arXiv:2204.14198, section 2.2 and figure 4.
    """
    return tokens + gate.tanh() * attend(norm(tokens), context)


@slot
def inject(
    embeddings: Float[Tensor, "batch token width"],
    features: Float[Tensor, "image patch width"],
    places: Bool[Tensor, "batch token"],
) -> Float[Tensor, "batch token width"]:
    """Replace the embeddings at ``places`` by image features: image by image, patch by patch, text by text.

    Args:
        places: True at placeholders, as many as there are features.

    Source: Liu et al. 2023 (LLaVA), arXiv:2304.08485, section 4.1.
    """
    return embeddings.masked_scatter(places[..., None], features.to(embeddings.dtype))


def check_places(places: Marks, images: int, tokens: int) -> None:
    """Raise ValueError unless every text has room for whole images, and all together for so many."""
    for text, count in enumerate(places.sum(dim=1).tolist()):
        if count % tokens:
            raise ValueError(f"text {text} has {count} image placeholders, but an image has {tokens} tokens; "
                             "was a text cut off, or made for another number of image tokens?")  # fmt: skip
    if (total := int(places.sum())) != images * tokens:
        raise ValueError(f"the texts have {total} image placeholders, which is {total // tokens} images, "
                         f"but {images} images were given, of {tokens} tokens each")  # fmt: skip


def check_rooms(places: Marks, counts: Sequence[int]) -> None:
    """Raise ValueError unless every text has room for whole pictures of so many tokens each, in their order.

    As check_places, for pictures of different sizes.
    """
    used = 0
    for text, room in enumerate(places.sum(dim=1).tolist()):
        first, left = used, room
        while left > 0 and used < len(counts):
            left -= counts[used]
            used += 1
        if left:
            given = ", ".join(map(str, counts[first:used])) or "no"
            told = f"text {text} has {room} image placeholders, but its pictures have {given} tokens"
            raise ValueError(f"{told}; was a text cut off, or made for pictures of other sizes?")
    if used < len(counts):
        raise ValueError(f"the texts have room for {used} pictures, but {len(counts)} were given")


@dataclass(frozen=True)
class FusionConfig:
    """What the families share: the width of the image features, and the language model."""

    features: int
    language: LlamaConfig


class Fusion(VLM):
    """A projector and a language model; a subclass says how they meet.

    The image encoder stands outside and is frozen: what counts as an image here are its features,
    (batch, patch, features), one image for each text.
    """

    def __init__(self, config: FusionConfig):
        super().__init__()
        self.config = config
        width = config.language.width
        self.projector = Projector(config.features, width, hidden=width)
        self.language = Llama(config.language)

    def image_tokens_in_context(self, patches: int) -> int:
        """How many places in the language model's context an image takes up."""
        return 0

    def image_tokens(self, images: Float[Tensor, "batch patch features"]) -> Patches:
        return self.projector(images)

    def hidden(
        self,
        ids: Inputs,
        images: Float[Tensor, "batch patch features"] | None = None,
        features: Patches | None = None,
        *,
        mask: Real = None,
        prompt: Marks | None = None,
        caches: list[Cache] | None = None,
    ) -> Tokens:
        """See VLM.hidden.

        Args:
            prompt: True for words that are given and need not be predicted, such as a question.
                PrefixInjection reads them in both directions; to other families they are words like all.
        """
        features = self.image_tokens(images) if features is None else features
        features = features.to(self.language.embedding.weight.dtype)  # autocast may have made 16 bits of them
        return self.meet(ids, features, mask, prompt, caches)

    def meet(
        self, ids: Inputs, features: Patches, mask: Real, prompt: Marks | None, caches: list[Cache] | None
    ) -> Tokens:
        """Where image and words meet; arguments as in hidden."""
        raise NotImplementedError


class LateFusion(Fusion):
    """Image and text are read apart; two vectors meet right before the head."""

    def __init__(self, config: FusionConfig):
        super().__init__(config)
        width = config.language.width
        self.mix = nn.Sequential(nn.Linear(3 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def meet(self, ids, features, mask, prompt, caches):
        words = self.language.hidden(ids, mask=mask, caches=caches)
        return late_fusion(features.mean(dim=1), words, self.mix)


class CrossLayer(nn.Module):
    """Norm and attention for cross_attend, or with a gate for gated_cross_attend."""

    def __init__(self, config: LlamaConfig, gated: bool):
        super().__init__()
        self.norm = RMSNorm(config.width, config.epsilon)
        self.attention = Attention(config.width, config.heads, bias=False, context_width=config.width)
        self.gate = nn.Parameter(torch.zeros(())) if gated else None

    def forward(self, tokens: Tokens, context: Patches) -> Tokens:
        parts = (tokens, context, self.norm, lambda queries, keys: self.attention(queries, context=keys))
        return cross_attend(*parts) if self.gate is None else gated_cross_attend(*parts, self.gate)


class CrossAttention(Fusion):
    """After every block of the language model, the words look at the image."""

    gated = False

    def __init__(self, config: FusionConfig):
        super().__init__(config)
        language = config.language
        self.cross = nn.ModuleList(CrossLayer(language, self.gated) for _ in range(language.depth))

    def meet(self, ids, features, mask, prompt, caches):
        def look_at_image(block: int, tokens: Tensor) -> Tensor:
            return self.cross[block](tokens, features)

        return self.language.hidden(ids, mask=mask, caches=caches, after=look_at_image)


class GatedCrossAttention(CrossAttention):
    """The same behind gates that begin closed: at the start this is the language model alone."""

    gated = True


class Injection(Fusion):
    """Image tokens stand before the words, and one model reads all of it; LLaVA's way."""

    def image_tokens_in_context(self, patches: int) -> int:
        return self.projector.tokens(patches)

    def meet(self, ids, features, mask, prompt, caches):
        words = ids if ids.is_floating_point() else self.language.embed(ids)
        count = features.shape[1]
        real = None if mask is None else F.pad(mask, (count, 0), value=True)
        if caches and caches[0].length:  # the image is in them
            return self.language.hidden(words, mask=real, caches=caches)
        sequence = F.pad(words, (0, 0, count, 0))  # room for the image: (batch, count + token, width)
        places = F.pad(torch.zeros_like(words[..., 0], dtype=torch.bool), (count, 0), value=True)
        look = self.look(places, real, prompt)
        return self.language.hidden(inject(sequence, features, places), look, caches)[:, count:]

    def look(self, places: Bool[Tensor, "batch key"], real: Real, prompt: Marks | None) -> Look:
        """Who sees whom: image tokens are tokens like all others."""
        return causal(places.shape[1], real=real, device=places.device)


class PrefixInjection(Injection):
    """The same, but image tokens and prompt all see each other; PaliGemma's way."""

    def look(self, places: Bool[Tensor, "batch key"], real: Real, prompt: Marks | None) -> Look:
        """Who sees whom: image tokens and prompt are a prefix, see models/look.py."""
        if prompt is not None:
            places = places | F.pad(prompt, (places.shape[1] - prompt.shape[1], 0))
        return prefixed(places, real=real)


FAMILIES: dict[str, type[Fusion]] = {
    "late": LateFusion,
    "cross-attention": CrossAttention,
    "gated cross-attention": GatedCrossAttention,
    "injection": Injection,
    "injection, prefix": PrefixInjection,
}


def sized(family: type[Fusion], config: FusionConfig, parameters: int) -> Fusion:
    """A model of the family whose MLPs are as wide as so many ``parameters`` in all allow.

    Families compared at equal size differ in how image and words meet, not in how much they can store.

    Raises:
        ValueError: if the family needs more parameters even with the narrowest MLPs.
    """

    def build(hidden: int) -> Fusion:
        return family(replace(config, language=replace(config.language, hidden=hidden)))

    narrow = sum(parameter.numel() for parameter in build(1).parameters())
    if narrow > parameters:
        raise ValueError(f"{family.__name__} has {narrow} parameters with the narrowest MLPs, "
                         f"more than {parameters}")  # fmt: skip
    return build(1 + (parameters - narrow) // (3 * config.language.width * config.language.depth))
