"""Exercises of chapter 08: what a model reads of a conversation, what of it is learned, and its answer."""

from typing import Any

import torch
from torch import Tensor, nn

from vlmcourse.data import chat
from vlmcourse.exercises.base import chapter
from vlmcourse.models import generation
from vlmcourse.models.language import Llama, LlamaConfig
from vlmcourse.training import optimizers

exercise, quiz = chapter("08_instruction_tuning")

SYSTEM, ASKED, SAID = ("system", "answer briefly."), ("user", "<image>what is it?"), ("assistant", "a Star")
MORE = [("user", "and its colour?"), ("assistant", "red")]

exercise(chat.render_chat,
    cases=lambda: [
        ([ASKED, SAID], False),
        ([SYSTEM, ASKED, SAID, *MORE], False),
        ([ASKED], True),
        ([SYSTEM, ASKED, SAID, MORE[0]], True),
    ],
    slips=[
        ('"<end>"', '""', "no `<end>` closes the answers, so the model never learns to stop."),
        (' * (role == "assistant")', "", "every turn is closed by `<end>`; "
         "only answers are, since only the model has to know when it is done."),
        (('"<end>"', '""'), ("return text", 'return text + "<end>" * (not prompt)'),
         "`<end>` stands once, behind the whole conversation; each answer needs its own."),
        (('"<end>"', '""'), ("return text", 'return text + "<end>"'),
         "`<end>` stands once, behind the whole conversation; each answer needs its own."),
        (' + "<assistant>" * prompt', "", "`prompt` is not used: "
         "with prompt=True the text ends in `<assistant>`, so that the answer comes next."),
        (" * prompt", " * (not prompt)", "`prompt` is the wrong way round: "
         "the text ends in `<assistant>` only with prompt=True."),
        (" * prompt", "", "`<assistant>` stands behind every text; it belongs there only with prompt=True."),
        ('"<assistant>"', '"<assistant><end>"',
         "the prompt is closed already: nothing may stand behind its `<assistant>`, the answer goes there."),
        (('"".join', '"\\n".join'), ('"<assistant>"', '"\\n<assistant>"'),
         "line ends stand between the turns; in this template the parts follow each other directly."),
        (('"".join', '" ".join'), ('"<assistant>"', '" <assistant>"'),
         "spaces stand between the turns; in this template the parts follow each other directly."),
        ("<{role}>", "{role}: ",
         "roles are written as words; they are tokens of their own: `<user>`, `<assistant>`, `<system>`."),
        ("in turns", 'in turns if role != "system"',
         "the system's turn is lost; every role is written the same way."),
    ],
    hints=["Every turn becomes its role in angle brackets and its text. Which turns get one more token?",
           '`"".join(f"<{role}>{said}" + "<end>" * (role == "assistant") for role, said in turns)`, '
           "and with `prompt` one more `<assistant>`."],
)


def _token_rows(start: int, end: int, other: int) -> Tensor:
    """Two turns; an answer at once, and one not closed; one between paddings, behind an end of nothing."""
    rows = [
        [other, 30, 31, start, 32, 33, end, other, 34, start, 35, end, end],
        [start, 41, 42, 43, 44, end, other, 44, 45, start, 46, 47, 48],
        [0, 0, end, other, 36, 37, 38, 39, start, 40, end, 0, 0],
    ]
    return torch.tensor(rows)


