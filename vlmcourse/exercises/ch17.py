"""Exercises of chapter 17: key maps there and back, LoRA, and the loss of answers."""

import torch
from torch import Tensor, nn

from vlmcourse.exercises.base import chapter
from vlmcourse.interop import keys
from vlmcourse.models import lora
from vlmcourse.training import answers

exercise, quiz = chapter("17_real_models")
NAMES = {
    "attention.project_in.weight": ("q_proj.weight", "k_proj.weight", "v_proj.weight"),
    "norm.scale": ("input_layernorm.weight",),
    "attention.project_out.weight": ("o_proj.weight",),
    "mlp.open.weight": ("gate_proj.weight", "up_proj.weight"),
}

def _layer(width: int, query: int, group: int) -> dict[str, Tensor]:
    """A layer as transformers keeps it, in its order."""
    return {
        "gate_proj.weight": torch.randn(query + 1, width),
        "input_layernorm.weight": torch.randn(width),
        "k_proj.weight": torch.randn(group, width),
        "o_proj.weight": torch.randn(width, query),
        "q_proj.weight": torch.randn(query, width),
        "up_proj.weight": torch.randn(query + 1, width),
        "v_proj.weight": torch.randn(group, width),
    }


def _fuse_cases() -> list[tuple]:
    """Two whole layers, one that lacks a weight, one that has a strange one, one in half precision."""
    lacks, strange = _layer(5, 6, 2), _layer(5, 6, 2)
    del lacks["v_proj.weight"]
    strange["q_proj.lora.weight"] = torch.randn(3, 5)
    half = {key: weight.half() for key, weight in _layer(5, 6, 2).items()}
    return [(state, NAMES) for state in (_layer(5, 6, 2), _layer(7, 4, 4), lacks, strange, half)]


exercise(keys.fuse, ordered=True,
    cases=_fuse_cases,
    slips=[
        ("in keys]", "in sorted(keys)]",
         "q, k and v are put together in alphabetical order; the map's own order is query, key, value."),
        ("in keys]", "in keys[::-1]]", "the parts stand in reverse order."),
        (("wanted != state.keys()", "state.keys() - wanted"), ("in keys]", "in keys if key in state]"),
         "a weight is missing, and nobody noticed: the model would keep random numbers there. "
         "Raise KeyError."),
        ("wanted != state.keys()", "wanted - state.keys()",
         "a weight of theirs belongs to no name and is dropped in silence; raise KeyError."),
        (("wanted != state.keys()", "False"), ("in keys]", "in keys if key in state]"),
         "nothing is checked: a missing name and a strange one must both raise KeyError."),
        ("cat(several) if len(several) > 1 else several[0]", "several[0]",
         "only the first of several weights arrives; put all of them on top of each other."),
        ("return {",
         'return {f"{ours}.{number}" if len(several) > 1 else ours: part\n        '
         "for ours, several in parts.items() for number, part in enumerate(several)}\n    return {",
         "renamed, but not fused: ours has one matrix where theirs has three."),
    ],
    hints=["First compare two sets: all names on the right of the map, and the keys of `state`.",
           "`{ours: torch.cat([state[key] for key in theirs]) for ours, theirs in names.items()}` behind the "
           "check."],
)

exercise(lora.lora_forward, gradient=("tokens", "down", "up"),
    axes={"tokens": "group batch token width", "return": "group batch token out"},
    cases=lambda: [
        (torch.randn(2, 4, 5), nn.Linear(5, 7), torch.randn(3, 5), torch.randn(7, 3), 2.5),
        (torch.randn(3, 5, 6), nn.Linear(6, 4, bias=False), torch.randn(2, 6), torch.randn(4, 2), 0.5),
        (torch.randn(2, 3, 4, 6), nn.Linear(6, 5), torch.randn(2, 6), torch.randn(5, 2), 1.5),
        (torch.randn(4, 6), nn.Linear(6, 5), torch.randn(2, 6), torch.randn(5, 2), 1.5),
    ],
    slips=[
        ("scale * ", "", "the scale is missing: it keeps the size of the change when the rank changes."),
        (("frozen(tokens) + scale * ", "scale * (frozen(tokens) + "), (", up)", ", up))"),
         "the frozen layer is scaled too; the scale belongs to the detour alone."),
        ("frozen(tokens) + ", "", "the frozen layer is missing: LoRA adds to it and does not replace it."),
        ("+ scale", "+ scale / len(down)", "divided by the rank once more; `scale` is alpha / rank already."),
        ("F.linear(tokens, down)", "F.relu(F.linear(tokens, down))", "a nonlinearity stands in the detour; "
         "that is an adapter, and it could not be merged into the weight."),
        ("+ scale", "- scale", "the detour is subtracted; add it."),
        ("frozen(tokens)", "F.linear(tokens, frozen.weight)",
         "the frozen layer's bias is lost; call the layer itself."),
    ],
    hints=["Two ways lead from the tokens to the output; add what comes out of both.",
           "`F.linear(tokens, down)` is (…, rank); `F.linear(…, up)` leads on to (…, out)."],
)

