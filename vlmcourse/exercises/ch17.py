"""Exercises of chapter 17, part one: key maps there and back, and the loss of answers (see ch17_lora.py)."""

import torch
from torch import Tensor, cat, nn
from torch.nn import functional as F

from vlmcourse.exercises.base import Exercise, Slip, Text
from vlmcourse.interop import keys
from vlmcourse.training import answers

CHAPTER = "17_real_models"
NAMES = {
    "attention.project_in.weight": ("q_proj.weight", "k_proj.weight", "v_proj.weight"),
    "norm.scale": ("input_layernorm.weight",),
    "attention.project_out.weight": ("o_proj.weight",),
}

# -------------------------------------------------------------------------------------------------- fuse


def _layer(width: int, query: int, group: int) -> dict[str, Tensor]:
    """A layer as transformers keeps it, in its order."""
    return {
        "input_layernorm.weight": torch.randn(width),
        "k_proj.weight": torch.randn(group, width), "o_proj.weight": torch.randn(width, query),
        "q_proj.weight": torch.randn(query, width), "v_proj.weight": torch.randn(group, width),
    }  # fmt: skip


def _fuse_cases() -> list[tuple]:
    """Two whole layers, one that lacks a weight, one that has a strange one."""
    lacks, strange = _layer(5, 6, 2), _layer(5, 6, 2)
    del lacks["v_proj.weight"]
    strange["q_proj.lora.weight"] = torch.randn(3, 5)
    return [(_layer(5, 6, 2), NAMES), (_layer(7, 4, 4), NAMES), (lacks, NAMES), (strange, NAMES)]


def _fuse(state, names, *, order=list, missing=True, strange=True, axis=0):
    wanted = {key for theirs in names.values() for key in theirs}
    if (missing and wanted - state.keys()) or (strange and state.keys() - wanted):
        raise KeyError("these are the weights of another model")
    return {ours: cat([state[key] for key in order(theirs) if key in state], axis) for ours, theirs in names.items()}


def _in_their_order(state, names):
    fused, place = _fuse(state, names), {key: number for number, key in enumerate(state)}
    return {ours: fused[ours] for ours in sorted(names, key=lambda ours: min(place[key] for key in names[ours]))}


def _first_only(state, names):
    return {ours: fused[: len(state[names[ours][0]])] for ours, fused in _fuse(state, names).items()}


def _renamed_only(state, names):
    _fuse(state, names)
    return {f"{ours}.{number}" if len(theirs) > 1 else ours: state[key]
            for ours, theirs in names.items() for number, key in enumerate(theirs)}  # fmt: skip


Exercise(
    slot=keys.fuse,
    chapter=CHAPTER,
    cases=_fuse_cases,
    axes={"return": "row column"},
    slips=[
        Slip(lambda s, n: _fuse(s, n, order=sorted), Text(
            "q, k and v are put together in alphabetical order; the map's own order is query, key, value.",
            "q, k, v がアルファベット順につながれています。対応表の順（query, key, value）を守ります。")),
        Slip(lambda s, n: _fuse(s, n, order=lambda names: list(names)[::-1]), Text(
            "the parts stand in reverse order.", "部品の順が逆です。")),
        Slip(lambda s, n: _fuse(s, n, missing=False), Text(
            "a weight is missing, and nobody noticed: the model would keep random numbers there. Raise KeyError.",
            "重みが欠けているのに気づいていません。そこには乱数が残ります。KeyError を出します。")),
        Slip(lambda s, n: _fuse(s, n, strange=False), Text(
            "a weight of theirs belongs to no name and is dropped in silence; raise KeyError.",
            "どの名前にも属さない重みが黙って捨てられています。KeyError を出します。")),
        Slip(lambda s, n: _fuse(s, n, missing=False, strange=False), Text(
            "nothing is checked: a missing name and a strange one must both raise KeyError.",
            "何も検査していません。足りない名前も余分な名前も KeyError にします。")),
        Slip(_first_only, Text(
            "only the first of several weights arrives; put all of them on top of each other.",
            "複数の重みのうち最初の 1 つしか入っていません。すべてを縦に積みます。")),
        Slip(_renamed_only, Text(
            "renamed, but not fused: ours has one matrix where theirs has three.",
            "名前を変えただけで、まとめていません。こちらでは 3 つの行列が 1 つになります。")),
        Slip(_in_their_order, Text(
            "the entries stand in their order; go through `names`, so that they stand in ours.",
            "並びが相手の順になっています。`names` を順にたどります。")),
    ],
    hints=[
        Text("First compare two sets: all names on the right of the map, and the keys of `state`.",
             "まず 2 つの集合を比べます：対応表の右側の全名前と、`state` のキーです。"),
        Text("`{ours: torch.cat([state[key] for key in theirs]) for ours, theirs in names.items()}` behind the check.",
             "検査のあとで `{ours: torch.cat([state[key] for key in theirs]) for ours, theirs in names.items()}`。"),
    ],
)  # fmt: skip

