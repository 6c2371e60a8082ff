"""Quality: what in a data set teaches nothing, or teaches the wrong thing (notebook 12).

    difference_hash hamming      64 bits that pictures share if they look alike
    first_of_alike leaked        near duplicates within a data set, and between training and test
    balanced_rows                no answer to a question outweighs all its others
    answer_entropy               of several people's answers: high where a question is ambiguous
    clip_filter                  the rows whose picture and text fit best
    image_dependence             how much the right picture helps, beside none and a wrong one

Each is small and looks at numbers or texts alone; the rest of the module applies them to records and
pictures.
Source: difference hash, Krawetz 2013, "Kind of like that"; near duplicates by features, Abbas et al. 2023
    (SemDeDup), arXiv:2303.09540; balanced pairs, Goyal et al. 2017 (VQA v2), arXiv:1612.00837, section 3.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import normalize

from vlmcourse.data.records import Record
from vlmcourse.slots import slot

HASH_SIDE = 8  # rows; one column more, since neighbours are compared
ALIKE_BITS = 2  # of 64: what the same picture in another light or file format differs by
_BLOCK = 256  # rows compared at once


@slot
def difference_hash(grey: Float[Tensor, "image row column"]) -> Bool[Tensor, "image bit"]:
    """For each pixel but those of the first column: is it brighter than the one to its left?

    What makes all of a picture brighter, or its contrast stronger, changes no bit.

    Args:
        grey: pictures shrunk to 8 rows and 9 columns, see `in_small_grey`.

    Returns:
        bits row by row; column - 1 of each row.
    """
    return (grey[:, :, 1:] > grey[:, :, :-1]).flatten(1)


@slot
def hamming(first: Bool[Tensor, "a bit"], second: Bool[Tensor, "b bit"]) -> Int[Tensor, "a b"]:
    """In how many bits each of the first differs from each of the second."""
    x, y = first.float(), second.float()
    return (x @ (1 - y).T + (1 - x) @ y.T).long()


@slot
def first_of_alike(alike: Bool[Tensor, "image image"]) -> Bool[Tensor, "image"]:
    """Which images stay when of those that look alike only the first is kept.

    An image goes if it is like an earlier one that stays. So whatever goes has a likeness among those that
    stay, and no two that stay are alike.
    """
    kept = torch.ones(len(alike), dtype=torch.bool, device=alike.device)
    for number in range(len(alike)):
        kept[number] = not (alike[number, :number] & kept[:number]).any()
    return kept


@slot
def leaked(
    train: Bool[Tensor, "train bit"], test: Bool[Tensor, "test bit"], most: int
) -> Bool[Tensor, "test"]:
    """Which test pictures have a likeness in training: a hash that differs in at most `most` bits."""
    return (hamming(test, train) <= most).any(dim=1)


@slot
def balanced_rows(asked: Sequence[str], answers: Sequence[str]) -> list[int]:
    """Rows to keep so that no question has an answer more frequent than all its others together.

    Of a question whose most frequent answer is given in more than half of its rows, only the first of those
    are kept: as many as there are rows with another answer. All other rows stay. Then each row that was cut
    short has a twin with another answer, and whoever answers by habit is right about half of them at most.

    Args:
        asked, answers: of each row.

    Returns:
        numbers of rows, rising. A question that always has the same answer is gone.
    """
    counts: dict[str, Counter] = {}
    for question, answer in zip(asked, answers, strict=True):
        counts.setdefault(question, Counter())[answer] += 1
    room = {}
    for question, count in counts.items():
        habit, often = count.most_common(1)[0]
        room[question, habit] = count.total() - often
    kept = []
    for row, pair in enumerate(zip(asked, answers, strict=True)):
        if pair in room:
            room[pair] -= 1
        if room.get(pair, 0) >= 0:
            kept.append(row)
    return kept


@slot
def answer_entropy(answers: Sequence[str]) -> float:
    """How much people disagree, in bits: 0 if all say the same, log2(10) = 3.32 if ten say ten things.

    Source: Shannon's entropy of the answers' shares; that people answer differently where a question is
        ambiguous, Bhattacharya et al. 2019, arXiv:1908.04342.
    """
    shares = [count / len(answers) for count in Counter(answers).values()]
    return sum(-share * math.log2(share) for share in shares)


@slot
def clip_filter(similarity: Float[Tensor, "row"], share: float) -> Bool[Tensor, "row"]:
    """The share of rows in which picture and text fit best, by a CLIP model's similarity.

    Of n rows the n · share best are kept, rounded down. Of equal ones the earlier is kept first; one without
    a similarity (NaN) never is, but it counts among the n.

    Source: Schuhmann et al. 2021 (LAION-400M), arXiv:2111.02114, keep what is above 0.3; Gadre et al. 2023
        (DataComp), arXiv:2304.14108, section 3.3, the best 30 %.
    """
    room = int(len(similarity) * share + 1e-9)  # 0.29 · 100 is less than 29 in floating point
    order = torch.where(similarity.isnan(), -torch.inf, similarity).argsort(descending=True, stable=True)
    kept = torch.zeros(len(similarity), dtype=torch.bool, device=similarity.device)
    kept[order[:room]] = True
    return kept & ~similarity.isnan()


@slot
def image_dependence(
    seen: Float[Tensor, "row"], unseen: Float[Tensor, "row"], wrong: Float[Tensor, "row"]
) -> Float[Tensor, "row"]:
    """What the right picture saves of each answer's loss, beside the better one of two controls.

    Positive: the answer needs this picture. Zero: the text alone, or any picture, does as well. Negative: the
    picture misleads; its text may belong to another.

    Args:
        seen, unseen, wrong: loss of each row's answer with its picture, without one, and with the picture of
            another row.

    Source: a blind and a swapped control as in Goyal et al. 2017, arXiv:1612.00837; that much of a benchmark
        can be answered without its pictures, Chen et al. 2024 (MMStar), arXiv:2403.20330.
    """
    return torch.minimum(unseen, wrong) - seen


def in_small_grey(
    images: Sequence[UInt8[np.ndarray, "height width 3"]], side: int = HASH_SIDE
) -> Float[Tensor, "image {side} column"]:
    """Pictures in grey, `side` rows and one column more, for difference_hash."""
    from PIL import Image

    size = (side + 1, side)
    small = [np.asarray(Image.fromarray(one).convert("L").resize(size, Image.LANCZOS)) for one in images]
    return torch.from_numpy(np.stack(small)).float() if small else torch.zeros(0, side, side + 1)


def picture_hashes(images: Sequence[UInt8[np.ndarray, "height width 3"]]) -> Bool[Tensor, "image 64"]:
    """The difference hash of each picture, of any size."""
    return difference_hash(in_small_grey(images))


def exact_hash(image: UInt8[np.ndarray, "height width 3"]) -> str:
    """Equal for equal pixels, whatever the file; SHA-256 of the size and the bytes."""
    return hashlib.sha256(str(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()


def cosine_alike(features: Float[Tensor, "image width"], least: float) -> Bool[Tensor, "image image"]:
    """Which pictures' features have a cosine of at least `least`; for first_of_alike.

    Raises:
        ValueError: if a feature is NaN or infinite.
    """
    if not features.isfinite().all():
        raise ValueError("features hold NaN or infinity, so nothing is like them; look at the model")
    direction = normalize(features)
    return direction @ direction.T >= least


def likeness_of(hashes: Bool[Tensor, "image bit"], most: int = ALIKE_BITS) -> Int[Tensor, "image"]:
    """For each picture the first earlier one that stays and looks alike, or -1; see first_of_alike.

    For many pictures: a block of them is compared with those that stay, never all with all at once.
    """
    found = torch.full((len(hashes),), -1)
    for start in range(0, len(hashes), _BLOCK):
        block = hashes[start : start + _BLOCK]
        earlier = torch.nonzero(found[:start] < 0).flatten()
        if len(earlier):
            alike = hamming(block, hashes[earlier]) <= most
            found[start : start + len(block)] = torch.where(alike.any(1), earlier[alike.int().argmax(1)], -1)
        new = torch.nonzero(found[start : start + len(block)] < 0).flatten()
        within = hamming(block[new], block[new]) <= most
        kept = first_of_alike(within)
        for place in torch.nonzero(~kept).flatten().tolist():
            first = int((within[place, :place] & kept[:place]).int().argmax())
            found[start + new[place]] = start + new[first]
    return found


def leaked_pictures(
    train: Bool[Tensor, "train bit"], test: Bool[Tensor, "test bit"], most: int = ALIKE_BITS
) -> Bool[Tensor, "test"]:
    """`leaked`, for many pictures: a block of them at once."""
    if not len(train) or not len(test):  # there is no nearest one
        return torch.zeros(len(test), dtype=torch.bool)
    return torch.cat([leaked(train, block, most) for block in test.split(_BLOCK)])


def balanced_records(records: Sequence[Record]) -> list[Record]:
    """Records with one question and its answer, balanced by the question's words; see balanced_rows.

    Raises:
        ValueError: if a record is no question with an answer.
    """
    asked, answers = [], []
    for record in records:
        if [role for role, _ in record.turns] != ["user", "assistant"]:
            raise ValueError(f"{record.where} is no question with one answer, so it cannot be balanced")
        asked.append(record.turns[0][1].lower())
        answers.append(record.turns[1][1].lower())
    return [records[row] for row in balanced_rows(asked, answers)]


def ambiguous(records: Sequence[Record], most: float = 1.5) -> list[int]:
    """Places of records whose people disagree by more than `most` bits; those of one person alone never do.

    1.5 bits is what five against three and two make.
    """
    return [place for place, one in enumerate(records) if one.answers and answer_entropy(one.answers) > most]