exercise(chat.label_mask, picture=lambda output: output,
    cases=lambda: [(_token_rows(8, 9, 7), 8, 9), (_token_rows(21, 5, 8)[:2, :12], 21, 5)],
    slips=[
        ("F.pad((opened > closed)[:, :-1], (1, 0))", "opened > closed", "the mask is one place too early: "
         "the start is learned, which is given, and the end is not, so the model never stops."),
        ("[:, :-1], (1, 0)", "[:, :-2], (2, 0)", "the mask is one place too late: "
         "the first word of every answer is never learned, and what follows the end is."),
        ("return ", "return (ids != end) & ",
         "the end is left out: it has to be predicted, or the model never learns to stop."),
        ("return ", "return (ids == start) | ",
         "the start is learned too; it is given, the model never has to write it."),
        ("opened > closed", "opened >= 0", "everything behind the first start is learned, "
         "later questions too; an answer goes to its end only."),
        ("return ", "return ids != 0\n    return ", "all tokens but padding are learned: "
         "the model is trained on the prompt, questions and images included."),
        ("return ", "return ~", "the mask is inverted: True belongs to the answers."),
        ("return ", "return (opened == opened[:, -1:]) & ",
         "only the last answer is learned; every answer of a conversation is."),
        ("return ", "return (ids == end).flip(1).cumsum(1).flip(1).bool() & ",
         "an answer that was never closed is left out; it goes on to the end of its row."),
        ("return ", "return ((ids == start).cumsum(dim=1) == 1) & ",
         "only the first answer is learned; every answer of a conversation is."),
        (("ids == start", "ids == 8"), ("ids == end", "ids == 9"),
         "8 and 9 are written into it; take the numbers from `start` and `end`."),
        (("torch.where(ids == start, place, -1).cummax(dim=1).values", "(ids == start).cumsum(dim=1)"),
         ("torch.where(ids == end, place, -1).cummax(dim=1).values", "(ids == end).cumsum(dim=1)"),
         "starts and ends are counted, so an end outside an answer hides the next answer; "
         "ask which of the two came last."),
        ("(1, 0))", "(1, 0)).long()",
         "the places are right, but the mask must hold True and False: compare, or use dtype=torch.bool."),
    ],
    hints=["Read a row from left to right: when does an answer begin, when is it over? "
           "What has to be known of the tokens before?",
           "`torch.where(ids == start, place, -1).cummax(dim=1).values` is the place of the latest start, "
           "the same with `end` that of the latest end. Which is later *before* a token? Shift by one."],
)

exercise(chat.collate,
    cases=lambda: [
        ([[5, 6, 7, 8, 9], [4, 0, 6], [7]], 0, False),
        ([[3, 9], [8, 7, 6, 5], [2, 4, 4], [6]], 9, True),
        ([[1], [2, 8]], 5, False),
    ],
    slips=[
        ("return ids, mask", "return ids, ids != pad", "the mask asks which ids differ from `pad`; "
         "a real token may have that number too. Count the row's length."),
        ("if left", "if False",
         "`left` is not used: with left=True the padding stands in front, and all rows end together."),
        ("if left", "if not left", "the sides are swapped: with left=True the padding stands on the left."),
        ("torch.tensor(row)", "torch.tensor(row[::-1] if left else row)",
         "with left=True the rows stand backwards; only the padding changes its side."),
        (("max(map", "min(map"), ("enumerate(rows)", "enumerate(row[:length] for row in rows)"),
         "long rows were cut to the shortest; nothing may be cut off, fill up to the longest."),
        ("return ids, mask", "return ids, ~mask", "the mask is inverted: True stands for real tokens."),
        ("length), pad", "length), 0", "the rows are filled with 0; fill them with `pad`."),
        ("return ids, mask", "return ids, mask.flip(1)",
         "ids and mask do not agree: the mask is filled on the other side than the ids."),
        ("max(map", "1 + max(map", "there is one column too many; the longest row needs no padding."),
        ("return ids, mask", "return ids, mask.long()",
         "the mask must hold True and False: dtype=torch.bool."),
        ("return ids, mask", "return mask, ids", "ids and mask are swapped: return (ids, mask)."),
    ],
    hints=["How wide must the tensor be so that nothing is lost? Begin with one that is padding everywhere.",
           "`ids = torch.full((len(rows), longest), pad)`, "
           "then for each row `ids[n, :len(row)] = torch.tensor(row)`, "
           "or `ids[n, longest - len(row):]` with left=True. The mask gets True at the same places."],
)


class _Thrifty(Llama):
    """A LLaMA that says so when it reads more than ``most`` tokens, such as all of them at every step."""

    def __init__(self, config: LlamaConfig, most: int):
        super().__init__(config)
        self.most, self.read = most, 0

    def hidden(self, ids: Tensor | None = None, *more: Any, embeddings: Tensor | None = None, **named: Any):
        self.read += (embeddings if ids is None else ids).shape[1]
        if self.read > self.most:
            raise ValueError(f"the model read {self.read} tokens, but the prompt and one for each step "
                             f"are {self.most}; what stands in the caches is read already")  # fmt: skip
        return super().hidden(ids, *more, embeddings=embeddings, **named)


