"""Riddles answered: right, or at least with the kind of thing that was asked for (notebook 09)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vlmcourse.data.text import ASSISTANT, load_tokenizer
from vlmcourse.training.riddles import write_out
from vlmcourse.world.riddles import ASKED_FOR, Riddles


@torch.no_grad()
def grade_riddles(
    model: nn.Module, told: Riddles, features: Float[Tensor, "scene patch features"] | None = None
) -> tuple[Bool[Tensor, "riddle answer"], Bool[Tensor, "riddle answer"]]:
    """Which answers the model would write word for word, and which begin like one of the kind asked for.

    Each answer is read off behind the right ones before it, as in Speaker.grade.

    Args:
        features: of all scenes, see Speaker.features; a language model alone gets none.
    """
    images = {}
    if features is not None:
        images["features"] = model.connect(features[torch.as_tensor(told.pictures).flatten()].float())
    rows = write_out(told, getattr(model, "tokens_per_image", 1))
    said = model(rows.ids, **images)[:, :-1].argmax(dim=-1)
    number, wanted = (rows.ids == ASSISTANT).cumsum(dim=1)[:, 1:], rows.labels[:, 1:]
    missed = (said != wanted) & (wanted >= 0)
    right = [~(missed & (number == n + 1)).any(dim=1) for n in range(told.pictures.shape[1])]
    begins = said[rows.ids[:, :-1] == ASSISTANT].reshape(len(told.kinds), -1)
    in_kind = [torch.isin(row, _beginnings(kind)) for row, kind in zip(begins, told.kinds, strict=True)]
    return torch.stack(right, dim=1), torch.stack(in_kind)


def _beginnings(kind: str) -> Tensor:
    """First tokens of all answers of a kind."""
    texts = load_tokenizer().encoder.encode_batch(list(ASKED_FOR[kind]))
    return torch.tensor([text.ids[0] for text in texts])


def share_of(right: Bool[Tensor, "answer"]) -> tuple[float, float]:
    """The share that is right, and half the width of its 95 % interval.

    Source: Agresti and Coull 1998: as if two more had been right, and two more wrong.
    """
    count = len(right) + 4
    middle = (right.sum().item() + 2) / count
    return right.float().mean().item(), 1.96 * (middle * (1 - middle) / count) ** 0.5
