"""BLIP: a text model that reads alone, reads beside an image, or writes about one (notebook 10).

    TextStack        BERT's blocks; with a context, the words look at it between attention and MLP
    Blip             image encoder, text encoder and text decoder: contrast, match, caption, answer
    hard_negatives   which wrong partner each image is shown: the likelier the more alike
    move_average     a model's slow copy, whose vectors fill the queue
    enqueue          new vectors in, as many old ones out

In shapes, image and text count those of a batch, read the image tokens or words that are looked at.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vlmcourse.models.attention import Attention, Cache, Tokens, initialise, run_blocks
from vlmcourse.models.bert import BertConfig, PostNormBlock, WordHead
from vlmcourse.models.clip import normalise
from vlmcourse.models.language import Ids, Inputs, Real
from vlmcourse.models.llava import Pictures
from vlmcourse.models.look import Look, Mask, bidirectional, causal
from vlmcourse.models.vit import ViT, ViTConfig
from vlmcourse.models.vlm import EncoderDecoder, ImageTokens
from vlmcourse.slots import slot

Views = Float[Tensor, "batch read features"]  # what the words look at
ViewsMask = Bool[Tensor, "... read"]  # True where a word may look at the context
Vectors = Float[Tensor, "vector shared"]  # of length 1, in the space that images and texts share


@slot
def hard_negatives(
    similarity: Float[Tensor, "image text"], dice: Float[Tensor, "image"]
) -> Int[Tensor, "image"]:
    """For every image the number of a text that is not its own, the likelier the more similar it is.

    Text i belongs to image i and is never taken; texts beyond the images belong to none. Of the others, text
    j is taken with probability softmax(similarity)[j]: they are laid end to end on a line from 0 to 1, and
    the one on which the image's number falls is taken.

    Args:
        dice: uniform in [0, 1).

    Source: Li et al. 2022 (BLIP), arXiv:2201.12086, section 3.2; the sampling after Li et al. 2021 (ALBEF),
        arXiv:2107.07651, section 3.2.
    """
    own = torch.eye(*similarity.shape, dtype=torch.bool, device=similarity.device)
    chances = similarity.masked_fill(own, -torch.inf).softmax(dim=1)
    line = chances.cumsum(dim=1)
    return (line / line[:, -1:] <= dice[:, None]).sum(dim=1)


@slot
def move_average(average: dict[str, Tensor], model: dict[str, Tensor], momentum: float) -> dict[str, Tensor]:
    """The slow copy after one more step: momentum · average + (1 - momentum) · model, weight by weight.

    Source: He et al. 2019 (MoCo), arXiv:1911.05722, equation 2.
    """
    return {name: momentum * old + (1 - momentum) * model[name] for name, old in average.items()}


@slot
def enqueue(
    queue: Float[Tensor, "vector shared"], new: Float[Tensor, "batch shared"]
) -> Float[Tensor, "vector shared"]:
    """The queue with the new vectors behind the old ones; as many of the oldest, in front, are dropped.

    Source: He et al. 2019 (MoCo), arXiv:1911.05722, section 3.2.
    """
    return torch.cat([queue, new])[-len(queue) :]


class ReadingBlock(PostNormBlock):
    """BERT's block with a second attention, to what is read beside the text.

    Args:
        context_width: of the vectors that are read; None makes a block that looks at its own text only.
    """

    def __init__(self, config: BertConfig, context_width: int | None):
        super().__init__(config)
        if context_width is not None:
            self.cross = Attention(config.width, config.heads, context_width=context_width)
            self.norm_after_cross = nn.LayerNorm(config.width, eps=config.epsilon)

    def look_across(
        self, tokens: Tokens, context: Views, mask: ViewsMask | None = None, cache: Cache | None = None
    ) -> Tokens:
        """The tokens after they have looked at the context."""
        return self.norm_after_cross(tokens + self.cross(tokens, mask, context, cache=cache))

    def forward(
        self,
        tokens: Tokens,
        mask: Mask | None = None,
        context: Views | None = None,
        context_mask: ViewsMask | None = None,
        cache: tuple[Cache, Cache] | None = None,
    ) -> Tokens:
        own, across = cache or (None, None)
        tokens = self.norm_after_attention(tokens + self.attention(tokens, mask, cache=own))
        if context is not None:
            tokens = self.look_across(tokens, context, context_mask, across)
        return self.mlp(tokens)


class TextStack(nn.Module):
    """BERT without segments, whose blocks can look at a context; ``look`` says whether it reads or writes.

    Args:
        context_width: see ReadingBlock.
        writes: whether it has a head that scores the next word.

    Source: Li et al. 2022 (BLIP), arXiv:2201.12086, section 3.1 and figure 2.
    """

    def __init__(self, config: BertConfig, context_width: int, writes: bool = False):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.positions, config.width)
        self.norm = nn.LayerNorm(config.width, eps=config.epsilon)
        self.blocks = nn.ModuleList(ReadingBlock(config, context_width) for _ in range(config.depth))
        initialise(self)
        self.head = WordHead(config, self.embedding) if writes else None

    def embed(self, ids: Ids) -> Tokens:
        return self.embedding(ids)

    def forward(
        self,
        text: Inputs,
        look: Look,
        context: Views | None = None,
        context_mask: ViewsMask | None = None,
        caches: list[tuple[Cache, Cache]] | None = None,
    ) -> Tokens:
        """One vector per token; without a context, the text alone is read.

        Raises:
            ValueError: if the text is longer than the model's positions.
        """
        if (last := int(look.positions.max())) >= self.config.positions:
            allowed = f"{self.config.positions} at most"
            raise ValueError(f"a text of {last + 1} tokens is too long for this model: {allowed}")
        tokens = text if text.is_floating_point() else self.embed(text)
        tokens = self.norm(tokens + self.positions(look.positions))
        context = None if context is None else context.to(tokens.dtype)
        options = dict(mask=look.mask, context=context, context_mask=context_mask)
        return run_blocks(self.blocks, tokens, caches, **options)


@dataclass(frozen=True)
class BlipConfig:
    """What a BLIP looks like; published: ViT-B/16 or L/16 and BERT-base."""

    vision: ViTConfig
    text: BertConfig
    start: int  # id of what begins an answer or caption
    end: int  # id of what ends one
    shared: int = 256  # numbers of a vector in the space of images and texts
    tied: bool = True  # whether encoder and decoder share all but their self-attention, as BLIP does
    reads: bool = True  # whether it has an encoder
    writes: bool = True  # whether it has a decoder
    matches: bool = True  # whether it has what scores images against texts; published models have some parts


class Blip(EncoderDecoder):
    """Image encoder, text encoder and text decoder.

    The encoder alone reads texts for the contrast, beside an image it tells whether the two belong together;
    the decoder writes captions of images, and answers to what the encoder made of a question.

    Source: Li et al. 2022, arXiv:2201.12086, sections 3.1 and 3.2, figure 5 for questions. Equal to
    transformers' BlipForImageTextRetrieval, BlipForConditionalGeneration and BlipForQuestionAnswering.
    """

    tokens_per_image = 0  # it stands beside the text

    def __init__(self, config: BlipConfig):
        super().__init__()
        self.config, self.start, self.end = config, config.start, config.end
        width = config.vision.width
        self.vision = ViT(config.vision)
        self.encoder = TextStack(config.text, width) if config.reads else None
        self.language = TextStack(config.text, width, writes=True) if config.writes else None  # the decoder
        if config.matches:
            self.project_image = nn.Linear(width, config.shared)
            self.project_text = nn.Linear(config.text.width, config.shared)
            self.match = nn.Linear(config.text.width, 2)
        if config.tied and config.reads and config.writes:
            self.tie()

    def tie(self) -> None:
        """Let the decoder have the encoder's weights, all but its self-attention."""
        ours, theirs = self.language, self.encoder
        ours.embedding, ours.positions, ours.norm = theirs.embedding, theirs.positions, theirs.norm
        ours.head.score.weight = theirs.embedding.weight
        for mine, other in zip(ours.blocks, theirs.blocks, strict=True):
            for name, part in other.named_children():
                if name not in ("attention", "norm_after_attention"):
                    setattr(mine, name, part)

    def image_features(self, images: Pictures) -> Float[Tensor, "image patch features"]:
        """One vector per patch, and before them that of the class token."""
        return self.vision(images)

    def connect(self, features: ImageTokens) -> ImageTokens:
        return features

    def image_vectors(self, features: Float[Tensor, "image patch features"]) -> Vectors:
        """Where images stand in the shared space."""
        return normalise(self.project_image(features[:, 0]))

    def text_vectors(self, ids: Ids, mask: Real = None) -> Vectors:
        """Where texts stand in the shared space; read alone, their first token speaks for them."""
        tokens = self.encoder(ids, bidirectional(ids.shape[1], mask, ids.device))
        return normalise(self.project_text(tokens[:, 0]))

    def match_scores(self, features: Views, ids: Ids, mask: Real = None) -> Float[Tensor, "batch 2"]:
        """Scores (logits) of "do not belong together" and "do", for each image with its text."""
        tokens = self.encoder(ids, bidirectional(ids.shape[1], mask, ids.device), features)
        return self.match(tokens[:, 0])

    def alike(self, images: Vectors, texts: Vectors) -> Float[Tensor, "image text"]:
        """How alike every image and every text are: the cosine of their vectors."""
        return images @ texts.T

    def write_scores(
        self, features: Views, ids: Ids, mask: Real = None
    ) -> Float[Tensor, "batch token vocabulary"]:
        """Scores of every next token of captions; the first token begins them."""
        return self.head(self.language(ids, causal(ids.shape[1], 0, mask, ids.device), features))

    def embed(self, ids: Ids, features: ImageTokens | None = None) -> Tokens:
        return self.encoder.embed(ids)

    def read_question(self, question: Tokens, features: ImageTokens | None, look: Look) -> Tokens:
        return self.encoder(question, look, features)

    def write_answer(
        self,
        answer: Inputs,
        context: Views,
        look: Look,
        context_mask: ViewsMask | None,
        caches: list[tuple[Cache, Cache]] | None = None,
    ) -> Tokens:
        return self.language(answer, look, context, context_mask, caches)
