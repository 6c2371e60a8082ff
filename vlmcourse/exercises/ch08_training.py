"""Exercises of chapter 08, part two: a padded batch, learning rates by part, and an answer written from vectors."""

import torch
from torch import nn
from torch.nn import functional as F

from vlmcourse.data import chat
from vlmcourse.exercises.base import Slip, chapter
from vlmcourse.models import generation
from vlmcourse.models.attention import Cache
from vlmcourse.models.language import Llama, LlamaConfig
from vlmcourse.training import optimizers

exercise, _ = chapter("08_instruction_tuning")
SEEDS = 3, 0  # of the models that write

# ----------------------------------------------------------------------------------------------- collate


def _padded(rows, pad, left, *, length=None, extra=0, real=True, mixed=False):
    """Rows side by side; ``mixed`` fills the mask on the other side than the ids."""
    length = (length or max)(map(len, rows)) + extra
    ids = torch.full((len(rows), length), pad)
    mask = torch.full((len(rows), length), not real)
    for number, row in enumerate(rows):
        row = row[:length]
        front, back = slice(length - len(row), None), slice(len(row))
        ids[number, front if left else back] = torch.tensor(row)
        mask[number, front if left ^ mixed else back] = real
    return ids, mask


def _mask_from_ids(rows, pad, left):
    ids, _ = _padded(rows, pad, left)
    return ids, ids != pad


exercise(
    chat.collate,
    cases=lambda: [
        ([[5, 6, 7, 8, 9], [4, 0, 6], [7]], 0, False),
        ([[3, 9], [8, 7, 6, 5], [2, 4, 4]], 9, True),
    ],
    slips=[
        Slip(_mask_from_ids,
             "the mask asks which ids differ from `pad`; a real token may have that number too. Count the "
             "row's length."),
        Slip(lambda r, p, left: _padded(r, p, False),
             "`left` is not used: with left=True the padding stands in front, and all rows end together."),
        Slip(lambda r, p, left: _padded(r, p, not left),
             "the sides are swapped: with left=True the padding stands on the left."),
        Slip(lambda r, p, left: _padded(r, p, left, length=min),
             "long rows were cut to the shortest; nothing may be cut off, fill up to the longest."),
        Slip(lambda r, p, left: _padded(r, p, left, real=False),
             "the mask is inverted: True stands for real tokens."),
        Slip(lambda r, p, left: _padded(r, 0, left), "the rows are filled with 0; fill them with `pad`."),
        Slip(lambda r, p, left: _padded(r, p, left, mixed=True),
             "ids and mask do not agree: the mask is filled on the other side than the ids."),
        Slip(lambda r, p, left: _padded(r, p, left, extra=1),
             "there is one column too many; the longest row needs no padding."),
        Slip(lambda r, p, left: tuple(part.long() for part in _padded(r, p, left)),
             "the mask must hold True and False: dtype=torch.bool."),
        Slip(lambda r, p, left: _padded(r, p, left)[::-1], "ids and mask are swapped: return (ids, mask)."),
    ],
    hints=[
        "How wide must the tensor be so that nothing is lost? Begin with one that is padding everywhere.",
        "`ids = torch.full((len(rows), longest), pad)`, then for each row `ids[n, :len(row)] = "
        "torch.tensor(row)`, or `ids[n, longest - len(row):]` with left=True. The mask gets True at the "
        "same places.",
    ],
)

# ----------------------------------------------------------------------------------------- rates by part


def _parameter(*shape: int, learns: bool = True) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape), requires_grad=learns)


