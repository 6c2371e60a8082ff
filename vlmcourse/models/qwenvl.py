"""Qwen2-VL whole: one configuration of parts that are there (notebook 19).

    QwenVLConfig    which parts, and how large
    QwenVL          a NativeLlava whose language model knows time, row and column of every token
    PlacedReading   a QwenVL that has read its prompts and writes on

Its encoder is a NativeViT without learned positions; its merger is the norm behind the last block and a
Projector of 2 × 2 patches; its language model a Qwen. New is only where tokens stand. Shapes as in
models/vlm.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from vlmcourse.models.attention import Cache, Tokens
from vlmcourse.models.frames import Span
from vlmcourse.models.language import Ids, Inputs, Real
from vlmcourse.models.look import Look, causal, packed
from vlmcourse.models.mrope import mrope_look, mrope_positions, next_position
from vlmcourse.models.native import PatchRow, Sides, SomePictures
from vlmcourse.models.native_llava import NativeConfig, NativeLlava
from vlmcourse.models.qwen import Qwen, QwenConfig
from vlmcourse.models.vlm import Reading


@dataclass(frozen=True)
class QwenVLConfig(NativeConfig):
    """What a QwenVL looks like. Qwen2-VL's encoder of width w, with 2 × 2 patches to a token, is
    ``NativeViTConfig(..., width=w, activation="quick_gelu", patch_bias=False, turned=True, frames=2)`` with
    ``hidden=4 * w`` inside the projector.

    Raises:
        ValueError: see NativeConfig.
    """

    language: QwenConfig
    normed: bool = True


class QwenVL(NativeLlava):
    """A NativeLlava with M-RoPE: pictures of any sizes, several in a text.

    Source: Wang et al. 2024 (Qwen2-VL), arXiv:2409.12191, section 2.1. Equal to transformers'
        Qwen2VLForConditionalGeneration, see tests/parity.
    """

    config: QwenVLConfig
    language_type = Qwen

    def place(self, ids: Ids, grids: Sequence[Sides], real: Real = None) -> Look:
        """Where the tokens of texts stand, see mrope.mrope_positions.

        Args:
            grids: rows and columns of the tokens of every picture, in the order of the placeholders.
            real: False for padding.

        Raises:
            ValueError: if the texts have not as much room as the pictures have tokens.
        """
        waiting, rows = list(grids), []
        for number, row in enumerate(ids):
            row = row if real is None else row[real[number]]
            spans, used = picture_spans((row == self.config.image_token).tolist(), waiting)
            taken, waiting = waiting[:used], waiting[used:]
            rows.append(mrope_positions(len(row), spans, [(1, *grid) for grid in taken]))
        return mrope_look(rows, real, ids.device)

    def hidden(
        self,
        ids: Ids,
        images: SomePictures | PatchRow | None = None,
        features: PatchRow | None = None,
        look: Look | None = None,
        *,
        mask: Real = None,
        caches: list[Cache] | None = None,
    ) -> Tokens:
        """See Injected.hidden.

        Raises:
            ValueError: if caches hold tokens already and no look says where the next ones stand; see begin.
        """
        if look is None and caches and caches[0].length:
            raise ValueError("behind cached tokens nobody knows where a token stands; write through begin, "
                             "or give a look")  # fmt: skip
        features = features if images is None else self.image_tokens(images)
        vectors = self.embed(ids, features=features)
        if look is None:
            look, mask = self.place(ids, () if features is None else features.grids, mask), None
        return self.language.hidden(vectors, look, caches, mask=mask)

    def hidden_of_packs(self, ids: Ids, packs: Int[Tensor, "batch token"], features: PatchRow) -> Tokens:
        """See VLM.hidden_of_packs: the texts of a row all stand right behind its beginning, its picture."""
        flat = packed(packs)
        beginning = self.place(ids, features.grids, packs == 0)
        # a text counts on from the largest number of the beginning, not from how many tokens it has
        later = next_position(beginning) - (packs == 0).sum(dim=1)
        behind = (flat.positions + later[:, None]).expand(3, -1, -1)
        positions = torch.where(packs == 0, beginning.positions, behind)
        return self.hidden(ids, features=features, look=replace(flat, positions=positions.clamp(min=0)))

    def begin(
        self, ids: Ids, images: SomePictures | PatchRow | None = None
    ) -> tuple["PlacedReading", Tokens]:
        """See VLM.begin."""
        features = None if images is None else self.image_tokens(images)
        return PlacedReading(self, features, ids), self.embed(ids, features=features)


def picture_spans(places: Sequence[bool], grids: Sequence[Sides]) -> tuple[list[Span], int]:
    """Where the pictures of a text stand, one behind the other in its placeholders; and how many it has.

    Args:
        places: True at placeholders.
        grids: of tokens; the first of them are this text's.

    Raises:
        ValueError: if placeholders in a row are not as many as one picture or several have tokens.
    """
    spans: list[Span] = []
    place = 0
    while place < len(places):
        if not places[place]:
            place += 1
            continue
        if len(spans) == len(grids):
            raise ValueError(f"a text has placeholders for more than {len(grids)} pictures")
        rows, columns = grids[len(spans)]
        end = place + rows * columns
        if not all(places[place:end]) or end > len(places):
            raise ValueError(f"a picture of {rows} × {columns} tokens has no room for {rows * columns} "
                             f"from place {place} on")  # fmt: skip
        spans.append((place, end))
        place = end
    return spans, len(spans)


@dataclass
class PlacedReading(Reading):
    """A QwenVL and its prompts, which hold their pictures; to whoever writes with it, a language model.

    What is written stands behind the largest number of its prompt, and not where so many tokens would lead.
    """

    ids: Ids  # the prompts
    asked: Look | None = None  # where their tokens stand, once it is known which of them are real

    def hidden(self, embeddings: Inputs, *, mask: Real = None, caches: list[Cache] | None = None) -> Tokens:
        """See LanguageModel.hidden; first come the prompts, then what was written."""
        past, count = caches[0].length if caches else 0, self.ids.shape[1]
        if self.asked is None:
            grids = () if self.features is None else self.features.grids
            self.asked = self.model.place(self.ids, grids, None if mask is None else mask[:, :count])
        written = torch.arange(past + embeddings.shape[1] - count, device=self.ids.device)
        behind = (next_position(self.asked)[:, None] + written).expand(3, -1, -1)
        positions = torch.cat([self.asked.positions, behind], dim=2)[..., past:]
        look = replace(causal(embeddings.shape[1], past, mask, self.ids.device), positions=positions)
        return self.model.language.hidden(embeddings, look, caches)

    def select(self, rows: list[int]) -> None:
        """Go on with these of the texts, in this order, once the prompts were read."""
        self.ids = self.ids[rows]
        self.asked = replace(self.asked, positions=self.asked.positions[:, rows])