# ------------------------------------------------------------------------------------------------ unfuse


def _unfuse_case(width: int, query: int, group: int) -> tuple:
    rows = {"q_proj.weight": query, "k_proj.weight": group, "v_proj.weight": group, "o_proj.weight": width,
            "input_layernorm.weight": width}  # fmt: skip
    ours = {"attention.project_in.weight": torch.randn(query + 2 * group, width), "norm.scale": torch.randn(width),
            "attention.project_out.weight": torch.randn(width, query)}  # fmt: skip
    return ours, NAMES, rows


def _unfuse(state, names, rows, cut):
    return {key: part for ours, theirs in names.items() for key, part in zip(theirs, cut(state[ours], theirs, rows))}  # noqa: B905


def _values_first(whole, theirs, rows):
    return whole.split([rows[key] for key in theirs[::-1]])[::-1]


def _overlapping(whole, theirs, rows):
    return [whole[: rows[key]] for key in theirs]


def _from_the_end(whole, theirs, rows):
    return [whole[-rows[key] :] for key in theirs]


def _backwards(whole, theirs, rows):
    return [part.flip(0) for part in whole.split([rows[key] for key in theirs])]


Exercise(
    slot=keys.unfuse,
    chapter=CHAPTER,
    cases=lambda: [_unfuse_case(5, 6, 3), _unfuse_case(7, 12, 3)],
    axes={"return": "row column"},
    slips=[
        Slip(lambda s, n, r: _unfuse(s, n, r, lambda whole, theirs, _: whole.chunk(len(theirs))), Text(
            "cut into equal thirds; with grouped queries the query has more rows than key and value: use `rows`.",
            "三等分しています。grouped query では query の行数が多いので `rows` を使います。")),
        Slip(lambda s, n, r: _unfuse(s, n, r, _values_first), Text(
            "the cuts are right for the order value, key, query; ours is query, key, value.",
            "value, key, query の順に切っています。こちらの順は query, key, value です。")),
        Slip(lambda s, n, r: _unfuse(s, n, r, _overlapping), Text(
            "every part begins at row 0; each begins where the one before it ended.",
            "どの部分も 0 行目から始まっています。前の部分の続きから切ります。")),
        Slip(lambda s, n, r: _unfuse(s, n, r, _from_the_end), Text(
            "every part is taken from the end of the matrix.", "どの部分も行列の末尾から取られています。")),
        Slip(lambda s, n, r: _unfuse(s, n, r, _backwards), Text(
            "the rows of each part stand upside down.", "各部分の行が逆さまです。")),
    ],
    hints=[
        Text("For each of our names: how long are the parts, and what are they called?",
             "こちらの各名前について、部分の長さと名前は何ですか。"),
        Text("`state[ours].split([rows[key] for key in theirs])` gives the parts; zip them with `theirs`.",
             "`state[ours].split([rows[key] for key in theirs])` で分け、`theirs` と zip します。"),
    ],
)  # fmt: skip

# ------------------------------------------------------------------------------------------- answer loss


class _Head(nn.Module):
    """A linear head that says so when it is asked for more than the wanted positions."""

    def __init__(self, width: int, vocabulary: int, wanted: int):
        super().__init__()
        self.linear, self.wanted = nn.Linear(width, vocabulary), wanted

    def forward(self, vectors: Tensor) -> Tensor:
        if (asked := vectors.shape[:-1].numel()) > self.wanted:
            raise ValueError(f"the head was asked for {asked} positions, only {self.wanted} predict something")
        return self.linear(vectors)


