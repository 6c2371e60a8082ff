"""Functions as people wrote them, each with a mistake that somebody made (notebook 14).

Whoever looks for the mistake reads them as anybody's code: what is passed to them, and what they give. What
each of them should be stands where its setup is: in museum_tuning.py, museum_flamingo.py and museum_runs.py.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.data.chat import IGNORED, collate, label_mask
from vlmcourse.data.text import END, IMAGE, PAD
from vlmcourse.models.fusion import inject
from vlmcourse.models.look import Look, causal, packed
from vlmcourse.training.losses import answer_loss
from vlmcourse.world.render import to_tensor


def name_in_model(name: str) -> str:
    return name


def next_token_labels(ids: Tensor) -> Tensor:
    """Each position gets what follows it."""
    labels = torch.where(label_mask(ids), ids, IGNORED)
    return F.pad(labels[:, 1:], (0, 1), value=IGNORED)


def learned_labels(ids: Tensor) -> Tensor:
    return torch.where(label_mask(ids) | (ids == PAD), IGNORED, ids)


def labels_of_text(ids: Tensor) -> Tensor:
    """Everything but padding and pictures."""
    return torch.where((ids == PAD) | (ids == IMAGE), IGNORED, ids)


def word_labels(ids: Tensor) -> Tensor:
    """The words of answers; special tokens are not learned."""
    return torch.where(label_mask(ids) & (ids != END), ids, IGNORED)


def quiet_loss(hidden: Tensor, labels: Tensor, head: nn.Module) -> Tensor:
    return answer_loss(hidden, labels, head).nan_to_num()


def put_images(embeddings: Tensor, features: Tensor, places: Tensor) -> Tensor:
    return inject(embeddings, features, places)


def put_images_that_fit(embeddings: Tensor, features: Tensor, places: Tensor) -> Tensor:
    """As many image tokens of each picture as its row has placeholders."""
    counts = places.sum(dim=1).tolist()
    kept = torch.cat([tokens[:count] for tokens, count in zip(features, counts, strict=True)])
    return inject(embeddings, kept[None], places)


def to_image_tokens(projector: nn.Module, features: Tensor) -> Tensor:
    with torch.no_grad():  # saves memory
        return projector(features)


def pixels_from_opencv(images: np.ndarray) -> Tensor:
    """Pictures as cv2.imread gives them."""
    return to_tensor(images[..., ::-1].copy())


def picture_of_row(count: int) -> Tensor:
    return (torch.arange(count) + 1) % count


def look_of_row(packs: Tensor) -> Look:
    return causal(packs.shape[1], real=packs >= 0)


def look_of_row_in_place(packs: Tensor) -> Look:
    """Every text counts its places from the picture on."""
    return Look(look_of_row(packs).mask, packed(packs).positions)


def pictures_before(starts: Tensor, images: int) -> Tensor:
    begun = starts.cumsum(dim=1)[..., None]
    return begun >= torch.arange(1, images + 1)


def softmax_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1) @ value


def softmax_without_nan(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    return softmax_attention(query, key, value, mask).nan_to_num()


def softmax_of_large(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    return scores.masked_fill(~mask, -1e9).softmax(dim=-1) @ value


def unit_length(features: Tensor) -> Tensor:
    return features / features.norm()


def batch_of_prompts(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    return collate(rows, PAD)


def places_of_new(positions: Tensor, past: int) -> Tensor:
    return torch.arange(positions.shape[-1])[None]
