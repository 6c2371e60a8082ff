"""Does the model attend to the image, and does learning reach it? (Notebook 14.)

    image_share       of the attention at each layer and token, how much falls on image tokens
    update_share      the same where words look at the image through an attention of its own
    gradient_ratio    how strongly the loss pulls at image vectors, against words
    attention_share   the first two, measured on a model
    prompt_looks      the same for one prompt, with its tokens, and where on the image each head looks
    gradient_share    the third, measured on a model

Attention is not importance (Jain and Wallace 2019, arXiv:1902.10186): a share near 0 proves that the image is
not read there, a large one does not prove that it counts. diagnostics/swaps.py tells that.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.data.text import Tokenizer, load_tokenizer
from vlmcourse.models.attention import Attention, record_attention
from vlmcourse.models.blip import Blip
from vlmcourse.models.flamingo import Flamingo
from vlmcourse.models.language import IGNORED, following
from vlmcourse.models.llava import Injected
from vlmcourse.models.vlm import EncoderDecoder
from vlmcourse.slots import slot
from vlmcourse.world.render import to_tensor


@slot
def image_share(
    weights: Float[Tensor, "layer batch head query key"], places: Bool[Tensor, "batch key"]
) -> Float[Tensor, "layer batch query"]:
    """How much of its attention each token gives to image tokens, mean over the heads, 0 to 1.

    Args:
        weights: attention weights, which sum to 1 over the keys.
        places: True where a key is an image token.
    """
    on_image = weights * places[:, None, None]  # the same for all heads and queries
    return on_image.sum(dim=-1).mean(dim=2)


@slot
def update_share(
    image: Float[Tensor, "layer batch token width"], words: Float[Tensor, "layer batch token width"]
) -> Float[Tensor, "layer batch token"]:
    """How much of what two attentions add to each token comes from the image: |image| / (|image| + |words|).

    A cross-attention's own weights always sum to 1 over the image, whether it is heard or not. What it adds
    to the residual stream tells: behind a closed gate it is 0. Where both add nothing, the share is 0.

    Args:
        image: what the cross-attention adds, times its gate if it has one.
        words: what the attention to the text adds in the same layer.

    Source: sizes of what is added instead of weights, Kobayashi et al. 2020, arXiv:2004.10102, section 3.
    """
    image, words = image.norm(dim=-1), words.norm(dim=-1)
    return image / (image + words).clamp(min=1e-12)


@slot
def gradient_ratio(
    image: Float[Tensor, "layer place width"], words: Float[Tensor, "layer word size"]
) -> Float[Tensor, "layer"]:
    """Mean length of the loss's gradient at image vectors, over that at words; 0 if none reaches the image.

    Args:
        image: gradients at the vectors of images, of all texts together.
        words: gradients at those of words; their width may be another one.
    """
    return image.norm(dim=-1).mean(dim=1) / words.norm(dim=-1).mean(dim=1)


class Shares(NamedTuple):
    """What attention_share found."""

    shares: Float[Tensor, "layer batch token"]
    real: Bool[Tensor, "batch token"]  # False for padding, on the left
    kind: str  # "attention", see image_share, or "update", see update_share

    def at_answer(self) -> Float[Tensor, "layer"]:
        """Where the answer begins, at the last token of the prompt; mean over the texts."""
        return self.shares[:, :, -1].mean(dim=1)


@torch.no_grad()
def attention_share(
    speaker: Any, images: UInt8[np.ndarray, "batch rows columns 3"], instructions: Sequence[str]
) -> Shares:
    """How much each token of a prompt takes from the image, in every layer that can.

    In models whose image tokens stand among the words it is their share of the attention (with two stacks,
    that of the stack that reads); in models that look at the image between blocks the share of the update.

    Args:
        speaker: a model with its words, see speak.Speaker.

    Returns:
        shares at the tokens of the prompts; where an encoder reads, without the last one, which begins the
        answer.
    """
    return _measured(speaker, images, instructions)[0]


class Looks(NamedTuple):
    """How much the words of a prompt take from the image, and where their attention looks."""

    tokens: list[str]  # those of the prompt that are no image tokens
    shares: Float[Tensor, "layer token"]
    weights: Float[Tensor, "layer head token patch"] | None  # attention to each patch; their sum over the
    # patches, mean over the heads, are the shares. None where the image is looked at by an attention of its
    # own ("update"), or where image tokens stand for no place in the image
    grid: tuple[int, int] | None  # rows and columns of the patches, if there are weights
    kind: str  # as in Shares


@torch.no_grad()
def prompt_looks(speaker: Any, image: UInt8[np.ndarray, "rows columns 3"], instruction: str) -> Looks:
    """attention_share of one prompt, at its words, with the weights behind it."""
    measured, ids, weights = _measured(speaker, image[None], [instruction])
    seen = ids[0] == speaker.words.image
    words = torch.nonzero(~seen & measured.real[0])[:, 0]
    tokens, shares = _names(speaker.words, ids[0, words].tolist()), measured.shares[:, 0, words]
    grid = image_grid(int(seen.sum()), *image.shape[:2])
    if weights is None or not speaker.model.patchwise or grid is None:
        return Looks(tokens, shares, None, None, measured.kind)
    return Looks(tokens, shares, weights[:, 0, :, words][..., seen], grid, measured.kind)


def image_grid(count: int, height: int, width: int) -> tuple[int, int] | None:
    """Rows and columns of so many tokens, each for a square of an image of this size; None if none fit."""
    rows = round(math.sqrt(count * height / width))
    return (rows, count // rows) if rows and rows * rows * width == count * height else None


def _measured(
    speaker: Any, images: UInt8[np.ndarray, "batch rows columns 3"], instructions: Sequence[str]
) -> tuple[Shares, Int[Tensor, "batch token"], Float[Tensor, "layer batch head query key"] | None]:
    """The shares, the ids of their tokens, and the attention weights where the shares are made of them."""
    model, words = speaker.model, speaker.words
    ids, real = words.prompts(instructions, model.tokens_of(*images.shape[1:3]))
    reader, prompt = model.begin(ids, to_tensor(images))
    steps = _image_steps(model)
    if steps:
        shares = _shares_of_steps(steps, lambda: reader.hidden(prompt, mask=real))
        count = shares.shape[2]
        return Shares(shares, real[:, :count], "update"), ids[:, :count], None
    stack = model.language.encoder if isinstance(model, EncoderDecoder) else model.language
    with record_attention(stack) as layers:
        reader.hidden(prompt, mask=real)
    weights = torch.stack(layers)
    ids = ids[:, : weights.shape[-1]]
    shares = image_share(weights, ids == words.image)
    return Shares(shares, real[:, : ids.shape[1]], "attention"), ids, weights


def _names(words: Any, ids: list[int]) -> list[str]:
    """Tokens as text, those that steer included."""
    tokenizer = words.tokenizer or load_tokenizer()
    if isinstance(tokenizer, Tokenizer):
        return tokenizer.tokens(ids)
    return [tokenizer.decode([number]) for number in ids]


def _image_steps(model: nn.Module) -> list[tuple[Attention, Attention, Tensor]]:
    """Of each layer that looks at the image beside the text: its attention there, its own, and the gate."""
    if isinstance(model, Blip):
        return [(block.cross, block.attention, torch.ones(())) for block in model.encoder.blocks]
    if isinstance(model, Flamingo):
        own = model.language.blocks[:: model.config.every]
        pairs = zip(model.gated, own, strict=False)
        return [(gated.attention, block.attention, gated.look_gate.tanh()) for gated, block in pairs]
    return []


def _shares_of_steps(steps: list, run: Any) -> Float[Tensor, "layer batch token"]:
    """Run once, and see what the attentions of each step add."""
    added: dict[Attention, Tensor] = {}

    def keep(module: nn.Module, _: Any, output: Tensor) -> None:
        added.setdefault(module, output)  # the first run: BLIP's decoder shares an attention with its encoder

    modules = {module for cross, own, _ in steps for module in (cross, own)}
    hooks = [module.register_forward_hook(keep) for module in modules]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    image = torch.stack([gate * added[cross] for cross, _, gate in steps])
    return update_share(image, torch.stack([added[own] for _, own, _ in steps]))


def gradient_share(
    speaker: Any, images: UInt8[np.ndarray, "batch rows columns 3"], talks: Sequence[Sequence[tuple]]
) -> Float[Tensor, "layer"]:
    """See gradient_ratio: before every block; where images stand beside the text, at what is looked at.

    The loss is the mean cross-entropy of the answers. Behind the last block nobody reads image tokens, so no
    gradient could arrive there. No ``.grad`` is touched.

    Args:
        talks: what is asked and answered about each image, see Speaker.encode.
    """
    model, rows = speaker.model, speaker.encode(talks)
    features = speaker.features(images)
    with torch.enable_grad():
        if not isinstance(model, Injected):
            return _ratio_beside(model, features, rows)
        streams, hooks = _streams(model.language.blocks)
        try:
            hidden = speaker.hidden(features.requires_grad_(), rows)
        finally:
            for hook in hooks:
                hook.remove()
        loss = _answer_loss(hidden, rows, model.head)
        gradients = torch.stack(torch.autograd.grad(loss, list(streams.values())))
    seen = rows.ids == speaker.words.image
    return gradient_ratio(gradients[:, seen], gradients[:, (rows.packs >= 0) & ~seen])


def _streams(blocks: nn.ModuleList) -> tuple[dict[nn.Module, Tensor], list]:
    """The residual stream before each block, as it ran last; and the hooks that look."""
    streams: dict[nn.Module, Tensor] = {}

    def before(block: nn.Module, given: tuple) -> None:
        streams[block] = given[0]

    return streams, [block.register_forward_pre_hook(before) for block in blocks]


def _ratio_beside(model: nn.Module, features: Tensor, rows: Any) -> Float[Tensor, "layer"]:
    """gradient_share of a model whose images stand beside its words."""
    seen, words = model.connect(features).detach().requires_grad_(), []
    keep = model.language.embedding.register_forward_hook(lambda _, given, output: words.append(output))
    try:
        hidden = model.hidden_of_packs(rows.ids, rows.packs, seen)
    finally:
        keep.remove()
    at_image, *at_words = torch.autograd.grad(_answer_loss(hidden, rows, model.head), [seen, *words])
    together = torch.cat([gradient.flatten(0, 1) for gradient in at_words])
    read = together.norm(dim=-1) > 0  # neither padding nor a placeholder
    return gradient_ratio(at_image.flatten(0, 1)[None], together[read][None])


def _answer_loss(hidden: Tensor, rows: Any, head: nn.Module) -> Float[Tensor, ""]:
    wanted = following(rows.labels)
    asked = wanted != IGNORED
    return F.cross_entropy(head(hidden[asked]), wanted[asked])