def _answer_case(batch: int, token: int, width: int, vocabulary: int) -> tuple:
    labels = torch.randint(vocabulary, (batch, token))
    labels[torch.rand(batch, token) < 0.5] = -100
    labels[:, 0], labels[:, -1], labels[0, 1] = labels[:, 1].clamp(min=0), labels[:, 1].clamp(min=0), 0
    hidden = torch.randn(batch, token, width)
    return hidden, labels, _Head(width, vocabulary, int((labels != -100).sum()))


def _answer(hidden, labels, head, shift=1, reduction="mean"):
    token = labels.shape[1]
    seen, following = hidden[:, : token - shift], labels[:, shift:]
    if shift < 0:
        seen, following = hidden[:, -shift:], labels[:, :shift]
    wanted = following != -100
    return F.cross_entropy(head(seen[wanted]), following[wanted], reduction=reduction)


def _per_text(hidden, labels, head):
    return torch.stack([_answer(hidden[n : n + 1], labels[n : n + 1], head) for n in range(len(hidden))]).mean()


def _probability(hidden, labels, head):
    following = labels[:, 1:]
    wanted = following != -100
    return 1 - head(hidden[:, :-1][wanted]).softmax(-1).gather(1, following[wanted][:, None]).mean()


def _around(hidden, labels, head):
    following = labels.roll(-1, 1)
    wanted = following != -100
    return F.cross_entropy(head(hidden[wanted]), following[wanted])


def _positive(hidden, labels, head):
    following = labels[:, 1:]
    wanted = following > 0
    return F.cross_entropy(head(hidden[:, :-1][wanted]), following[wanted])


Exercise(
    slot=answers.answer_loss,
    chapter=CHAPTER,
    cases=lambda: [_answer_case(3, 8, 5, 11), _answer_case(2, 9, 7, 6)],
    axes={"hidden": "batch token width", "labels": "batch token", "return": ""},
    slips=[
        Slip(lambda h, y, head: _answer(h, y, head, 0), Text(
            "no shift: position t must predict the token at t + 1, not the one it has just read.",
            "ずらしていません。位置 t は、いま読んだトークンではなく t + 1 のトークンを予測します。")),
        Slip(lambda h, y, head: _answer(h, y, head, -1), Text(
            "shifted the wrong way: this asks for the token before.",
            "ずらす向きが逆です。1 つ前のトークンを尋ねています。")),
        Slip(lambda h, y, head: _answer(h, y, head, 2), Text(
            "shifted by two: the token in between is skipped.", "2 つずれています。間のトークンが飛ばされています。")),
        Slip(lambda h, y, head: _answer(h, y, head, reduction="sum"), Text(
            "this is the sum; take the mean, or long answers would set the learning rate.",
            "合計になっています。平均を取ります。")),
        Slip(_per_text, Text(
            "a mean of each text's mean: every wanted token must count the same.",
            "テキストごとの平均の平均です。どのトークンも同じ重みで数えます。")),
        Slip(_probability, Text(
            "one minus the probability is not the cross-entropy: take minus its logarithm.",
            "1 − 確率は交差エントロピーではありません。−log を取ります。")),
        Slip(_around, Text(
            "the last position predicts the first token of the row; nothing follows it.",
            "最後の位置が行頭のトークンを予測しています。その後には何もありません。")),
        Slip(_positive, Text(
            "token 0 is a token too: leave out −100, not everything below 1.",
            "0 番もトークンです。除くのは −100 だけです。")),
    ],
    hints=[
        Text("Line up two slices: vectors without the last position, labels without the first.",
             "2 つを並べます：最後を除いたベクトルと、最初を除いたラベル。"),
        Text("`wanted = labels[:, 1:] != -100`; `hidden[:, :-1][wanted]` are the vectors for the head.",
             "`wanted = labels[:, 1:] != -100`。head に渡すのは `hidden[:, :-1][wanted]` です。"),
    ],
    gradient=("hidden",),
)  # fmt: skip
