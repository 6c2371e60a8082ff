"""The Q-Former: a few learned queries that ask an image what a language model wants to know (notebook 11).

    apart_mask, together_mask, writing_mask   who sees whom in each of its three trainings
    part_ways                                 what a block does apart for queries and for words
    best_query, query_votes                   what all queries together say of image and text
    QFormer                                   queries and words in one stack; queries also see the image
    Matcher                                   image encoder and Q-Former: contrast, match and write (stage 1)

In shapes, query counts the learned queries, text the words, both = query + text, in this order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vlmcourse.models.attention import Tokens, initialise, run_blocks
from vlmcourse.models.bert import BertConfig, PostNormMLP, WordHead
from vlmcourse.models.blip import ReadingBlock, Views
from vlmcourse.models.clip import normalise
from vlmcourse.models.language import Ids
from vlmcourse.models.llava import Pictures
from vlmcourse.models.look import Mask, causal_mask
from vlmcourse.models.vit import ViT, ViTConfig
from vlmcourse.slots import slot

WordMarks = Bool[Tensor, "batch text"]  # True for real words, False for padding
Seen = Bool[Tensor, "batch both both"]


@slot
def apart_mask(queries: int, words: WordMarks) -> Seen:
    """For the contrast: queries see queries, words see words, and neither sees the other.

    Padding is never seen.

    Source: Li et al. 2023 (BLIP-2), arXiv:2301.12597, section 3.1 and figure 2, "uni-modal".
    """
    ours = torch.cat([words.new_ones(len(words), queries), torch.zeros_like(words)], dim=1)
    real = torch.cat([words.new_ones(len(words), queries), words], dim=1)
    return (ours[:, :, None] == ours[:, None]) & real[:, None]


@slot
def together_mask(queries: int, words: WordMarks) -> Seen:
    """For matching: queries and words all see each other, so that the queries can compare.

    Source: Li et al. 2023 (BLIP-2), arXiv:2301.12597, section 3.1 and figure 2, "bi-directional".
    """
    real = torch.cat([words.new_ones(len(words), queries), words], dim=1)
    return real[:, None].expand(-1, real.shape[1], -1)


@slot
def writing_mask(queries: int, words: WordMarks) -> Seen:
    """For writing: queries see queries alone; a word sees all queries, itself and the words before it.

    So whatever the words know of the image went through the queries.

    Source: Li et al. 2023 (BLIP-2), arXiv:2301.12597, section 3.1 and figure 2, "multi-modal causal"; the
        pattern is UniLM's, Dong et al. 2019, arXiv:1905.03197.
    """
    real = torch.cat([words.new_ones(len(words), queries), words], dim=1)
    count = real.shape[1]
    before = causal_mask(count, count).to(words.device)
    a_query = torch.arange(count, device=words.device) < queries
    return (before | a_query) & real[:, None]


@slot
def best_query(
    images: Float[Tensor, "image query shared"], texts: Float[Tensor, "text shared"]
) -> Float[Tensor, "image text"]:
    """How alike every image and every text are: the largest dot product of the text with one of the queries.

    Source: Li et al. 2023 (BLIP-2), arXiv:2301.12597, section 3.1.
    """
    return torch.einsum("iqs,ts->itq", images, texts).amax(dim=-1)


@slot
def query_votes(
    tokens: Float[Tensor, "batch both width"], queries: int, match: Callable
) -> Float[Tensor, "batch score"]:
    """Whether image and text belong together: every query is scored by itself, and the mean counts.

    Args:
        tokens: what came out for queries and words, the queries first.
        match: the layer that scores, (..., width) -> (..., score).

    Source: Li et al. 2023 (BLIP-2), arXiv:2301.12597, section 3.1, "image-text matching".
    """
    return match(tokens[:, :queries]).mean(dim=1)


@slot
def part_ways(
    tokens: Float[Tensor, "batch both width"],
    queries: int,
    look: Callable,
    query_mlp: Callable,
    word_mlp: Callable,
) -> Float[Tensor, "batch both width"]:
    """What follows self-attention in a block: queries look at the image, and each kind has its own MLP.

    Args:
        tokens: queries first, then words.
        look: what the image adds is in its result, so it takes the place of what it is given.
        query_mlp, word_mlp: likewise.

    Source: Li et al. 2023 (BLIP-2), arXiv:2301.12597, section 3.1 and figure 2.
    """
    asking, words = tokens[:, :queries], tokens[:, queries:]
    return torch.cat([query_mlp(look(asking)), word_mlp(words)], dim=1)


@dataclass(frozen=True)
class QFormerConfig:
    """What a Q-Former looks like; BLIP-2's is ``QFormerConfig(BertConfig(30522, 768, 12, 12), 1408, 32)``."""

    text: BertConfig
    context_width: int  # of the image encoder's vectors
    queries: int = 32
    every: int = 2  # in which blocks the queries look at the image: every second, the first included
    reads: bool = True  # whether it also reads words; published language models' Q-Formers do not


