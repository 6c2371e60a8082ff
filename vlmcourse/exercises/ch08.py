"""Exercises of chapter 08, part one: what a model reads of a conversation, and what of it is learned; and the quiz."""

import torch
from torch import Tensor

from vlmcourse.data import chat
from vlmcourse.exercises.base import Slip, chapter

exercise, quiz = chapter("08_instruction_tuning")

# ------------------------------------------------------------------------------------------ the template

SYSTEM, ASKED, SAID = ("system", "answer briefly."), ("user", "<image>what is it?"), ("assistant", "a star")
MORE = [("user", "and its colour?"), ("assistant", "red")]


def _render(turns, prompt, *, role="<{}>", end="<end>", ends=("assistant",), between="", start="<assistant>"):
    text = between.join(role.format(name) + said + (end if name in ends else "") for name, said in turns)
    return text + (between + start) * prompt


def _end_at_the_end(turns, prompt):
    text = _render(turns, prompt, end="")
    return text if prompt else text + "<end>"


exercise(
    chat.render_chat,
    cases=lambda: [
        ([ASKED, SAID], False),
        ([SYSTEM, ASKED, SAID, *MORE], False),
        ([ASKED], True),
        ([SYSTEM, ASKED, SAID, MORE[0]], True),
    ],
    slips=[
        Slip(lambda t, p: _render(t, p, end=""),
             "no `<end>` closes the answers, so the model never learns to stop."),
        Slip(lambda t, p: _render(t, p, ends=chat.ROLES),
             "every turn is closed by `<end>`; only answers are, since only the model has to know when it "
             "is done."),
        Slip(_end_at_the_end,
             "`<end>` stands once, behind the whole conversation; each answer needs its own."),
        Slip(lambda t, p: _render(t, False),
             "`prompt` is not used: with prompt=True the text ends in `<assistant>`, so that the answer "
             "comes next."),
        Slip(lambda t, p: _render(t, True),
             "`<assistant>` stands behind every text; it belongs there only with prompt=True."),
        Slip(lambda t, p: _render(t, p, start="<assistant><end>"),
             "the prompt is closed already: nothing may stand behind its `<assistant>`, the answer goes "
             "there."),
        Slip(lambda t, p: _render(t, p, between="\n"),
             "line ends stand between the turns; in this template the parts follow each other directly."),
        Slip(lambda t, p: _render(t, p, between=" "),
             "spaces stand between the turns; in this template the parts follow each other directly."),
        Slip(lambda t, p: _render(t, p, role="{}: "),
             "roles are written as words; they are tokens of their own: `<user>`, `<assistant>`, "
             "`<system>`."),
        Slip(lambda t, p: _render([turn for turn in t if turn[0] != "system"], p),
             "the system's turn is lost; every role is written the same way."),
    ],
    hints=[
        "Every turn becomes its role in angle brackets and its text. Which turns get one more token?",
        '`"".join(f"<{role}>{said}" + "<end>" * (role == "assistant") for role, said in turns)`, and with '
        "`prompt` one more `<assistant>`.",
    ],
)

# -------------------------------------------------------------------------------------------- label mask


def _turns_open(ids: Tensor, start: int, end: int) -> Tensor:
    """How many answers are open before or at each token."""
    return (ids == start).cumsum(1) - (ids == end).cumsum(1)


def _late(mask: Tensor, places: int = 1) -> Tensor:
    """Every row moved to the right."""
    return torch.cat([torch.zeros_like(mask[:, :places]), mask[:, :-places]], 1)


def _right(ids, start, end):
    return _late(_turns_open(ids, start, end) > 0)


def _from_first_start(ids, start, end):
    return _late((ids == start).cumsum(1) > 0)


def _one_answer(ids, start, end, *, last):
    count = (ids == start).cumsum(1)
    return _right(ids, start, end) & (count == (count[:, -1:] if last else 1))


