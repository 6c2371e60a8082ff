"""Branches: several answers to one question in one row, behind a beginning that is read once (notebook 20).

Preferences compare two answers, a group of samples eight; image and question are the same for all of them.

    packs     0      0      0         0        1   1      2    2     3   3     -1
    token   <user> <image> how many … <assist>  2  <end>   3  <end>   2  <end>  padding

An answer sees the beginning and itself (models/look.py, packed), so it gets the numbers it would get alone.
The first token of every answer is predicted at one and the same place, the last of the beginning.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vlmcourse.data.chat import IGNORED, collate
from vlmcourse.data.packing import TokenIds


class Branches(NamedTuple):
    """Encoded rows, one question each, all with equally many answers."""

    ids: Int[Tensor, "question token"]
    packs: Int[Tensor, "question token"]  # 0 for the beginning, then 1, 2, ...; -1 for padding
    places: Int[Tensor, "question answer place"]  # columns of the beginning's last token and of the answer
    labels: Int[Tensor, "question answer place"]  # the answer's tokens; -100 at its first place and behind it

    def read(
        self, hidden: Float[Tensor, "question token width"]
    ) -> Float[Tensor, "question answer place width"]:
        """Of one vector per token of the rows, those at ``places``."""
        rows = torch.arange(len(hidden), device=hidden.device)
        return hidden[rows[:, None, None], self.places]


def branch(prompts: Sequence[TokenIds], answers: Sequence[Sequence[TokenIds]], pad: int) -> Branches:
    """One row for each question.

    Args:
        prompts: what each row begins with, its image's placeholders and the question among it.
        answers: to each question its answers, each with its end; equally many everywhere.
        pad: what fills up shorter rows, behind.

    Raises:
        ValueError: if prompts and answers do not pair up, answers are not equally many, or one is empty.
    """
    if len(prompts) != len(answers):
        raise ValueError(f"{len(prompts)} questions and answers to {len(answers)}; give one group for each")
    counts = {len(group) for group in answers}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(f"groups have {sorted(counts)} answers; give every question equally many")
    if not all(answer for group in answers for answer in group):
        raise ValueError("an answer has no token; even an empty one has its end")
    ids, packs, places, labels = [], [], [], []
    for prompt, group in zip(prompts, answers, strict=True):
        row, owner = list(prompt), [0] * len(prompt)
        for number, answer in enumerate(group, 1):
            places.append([len(prompt) - 1, *range(len(row), len(row) + len(answer))])
            labels.append([IGNORED, *answer])
            row += answer
            owner += [number] * len(answer)
        ids.append(row)
        packs.append(owner)
    shape = len(prompts), counts.pop(), -1
    # behind an answer's end nothing is asked: any place will do there
    return Branches(
        collate(ids, pad)[0],
        collate(packs, -1)[0],
        collate(places, 0)[0].reshape(shape),
        collate(labels, IGNORED)[0].reshape(shape),
    )
