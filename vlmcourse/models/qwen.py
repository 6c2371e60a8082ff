"""Qwen2-VL's language model: a LLaMA that knows time, row and column of every token (notebook 16).

QwenConfig   a LlamaConfig, and how the pairs of a head are shared among the three
Qwen         M-RoPE in place of RoPE, and queries, keys and values with biases
"""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor, nn

from vlmcourse.models.attention import Attention, initialise
from vlmcourse.models.language import Llama, LlamaConfig, rope_angles
from vlmcourse.models.mrope import mrope_angles, pair_axes


@dataclass(frozen=True)
class QwenConfig(LlamaConfig):
    """What Qwen2-VL's language model looks like; its own sections are (16, 24, 24).

    Raises:
        ValueError: if the sections do not share out exactly the pairs of a head.
    """

    sections: tuple[int, int, int] = (16, 24, 24)  # pairs of a head turned by time, row and column
    interleaved: bool = False  # see pair_axes

    def __post_init__(self):
        super().__post_init__()
        if sum(self.sections) != (half := self.width // self.heads // 2):
            raise ValueError(f"the sections {self.sections} share out {sum(self.sections)} pairs; "
                             f"a head has {half}")  # fmt: skip


class Qwen(Llama):
    """A Llama whose tokens may stand in time, row and column, see mrope.mrope_look.

    With a look of one number for each token, as of a text alone, all three are that number.

    Source: Wang et al. 2024 (Qwen2-VL), arXiv:2409.12191, section 2.1. Equal to the language model of
        transformers' Qwen2VLForConditionalGeneration, see tests/parity.
    """

    config: QwenConfig

    def __init__(self, config: QwenConfig):
        super().__init__(config)
        for block in self.blocks:
            block.attention = Attention(config.width, config.heads, groups=config.groups)
            block.attention.project_out = nn.Linear(config.width, config.width, bias=False)
            initialise(block.attention)

    def angles(self, positions: Int[Tensor, "*axis batch token"]) -> Float[Tensor, "batch token half"]:
        """By how much each pair is turned: by the token's time, row or column, see pair_axes."""
        part = self.config.width // self.config.heads
        if positions.dim() == 2:
            return rope_angles(positions, part, self.config.base)
        axes = pair_axes(self.config.sections, self.config.interleaved)
        return mrope_angles(positions, part, self.config.base, axes)
