"""Conversations: what an instruction-tuned model reads, and what of it is learned (notebook 08).

A turn is a pair (role, text); roles are "system", "user" and "assistant".  "<image>" in a text stands for an
image. The form of a conversation, without spaces or line ends between the parts:

    <user><image>what colour is the circle?<assistant>red<end>

Source: Liu et al. 2023 (LLaVA), arXiv:2304.08485, section 4.2 and table 2: only answers and their end are
    predicted.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional as F

from vlmcourse.data.text import ASSISTANT, END, IMAGE, IMAGE_WORD, PAD, as_plain_text, load_tokenizer
from vlmcourse.models.language import IGNORED
from vlmcourse.slots import slot

ROLES = ("system", "user", "assistant")
Turns = Sequence[tuple[str, str]]


@slot
def render_chat(turns: Turns, prompt: bool = False) -> str:
    """One text: before each turn its role in angle brackets, and behind every answer "<end>".

    Args:
        prompt: whether the text shall end with "<assistant>", so that the model goes on with its answer.
    """
    text = "".join(f"<{role}>{said}" + "<end>" * (role == "assistant") for role, said in turns)
    return text + "<assistant>" * prompt


@slot
def label_mask(
    ids: Int[Tensor, "batch token"], start: int = ASSISTANT, end: int = END
) -> Bool[Tensor, "batch token"]:
    """True at the tokens of answers: behind each ``start``, up to and with the next ``end``.

    The start itself is given, not predicted; the end is predicted, or the model would never stop. An end
    outside an answer closes nothing.
    """
    place = torch.arange(ids.shape[1], device=ids.device)
    opened = torch.where(ids == start, place, -1).cummax(dim=1).values  # the latest start so far
    closed = torch.where(ids == end, place, -1).cummax(dim=1).values
    return F.pad((opened > closed)[:, :-1], (1, 0))  # of what stands before each token


@slot
def collate(
    rows: Sequence[Sequence[int]], pad: int = PAD, left: bool = False
) -> tuple[Int[Tensor, "batch token"], Bool[Tensor, "batch token"]]:
    """Rows of different lengths as one tensor, filled up with ``pad``, and True where real tokens stand.

    Args:
        left: fill up in front, as writing needs it; otherwise behind, as training does.
    """
    length = max(map(len, rows))
    ids = torch.full((len(rows), length), pad)
    mask = torch.zeros(len(rows), length, dtype=torch.bool)
    for number, row in enumerate(rows):
        place = slice(length - len(row), None) if left else slice(len(row))
        ids[number, place], mask[number, place] = torch.tensor(row), True
    return ids, mask


@slot
def few_shot(examples: Sequence[tuple[str, str]], instruction: str) -> list[tuple[str, str]]:
    """Turns of a prompt with examples: of each its instruction and its answer, and then what is asked.

    Every instruction has an image of its own, which stands before it.

    Source: Alayrac et al. 2022 (Flamingo), arXiv:2204.14198, section 2.5 and appendix A.2.
    """
    turns = []
    for asked, answer in examples:
        turns += [("user", IMAGE_WORD + asked), ("assistant", answer)]
    return [*turns, ("user", IMAGE_WORD + instruction)]


class Chats(NamedTuple):
    """Encoded conversations."""

    ids: Int[Tensor, "batch token"]
    mask: Bool[Tensor, "batch token"]  # True for real tokens
    labels: Int[Tensor, "batch token"]  # the ids where they are to be predicted, -100 elsewhere


def encode(
    chats: Sequence[Turns], image_tokens: int = 1, *, prompt: bool = False, length: int | None = None
) -> Chats:
    """Conversations as a model reads them; every <image> becomes as many placeholders as an image has tokens.

    Other control words, and <image> in an answer, are plain text.

    Args:
        image_tokens: per image, see Llava.tokens_per_image.
        prompt: end with "<assistant>" and pad on the left, to write; otherwise pad on the right, to train.
        length: the longest text that is allowed.

    Raises:
        ValueError: if a role is unknown, or a text longer than ``length``: nothing is ever cut off, least of
            all an image.
    """
    for n, turns in enumerate(chats):
        unknown = [role for role, _ in turns if role not in ROLES]
        if unknown:
            raise ValueError(f"conversation {n} has a turn of {unknown[0]!r}; roles are {', '.join(ROLES)}")
    plainly = [[(role, _plain(role, said)) for role, said in turns] for turns in chats]
    texts = [render_chat(turns, prompt).replace(IMAGE_WORD, IMAGE_WORD * image_tokens) for turns in plainly]
    rows = [encoding.ids for encoding in load_tokenizer().encoder.encode_batch(texts)]
    longest = max(range(len(rows)), key=lambda n: len(rows[n]))
    if length is not None and len(rows[longest]) > length:
        images = rows[longest].count(IMAGE)
        raise ValueError(
            f"conversation {longest} has {len(rows[longest])} tokens, {images} of them for images; "
            f"{length} are allowed. Shorten the text, or give an image fewer tokens"
        )
    ids, mask = collate(rows, left=prompt)
    return Chats(ids, mask, torch.where(label_mask(ids), ids, IGNORED))


def _plain(role: str, said: str) -> str:
    """What was said, see text.as_plain_text; an answer shows no image, every other turn may."""
    return IMAGE_WORD.join(
        as_plain_text(part) for part in (said.split(IMAGE_WORD) if role != "assistant" else [said])
    )
