"""Look: who may see whom, and where each token stands (notebooks 05, 06 and 08).

    causal          a text, or its last tokens when the others are in a cache
    prefixed        a text with a prefix, whose tokens all see each other
    packed          several texts behind one beginning, in one row (sequence packing)
    bidirectional   every token sees all others

Each makes a Look, which a language model reads beside its tokens. Another way of looking is another such
function, and changes no model. In shapes, tokens look at keys; when some are cached, the tokens are the last.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional as F

from vlmcourse.slots import slot

Mask = Bool[Tensor, "... #query key"]  # True where a query may look at a key


@dataclass(frozen=True)
class Look:
    """Who may see whom, and where each token stands."""

    mask: Mask | None  # None: everything sees everything
    positions: Int[Tensor, "... token"]  # from 0; axes before (batch, token) are the model's own, see M-RoPE

    def check(self, count: Any, past: Any) -> None:  # numbers; tensors while a replay is recorded
        """Raise ValueError unless this is a look of ``count`` tokens behind ``past`` cached ones."""
        looking = self.positions.shape[-1]
        keys = looking + past if self.mask is None else self.mask.shape[-1]
        if (looking, keys) != (count, past + count):
            raise ValueError(f"the look is of {looking} tokens among {keys}; "
                             f"there are {past} cached tokens and {count} new")  # fmt: skip


@slot(name="language.causal_mask")
def causal_mask(queries: int, keys: int) -> Bool[Tensor, "query key"]:
    """True where a query may look at a key: at itself and at everything before it.

    Args:
        queries: how many tokens look; they are the last ones of the text.
        keys: how many tokens there are to look at; more than queries when earlier tokens are cached.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.3.
    """
    position = torch.arange(keys)
    return position <= position[keys - queries :, None]


@slot(name="language.prefix_mask")
def prefix_mask(prefix: Bool[Tensor, "batch token"]) -> Bool[Tensor, "batch token key"]:
    """True where a token may look at a key: at itself, all before it, and inside the prefix at all of it.

    Args:
        prefix: True for the tokens of the prefix, such as an image and the question about it.

    Source: Raffel et al. 2019, arXiv:1910.10683, section 3.2.1; for images and questions Beyer et al. 2024
        (PaliGemma), arXiv:2407.07726, figure 2.
    """
    causal = causal_mask(prefix.shape[1], prefix.shape[1]).to(prefix.device)
    return causal | (prefix[:, :, None] & prefix[:, None, :])


def causal(
    count: int,
    past: int = 0,
    real: Bool[Tensor, "batch key"] | None = None,
    device: torch.device | str | None = None,
) -> Look:
    """``count`` tokens behind ``past`` cached ones; each sees itself and what came before.

    Args:
        real: False for padding, on either side; None if there is none. Padding is never looked at and takes
            up no position: the first real token stands at 0. What comes out at padded places means nothing.
        device: of the model; that of ``real`` when not given.

    Raises:
        ValueError: if ``real`` does not cover all keys.
    """
    keys, device = past + count, device if real is None else real.device
    if real is not None and real.shape[1] != keys:
        raise ValueError(f"the mask covers {real.shape[1]} tokens; "
                         f"it must cover the {past} cached and {count} new")  # fmt: skip
    allowed = causal_mask(count, keys).to(device) if count > 1 else None  # one token sees all others
    return _look(allowed, torch.arange(keys, device=device), past, real)


def prefixed(
    prefix: Bool[Tensor, "batch key"], past: int = 0, real: Bool[Tensor, "batch key"] | None = None
) -> Look:
    """As causal, but the tokens of the prefix, cached ones included, all see each other; see prefix_mask."""
    places = torch.arange(prefix.shape[1], device=prefix.device)
    return _look(prefix_mask(prefix)[:, None, past:], places, past, real)


def packed(packs: Int[Tensor, "batch token"], past: int = 0) -> Look:
    """Several texts in a row with one beginning: a text sees it and itself, and stands right behind it.

    Args:
        packs: 0 for the beginning, 1, 2, ... for the texts, -1 for padding behind them; see data/packing.py.
        past: cached tokens, which belong to the beginning of every row.
    """
    place = torch.arange(packs.shape[1], device=packs.device)
    begins = F.pad(packs[:, 1:] != packs[:, :-1], (1, 0))
    within = place - torch.where(begins, place, 0).cummax(dim=1).values  # place in the own text
    beginning = (packs == 0).sum(dim=1, keepdim=True)
    positions = past + torch.where(packs > 0, within + beginning, within)
    mine, other = packs[:, :, None], packs[:, None]
    before = causal_mask(packs.shape[1], packs.shape[1]).to(packs.device)
    allowed = before & ((mine == other) | (other == 0))  # (batch, token, token)
    return Look(F.pad(allowed, (past, 0), value=True)[:, None], positions)


def bidirectional(
    count: int, real: Bool[Tensor, "batch key"] | None = None, device: torch.device | str | None = None
) -> Look:
    """Every token sees all real ones, before and behind it; positions count padding too, as in BERT."""
    mask = None if real is None else real[:, None, None]
    return Look(mask, torch.arange(count, device=device)[None])


def _look(
    allowed: Bool[Tensor, "... token key"] | None,
    places: Int[Tensor, "key"],
    past: int,
    real: Bool[Tensor, "batch key"] | None,
) -> Look:
    """Of what is allowed, what is real; and each token itself, for padding too must look at something."""
    if real is None:
        return Look(allowed, places[None, past:])
    seen = real[:, None, None] | (places[past:, None] == places)  # (batch, 1, token, key)
    positions = (real.cumsum(dim=1) - 1).clamp(min=0)[:, past:]  # padding takes up no place
    return Look(seen if allowed is None else allowed & seen, positions)
