"""BLIP-2: what a Q-Former found in an image, read by a language model (notebook 11).

    Blip2     the language model is a decoder: LLaVA with a Q-Former in the projector's place
    Blip2T5   the language model reads with one stack and writes with another

MiniGPT-4 is a Blip2 whose Q-Former is frozen, so that one linear layer alone is trained.
"""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor, nn

from vlmcourse.models.attention import Cache, Tokens
from vlmcourse.models.language import Ids, Inputs, Llama, LlamaConfig
from vlmcourse.models.llava import Injected, Pictures, with_images
from vlmcourse.models.look import Look
from vlmcourse.models.qformer import QFormer, QFormerConfig
from vlmcourse.models.t5 import T5, T5Config
from vlmcourse.models.vit import ViT, ViTConfig
from vlmcourse.models.vlm import VLM, EncoderDecoder, ImageTokens


@dataclass(frozen=True)
class Blip2Config:
    """What a BLIP-2 looks like."""

    vision: ViTConfig
    qformer: QFormerConfig
    language: LlamaConfig | T5Config
    image_token: int  # id of the placeholder; one stands for each query
    start: int = 0  # with a T5: ids of what begins an answer, and
    end: int = 1  # of what ends it


class WithQFormer(VLM):
    """Image encoder, Q-Former and one linear layer: what both BLIP-2s share."""

    def __init__(self, config: Blip2Config):
        super().__init__()
        self.config = config
        self.vision = ViT(config.vision)
        self.qformer = QFormer(config.qformer)
        self.projector = nn.Linear(config.qformer.text.width, config.language.width)

    @property
    def tokens_per_image(self) -> int:
        return self.config.qformer.queries

    def image_features(self, images: Pictures) -> Float[Tensor, "image patch features"]:
        """One vector per patch, and before them that of the class token."""
        return self.vision(images)

    def connect(self, features: Float[Tensor, "image patch features"]) -> Float[Tensor, "image query width"]:
        return self.projector(self.qformer.ask(features))


class Blip2(WithQFormer, Injected):
    """The queries' findings among the words of a decoder.

    Source: Li et al. 2023, arXiv:2301.12597, section 3.2 and figure 3. Equal to transformers'
    Blip2ForConditionalGeneration with a LLaMA.
    """

    def __init__(self, config: Blip2Config):
        super().__init__(config)
        self.language = Llama(config.language)


class Blip2T5(WithQFormer, EncoderDecoder):
    """The queries' findings before the question that an encoder reads; a decoder answers.

    Source: Li et al. 2023, arXiv:2301.12597, section 3.2 and figure 3. Equal to transformers'
    Blip2ForConditionalGeneration with a T5.
    """

    def __init__(self, config: Blip2Config):
        super().__init__(config)
        self.start, self.end = config.start, config.end
        self.language = T5(config.language)

    @property
    def blocks(self) -> nn.ModuleList:
        return self.language.decoder

    def embed(self, ids: Ids, features: ImageTokens | None = None) -> Tokens:
        return with_images(self.language, ids, features, self.config.image_token)

    def read_question(self, question: Tokens, features: ImageTokens | None, look: Look) -> Tokens:
        return self.language.encode(question, look=look)

    def write_answer(
        self,
        answer: Inputs,
        context: Float[Tensor, "batch read width"],
        look: Look,
        context_mask: Bool[Tensor, "... read"] | None,
        caches: list[tuple[Cache, Cache]] | None = None,
    ) -> Tokens:
        return self.language.hidden(answer, context, look, context_mask, caches)
