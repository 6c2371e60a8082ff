"""BERT: a language model that reads in both directions and fills gaps (notebook 05).

Its blocks normalise after each addition, not before attention and MLP as GPT's do; what flows from block to
block is therefore normalised, and there is no last norm.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vlmcourse.models.attention import ACTIVATIONS, Attention, Tokens, initialise, run_blocks
from vlmcourse.models.language import IGNORED, Ids, Marks
from vlmcourse.models.look import Mask, bidirectional
from vlmcourse.slots import slot


@slot
def mask_tokens(
    ids: Int[Tensor, "batch token"],
    chosen: Float[Tensor, "batch token"],
    dice: Float[Tensor, "batch token"],
    random_ids: Int[Tensor, "batch token"],
    mask_id: int,
    special: Bool[Tensor, "batch token"],
) -> tuple[Int[Tensor, "batch token"], Int[Tensor, "batch token"]]:
    """Ask for 15 % of the tokens: of these, hide 80 %, replace 10 % by a random token and leave 10 % alone.

    Args:
        chosen: uniform in [0, 1); a token is asked for if its number is below 0.15 and it is not special.
        dice: uniform in [0, 1); of those asked for, below 0.8 are hidden, from 0.8 to below 0.9 replaced.
        special: True where a token belongs to the form and not to the text ([CLS], [SEP], padding).

    Returns:
        (inputs, labels): what the model reads, and the true id where a token is asked for, -100 elsewhere.

    Source: Devlin et al. 2018, arXiv:1810.04805, section 3.1.
    """
    asked = (chosen < 0.15) & ~special
    inputs = ids.masked_fill(asked & (dice < 0.8), mask_id)
    inputs = torch.where(asked & (dice >= 0.8) & (dice < 0.9), random_ids, inputs)
    return inputs, ids.masked_fill(~asked, IGNORED)


@dataclass(frozen=True)
class BertConfig:
    """What a BERT looks like; BERT-base is ``BertConfig(30522, 768, 12, 12, positions=512)``."""

    vocabulary: int
    width: int = 128
    depth: int = 4
    heads: int = 4
    hidden: int | None = None  # width inside the MLP; 4 · width when not given
    positions: int = 256  # the longest text it can read
    segments: int = 2  # a question and its context, say
    activation: str = "gelu"
    epsilon: float = 1e-12


class PostNormMLP(nn.Module):
    """Two linear layers; what comes out is added to the input, and the sum is normalised."""

    def __init__(self, config: BertConfig):
        super().__init__()
        width, hidden = config.width, config.hidden or 4 * config.width
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)
        self.norm = nn.LayerNorm(width, eps=config.epsilon)
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, tokens: Tokens) -> Tokens:
        return self.norm(tokens + self.contract(self.activation(self.expand(tokens))))


class PostNormBlock(nn.Module):
    """Attention, then MLP; after each the sum of input and output is normalised.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.1.
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        self.attention = Attention(config.width, config.heads)
        self.norm_after_attention = nn.LayerNorm(config.width, eps=config.epsilon)
        self.mlp = PostNormMLP(config)

    def forward(self, tokens: Tokens, mask: Mask | None = None) -> Tokens:
        return self.mlp(self.norm_after_attention(tokens + self.attention(tokens, mask)))


class Bert(nn.Module):
    """Bidirectional encoder with learned positions and segments.

    Args:
        pooler: whether it has the layer that ``pooled`` needs; BertForMaskedLM does without.

    Source: Devlin et al. 2018, arXiv:1810.04805, section 3. Equal to transformers', see tests/parity.
    """

    def __init__(self, config: BertConfig, pooler: bool = True):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.positions, config.width)
        self.segments = nn.Embedding(config.segments, config.width)
        self.norm = nn.LayerNorm(config.width, eps=config.epsilon)
        self.blocks = nn.ModuleList(PostNormBlock(config) for _ in range(config.depth))
        self.pooler = nn.Linear(config.width, config.width) if pooler else None
        initialise(self)

    def forward(self, ids: Ids, segments: Ids | None = None, mask: Marks | None = None) -> Tokens:
        """One vector per token, each informed by the whole text.

        Args:
            segments: which text each token belongs to; all to text 0 when not given.
            mask: True for real tokens, False for padding.

        Raises:
            ValueError: if the text is longer than the model's positions.
        """
        count, longest = ids.shape[1], self.config.positions
        if count > longest:
            raise ValueError(f"a text of {count} tokens is too long for this BERT: {longest} at most")
        segments = torch.zeros_like(ids) if segments is None else segments
        tokens = self.norm(self.embedding(ids) + self.segments(segments) + self.positions.weight[:count])
        return run_blocks(self.blocks, tokens, mask=bidirectional(count, mask, ids.device).mask)

    def pooled(self, tokens: Tokens) -> Float[Tensor, "batch width"]:
        """One vector per text, from its first token; what BERT's next-sentence task reads."""
        return self.pooler(tokens[:, 0]).tanh()


class WordHead(nn.Module):
    """Which token stands at a position: a layer, a norm, and the product with every token's embedding.

    Source: the authors' code of Devlin et al. 2018, arXiv:1810.04805.
    """

    def __init__(self, config: BertConfig, embedding: nn.Embedding):
        super().__init__()
        self.transform = nn.Linear(config.width, config.width)
        self.activation = ACTIVATIONS[config.activation]
        self.norm = nn.LayerNorm(config.width, eps=config.epsilon)
        self.score = nn.Linear(config.width, config.vocabulary)
        initialise(self)
        self.score.weight = embedding.weight

    def forward(self, tokens: Float[Tensor, "... width"]) -> Float[Tensor, "... vocabulary"]:
        return self.score(self.norm(self.activation(self.transform(tokens))))


class BertForMaskedLM(nn.Module):
    """A Bert and a head that says, at every position, which token stands there; equal to transformers' class.

    The loss is ``F.cross_entropy(logits.flatten(0, 1), labels.flatten())`` with mask_tokens' labels: no shift
    here, the hidden token itself is asked for.

    Source: Devlin et al. 2018, arXiv:1810.04805, section 3.1; the head as in the authors' code.
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        self.bert = Bert(config, pooler=False)
        self.head = WordHead(config, self.bert.embedding)

    def forward(self, *args: Any, **options: Any) -> Float[Tensor, "batch token vocabulary"]:
        """Scores of every token of the vocabulary, at each position; arguments as in Bert.forward."""
        return self.head(self.bert(*args, **options))
