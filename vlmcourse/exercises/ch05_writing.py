"""Exercises of chapter 05, part two: what makes writing cheap, shared heads and the cache, and choosing a token."""

import torch
from torch import Tensor

from vlmcourse.exercises.base import Slip, chapter
from vlmcourse.models import attention, generation

exercise, _ = chapter("05_language_models")

# ------------------------------------------------------------------------- grouped-query attention and cache

exercise(
    attention.share_heads,
    cases=lambda: [(torch.randn(3, 2, 5, 4), 6), (torch.randn(2, 3, 4, 7), 12)],
    slips=[
        Slip(lambda x, h: x.repeat(1, h // x.shape[1], 1, 1),
             "the groups alternate 0, 1, 0, 1; neighbouring heads share: 0, 0, 0, 1, 1, 1."),
        Slip(lambda x, h: x.repeat_interleave(h, 1),
             "every group is copied `heads` times; it needs heads / group copies, so that `heads` come out."),
        Slip(lambda x, h: x.repeat_interleave(h // x.shape[1], 0),
             "the batch is repeated; the head axis is number 1."),
        Slip(lambda x, h: x.repeat_interleave(h // x.shape[1], 2),
             "the tokens are repeated; the head axis is number 1."),
        Slip(lambda x, h: x[:, :, None].expand(-1, -1, h // x.shape[1], -1, -1),
             "the copies stand on an axis of their own; merge it with the group axis: flatten(1, 2)."),
        Slip(lambda x, h: x[:, :1].expand(-1, h, -1, -1),
             "all heads share group 0, which is multi-query attention; here each group serves its own "
             "heads."),
    ],
    hints=[
        "Nothing is computed: each key head is handed to several query heads. How many?",
        "`repeat_interleave(times, dim=1)` repeats each entry in place: 0, 0, 1, 1. What must `times` be?",
    ],
    gradient=("parts",),
)


def _cat(old, key, value, *, dim=2, flip=False):
    """The cache step with the past in front, or behind."""
    if old is None:
        return key, value
    keys, values = ((new, past) if flip else (past, new) for past, new in zip(old, (key, value), strict=True))
    return torch.cat(keys, dim), torch.cat(values, dim)


def _last_only(old, key, value):
    return _cat(old, key[:, :, -1:], value[:, :, -1:])


def _keys_twice(old, key, value):
    return (key, value) if old is None else (torch.cat([old[0], key], 2), torch.cat([old[0], value], 2))


def _without_beginning(old, key, value):
    return torch.cat([old[0], key], 2), torch.cat([old[1], value], 2)


def _cache_cases() -> list[tuple]:
    """The first call; as many new tokens as old ones; one new token, as in generation."""

    def pair(*shape: int) -> tuple[Tensor, Tensor]:
        return torch.randn(shape), torch.randn(shape)

    return [
        (None, *pair(2, 3, 5, 4)),
        (pair(2, 3, 5, 4), *pair(2, 3, 5, 4)),
        (pair(3, 2, 7, 4), *pair(3, 2, 1, 4)),
    ]


exercise(
    attention.extend_cache,
    cases=_cache_cases,
    slips=[
        Slip(_without_beginning,
             "at the first call there is no past: old is None. Return key and value as they are."),
        Slip(lambda o, k, v: _cat(o, k, v, flip=True),
             "the new tokens stand before the old ones; a text grows at its end."),
        Slip(lambda o, k, v: _cat(o, k, v, dim=1),
             "they are joined along the heads (axis 1); time is the token axis, number 2."),
        Slip(lambda o, k, v: _cat(o, k, v, dim=-1),
             "they are joined along part, the last axis; time is the token axis, number 2."),
        Slip(lambda o, k, v: (k, v), "the past is forgotten: only the new tokens come back."),
        Slip(lambda o, k, v: (k, v) if o is None else o,
             "the new tokens are lost: the cache stays as it was."),
        Slip(_last_only, "only the last new token is kept; a prompt brings many at once."),
        Slip(_keys_twice, "the values are joined to the old keys: old[1] holds the old values."),
        Slip(lambda o, k, v: _cat(o, k, v)[::-1], "keys and values are swapped: return (keys, values)."),
        Slip(lambda o, k, v: list(_cat(o, k, v)), "return a tuple (keys, values), not a list."),
    ],
    hints=[
        "The past stays as it is; the new tokens are put behind it. What if there is no past yet?",
        "`torch.cat([old[0], key], dim=2)` for the keys; the same for the values with old[1].",
    ],
    gradient=("key", "value"),
)

# --------------------------------------------------------------------------------------------- sampling


def _nucleus(logits, temperature, share, *, crossing=True, renormalise=True, put_back=True, ascending=False):
    if temperature == 0:
        return torch.zeros_like(logits).scatter(1, logits.argmax(-1, keepdim=True), 1.0)
    ordered, order = (logits / temperature).softmax(-1).sort(descending=not ascending)
    reached = ordered.cumsum(-1)
    kept = ordered * ((reached - ordered < share) if crossing else (reached <= share))
    kept = kept / kept.sum(-1, keepdim=True) if renormalise else kept
    return torch.zeros_like(kept).scatter(1, order, kept) if put_back else kept


def _multiplied(logits, temperature, share):
    return _nucleus(logits, temperature and 1 / temperature, share)


def _likely_enough(logits, temperature, share):
    if temperature == 0:
        return _nucleus(logits, 0, share)
    p = (logits / temperature).softmax(-1)
    p = p * (p >= 1 - share)
    return p / p.sum(-1, keepdim=True)


def _temperature_last(logits, temperature, share):
    if temperature == 0:
        return _nucleus(logits, 0, share)
    powered = _nucleus(logits, 1.0, share) ** (1 / temperature)
    return powered / powered.sum(-1, keepdim=True)


def _cold(logits, temperature, share):
    """No case of its own for temperature 0: 0/0."""
    return _nucleus(logits, temperature, share) if temperature else (logits / 0).softmax(-1)


def _spread_logits(batch: int, vocabulary: int) -> Tensor:
    """Every row is another order of the same well separated scores, so that no choice hangs on rounding."""
    return torch.stack([1.1 * torch.randperm(vocabulary) ** 0.8 for _ in range(batch)])


exercise(
    generation.top_p,
    cases=lambda: [
        (_spread_logits(3, 7), 1.5, 0.6),
        (_spread_logits(2, 5), 0.7, 0.95),
        (_spread_logits(3, 4), 2.0, 1.0),
        (_spread_logits(2, 7), 0.0, 0.9),
    ],
    slips=[
        Slip(lambda *a: _nucleus(*a, crossing=False),
             "the token that crosses the line is missing: the nucleus must REACH top_p, so that one "
             "belongs to it."),
        Slip(lambda *a: _nucleus(*a, renormalise=False),
             "the rows no longer sum to 1: divide what is left by its sum."),
        Slip(_multiplied,
             "the logits are multiplied by the temperature; divide, so that below 1 means sharper."),
        Slip(lambda x, t, p: _nucleus(x, t and 1.0, p), "the temperature is not used."),
        Slip(lambda x, t, p: _nucleus(x, t, 1.0), "no tail is cut off: top_p is not used."),
        Slip(lambda *a: _nucleus(*a, ascending=True),
             "the sum starts at the least probable token; sort descending."),
        Slip(_likely_enough,
             "this keeps the tokens above a fixed probability; the nucleus is about the sum of the best "
             "ones."),
        Slip(lambda *a: _nucleus(*a, put_back=False),
             "the probabilities stay in sorted order; scatter them back to their own places."),
        Slip(_temperature_last,
             "the nucleus is chosen before the temperature acts; divide the logits first."),
        Slip(_cold, "temperature 0 divides by zero; it means: all probability on the best token."),
    ],
    hints=[
        "Temperature 0 first. Then: softmax, sort, add up from the top. Which tokens have less than top_p "
        "above them?",
        "`ordered, order = probabilities.sort(descending=True)`; keep `ordered.cumsum(-1) - ordered < "
        "top_p`.",
        "Divide what is kept by its sum, and put it back: `torch.zeros_like(logits).scatter(1, order, "
        "kept)`.",
    ],
)