def _token_rows(start: int, end: int, other: int) -> Tensor:
    """Two turns, one turn behind padding, and an answer that was not closed, with padding behind the second row."""
    rows = [
        [other, 30, 31, start, 32, 33, end, other, 34, start, 35, end, 0],
        [0, 0, 0, other, 36, 37, 38, 39, start, 40, end, 0, 0],
        [other, 41, start, 42, 43, end, other, 44, 45, start, 46, 47, 48],
    ]
    return torch.tensor(rows)


exercise(
    chat.label_mask,
    cases=lambda: [
        (_token_rows(8, 9, 7), 8, 9),
        (_token_rows(21, 5, 8)[:2, :12], 21, 5),
    ],
    slips=[
        Slip(lambda i, s, e: _turns_open(i, s, e) > 0,
             "the mask is one place too early: the start is learned, which is given, and the end is not, "
             "so the model never stops."),
        Slip(lambda i, s, e: _late(_turns_open(i, s, e) > 0, 2),
             "the mask is one place too late: the first word of every answer is never learned, and what "
             "follows the end is."),
        Slip(lambda i, s, e: _right(i, s, e) & (i != e),
             "the end is left out: it has to be predicted, or the model never learns to stop."),
        Slip(lambda i, s, e: _right(i, s, e) | (i == s),
             "the start is learned too; it is given, the model never has to write it."),
        Slip(_from_first_start,
             "everything behind the first start is learned, later questions too; an answer goes to its end "
             "only."),
        Slip(lambda i, s, e: i != 0,
             "all tokens but padding are learned: the model is trained on the prompt, questions and images "
             "included."),
        Slip(lambda i, s, e: ~_right(i, s, e), "the mask is inverted: True belongs to the answers."),
        Slip(lambda i, s, e: _one_answer(i, s, e, last=True),
             "only the last answer is learned; every answer of a conversation is."),
        Slip(lambda i, s, e: _one_answer(i, s, e, last=False),
             "only the first answer is learned; every answer of a conversation is."),
        Slip(lambda i, s, e: _right(i, 8, 9),
             "8 and 9 are written into it; take the numbers from `start` and `end`."),
        Slip(lambda i, s, e: _right(i, s, e).long(),
             "the places are right, but the mask must hold True and False: compare, or use "
             "dtype=torch.bool."),
    ],
    hints=[
        "Read a row from left to right: when does an answer begin, when is it over? What has to be known "
        "of the tokens before?",
        "`(ids == start).cumsum(1)` counts the answers opened so far, the same with `end` those closed. "
        "More opened than closed *before* a token: shift by one.",
    ],
    picture=lambda output: output,
)

# -------------------------------------------------------------------------------------------------- quiz

quiz(
    1,
    "After instruction tuning your model answers rightly and then goes on writing for ever. Where do you "
    "look first?",
    [
        ("At the learning rate.", False,
         "The answers are right, so it learned. It never saw that an answer ends."),
        ("At the label mask: is the end token among the labels?", True,
         "If the end is never a label, nothing teaches the model to write it."),
        ("At the projector: the image tokens are too large.", False,
         "Then the answers would be wrong, not endless."),
    ],
)
quiz(
    2,
    "A model says “yes” to 95 % of questions “is there a …?”, half of which deserve a “no”. What is the "
    "most likely cause?",
    [
        ("Its training answers are nearly all “yes”: it learned the habit, not to look.", True,
         "You trained on such data. Questions about absent things cure it."),
        ("It has too few image tokens.", False,
         "Then it would guess both ways; a strong lean to one side comes from the data."),
        ("Greedy decoding.", False,
         "Greedy decoding shows what the model thinks likelier; it does not make yes likelier."),
    ],
)
quiz(
    3,
    "Why does LLaVA train the projector alone before it trains the language model with it?",
    [
        ("Because the projector has more parameters than the language model.", False, "It has far fewer."),
        ("So that image tokens make sense before the language model starts to adapt to them.", True,
         "A new projector sends noise; a language model trained on noise unlearns what it knew."),
        ("Because gradients cannot pass through a trainable language model.", False,
         "They pass in both cases; in stage 1 they pass a frozen one."),
    ],
)
