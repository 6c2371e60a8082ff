"""Exercises of chapter 17, part one: key maps there and back, and the loss of answers (see ch17_lora.py)."""

import torch
from torch import Tensor, cat, nn
from torch.nn import functional as F

from vlmcourse.exercises.base import Slip, chapter
from vlmcourse.interop import keys
from vlmcourse.training import answers

exercise, _ = chapter("17_real_models")
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


exercise(
    keys.fuse,
    cases=_fuse_cases,
    slips=[
        Slip(lambda s, n: _fuse(s, n, order=sorted),
             "q, k and v are put together in alphabetical order; the map's own order is query, key, value."),
        Slip(lambda s, n: _fuse(s, n, order=lambda names: list(names)[::-1]),
             "the parts stand in reverse order."),
        Slip(lambda s, n: _fuse(s, n, missing=False),
             "a weight is missing, and nobody noticed: the model would keep random numbers there. Raise "
             "KeyError."),
        Slip(lambda s, n: _fuse(s, n, strange=False),
             "a weight of theirs belongs to no name and is dropped in silence; raise KeyError."),
        Slip(lambda s, n: _fuse(s, n, missing=False, strange=False),
             "nothing is checked: a missing name and a strange one must both raise KeyError."),
        Slip(_first_only, "only the first of several weights arrives; put all of them on top of each other."),
        Slip(_renamed_only, "renamed, but not fused: ours has one matrix where theirs has three."),
        Slip(_in_their_order,
             "the entries stand in their order; go through `names`, so that they stand in ours."),
    ],
    hints=[
        "First compare two sets: all names on the right of the map, and the keys of `state`.",
        "`{ours: torch.cat([state[key] for key in theirs]) for ours, theirs in names.items()}` behind the "
        "check.",
    ],
)

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


exercise(
    keys.unfuse,
    cases=lambda: [_unfuse_case(5, 6, 3), _unfuse_case(7, 12, 3)],
    slips=[
        Slip(lambda s, n, r: _unfuse(s, n, r, lambda whole, theirs, _: whole.chunk(len(theirs))),
             "cut into equal thirds; with grouped queries the query has more rows than key and value: use "
             "`rows`."),
        Slip(lambda s, n, r: _unfuse(s, n, r, _values_first),
             "the cuts are right for the order value, key, query; ours is query, key, value."),
        Slip(lambda s, n, r: _unfuse(s, n, r, _overlapping),
             "every part begins at row 0; each begins where the one before it ended."),
        Slip(lambda s, n, r: _unfuse(s, n, r, _from_the_end),
             "every part is taken from the end of the matrix."),
        Slip(lambda s, n, r: _unfuse(s, n, r, _backwards), "the rows of each part stand upside down."),
    ],
    hints=[
        "For each of our names: how long are the parts, and what are they called?",
        "`state[ours].split([rows[key] for key in theirs])` gives the parts; zip them with `theirs`.",
    ],
)

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


exercise(
    answers.answer_loss,
    cases=lambda: [_answer_case(3, 8, 5, 11), _answer_case(2, 9, 7, 6)],
    slips=[
        Slip(lambda h, y, head: _answer(h, y, head, 0),
             "no shift: position t must predict the token at t + 1, not the one it has just read."),
        Slip(lambda h, y, head: _answer(h, y, head, -1),
             "shifted the wrong way: this asks for the token before."),
        Slip(lambda h, y, head: _answer(h, y, head, 2), "shifted by two: the token in between is skipped."),
        Slip(lambda h, y, head: _answer(h, y, head, reduction="sum"),
             "this is the sum; take the mean, or long answers would set the learning rate."),
        Slip(_per_text, "a mean of each text's mean: every wanted token must count the same."),
        Slip(_probability, "one minus the probability is not the cross-entropy: take minus its logarithm."),
        Slip(_around, "the last position predicts the first token of the row; nothing follows it."),
        Slip(_positive, "token 0 is a token too: leave out −100, not everything below 1."),
    ],
    hints=[
        "Line up two slices: vectors without the last position, labels without the first.",
        "`wanted = labels[:, 1:] != -100`; `hidden[:, :-1][wanted]` are the vectors for the head.",
    ],
    gradient=("hidden",),
)
