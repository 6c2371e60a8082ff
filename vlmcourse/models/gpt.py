"""GPT: the language model of GPT-2, with learned positions and layer norm (notebook 05)."""

from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor, nn

from vlmcourse.models.attention import Block, Tokens, initialise
from vlmcourse.models.language import LanguageModel


@dataclass(frozen=True)
class GPTConfig:
    """What a GPT looks like; the smallest GPT-2 is ``GPTConfig(50257, 768, 12, 12, positions=1024)``."""

    vocabulary: int
    width: int = 128
    depth: int = 4
    heads: int = 4
    hidden: int | None = None  # width inside the MLP; 4 · width when not given
    positions: int = 256  # the longest text it can read
    epsilon: float = 1e-5


class GPT(LanguageModel):
    """Decoder-only transformer with learned positions, layer norm and a head that is the embedding matrix.

    Source: Radford et al. 2019, "Language models are unsupervised multitask learners", section 2.3. Equal to
    transformers' GPT2LMHeadModel, see tests/parity.
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        width, sizes = config.width, (config.width, config.heads, config.hidden)
        self.embedding = nn.Embedding(config.vocabulary, width)
        self.positions = nn.Embedding(config.positions, width)
        self.blocks = nn.ModuleList(Block(*sizes, "gelu_new", config.epsilon) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width, eps=config.epsilon)
        self.head = nn.Linear(width, config.vocabulary, bias=False)
        initialise(self)
        self.head.weight = self.embedding.weight

    def place(self, tokens: Tokens, positions: Int[Tensor, "#batch token"]) -> tuple[Tokens, None]:
        count, longest = int(positions.max()) + 1, self.config.positions
        if count > longest:
            raise ValueError(f"a text of {count} tokens is too long for this GPT: {longest} at most")
        return tokens + self.positions(positions), None
