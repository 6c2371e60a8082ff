"""What is really trained on? Labels and token budget of packed rows, counted before a training (notebook 14).

    trained_share     share of all tokens that are to be predicted
    label_offset      whether labels stand at their own ids, or some places beside them
    trained_prompts   texts in which even the first word of the question is predicted
    trained_images    placeholders that are predicted
    trained_padding   padding that is predicted
    unended_answers   answers whose end is not learned
    silent_answers    answers of which nothing is learned; a row of such answers has a loss of 0
    cut_rows          rows that a limit of length has cut off
    cut_images        rows without whole images
    audit_rows        all of these, each checked

Rows are those of data/packing.py: ``packs`` is 0 for what a row begins with, 1, 2, ... for its texts, -1 for
padding. Labels are ids where a token is to be predicted and -100 elsewhere; the loss shifts them itself.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from vlmcourse.models.language import IGNORED
from vlmcourse.slots import slot

_Row = Int[Tensor, "row token"]
_Count = Int[Tensor, ""]


class Checked(NamedTuple):
    """One line of a diagnosis."""

    name: str
    number: float
    ok: bool
    remedy: str  # what to do if it is not

    @property
    def verdict(self) -> str:
        return "ok" if self.ok else "suspicious"


@slot
def trained_share(labels: _Row, packs: _Row) -> Float[Tensor, ""]:
    """Share of the real tokens, images included and padding not, that are to be predicted."""
    real = packs >= 0
    return (labels[real] != IGNORED).float().mean()


@slot
def label_offset(ids: _Row, labels: _Row) -> int:
    """How many places behind its id a label stands, in most cases: 0 is right, -1 one place too early.

    Labels that were shifted once more than the loss expects stand at -1: a model learns to leave out words.
    Offsets from -2 to 2 are tried; where two fit equally well, the smaller one counts.
    """
    padded, fits = F.pad(labels, (2, 2), value=IGNORED), []
    for offset in (0, -1, 1, -2, 2):
        moved = padded[:, 2 + offset :][:, : ids.shape[1]]  # at each id the label that many places behind it
        fits.append((int((moved == ids).sum()), offset))
    most = max(fit for fit, _ in fits)
    return next(offset for fit, offset in fits if fit == most)


def membership(packs: _Row) -> Bool[Tensor, "row token text"]:
    """True where a token belongs to a text of its row."""
    texts = torch.arange(1, max(int(packs.max()), 1) + 1, device=packs.device)
    return packs[..., None] == texts


@slot
def trained_prompts(labels: _Row, packs: _Row) -> _Count:
    """Texts whose very first token is to be predicted: the loss counts their questions too."""
    before = F.pad(packs[:, :-1], (1, 0), value=-1)  # whose the token before is
    first = (packs > 0) & (packs != before)
    return (first & (labels != IGNORED)).sum()


@slot
def trained_images(ids: _Row, labels: _Row, image: int) -> _Count:
    """Placeholders that are to be predicted, wherever they stand, and labels that stand at placeholders.

    Args:
        image: id of the placeholder.
    """
    return ((labels == image) | ((ids == image) & (labels != IGNORED))).sum()


@slot
def trained_padding(labels: _Row, packs: _Row) -> _Count:
    """Labels that stand at padding."""
    return ((packs < 0) & (labels != IGNORED)).sum()


@slot
def unended_answers(labels: _Row, packs: _Row, end: int) -> _Count:
    """Texts whose last label is not ``end``: a model trained on them does not know when to stop.

    A text without labels is no answer, see silent_answers.
    """
    trained = membership(packs) & (labels != IGNORED)[..., None]
    place = torch.arange(labels.shape[1], device=labels.device)[:, None]
    last = (trained * place).amax(dim=1)  # (row, text)
    return (trained.any(dim=1) & (labels.gather(1, last) != end)).sum()


@slot
def silent_answers(labels: _Row, packs: _Row) -> _Count:
    """Texts that are there but have not one label."""
    member = membership(packs)
    trained = member & (labels != IGNORED)[..., None]
    return (member.any(dim=1) & ~trained.any(dim=1)).sum()


@slot
def cut_rows(ids: _Row, packs: _Row, end: int) -> _Count:
    """Rows whose last real token is not ``end``: something behind it was cut off."""
    place = torch.arange(ids.shape[1], device=ids.device)
    last = torch.where(packs >= 0, place, 0).amax(dim=1, keepdim=True)
    return (ids.gather(1, last) != end).sum()


@slot
def cut_images(ids: _Row, image: int, per_image: int) -> _Count:
    """Rows whose placeholders are not those of one whole image or of several; no image at all counts too.

    Args:
        per_image: placeholders of one image.
    """
    count = (ids == image).sum(dim=1)
    return ((count % per_image != 0) | (count == 0)).sum()


def audit_rows(rows: Any, image: int, end: int, per_image: int) -> list[Checked]:
    """What is to be checked of packed rows.

    Args:
        rows: of data/packing.py, or anything with ids, labels and packs.
        image, end: ids of the placeholder and of what ends an answer.
        per_image: placeholders of an image; 0 for models whose images stand beside the text.
    """
    ids, labels, packs = rows.ids, rows.labels, rows.packs
    share, offset = trained_share(labels, packs).item(), label_offset(ids, labels)
    remedy = "no answer is learned, or nearly all of each row: check where answers begin and end"
    found = [Checked("labels: share of tokens trained", share, 0 < share <= 0.9, remedy)]
    shift = "labels must stand at their own ids; the loss shifts them by one, so nobody else may"
    found.append(Checked("labels: places off", offset, offset == 0, shift))
    limit = "the limit of length is too short: raise it, or give an image fewer tokens"
    begin = "the mask begins in the question: only answers and their ends are learned"
    counted = [
        ("labels: questions trained", trained_prompts(labels, packs), begin),
        ("labels: placeholders trained", trained_images(ids, labels, image), "set their labels to -100"),
        ("labels: padding trained", trained_padding(labels, packs), "set the labels of padding to -100"),
        ("labels: answers without end", unended_answers(labels, packs, end), "put the end into the labels"),
        ("labels: answers not trained", silent_answers(labels, packs), limit),
        ("tokens: rows cut", cut_rows(ids, packs, end), limit),
    ]
    if per_image:
        counted.append(("tokens: rows with cut images", cut_images(ids, image, per_image), limit))
    return found + [Checked(name, count.item(), not count, remedy) for name, count, remedy in counted]
