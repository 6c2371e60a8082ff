"""Sequence packing: many questions about one image in one row, so that the image is read once (notebook 08).

A picture costs 64 tokens here, a question about it a dozen. Eight questions with eight copies of the picture
would be 600 tokens; packed they are 160, and the answers are the same: a question sees the picture and no
other question, and believes it stands right behind the picture (models/look.py, packed).

    pack      0        0      0          1     1       1     1       2     2      2     2    -1
    token  <user> <image> <image>   what colour … red <end>      how many … 2  <end> padding

Source: rows of several texts that do not see each other, Krell et al. 2021, arXiv:2107.02027, section 3.2;
    with an image that all of them share, as in Deitke et al. 2024 (Molmo), arXiv:2409.17146, section 3.
"""

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Int
from torch import Tensor

from vlmcourse.data.chat import IGNORED, collate

TokenIds = list[int]


class Packs(NamedTuple):
    """Encoded rows; cut() drops the columns that a few of them do not need."""

    ids: Int[Tensor, "image token"]
    labels: Int[Tensor, "image token"]  # the ids where they are to be predicted, -100 elsewhere
    packs: Int[Tensor, "image token"]  # 0 for the image and before it, then 1, 2, ...; -1 for padding

    def cut(self) -> "Packs":
        """The same rows without columns that are padding in all of them."""
        length = int((self.packs >= 0).sum(dim=1).max())
        return Packs(*(column[:, :length] for column in self))

    def rows(self, part: slice) -> "Packs":
        """Some of the rows, cut."""
        return Packs(*(column[part] for column in self)).cut()


def pack(
    texts: Sequence[Sequence[tuple[TokenIds, TokenIds]]],
    image: Sequence[int] | Sequence[Sequence[int]],
    pad: int,
) -> Packs:
    """One row for each image; the answers are to be predicted.

    Args:
        texts: for each image its questions, each with its answer.
        image: what every row begins with: the image's placeholders, and any tokens before them. Of images of
            different sizes, what each row begins with.
        pad: what fills up shorter rows, behind.

    Raises:
        ValueError: if an image has no question, or there are not as many beginnings as rows.
    """
    alike = not len(image) or isinstance(image[0], int)
    begins = [image] * len(texts) if alike else image
    if len(begins) != len(texts):
        raise ValueError(f"{len(texts)} images are asked about, but {len(begins)} were given")
    ids, labels, packs = [], [], []
    for number, pairs in enumerate(texts):
        if not pairs:
            raise ValueError(f"image {number} has no question; give each image one at least, or leave it out")
        begin = begins[number]
        row, learned, owner = list(begin), [IGNORED] * len(begin), [0] * len(begin)
        for text, (question, answer) in enumerate(pairs, 1):
            row += question + answer
            learned += [IGNORED] * len(question) + answer
            owner += [text] * (len(question) + len(answer))
        ids.append(row)
        labels.append(learned)
        packs.append(owner)
    return Packs(collate(ids, pad)[0], collate(labels, IGNORED)[0], collate(packs, -1)[0])