def _writing_case(
    seed: int, *shape: int, steps: int, endless: int, pad: int | None = 0, depth: int = 1
) -> tuple:
    """A small random LLaMA; rows are padded on the left and end after different numbers of tokens.

    Args:
        shape: batch, token, width.
        endless: how many rows never end.
        pad: None for the end itself, as in many published models.
    """
    batch, token, width = shape
    generator = torch.Generator().manual_seed(seed)
    config = LlamaConfig(13, width, depth, heads=2, groups=1)
    model = Llama(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=1.0 if parameter.dim() == 1 else 0.5, generator=generator)
    prompt = torch.randn(shape, generator=generator)
    mask = torch.arange(token) >= torch.arange(batch)[:, None]
    thrifty = _Thrifty(config, token + steps)
    thrifty.load_state_dict(model.state_dict())
    texts = generation.write_greedily.reference(model, prompt, mask, steps, end=-1)
    for end in range(1, 13):
        lengths = (texts != end).cumprod(dim=1).sum(dim=1)  # steps where it never ends
        apart = len(lengths.unique()) == batch and lengths.min() > 0
        if apart and (lengths == steps).sum() == endless and (endless or lengths.max() < steps - 2):
            return thrifty, prompt, mask, steps, end, end if pad is None else pad
    raise LookupError(f"no token ends the texts of seed {seed} as wanted")


exercise(generation.write_greedily,
    cases=lambda: [
        _writing_case(2, 3, 5, 12, steps=9, endless=0),
        _writing_case(0, 2, 7, 8, steps=8, endless=1, pad=3),
        _writing_case(0, 2, 3, 8, steps=7, endless=0, pad=None, depth=2),
    ],
    slips=[
        ("[:, -1]", "[:, 0]",
         "the next token is read from the first place; it follows the last one: [:, -1]."),
        (".masked_fill(ended, pad)", "",
         "rows that have ended go on writing while others are not done; give them `pad`."),
        ("append(token)", "append(token.masked_fill(token == end, pad))",
         "the end token itself is replaced by `pad`; it is written, and `pad` comes after it."),
        ("ended.all()", "ended.any()", "writing stops when the first row has ended; go on until all have."),
        ("ended | (token == end)", "token == end",
         "it forgets which rows ended before this step: ended = ended | (token == end)."),
        (("written.append(token)", "pass"), ("break", "break\n        written.append(token)"),
         "the last token is lost: keep it before you stop."),
        ("range(steps)", "range(steps - 1)", "it takes one step too few; the prompt gives the first token."),
        ("(0, 1), value", "(1, 0), value",
         "the mask grows in front, where the padding is; new tokens stand behind."),
        ("ended.all()", "False", "it writes all `steps` even when every row has ended; stop then."),
        ("mask=mask", "mask=None",
         "the mask is not handed to the model, so padding is read and takes up positions."),
        ("value=True", "value=False",
         "what was written is marked as padding: the mask grows by True for every new token."),
        (("mask=mask", "mask=None"), ("caches=caches", "caches=None"),
         "each step forgets what came before: hand the same `caches` to the model every time."),
        ("model.embed(token[:, None])", "torch.zeros_like(unread[:, :1])",
         "the model does not read what it wrote: the next input is the embedding of the new token."),
        ("model.head(last)", "last", "the head is left out: a hidden vector holds no scores of tokens."),
        ("dim=1", "dim=0", "rows are steps: stack the tokens along dim=1."),
    ],
    hints=["The prompt is read once. "
           "What does the model read at the second step, and who remembers the rest?",
           "In the loop: `model.head(model.hidden(embeddings=unread, mask=mask, "
           "caches=caches)[:, -1]).argmax(-1)`, `masked_fill(ended, pad)`, "
           "then `unread = model.embed(token[:, None])` and `mask = F.pad(mask, (0, 1), value=True)`."],
)


def _parameter(*shape: int, learns: bool = True) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape), requires_grad=learns)


def _named_cases() -> list[tuple]:
    """Names that contain other parts' names; a frozen part; a kernel with four axes; no vectors in a part; a
    weight that is a vector.
    """
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
    alike = [("vision.weight", _parameter(3, 2)), ("vision_norm.weight", _parameter(5))]
    return [
        (first, {"language": 0.001, "projector": 0.01}, 0.1),
        (second, {"projector": 0.03, "vision": 0.002, "language": 0.001}, 0.05),
        (alike, {"vision": 0.002, "vision_norm": 0.01}, 0.2),
    ]


