"""Packs: many questions about one image in one row, so that the image is read once (notebook 08).

    pack     conversations about each image -> one row per image: the image, then one question after another
    Packs    the rows: ids, labels, and which token belongs to which question

A picture costs 64 tokens here, a question about it a dozen. Eight questions with eight copies of the picture
would be 600 tokens; packed they are 160, and the answers are the same: a question sees the picture and
itself, and believes it stands right behind the picture (LanguageModel.hidden, packs).

    pack      0        0      0          1     1       1     1       2     2      2     2    -1
    token  <user> <image> <image>   what colour … red <end>      how many … 2  <end> padding

Source: rows of several texts that do not see each other, Krell et al. 2021, arXiv:2107.02027, section 3.2.4;
    with an image that all of them share, as in Deitke et al. 2024 (Molmo), arXiv:2409.17146, section 3.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from vlmcourse.data.chat import IGNORED, Turns, collate, label_mask, render_chat
from vlmcourse.data.text import IMAGE, PAD, Tokenizer, load_tokenizer


class Packs(NamedTuple):
    """Encoded rows; cut() drops the columns that a few of them do not need."""

    ids: Int[Tensor, "image token"]
    labels: Int[Tensor, "image token"]  # the ids where they are to be predicted, -100 elsewhere
    packs: Int[
        Tensor, "image token"
    ]  # 0 for the image and what stands before it, then 1, 2, ...; -1 for padding

    def cut(self) -> "Packs":
        """The same rows without columns that are padding in all of them."""
        length = int((self.packs >= 0).sum(dim=1).max())
        return Packs(*(part[:, :length] for part in self))


def pack(talks: Sequence[Sequence[Turns]], image_tokens: int, tokenizer: Tokenizer | None = None) -> Packs:
    """One row for each image.

    Args:
        talks: for each image the conversations about it, each with the image at the start of its first turn.
        image_tokens: placeholders per image, see Llava.tokens_per_image.

    Raises:
        ValueError: if an image has no conversation, or one that does not begin with its image.
    """
    for number, chats in enumerate(talks):
        if not chats or any(
            not turns[0][1].startswith("<image>") or turns[0][0] != "user" for turns in chats
        ):
            raise ValueError(f"image {number} needs conversations that begin with ('user', '<image>...')")
    texts = [render_chat(turns) for chats in talks for turns in chats]
    encoded = iter((tokenizer or load_tokenizer()).encoder.encode_batch(texts))
    rows, packs = [], []
    for chats in talks:
        first, *others = [next(encoded).ids for _ in chats]
        start = first.index(IMAGE) + 1
        row, pieces = (
            first[: start - 1] + [IMAGE] * image_tokens,
            [first[start:], *(ids[start:] for ids in others)],
        )
        rows.append(row + [token for ids in pieces for token in ids])
        packs.append([0] * len(row) + [number for number, ids in enumerate(pieces, 1) for _ in ids])
    ids, _ = collate(rows, pad=PAD)
    return Packs(ids, torch.where(label_mask(ids), ids, IGNORED), collate(packs, pad=-1)[0])
