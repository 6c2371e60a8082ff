"""Pruning: reading on with a few of a picture's tokens (notebook 19).

    keep_tokens         which k of the tokens to keep, by a score for each
    attention_received  a score: how much the other tokens look at each
    spread_scores       a score by which any k tokens lie evenly over the picture; never looks at it
    random_scores       a score by chance
    kept_places         the places of a row that stay: all words, and the kept ones of the picture
    pruned_look         who sees whom, and where each token stands, in what is left
    PrunedReader        a language model that drops image tokens behind its first layers, and writes on

What is kept stays in its order and keeps its position: the gap is where the others were. In shapes, place
counts the tokens of a row, kept those that stay of a picture.

Source: Chen et al. 2024 (FastV), arXiv:2403.06764, section 4.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vlmcourse.models.attention import Cache, record_attention, run_blocks
from vlmcourse.models.frames import Span
from vlmcourse.models.language import Inputs, Llama, Real
from vlmcourse.models.look import Look, causal
from vlmcourse.models.vlm import Reading
from vlmcourse.slots import slot


@slot
def keep_tokens(scores: Float[Tensor, "batch token"], k: int) -> Int[Tensor, "batch kept"]:
    """Places of the k tokens with the highest scores, from first to last; of equal scores the first.

    Raises:
        ValueError: if there are fewer than k tokens, or k is below 1.
    """
    if not 1 <= k <= scores.shape[1]:
        raise ValueError(f"{k} of {scores.shape[1]} tokens cannot be kept")
    best = scores.argsort(dim=1, descending=True, stable=True)[:, :k]
    return best.sort(dim=1).values


@slot
def attention_received(
    weights: Float[Tensor, "batch head query key"], begin: int, end: int
) -> Float[Tensor, "batch token"]:
    """How much each token from begin to end is looked at: the mean over all heads and queries of one layer.

    Args:
        weights: of a layer, see record_attention. Under a causal mask early tokens are seen by more queries
            than late ones, and win by that alone; ``weights[:, :, -1:]`` asks the last token, which sees all.

    Returns:
        token = end - begin.

    Source: Chen et al. 2024 (FastV), arXiv:2403.06764, section 4.1; its published code asks the last token.
    """
    return weights.mean(dim=(1, 2))[:, begin:end]


def spread_scores(rows: int, columns: int) -> Float[Tensor, "token"]:
    """Scores by which the best k tokens of a grid lie evenly over it, whatever k is; row by row.

    The order is that of ordered dithering: the four corners of a square take turns, in each of them those of
    a smaller square, and so on.

    Source: Bayer 1973, "An optimum method for two-level rendition of continuous-tone pictures".
    """
    order = torch.zeros(1, 1, dtype=torch.long)
    while len(order) < max(rows, columns):
        upper = torch.cat([4 * order, 4 * order + 2], dim=1)
        lower = torch.cat([4 * order + 3, 4 * order + 1], dim=1)
        order = torch.cat([upper, lower])
    return -order[:rows, :columns].flatten().float()


def random_scores(batch: int, tokens: int, seed: int) -> Float[Tensor, "batch token"]:
    """Scores by chance, for each row its own."""
    return torch.rand(batch, tokens, generator=torch.Generator().manual_seed(seed))


@slot
def kept_places(length: int, span: Span, kept: Int[Tensor, "batch kept"]) -> Int[Tensor, "batch place"]:
    """Places of a row that stay when its picture is pruned, in their order: everything else stays.

    Args:
        length: tokens of the row.
        span: the first place of the picture, and the first one behind it.
        kept: of its tokens, counted from its first; see keep_tokens.
    """
    begin, end = span
    before, behind = torch.arange(begin), torch.arange(end, length)
    words = torch.cat([before, behind]).expand(len(kept), -1).to(kept.device)
    return torch.cat([words[:, :begin], kept + begin, words[:, begin:]], dim=1)


def pruned_look(look: Look, places: Int[Tensor, "batch place"]) -> Look:
    """The look of what is left: its part of the mask, and the positions that the tokens had before.

    Args:
        look: of the whole rows, with a mask of their own or one for all.
    """
    batch, count = places.shape
    positions = look.positions.expand(*look.positions.shape[:-2], batch, -1)
    index = places.expand(*positions.shape[:-1], count)
    positions = positions.gather(-1, index)
    if look.mask is None:
        return Look(None, positions)
    length = look.mask.shape[-1]
    mask = look.mask.expand(batch, 1, length, length)
    mask = mask.gather(2, places[:, None, :, None].expand(-1, -1, -1, length))
    return Look(mask.gather(3, places[:, None, None].expand(-1, -1, count, -1)), positions)


class PrunedReader(Reading):
    """A language model that reads a picture in full in its first layers only; to whoever writes, a Llama.

    The first layers read all tokens. Then k tokens of the picture stay, and all other layers read these.
    What is written is read by every layer, at the positions that it would have without pruning.

    Args:
        layer: how many blocks read everything; FastV keeps 2. At least 1.
        span: where the picture stands, the same in every row.
        k: image tokens to keep.
        scores: of the image tokens, one row for each text; None scores them by how much the last token looks
            at each in the last of the first blocks.

    Raises:
        ValueError: if no block would read everything, or none would read less.

    Source: Chen et al. 2024 (FastV), arXiv:2403.06764, section 4.1.
    """

    def __init__(
        self, model: Llama, layer: int, span: Span, k: int, scores: Float[Tensor, "batch token"] | None = None
    ):
        if not 1 <= layer < len(model.blocks):
            raise ValueError(f"pruning behind block {layer} of {len(model.blocks)} is not possible; "
                             f"choose one from 1 to {len(model.blocks) - 1}")  # fmt: skip
        self.model, self.layer, self.span, self.k, self.scores = model, layer, span, k, scores
        self.features = None  # the prompt holds them already
        self.blocks, self.head, self.embed = model.blocks, model.head, model.embed

    def hidden(
        self, embeddings: Inputs, *, mask: Real = None, caches: list[Cache] | None = None
    ) -> Float[Tensor, "batch left width"]:
        """One vector for each token that is left; arguments as in LanguageModel.hidden.

        Raises:
            ValueError: if a row is padded: the picture would not stand in its span.
        """
        if mask is not None and not mask.all():
            raise ValueError("a row is padded, so its picture does not stand where the others' do; "
                             "read rows of one length together")  # fmt: skip
        if caches and caches[0].length:
            return self.model.hidden(embeddings, caches=caches)
        model, first, rest = self.model, self.blocks[: self.layer], self.blocks[self.layer :]
        tokens = embeddings if embeddings.is_floating_point() else self.embed(embeddings)
        look = causal(tokens.shape[1], device=tokens.device)
        tokens, rotate = model.place(tokens, look.positions)
        early, late = (caches[: self.layer], caches[self.layer :]) if caches else (None, None)
        with record_attention(first[-1]) as record:
            tokens = run_blocks(first, tokens, early, mask=look.mask, rotate=rotate)
        asked = record[0][:, :, -1:]  # the last token sees all of the picture
        scores = attention_received(asked, *self.span) if self.scores is None else self.scores
        places = kept_places(tokens.shape[1], self.span, keep_tokens(scores, self.k).to(tokens.device))
        tokens = tokens.gather(1, places[:, :, None].expand(-1, -1, tokens.shape[2]))
        look = pruned_look(look, places)
        _, rotate = model.place(tokens, look.positions)
        return model.norm(run_blocks(rest, tokens, late, mask=look.mask, rotate=rotate))