class QFormerBlock(ReadingBlock):
    """Self-attention over queries and words; then the queries look at the image; then an MLP for each."""

    def __init__(self, config: QFormerConfig, crosses: bool):
        super().__init__(config.text, config.context_width if crosses else None)
        self.crosses = crosses
        self.query_mlp = PostNormMLP(config.text)
        self.mlp = self.mlp if config.reads else None

    def forward(
        self, tokens: Tokens, mask: Mask | None = None, *, context: Views | None, queries: int
    ) -> Tokens:
        """One step for so many queries, in front, and the words behind them."""
        tokens = self.norm_after_attention(tokens + self.attention(tokens, mask))
        if not queries:
            return self.mlp(tokens)
        look = partial(self.look_across, context=context) if self.crosses else nn.Identity()
        word_mlp = self.mlp if tokens.shape[1] > queries else nn.Identity()
        return part_ways(tokens, queries, look, self.query_mlp, word_mlp)


class QFormer(nn.Module):
    """Learned queries, and words, in one stack of BERT's blocks.

    Source: Li et al. 2023 (BLIP-2), arXiv:2301.12597, section 3.1. Equal to transformers' Blip2QFormerModel.
    """

    def __init__(self, config: QFormerConfig):
        super().__init__()
        self.config, text = config, config.text
        self.queries = nn.Parameter(0.02 * torch.randn(config.queries, text.width))
        if config.reads:
            self.embedding = nn.Embedding(text.vocabulary, text.width)
            self.positions = nn.Embedding(text.positions, text.width)
        self.norm = nn.LayerNorm(text.width, eps=text.epsilon)
        crosses = [number % config.every == 0 for number in range(text.depth)]
        self.blocks = nn.ModuleList(QFormerBlock(config, looks) for looks in crosses)
        initialise(self)

    def ask(self, context: Views) -> Float[Tensor, "batch query width"]:
        """What the queries find in images; this is what a language model reads."""
        queries = self.norm(self.queries).expand(len(context), -1, -1)
        return run_blocks(self.blocks, queries, context=context, queries=queries.shape[1])

    def read(self, ids: Ids, words: WordMarks) -> Float[Tensor, "batch text width"]:
        """What texts say, read without queries and image."""
        tokens = self.norm(self._embed(ids))
        return run_blocks(self.blocks, tokens, mask=words[:, None, None], context=None, queries=0)

    def forward(self, context: Views, ids: Ids, seen: Seen) -> Float[Tensor, "batch both width"]:
        """Queries and words in one pass; ``seen`` says who sees whom, see the three masks."""
        queries = self.queries.expand(len(context), -1, -1)
        tokens = self.norm(torch.cat([queries, self._embed(ids)], dim=1))
        return run_blocks(self.blocks, tokens, mask=seen[:, None], context=context, queries=queries.shape[1])

    def _embed(self, ids: Ids) -> Tokens:
        return self.embedding(ids) + self.positions.weight[: ids.shape[1]]


@dataclass(frozen=True)
class MatcherConfig:
    """What stage 1 trains."""

    vision: ViTConfig
    qformer: QFormerConfig
    shared: int = 256  # numbers of a vector in the space of images and texts
    writes: bool = True  # whether it has the head that writes; the published retrieval model has not


class Matcher(nn.Module):
    """BLIP-2's stage 1: a frozen image encoder and a Q-Former that learns to contrast, match and write.

    Source: Li et al. 2023 (BLIP-2), arXiv:2301.12597, section 3.1. Contrast and match are equal to
    transformers' Blip2ForImageTextRetrieval; the library has no writing.
    """

    def __init__(self, config: MatcherConfig):
        super().__init__()
        self.config, text = config, config.qformer.text
        self.vision = ViT(config.vision)
        self.qformer = QFormer(config.qformer)
        self.project_image = nn.Linear(text.width, config.shared)
        self.project_text = nn.Linear(text.width, config.shared)
        self.match = nn.Linear(text.width, 2)
        self.head = WordHead(text, self.qformer.embedding) if config.writes else None

    def image_features(self, images: Pictures) -> Views:
        return self.vision(images)

    def image_vectors(self, features: Views) -> Float[Tensor, "image query shared"]:
        """Where each query puts each image in the shared space."""
        return normalise(self.project_image(self.qformer.ask(features)))

    def text_vectors(self, ids: Ids, words: WordMarks) -> Float[Tensor, "batch shared"]:
        """Where texts stand there; their first token speaks for them."""
        return normalise(self.project_text(self.qformer.read(ids, words)[:, 0]))

    def alike(
        self, images: Float[Tensor, "image query shared"], texts: Float[Tensor, "text shared"]
    ) -> Float[Tensor, "image text"]:
        """How alike every image and every text are, see best_query."""
        return best_query(images, texts)

    def match_scores(self, features: Views, ids: Ids, words: WordMarks) -> Float[Tensor, "batch 2"]:
        """Scores (logits) of "do not belong together" and "do": the mean of what every query says."""
        queries = self.config.qformer.queries
        tokens = self.qformer(features, ids, together_mask(queries, words))
        return query_votes(tokens, queries, self.match)

    def write_scores(
        self, features: Views, ids: Ids, words: WordMarks
    ) -> Float[Tensor, "batch text vocabulary"]:
        """Scores of every next word; the first token begins the text."""
        queries = self.config.qformer.queries
        tokens = self.qformer(features, ids, writing_mask(queries, words))
        return self.head(tokens[:, queries:])
