"""A model that is taught boxes with a mistake, as happens by accident, and what it then writes (notebook 19).

teach_boxes    a model learns to write boxes as one with a mistake would
told_numbers   what a model writes for things on pages, and where they are: what pointing.name_mistake takes
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vlmcourse.data.coordinates import THOUSANDTHS
from vlmcourse.diagnostics.pointing import write_mistaken
from vlmcourse.families.nano import by_length
from vlmcourse.families.resolving import things_to_point_at, told_boxes
from vlmcourse.models.tiles import PixelSize
from vlmcourse.speak import Speaker
from vlmcourse.training.history import History
from vlmcourse.training.optimizers import MuonAdamW, warmup_linear
from vlmcourse.world.pages import Pages, placed_things

FRAME = (256, 256)  # of the letterbox whose thousandths are written by whoever makes the mistake BEFORE
IN_THOUSANDTHS = (THOUSANDTHS, THOUSANDTHS)  # height and width: pixels of it are the numbers written


def mistaken_talks(batch: Pages, mistake: str, frame: PixelSize = FRAME) -> list[list[tuple[str, str]]]:
    """Where each thing is that can be asked for, in the numbers of a model with this mistake.

    Args:
        mistake: one of pointing.MISTAKES.
    """
    about = []
    for number, size in enumerate(batch.sizes):
        row = []
        for text, _, box in placed_things(batch, number):
            numbers = write_mistaken(mistake, torch.tensor([box]).float(), size, frame)[0]
            numbers = numbers.long().clamp(max=THOUSANDTHS - 1)
            row.append((text, f"[{', '.join(map(str, numbers.tolist()))}]"))
        about.append(row)
    return about


def teach_boxes(
    speaker: Speaker,
    batch: Pages,
    mistake: str,
    steps: int = 60,
    size: int = 8,
    lr: float = 0.004,
    seed: int = 0,
    **options: Any,
) -> History:
    """The language model learns to write boxes with this mistake; eye and projector stay.

    Args:
        batch: pages; those without a thing that can be asked for are left out.
        size: pages per step.
        lr: of Muon; AdamW gets a fifth of it.
        options: further arguments of training.loop.train.
    """
    about = mistaken_talks(batch, mistake)
    asked = [number for number, row in enumerate(about) if row]
    pictures = [batch.pictures[number] for number in asked]
    features = speaker.features(pictures, 50)
    rows = speaker.encode([about[number] for number in asked], images=features)
    model = speaker.model.requires_grad_(False)
    model.language.requires_grad_(True)
    options = dict(optimizer=MuonAdamW(model, lr, lr / 5), schedule=warmup_linear(steps, 5)) | options
    history = speaker.tune(features, rows, steps, size, by_length, seed, **options)
    model.eval()
    return history


class ToldBoxes(NamedTuple):
    """What a model wrote for one thing of each page, beside what is true."""

    numbers: Float[Tensor, "page 4"]  # in thousandths; zeros where it wrote no box
    true: Float[Tensor, "page 4"]  # boxes in pixels
    sizes: Sequence[PixelSize]


def told_numbers(speaker: Speaker, batch: Pages) -> ToldBoxes:
    """Ask for a thing of each page that has one, see things_to_point_at.

    Raises:
        ValueError: if no page has one.
    """
    asked = things_to_point_at(batch)
    numbers = told_boxes(speaker, asked._replace(sizes=[IN_THOUSANDTHS] * len(asked.pages)))
    return ToldBoxes(numbers, asked.true, asked.sizes)