exercise(lora.lora_numbers,
    cases=lambda: [([(960, 576), (576, 576)], 8), ([(7, 5), (5, 7), (3, 11)], 2), ([(12, 5)], 3)],
    slips=[
        ("(out + width)", "out * width", "rank · out · width is more than the layer itself has; "
         "the two matrices are (rank, width) and (out, rank)."),
        ("rank * (out + width)", "out * width", "these are the numbers of the frozen layers."),
        ("(out + width)", "width", "only `down` is counted; `up` learns too."),
        ("(out + width)", "out", "only `up` is counted; `down` learns too."),
        ("(out + width)", "2 * width", "`up` has `out` rows, which may be more or fewer than the width."),
        ("rank * (", "out * width + rank * (", "the frozen weights are counted too; they do not learn."),
        ("in layers", "in layers[:1]", "only the first layer is counted."),
        ("return sum(", "return list(", "this is a list, one number per layer; add them up."),
    ],
    hints=["Draw the two matrices of one layer. How many numbers has each?",
           "rank · width for `down`, out · rank for `up`; the sum over all layers."],
)


class _Head(nn.Module):
    """A linear head that says so when it is asked for more than the wanted positions."""

    def __init__(self, width: int, vocabulary: int, wanted: int):
        super().__init__()
        self.linear, self.wanted = nn.Linear(width, vocabulary), wanted

    def forward(self, vectors: Tensor) -> Tensor:
        if (asked := vectors.shape[:-1].numel()) > self.wanted:
            raise ValueError(f"the head got {asked} positions, only {self.wanted} predict something")
        return self.linear(vectors)


def _answer_case(batch: int, token: int, width: int, vocabulary: int) -> tuple:
    labels = torch.randint(vocabulary, (batch, token))
    labels[torch.rand(batch, token) < 0.5] = -100
    labels[:, 0], labels[:, -1], labels[0, 1] = labels[:, 1].clamp(min=0), labels[:, 1].clamp(min=0), 0
    hidden = torch.randn(batch, token, width)
    return hidden, labels, _Head(width, vocabulary, int((labels != -100).sum()))


exercise(answers.answer_loss, gradient=("hidden",),
    cases=lambda: [_answer_case(3, 8, 5, 11), _answer_case(2, 9, 7, 6)],
    slips=[
        ("following(labels)", "labels",
         "no shift: position t must predict the token at t + 1, not the one it has just read."),
        ("following(labels)", "F.pad(labels[:, :-1], (1, 0), value=IGNORED)",
         "shifted the wrong way: this asks for the token before."),
        ("following(labels)", "following(following(labels))",
         "shifted by two: the token in between is skipped."),
        ("answers[wanted])", 'answers[wanted], reduction="sum")',
         "this is the sum; take the mean, or long answers would set the learning rate."),
        ("return ",
         "texts = zip(hidden, answers, wanted)\n    "
         "losses = [F.cross_entropy(head(vectors[own]), text[own]) for vectors, text, own in texts]\n    "
         "return sum(losses) / len(losses)\n    return ",
         "a mean of each text's mean: every wanted token must count the same."),
        ("F.cross_entropy(head(hidden[wanted]), answers[wanted])",
         "1 - head(hidden[wanted]).softmax(dim=-1).gather(1, answers[wanted][:, None]).mean()",
         "one minus the probability is not the cross-entropy: take minus its logarithm."),
        ("following(labels)", "labels.roll(-1, 1)",
         "the last position predicts the first token of the row; nothing follows it."),
        ("!= IGNORED", "> 0", "token 0 is a token too: leave out −100, not everything below 1."),
    ],
    hints=["Line up two slices: vectors without the last position, labels without the first.",
           "`wanted = labels[:, 1:] != -100`; `hidden[:, :-1][wanted]` are the vectors for the head."],
)

