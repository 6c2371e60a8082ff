"""Label-Mask Inspector: one conversation as a model reads it, and which of its tokens it has to learn.

It takes tokens, ids and labels as arrays and knows no model.  Tokens count from 0.

    label       the id of the token where it is learned, -100 elsewhere (data/chat.py)
    prediction  labels stand at the token itself, so it is the position *before* it that has to predict it
    role        whose turn it is; "<system>", "<user>" and "<assistant>" open one, every "<…>" is special
    padding     "<pad>": it fills a batch up and counts for nothing
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import traitlets

from vlmcourse.widgets.base import Widget, as_array, script, visible
from vlmcourse.widgets.stills import ACCENT, GOOD, IMAGE, INK, MASKED, TEXT, Still, new_figure, open_corner

NOT_LEARNED = -100  # the label of a token that is only read: IGNORED of models/language.py
TURNS = ("system", "user", "assistant")  # ROLES of data/chat.py, which would bring torch along
PADDING = "<pad>"
MOST_TOKENS = 20_000
IN_BRACKETS = re.compile(r"<[^<>\s]+>")


def roles_of(tokens: Sequence[str]) -> list[str]:
    """Whose turn each token belongs to: system, user, assistant, or "" outside of all; padding is "padding".

    The token that opens a turn belongs to it; so does everything up to the next one, or to "<end>".
    """
    roles, now = [], ""
    for token in tokens:
        now = token[1:-1] if token[1:-1] in TURNS and IN_BRACKETS.fullmatch(token) else now
        roles.append("padding" if token == PADDING else now)
        now = "" if token == "<end>" else now
    return roles


def read_chats(chats) -> dict:
    """Arguments of LabelInspector from data.chat.Chats, or whatever has `ids` and `labels` (batch, token)."""
    from vlmcourse.data.text import IMAGE, load_tokenizer

    tokens = [load_tokenizer().tokens(row) for row in chats.ids.tolist()]
    return {"tokens": tokens, "ids": chats.ids, "labels": chats.labels, "image": chats.ids == IMAGE}


def counted(image, padding, learned, context: int | None) -> dict[str, int]:
    """How many tokens a conversation has, padding apart, and of which part: image + text + learned = tokens.

    Text is what is only read; `over` is how many tokens do not fit into the context.
    """
    tokens = int((~padding).sum())
    parts = {"image": image & ~learned, "learned": learned, "text": ~image & ~learned}
    counts = {part: int((places & ~padding).sum()) for part, places in parts.items()}
    over = max(0, tokens - context) if context else 0
    return {"tokens": tokens, **counts, "padding": int(padding.sum()), "over": over}


def doubtful(ids, labels, image, padding, special) -> list[str]:
    """What can hardly be meant in the labels of a conversation, one sentence each; empty if all is well."""
    learned = labels != NOT_LEARNED
    last = learned & ~np.append(learned[1:], False)
    faults = {
        "a label is not the id at its place; labels are not shifted, the loss does that": labels != ids,
        "a placeholder of an image is learned; it is no word": image,
        "a token of padding is learned": padding,
        "an answer has no learned end; the model would not learn to stop": last & ~special,
    }
    counts = {sentence: int((places & learned).sum()) for sentence, places in faults.items()}
    sentences = [f"{count} × {sentence}" for sentence, count in counts.items() if count]
    if learned[0]:
        sentences.append("the first token is learned, but no position stands before it to predict it")
    return sentences if learned.any() else ["nothing is learned here"]


class LabelInspector(Widget):
    """Which tokens does the model read, and which of them does it learn?

    Tokens stand in turns, one row per role.  A learned token is filled, one that is only read is hatched, and
    the placeholders of an image are one orange run that unfolds on a click or with Enter.

        LabelInspector(**read_chats(encode(chats, image_tokens=16)), context=128)

    Args:
        tokens: the tokens of one conversation as text, or one such list per conversation; 20,000 at most.
        ids: their numbers, (token,) or (conversation, token).
        labels: likewise, each the id where the token is learned and -100 elsewhere.  Two sets to compare have
            names: {"right": labels, "off by one": other}; tokens that differ are marked.
        image: True for the placeholders of images; when not given, the tokens "<image>".
        context: how many tokens the model can read; the budget shows what is free or too much.

    `view` holds what is shown: conversation, token, labels (0 or 1, of the two sets).
    """

    _esm = script("labels.js")
    chats = traitlets.List(help="what is known of each conversation, see _chat").tag(sync=True)
    sets = traitlets.List(help="names of the one or two sets of labels").tag(sync=True)
    context = traitlets.Int(None, allow_none=True).tag(sync=True)

    def __init__(self, tokens, ids, labels, image=None, *, context=None):
        single = len(tokens) > 0 and isinstance(tokens[0], str)
        rows = [[str(token) for token in row] for row in ([tokens] if single else tokens)]
        if not rows or not all(rows) or sum(map(len, rows)) > MOST_TOKENS:
            raise ValueError(
                f"{len(rows)} conversations with {sum(map(len, rows))} tokens; pass at least one with a "
                f"token in it, and at most {MOST_TOKENS:,} tokens in all"
            )
        sets = dict(labels) if isinstance(labels, Mapping) else {"labels": labels}
        if not 1 <= len(sets) <= 2:
            given = ", ".join(map(str, sets))
            raise ValueError(f"labels must be one set or two to compare, got {len(sets)}: {given}")
        ids = fitted("ids", ids, rows, single)
        called = [f"labels {name!r}" if len(sets) > 1 else "labels" for name in sets]
        self._labels = [fitted(name, sets[key], rows, single) for name, key in zip(called, sets, strict=True)]
        image = [np.array(row) == "<image>" for row in rows] if image is None else image
        images = [row.astype(bool) for row in fitted("image", image, rows, single)]
        if context is not None and context < 1:
            raise ValueError(f"context={context}, expected at least 1: how many tokens the model can read")
        view = {"conversation": 0, "token": 0, "labels": 0}
        rules = {"conversation": range(len(rows)), "labels": range(len(sets))}
        rules["token"] = lambda view: range(len(rows[view["conversation"]]))
        self.allowed = {"view": rules}
        super().__init__(sets=[str(name) for name in sets], context=context, view=view)
        known = zip(rows, ids, images, zip(*self._labels, strict=True), strict=True)
        self.chats = [self._chat(*conversation) for conversation in known]
        numbers = {f"ids/{i}": row.astype("<i4") for i, row in enumerate(ids)}
        for s, labels in enumerate(self._labels):
            numbers |= {f"labels/{s}/{i}": row.astype("<i4") for i, row in enumerate(labels)}
        self.offer(numbers)

    def _chat(self, tokens: list[str], ids, image, labels: tuple) -> dict:
        """What the browser gets to know of one conversation, besides ids and labels."""
        roles = roles_of(tokens)
        special = np.array([bool(IN_BRACKETS.fullmatch(token)) for token in tokens])
        padding = np.array(roles) == "padding"
        # A run goes on while neighbours are placeholders, or padding, and are learned in the same sets.
        kinds = np.stack([image, padding, *[row != NOT_LEARNED for row in labels]])
        differs = (kinds[:, 1:] != kinds[:, :-1]).any(axis=0)
        ends = ~(image | padding)[1:] | differs
        edges = [0, *(np.flatnonzero(ends) + 1).tolist(), len(tokens)]
        runs = [list(run) for run in pairwise(edges)]
        chat = {"tokens": tokens, "roles": roles, "runs": runs}
        chat |= {"image": image.astype(int).tolist(), "special": special.astype(int).tolist()}
        chat["totals"] = [counted(image, padding, row != NOT_LEARNED, self.context) for row in labels]
        chat["problems"] = [doubtful(ids, row, image, padding, special) for row in labels]
        return chat

    def totals(self, conversation: int = 0, labels: int = 0) -> dict[str, int]:
        """What `counted` says of a conversation and a set of labels."""
        return self.chats[conversation]["totals"][labels]

    def problems(self, conversation: int = 0, labels: int = 0) -> list[str]:
        """What `doubtful` says of a conversation and a set of labels."""
        return self.chats[conversation]["problems"][labels]

    def static_figure(self) -> Still:
        """The current conversation as a picture."""
        from matplotlib.patches import Patch

        place, which = self.view["conversation"], self.view["labels"]
        drawing, totals = new_figure(1), self.totals(place, which)
        text, budget = drawing.subplots(2, 1)
        lines = draw_runs(text, self._runs(place, which))
        text.set(xlim=(0, LINE), ylim=(lines, 0))
        text.axis("off")
        text.get_gridspec().set_height_ratios([0.3 * lines + 0.1, 0.35])
        drawing.set_figheight(1.35 + 0.3 * lines)
        self._draw_budget(budget, totals)
        known = [Patch(fc=IMAGE, label="image"), Patch(fc="white", ec=TEXT, hatch="////", label="only read")]
        known.append(Patch(fc=GOOD, label="learned"))
        drawing.legend(handles=known, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
        of = f" of a context of {self.context}" if self.context else ""
        count, image, learned = (totals[part] for part in ("tokens", "image", "learned"))
        share = f"{image} image ({image / count:.0%}) and {learned} learned ({learned / count:.0%})"
        alt = f"conversation {place}: {count} tokens{of}, {share}"
        alt += f"; {totals['over']} too many" * bool(totals["over"])
        alt += f"; labels: {self.sets[which]}" * (len(self.sets) > 1)
        drawing.suptitle(alt, fontsize=9)
        return Still(drawing, "Labels of " + alt)

    def _draw_budget(self, axes, totals) -> None:
        left, most = 0, max(totals["tokens"], self.context or 0)
        for part, colour, hatch in (("image", IMAGE, ""), ("text", "white", "////"), ("learned", GOOD, "")):
            edge = TEXT if part == "text" else "white"
            axes.barh(0, totals[part], left=left, color=colour, hatch=hatch, ec=edge, lw=0.6)
            left += totals[part]
        if self.context:
            axes.axvline(self.context, color=ACCENT, linewidth=2)
            axes.barh(0, totals["over"], left=self.context, fc="none", hatch="xxxx", ec=ACCENT, lw=0)
        axes.set(xlim=(0, most * 1.01), yticks=[], xlabel="tokens")
        axes.locator_params(axis="x", integer=True)
        open_corner(axes)
        axes.spines["left"].set_visible(False)

    def _runs(self, place: int, which: int) -> Iterator[dict]:
        """What is drawn of each run of one conversation."""
        chat, labels = self.chats[place], [of_all[place] for of_all in self._labels]
        for start, stop in chat["runs"]:
            text = visible(chat["tokens"][start])
            text = text if len(text) <= 30 else text[:29] + "…"
            run = {
                "text": f"{text} ×{stop - start}" if stop - start > 1 else text,
                "role": chat["roles"][start],
            }
            learned = [bool(row[start] != NOT_LEARNED) for row in labels]
            fill = IMAGE if chat["image"][start] else GOOD if learned[which] else None
            yield run | {"fill": fill, "differs": learned[0] != learned[-1]}

    def __repr__(self) -> str:
        totals = [chat["totals"][0] for chat in self.chats]
        tokens, learned = (sum(total[part] for total in totals) for part in ("tokens", "learned"))
        return f"LabelInspector({len(self.chats)} conversations, {tokens} tokens, {learned} learned)"


LINE, MOST_LINES = 84, 60  # letters of a line, lines of the picture


def draw_runs(axes, runs: Iterator[dict]) -> int:
    """Draw runs line by line, a turn on a new line; returns how many lines there are, at most MOST_LINES."""
    lines, left, role = 0, LINE, None
    for run in runs:
        width = len(run["text"]) + 1.6
        if run["role"] != role or left + width > LINE:
            if lines == MOST_LINES:
                break
            lines, left = lines + 1, 11.0
        if run["role"] != role:
            role = run["role"]
            axes.text(0, lines - 0.5, role or "–", fontsize=9, va="center", fontweight="bold", color=INK)
        draw_run(axes, left, lines - 1, width, run)
        left += width + 0.5
    return lines


def draw_run(axes, left: float, line: int, width: float, run: dict) -> None:
    """One token, or one run of them."""
    from matplotlib.patches import Rectangle

    corner, box, look = (left, line + 0.1), None, {"fc": run["fill"], "ec": run["fill"]}
    if run["fill"] is None:  # only read
        look = {"fc": "white", "ec": MASKED if run["role"] == "padding" else TEXT, "hatch": "////"}
        box = {"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.85}
    axes.add_patch(Rectangle(corner, width, 0.8, lw=0.8, alpha=0.9, **look))
    font = {"fontsize": 9, "family": "monospace", "color": INK}
    middle = (left + width / 2, line + 0.5)
    axes.text(*middle, run["text"].strip(), ha="center", va="center", bbox=box, **font)
    if run["differs"]:
        axes.add_patch(Rectangle(corner, width, 0.8, fill=False, ec=ACCENT, lw=2))


def fitted(name: str, values, rows: list[list[str]], single: bool) -> list[np.ndarray]:
    """One array (token,) per conversation; ValueError if one is missing or has another length."""
    values = [values] if single and np.ndim(as_array(values)) == 1 else values
    arrays = [as_array(row) for row in values]
    if [row.shape for row in arrays] != [(len(row),) for row in rows]:
        raise ValueError(
            f"{name} {[row.shape for row in arrays][:4]} must be as many as the tokens, "
            f"{[len(row) for row in rows][:4]} in each conversation; pass one number per token"
        )
    return arrays
