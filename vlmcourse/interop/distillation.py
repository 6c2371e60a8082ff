"""Distillation: a pretrained language model keeps what it knew while it learns something new (notebook 17).

Lessons about images alone pull a model away from plain English. Its own texts are enough to hold it: no other
text is needed, and none has to be collected.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from vlmcourse.models.generation import generate
from vlmcourse.models.language import Llama

SENTENCES = (  # plain English, to see whether the model still reads it; nothing is ever trained on them
    "The capital of France is Paris.", "Water boils at one hundred degrees Celsius.",
    "A week has seven days.",
    "She opened the window because the room was warm.", "The sun rises in the east and sets in the west.",
    "He bought bread, milk and a newspaper at the shop.", "Most birds can fly, but penguins cannot.",
    "My brother plays the piano every evening.", "Plants need light and water to grow.",
    "The train was late, so we missed the meeting.",
)  # fmt: skip
STARTS = (
    "The", "A", "In", "She", "He", "We", "It", "When", "There", "People", "Every", "This", "They", "If",
    "I", "Our", "On", "For", "What", "How", "Some", "To", "At", "You",
)  # fmt: skip


@torch.no_grad()
def perplexity(language: Llama, tokenizer: Any, texts: Sequence[str] = SENTENCES) -> float:
    """Perplexity per token of plain sentences: e to the mean surprise."""
    losses = []
    for text in texts:
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        losses.append(F.cross_entropy(language(ids)[0, :-1], ids[0, 1:], reduction="none"))
    return math.exp(torch.cat(losses).mean())


class Memory:
    """What a language model now writes by itself, and what it thinks at each token: so it shall stay.

    Args:
        texts, length: how many, and how many tokens each has: one of STARTS, then what the model would write.
        size: texts per call of ``drift``.

    Source: the old model's answers as targets, Li & Hoiem 2016, arXiv:1606.09282, section 3; texts of its own
        instead of stored ones, Shin et al. 2017, arXiv:1705.08690, section 3.
    """

    @torch.no_grad()
    def __init__(self, language: Llama, tokenizer: Any, texts: int = 72, length: int = 24, size: int = 6,
                 seed: int = 0):  # fmt: skip
        starts = [tokenizer(word, add_special_tokens=False)["input_ids"][:1] for word in STARTS]
        first = torch.tensor([starts[number % len(starts)] for number in range(texts)])
        self.ids = generate(language, first, steps=length - 1, temperature=1.0, top_p=0.9, seed=seed)
        self.thought, self.size, self.next = language.hidden(self.ids), size, 0

    def drift(self, language: Llama) -> Float[Tensor, ""]:
        """How far the model has moved, on the next few texts in turn: KL divergence per token, in nats."""
        chosen = torch.arange(self.next, self.next + self.size) % len(self.ids)
        self.next = (self.next + self.size) % len(self.ids)
        device = language.embedding.weight.device
        now = language(self.ids[chosen].to(device)).flatten(0, 1).log_softmax(-1)
        with torch.no_grad():
            before = language.head(self.thought[chosen].to(device)).flatten(0, 1).log_softmax(-1)
        return F.kl_div(now, before, reduction="batchmean", log_target=True)