exercise(lora.lora_merge,
    cases=lambda: [
        (torch.randn(7, 5), torch.randn(3, 5), torch.randn(7, 3), 2.5),
        (torch.randn(4, 6), torch.randn(2, 6), torch.randn(4, 2), 0.5),
    ],
    slips=[
        ("scale * ", "",
         "the scale is missing, so the merged layer says something else than the two together."),
        ("+ scale", "- scale", "this takes the change out again (unmerge); add it."),
        ("weight + ", "", "the frozen weight is gone; this is the change alone."),
        ("weight + scale * up @ down", "scale * (weight + up @ down)",
         "the frozen weight is scaled too; the scale belongs to the change alone."),
        ("+ scale", "+ scale * scale", "the scale counts twice; once is enough."),
        ("weight + scale * up @ down", "weight.T + scale * down.T @ up.T",
         "this is the transpose: a linear layer's weight is (out, width)."),
        ("return weight + scale * up @ down", "weight += scale * up @ down\n    return weight",
         "the given weight is changed in place; return a new one, the frozen layer stays as it is."),
    ],
    hints=["W x + s · B (A x) = (W + s · B A) x. Which of the two matrices is A?",
           "`up @ down` has the shape of the weight."],
)


def _unfuse_case(width: int, query: int, group: int) -> tuple:
    theirs = _layer(width, query, group)
    fused = keys.fuse.reference(theirs, NAMES)
    return fused, NAMES, {key: len(theirs[key]) for key in reversed(theirs)}


exercise(keys.unfuse, ordered=True,
    cases=lambda: [_unfuse_case(5, 6, 3), _unfuse_case(7, 12, 3)],
    slips=[
        ("split([rows[key] for key in keys])", "chunk(len(keys))", "cut into equal thirds; "
         "with grouped queries the query has more rows than key and value: use `rows`."),
        ("in keys])", "in keys[::-1]])[::-1]",
         "the cuts are right for the order value, key, query; ours is query, key, value."),
        (("state[ours].split([rows[key]", "[state[ours][: rows[key]]"), ("in keys])", "in keys]"),
         "every part begins at row 0; each begins where the one before it ended."),
        (("state[ours].split([rows[key]", "[state[ours][-rows[key] :]"), ("in keys])", "in keys]"),
         "every part is taken from the end of the matrix."),
        (("state[ours]", "[part.flip(0) for part in state[ours]"), ("in keys])", "in keys])]"),
         "the rows of each part stand upside down."),
    ],
    hints=["For each of our names: how long are the parts, and what are they called?",
           "`state[ours].split([rows[key] for key in theirs])` gives the parts; zip them with `theirs`."],
)

quiz(1, "You load a published model with `strict=False`, and the loss stays near 7.5. "
        "What do you look at first?", [
    ("The learning rate.", False,
     "It can be wrong as well, but it would not explain a start at random guessing."),
    ("Which keys matched nothing.", True,
     "Right: with strict=False every unmatched weight stays random, and nothing is said about it."),
    ("Whether pixels are normalised as in its training.", False,
     "That would hurt what it says of images, not the language itself."),
])
quiz(2, "Why does `up` start at zero, and `down` not?", [
    ("So that the first answers are the frozen model's, and the first gradient is not zero.", True,
     "Right: the product is zero, so nothing changes yet; "
     "but up's gradient holds down(x), which is not zero."),
    ("So that up learns faster than down.", False,
     "Both have one rate. "
     "down stands still at the first step only because its gradient contains up, which is 0."),
    ("It makes no difference; both could start at zero.", False,
     "Then both gradients are zero, since each contains the other matrix: nothing would ever learn."),
])
quiz(3, "After tuning, the model names colours rightly. What shows that it looks at the image?", [
    ("A low training loss.", False,
     "A blind model's loss falls too: it learns the form of the answers and which words are frequent."),
    ("Fluent sentences about the picture.", False, "SmolLM2 wrote fluently before it had an eye."),
    ("With another image in its place, the same questions are answered wrongly.", True,
     "Right: only the image differs between the two runs, so only the image can explain the difference."),
])
