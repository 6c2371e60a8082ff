"""Exercises of chapter 05, part two: what makes writing cheap, shared heads and the cache, and choosing a token."""

import torch
from torch import Tensor

from vlmcourse.exercises.base import Exercise, Slip, Text
from vlmcourse.models import attention, generation

CHAPTER = "05_language_models"

# ------------------------------------------------------------------------- grouped-query attention and cache

Exercise(
    slot=attention.share_heads,
    chapter=CHAPTER,
    cases=lambda: [(torch.randn(3, 2, 5, 4), 6), (torch.randn(2, 3, 4, 7), 12)],
    axes={"parts": "batch group token part", "return": "batch head token part"},
    slips=[
        Slip(lambda x, h: x.repeat(1, h // x.shape[1], 1, 1), Text(
            "the groups alternate 0, 1, 0, 1; neighbouring heads share: 0, 0, 0, 1, 1, 1.",
            "0, 1, 0, 1 と交互です。隣り合う head が共有します：0, 0, 0, 1, 1, 1。")),
        Slip(lambda x, h: x.repeat_interleave(h, 1), Text(
            "every group is copied `heads` times; it needs heads / group copies, so that `heads` come out.",
            "各 group を heads 回複製しています。全体で heads 個になるよう heads / group 回にします。")),
        Slip(lambda x, h: x.repeat_interleave(h // x.shape[1], 0), Text(
            "the batch is repeated; the head axis is number 1.", "batch が繰り返されています。head の軸は 1 番です。")),
        Slip(lambda x, h: x.repeat_interleave(h // x.shape[1], 2), Text(
            "the tokens are repeated; the head axis is number 1.",
            "トークンが繰り返されています。head の軸は 1 番です。")),
        Slip(lambda x, h: x[:, :, None].expand(-1, -1, h // x.shape[1], -1, -1), Text(
            "the copies stand on an axis of their own; merge it with the group axis: flatten(1, 2).",
            "複製が別の軸にあります。flatten(1, 2) で group の軸とまとめてください。")),
        Slip(lambda x, h: x[:, :1].expand(-1, h, -1, -1), Text(
            "all heads share group 0, which is multi-query attention; here each group serves its own heads.",
            "全 head が group 0 を共有しています（multi-query）。ここでは group ごとに担当の head があります。")),
    ],
    hints=[
        Text("Nothing is computed: each key head is handed to several query heads. How many?",
             "計算は不要です。key の head を複数の query head に渡すだけです。いくつずつですか。"),
        Text("`repeat_interleave(times, dim=1)` repeats each entry in place: 0, 0, 1, 1. What must `times` be?",
             "`repeat_interleave(times, dim=1)` は 0, 0, 1, 1 のように繰り返します。times はいくつですか。"),
    ],
    gradient=("parts",),
)  # fmt: skip


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


Exercise(
    slot=attention.extend_cache,
    chapter=CHAPTER,
    cases=_cache_cases,
    axes={"key": "batch group token part", "value": "batch group token part",
          "return": ("batch group key part", "batch group key part")},
    slips=[
        Slip(_without_beginning, Text(
            "at the first call there is no past: old is None. Return key and value as they are.",
            "最初の呼び出しでは過去がなく、old は None です。key と value をそのまま返します。")),
        Slip(lambda o, k, v: _cat(o, k, v, flip=True), Text(
            "the new tokens stand before the old ones; a text grows at its end.",
            "新しいトークンが前に来ています。文は末尾に伸びます。")),
        Slip(lambda o, k, v: _cat(o, k, v, dim=1), Text(
            "they are joined along the heads (axis 1); time is the token axis, number 2.",
            "head の軸（1）でつないでいます。時間はトークンの軸、2 番です。")),
        Slip(lambda o, k, v: _cat(o, k, v, dim=-1), Text(
            "they are joined along part, the last axis; time is the token axis, number 2.",
            "最後の軸 part でつないでいます。時間はトークンの軸、2 番です。")),
        Slip(lambda o, k, v: (k, v), Text(
            "the past is forgotten: only the new tokens come back.",
            "過去を忘れています。新しいトークンしか返っていません。")),
        Slip(lambda o, k, v: (k, v) if o is None else o, Text(
            "the new tokens are lost: the cache stays as it was.", "新しいトークンが失われ、cache が元のままです。")),
        Slip(_last_only, Text(
            "only the last new token is kept; a prompt brings many at once.",
            "最後の 1 トークンしか残していません。プロンプトは一度に多数のトークンをもたらします。")),
        Slip(_keys_twice, Text(
            "the values are joined to the old keys: old[1] holds the old values.",
            "value を古い key につないでいます。古い value は old[1] です。")),
        Slip(lambda o, k, v: _cat(o, k, v)[::-1], Text(
            "keys and values are swapped: return (keys, values).", "順が逆です。(keys, values) を返してください。")),
        Slip(lambda o, k, v: list(_cat(o, k, v)), Text(
            "return a tuple (keys, values), not a list.", "list ではなく tuple (keys, values) を返してください。")),
    ],
    hints=[
        Text("The past stays as it is; the new tokens are put behind it. What if there is no past yet?",
             "過去はそのまま、新しいトークンを後ろに付けます。過去がまだないときはどうしますか。"),
        Text("`torch.cat([old[0], key], dim=2)` for the keys; the same for the values with old[1].",
             "key は `torch.cat([old[0], key], dim=2)`。value も old[1] で同様です。"),
    ],
    gradient=("key", "value"),
)  # fmt: skip

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