def _named_cases() -> list[tuple]:
    """Names that contain other parts' names; a frozen part; a kernel with four axes; a part without vectors."""
    first = [
        ("vision.patches.weight", _parameter(3, 2, 4, 5, learns=False)),
        ("vision.projector.bias", _parameter(3, learns=False)),
        ("projector.expand.weight", _parameter(4, 3)),
        ("projector.expand.bias", _parameter(4)),
        ("language.embedding.weight", _parameter(7, 2)),
        ("language.gate.weight", _parameter(5, 2)),
    ]
    second = [
        ("language.head.weight", _parameter(6, 5)),
        ("projector.bias", _parameter(5)),
        ("vision.patches.weight", _parameter(4, 3, 2, 2)),
        ("projector.scale", _parameter(3, learns=False)),
        ("language.vision_norm.scale", _parameter(6)),
    ]
    return [
        (first, {"language": 0.001, "projector": 0.01}, 0.1),
        (second, {"projector": 0.03, "vision": 0.002, "language": 0.001}, 0.05),
    ]


def _groups(named, rates, decay, *, frozen=False, part=None, flat=None, decays=None, rate=None, split=True, keep=False):
    """The right groups, or wrong ones: ``decays(flat)`` says which get weight decay."""
    part = part or (lambda name: name.split(".")[0])
    flat = flat or (lambda parameter: parameter.ndim < 2)
    decays = decays or (lambda is_flat: not is_flat)
    groups = {(each, vectors): {"params": [], "lr": rate(rates) if rate else rates[each],
                                "weight_decay": decay if decays(vectors) else 0.0}
              for each in rates for vectors in ((False, True) if split else (False,))}  # fmt: skip
    for name, parameter in named:
        if (parameter.requires_grad or frozen) and part(name) in rates:
            groups[part(name), split and flat(parameter)]["params"].append(parameter)
    return [group for group in groups.values() if group["params"] or keep]


def _anywhere(named, rates, decay):
    """The first part whose name occurs anywhere in the parameter's name."""
    return _groups(named, rates, decay, part=lambda name: next(part for part in (*rates, "vision") if part in name))


exercise(
    optimizers.rate_groups,
    cases=_named_cases,
    slips=[
        Slip(lambda n, r, d: _groups(n, r, d, frozen=True),
             "frozen parameters are among them; take those with requires_grad only."),
        Slip(lambda n, r, d: _groups(n, r, d, decays=lambda flat: True),
             "weight decay pulls at every parameter; biases and norms, with one axis, get 0."),
        Slip(lambda n, r, d: _groups(n, r, d, decays=lambda flat: flat),
             "weight decay is the wrong way round: matrices get it, vectors get 0."),
        Slip(lambda n, r, d: _groups(n, r, d, decays=lambda flat: False),
             "no group has weight decay; that of the matrices does."),
        Slip(lambda n, r, d: _groups(n, r, d, split=False),
             "matrices and vectors share a group, so biases are decayed too; make two groups for each part."),
        Slip(lambda n, r, d: _groups(n, r, d, rate=lambda rates: max(rates.values())),
             "all groups have the same rate; each part has its own: rates[part]."),
        Slip(lambda n, r, d: _groups(n, r, d, flat=lambda p: p.ndim != 2),
             "the patch kernel has four axes and counts as a matrix: two axes or more."),
        Slip(_anywhere,
             "the part's name was searched anywhere in the parameter's name; it is the first word, before "
             "a dot."),
        Slip(lambda n, r, d: _groups(n, r, d, keep=True),
             "a group without parameters is left in; leave it out."),
        Slip(lambda n, r, d: _groups(n, dict(reversed(r.items())), d),
             "the groups are right but in another order: parts as in `rates`, matrices before vectors."),
    ],
    hints=[
        "Go through the parts, and for each through the parameters. Which two questions decide the group "
        "of one that learns?",
        'For each part: `own = [p for name, p in named if name.split(".")[0] == part and '
        "p.requires_grad]`. Those with `p.ndim >= 2` are the first group, with weight decay; the others "
        "the second, with 0.0.",
    ],
)

# ------------------------------------------------------------------------------ an answer, token by token