exercise(optimizers.rate_groups,
    cases=_named_cases,
    slips=[
        ("parameter.requires_grad", 'name.split(".")[0] in rates',
         "frozen parameters are among them; take those with requires_grad only."),
        ("0.0 if flat else weight_decay", "weight_decay",
         "weight decay pulls at every parameter; biases and norms, with one axis, get 0."),
        ("if flat", "if not flat", "weight decay is the wrong way round: matrices get it, vectors get 0."),
        ("else weight_decay", "else 0.0", "no group has weight decay; that of the matrices does."),
        ("parameter.ndim < 2", "False",
         "matrices and vectors share a group, so biases are decayed too; make two groups for each part."),
        ('"lr": rate', '"lr": max(rates.values())',
         "all groups have the same rate; each part has its own: rates[part]."),
        ("ndim < 2", "ndim != 2", "the patch kernel has four axes and counts as a matrix: two axes or more."),
        (("name, parameter in named",
          "part, name, parameter in [(key, *one) for key in rates for one in named]"),
         ("if parameter.requires_grad", "if parameter.requires_grad and name.startswith(part)"),
         ('part = name.split(".")[0]', "pass"),
         "a part is told by how the name begins, so `vision` takes `vision_norm` too; compare whole words."),
        ('= name.split(".")[0]', "= next(part for part in rates if part in name)",
         "the part's name was searched anywhere in the parameter's name; "
         "it is the first word, before a dot."),
        (("name, parameter in named",
          "part, name, parameter in [(key, *one) for key in rates for one in named]"),
         ("if parameter.requires_grad", "if parameter.requires_grad and part in name"),
         ('part = name.split(".")[0]', "pass"),
         "the part's name was searched anywhere in the parameter's name; "
         "it is the first word, before a dot."),
        ("parameter.ndim < 2", 'not name.endswith("weight")',
         "the name decides what is a matrix; a norm's weight is a vector, so count the axes."),
        ("parameter.ndim < 2", '"bias" in name',
         "the name decides what is a vector; a norm's scale is one too, so count the axes."),
        ("ndim < 2", "ndim >= 2", "matrices and vectors changed places: two axes or more get the decay."),
        ("(False, True)", "(True, False)", "the vectors stand before the matrices of their part."),
        ('if group["params"]', 'if group["params"] and group["weight_decay"]',
         "the vectors are lost: they learn too, in a group without weight decay."),
        ("return [group for", 'return [groups[name.split(".")[0], p.ndim < 2] | {"params": [p]} '
         "for name, p in named if p.requires_grad]\n    return [group for",
         "each parameter has a group of its own; those of a part share two, matrices and vectors."),
        (' if group["params"]', "", "a group without parameters is left in; leave it out."),
        ('if group["params"]', 'if group["params"] or group["weight_decay"]',
         "a group without parameters is left in; leave it out."),
        ("in rates.items()", "in sorted(rates.items())",
         "the groups are right but in another order: parts as in `rates`, matrices before vectors."),
        ("in rates.items()", "in reversed(rates.items())",
         "the groups are right but in another order: parts as in `rates`, matrices before vectors."),
    ],
    hints=["Go through the parts, and for each through the parameters. "
           "Which two questions decide the group of one that learns?",
           "For each part: "
           '`own = [p for name, p in named if name.split(".")[0] == part and p.requires_grad]`. '
           "Those with `p.ndim >= 2` are the first group, with weight decay; "
           "the others the second, with 0.0."],
)

quiz(1, "After instruction tuning your model answers rightly and then goes on writing for ever. "
        "Where do you look first?", [
    ("At the number of steps: it has learned what to say, but not yet when to stop.", False,
     "Ends are learned early. In section 10 your answers ended after 40 steps, and few of them were right."),
    ("At the label mask: is the end token among the labels?", True,
     "If the end is never a label, nothing teaches the model to write it."),
    ("At the side of the padding: the prompts are padded behind.", False,
     "Then answers would go wrong from their first word on."),
])
quiz(2, "A model says “yes” to 95 % of questions “is there a …?”, half of which deserve a “no”. "
        "What is the most likely cause?", [
    ("Its training answers are nearly all “yes”: it learned the habit, not to look.", True,
     "You trained on such data. Questions about absent things cure it."),
    ("Its eye is frozen and never learned what absence looks like.", False,
     "The eye of your cured model was the same frozen one; only the questions had changed."),
    ("Greedy decoding.", False,
     "Greedy decoding shows what the model thinks likelier; it does not make yes likelier."),
])
quiz(3, "Why does LLaVA train the projector alone before it trains the language model with it?", [
    ("Because a model that learns everything at once never learns to answer.", False,
     "It does: in the long run of section 9 the joint arm ended far above the prior, beside the staged one."),
    ("So that image tokens can be read by the language model as it is, before it starts to change.", True,
     "Stage 1 leaves the language model as it was. What stage 2 keeps of it depends on rates and on data."),
    ("Because it saves time: answers come sooner.", False,
     "In the long run of section 9 they came later, since stage 1 teaches no answer."),
])