Exercise(
    slot=generation.top_p,
    chapter=CHAPTER,
    cases=lambda: [
        (_spread_logits(3, 7), 1.5, 0.6),
        (_spread_logits(2, 5), 0.7, 0.95),
        (_spread_logits(3, 4), 2.0, 1.0),
        (_spread_logits(2, 7), 0.0, 0.9),
    ],
    axes={"logits": "batch vocabulary", "return": "batch vocabulary"},
    slips=[
        Slip(lambda *a: _nucleus(*a, crossing=False), Text(
            "the token that crosses the line is missing: the nucleus must REACH top_p, so that one belongs to it.",
            "境界を越えるトークンが抜けています。合計が top_p に「達する」まで含めます。")),
        Slip(lambda *a: _nucleus(*a, renormalise=False), Text(
            "the rows no longer sum to 1: divide what is left by its sum.",
            "行の和が 1 になっていません。残った確率をその和で割ります。")),
        Slip(_multiplied, Text(
            "the logits are multiplied by the temperature; divide, so that below 1 means sharper.",
            "logits に temperature を掛けています。割ってください。1 未満で鋭くなります。")),
        Slip(lambda x, t, p: _nucleus(x, t and 1.0, p), Text(
            "the temperature is not used.", "temperature が使われていません。")),
        Slip(lambda x, t, p: _nucleus(x, t, 1.0), Text(
            "no tail is cut off: top_p is not used.", "裾が切られていません。top_p が使われていません。")),
        Slip(lambda *a: _nucleus(*a, ascending=True), Text(
            "the sum starts at the least probable token; sort descending.",
            "確率の低い方から足しています。降順に並べてください。")),
        Slip(_likely_enough, Text(
            "this keeps the tokens above a fixed probability; the nucleus is about the sum of the best ones.",
            "固定の確率で切っています。nucleus は上位の合計で決まります。")),
        Slip(lambda *a: _nucleus(*a, put_back=False), Text(
            "the probabilities stay in sorted order; scatter them back to their own places.",
            "並べ替えた順のままです。scatter で元の位置に戻してください。")),
        Slip(_temperature_last, Text(
            "the nucleus is chosen before the temperature acts; divide the logits first.",
            "temperature の前に nucleus を選んでいます。先に logits を割ります。")),
        Slip(_cold, Text(
            "temperature 0 divides by zero; it means: all probability on the best token.",
            "temperature 0 で 0 除算になります。これは「最良のトークンに確率 1」の意味です。")),
    ],
    hints=[
        Text("Temperature 0 first. Then: softmax, sort, add up from the top. Which tokens have less than top_p above "
             "them?",
             "まず temperature 0 の場合。次に softmax、並べ替え、上から足します。自分より上の合計が top_p 未満の"
             "トークンはどれですか。"),
        Text("`ordered, order = probabilities.sort(descending=True)`; keep `ordered.cumsum(-1) - ordered < top_p`.",
             "`ordered, order = probabilities.sort(descending=True)`。"
             "`ordered.cumsum(-1) - ordered < top_p` を残します。"),
        Text("Divide what is kept by its sum, and put it back: `torch.zeros_like(logits).scatter(1, order, kept)`.",
             "残りをその和で割り、`torch.zeros_like(logits).scatter(1, order, kept)` で元の位置に戻します。"),
    ],
)  # fmt: skip