def _write(model, prompt, mask, steps, end, pad, *, place=-1, stop=torch.all, blind=False, forget=False, closed=True,
           shown=True, hidden=False, empty=False, dim=1):  # fmt: skip
    """Greedy writing with one thing wrong, see the slips."""
    caches = [Cache() for _ in model.blocks]
    ended = torch.zeros(len(prompt), dtype=torch.bool)
    unread, written = prompt, []
    for _ in range(steps):
        look = {} if forget else {"caches": caches}
        seen = None if blind or forget else mask
        token = model.head(model.hidden(embeddings=unread, mask=seen, **look)[:, place]).argmax(-1)
        now = ended | (token == end)
        token = token.masked_fill(ended if shown else now, pad) if closed else token
        written.append(token)
        ended = now
        if stop(ended):
            break
        unread = torch.zeros_like(unread[:, :1]) if empty else model.embed(token[:, None])
        mask = F.pad(mask, (0, 1), value=not hidden)
    return torch.stack(written, dim=dim)


def _writing_case(seed: int, batch: int, token: int, width: int, steps: int, endless: int) -> tuple:
    """A small random LLaMA; rows are padded on the left and end after different numbers of tokens.

    Args:
        endless: how many rows never end.
    """
    generator = torch.Generator().manual_seed(seed)
    model = Llama(LlamaConfig(13, width, depth=2, heads=2, groups=1))
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 1.0 if parameter.dim() == 1 else 0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    prompt = torch.randn(batch, token, width, generator=generator)
    mask = torch.arange(token) >= torch.arange(batch)[:, None]
    free = _write(model, prompt, mask, steps, -1, 0)
    for end in range(1, 13):
        found = free == end
        first = torch.where(found.any(1), found.int().argmax(1), steps)
        apart = len(first.unique()) == batch and first.min() > 0
        if apart and (first == steps).sum() == endless and (endless or first.max() < steps - 2):
            return model, prompt, mask, steps, end, 0
    raise LookupError(f"no token ends the texts of seed {seed} as wanted")


exercise(
    generation.write_greedily,
    cases=lambda: [_writing_case(SEEDS[0], 3, 5, 12, 9, 0), _writing_case(SEEDS[1], 2, 7, 8, 9, 1)],
    slips=[
        Slip(lambda *a: _write(*a, place=0),
             "the next token is read from the first place; it follows the last one: [:, -1]."),
        Slip(lambda *a: _write(*a, closed=False),
             "rows that have ended go on writing while others are not done; give them `pad`."),
        Slip(lambda *a: _write(*a, shown=False),
             "the end token itself is replaced by `pad`; it is written, and `pad` comes after it."),
        Slip(lambda *a: _write(*a, stop=torch.any),
             "writing stops when the first row has ended; go on until all have."),
        Slip(lambda *a: _write(*a, stop=lambda ended: False),
             "it writes all `steps` even when every row has ended; stop then."),
        Slip(lambda *a: _write(*a, blind=True),
             "the mask is not handed to the model, so padding is read and takes up positions."),
        Slip(lambda *a: _write(*a, hidden=True),
             "what was written is marked as padding: the mask grows by True for every new token."),
        Slip(lambda *a: _write(*a, forget=True),
             "each step forgets what came before: hand the same `caches` to the model every time."),
        Slip(lambda *a: _write(*a, empty=True),
             "the model does not read what it wrote: the next input is the embedding of the new token."),
        Slip(lambda *a: _write(*a, dim=0), "rows are steps: stack the tokens along dim=1."),
    ],
    hints=[
        "The prompt is read once. What does the model read at the second step, and who remembers the rest?",
        "In the loop: `model.head(model.hidden(embeddings=unread, mask=mask, caches=caches)[:, "
        "-1]).argmax(-1)`, `masked_fill(ended, pad)`, then `unread = model.embed(token[:, None])` and "
        "`mask = F.pad(mask, (0, 1), value=True)`.",
    ],
)
