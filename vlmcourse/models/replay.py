"""Replay: reading one more token, recorded once and played back without Python (notebook 05).

A small model spends most of a step between its operations: Python calls modules, looks up names, checks
arguments. All steps of a text do the same operations in the same order, so they can be recorded and played
back: same arithmetic, same weights, no Python. Large models gain little: their matrices take far longer.
"""

import warnings

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vlmcourse.models.attention import Attention, Cache, Tokens
from vlmcourse.models.language import LanguageModel, Real, next_scores
from vlmcourse.models.look import Look, causal
from vlmcourse.slots import Slot


class OneToken(nn.Module):
    """A model as a function of tensors alone, which is what can be recorded."""

    def __init__(self, model: LanguageModel):
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, positions: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Scores for the next token, then the keys and values with those of this one.

        ``rest`` are keys and values of every block, in turn; before them, if there is padding, the mask.
        """
        mask, past = (rest[0], rest[1:]) if len(rest) % 2 else (None, rest)
        caches = [Cache(pair) for pair in zip(past[::2], past[1::2], strict=True)]
        last = self.model.hidden(ids, Look(mask, positions), caches)[:, -1]
        return self.model.head(last), *(part for cache in caches for part in cache.past)


class Replay:
    """``next_scores(model, ids, mask, caches)`` for one new token per text, played back.

    The first call records, for its number of texts, and checks the recording against the model on a text
    twice as long, or half as long where no longer one fits. It is recorded anew when the function behind a
    slot changes; new weights need no new recording, new layers do (make another Replay). While attention is
    recorded, the model itself runs.

    Source: recording by running once, torch.jit.trace; the same idea on a GPU is a CUDA graph.
    """

    def __init__(self, model: LanguageModel):
        self.model, self.whole = model, OneToken(model)
        self.layers = [module for module in model.modules() if isinstance(module, Attention)]
        self.longest = getattr(model.config, "positions", None)
        self.recorded: dict[tuple[int, bool], torch.jit.ScriptModule] = {}
        self.changes = Slot.changes

    def __call__(
        self, ids: Int[Tensor, "batch 1"] | Tokens, mask: Real, caches: list[Cache]
    ) -> Float[Tensor, "batch vocabulary"]:
        """Scores for the next token; the caches are extended. While they are empty, the model itself reads.

        Args:
            mask: True for real tokens, cached and new; None if there is no padding.

        Raises:
            RuntimeError: if the recording and the model disagree: some function decides by a text's length.
        """
        length = caches[0].length
        recorded = any(layer.record is not None for layer in self.layers)
        if length in (0, self.longest) or recorded:
            return next_scores(self.model, ids, mask, caches)
        past = [part for cache in caches for part in cache.past]
        if self.changes != Slot.changes:
            self.recorded, self.changes = {}, Slot.changes
        key = len(ids), mask is not None
        if key not in self.recorded:
            self.recorded[key] = self._record(ids, mask, past)
        scores, *past = self.recorded[key](*self._given(ids, mask, past, length))
        for number, cache in enumerate(caches):
            cache.past = past[2 * number], past[2 * number + 1]
        return scores

    @staticmethod
    def _given(ids: Tensor, mask: Tensor | None, past: list[Tensor], length: int) -> tuple[Tensor, ...]:
        """What is handed to OneToken, with ``length`` tokens before this one."""
        look = causal(1, length, mask, ids.device)
        return ids, look.positions, *(() if mask is None else (look.mask,)), *past

    def _record(self, ids: Tensor, mask: Tensor | None, past: list[Tensor]) -> "torch.jit.ScriptModule":
        length, more = past[0].shape[2], None
        # no longer text may fit
        other = 2 * length if 2 * length < (self.longest or torch.inf) else length // 2
        if mask is not None:
            more = torch.cat([mask[:, :-1].repeat(1, 2)[:, :other], mask[:, -1:]], dim=1)
        changed = self._given(ids, more, [part.repeat(1, 1, 2, 1)[:, :, :other] for part in past], other)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of sizes that become constants: that is what is checked below
            recorded = torch.jit.trace(self.whole, self._given(ids, mask, past, length), check_trace=False)
            wanted, played = self.whole(*changed)[0], recorded(*changed)[0]
        if wanted.shape != played.shape or not torch.allclose(wanted, played, rtol=1e-3, atol=1e-4):
            raise RuntimeError("a recording of this model gives other scores than the model: a function "
                               "decides by the length of the text; generate without replay")  # fmt: skip
        return recorded
