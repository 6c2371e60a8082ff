"""Which patches made the model say this? Relevance by attention and gradients, and Grad-CAM (notebook 14).

    weigh_by_gradient      one map of an attention: its weights, where they raise the score
    self_attention_rule    relevance after tokens have looked at each other
    normalise_relevance    what was added, scaled row by row
    cross_attention_rule   relevance after tokens have looked at others
    grad_cam               where features raise the score, summed over their channels
    relevance_map          the rules applied to an answer of a model, back to the patches
    cam_map                Grad-CAM applied to the same

In shapes, token counts the tokens of one stack, other those of what it looks at.

Source: Chefer, Gur and Wolf 2021, arXiv:2103.15679, section 3; Grad-CAM: Selvaraju et al. 2017,
    arXiv:1610.02391, section 3.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.models.attention import Attention, scaled_dot_product
from vlmcourse.models.language import IGNORED, following
from vlmcourse.models.resampler import Resampler
from vlmcourse.models.vlm import EncoderDecoder
from vlmcourse.slots import slot

Own = Float[Tensor, "token token"]
Across = Float[Tensor, "token other"]
Image = UInt8[np.ndarray, "rows columns 3"]


@slot
def weigh_by_gradient(
    attention: Float[Tensor, "head query key"], gradient: Float[Tensor, "head query key"]
) -> Float[Tensor, "query key"]:
    """Attention weights times the gradient of the score; what lowers the score counts as 0; mean over heads.

    Source: Chefer et al. 2021, arXiv:2103.15679, equation 5.
    """
    return (gradient * attention).clamp(min=0).mean(dim=0)


@slot
def self_attention_rule(own: Own, across: Across, attention: Own) -> tuple[Own, Across]:
    """Relevance after tokens have looked at each other: what each looked at brings its own relevance along.

    Args:
        own: how much each token (column) counts in each (row) so far; the identity at first.
        across: likewise of the other tokens, zeros at first.
        attention: from weigh_by_gradient.

    Source: Chefer et al. 2021, arXiv:2103.15679, equations 6 and 7.
    """
    return own + attention @ own, across + attention @ across


@slot
def normalise_relevance(own: Own) -> Own:
    """What was added to the identity, scaled so that each row of it sums to 1, and the identity again.

    A row to which nothing was added stays as it is.

    Source: Chefer et al. 2021, arXiv:2103.15679, equations 8 and 9.
    """
    identity = torch.eye(len(own), dtype=own.dtype, device=own.device)
    added = own - identity
    sums = added.sum(dim=-1, keepdim=True)
    return added / sums.where(sums > 0, 1) + identity


@slot
def cross_attention_rule(
    own: Own,
    other: Float[Tensor, "other other"],
    across: Across,
    back: Float[Tensor, "other token"],
    attention: Across,
) -> tuple[Across, Own]:
    """Relevance after tokens have looked at other ones: (across, own).

    Args:
        own, other: of tokens in tokens, and of the others in the others, so far.
        across, back: of the others in the tokens, and of the tokens in the others.
        attention: of the tokens to the others, from weigh_by_gradient.

    Source: Chefer et al. 2021, arXiv:2103.15679, equations 10 and 11.
    """
    step = normalise_relevance(own).T @ attention @ normalise_relevance(other)
    return across + step, own + attention @ back


@slot
def grad_cam(
    activations: Float[Tensor, "batch channel row column"],
    gradients: Float[Tensor, "batch channel row column"],
) -> Float[Tensor, "batch row column"]:
    """Sum of the feature maps, each weighted by the mean of its gradient over all places; negatives become 0.

    Args:
        activations: maps of a CNN; or patch tokens in their places, see as_maps.
        gradients: of the score with respect to them.

    Source: Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2.
    """
    importance = gradients.mean(dim=(2, 3), keepdim=True)
    return (importance * activations).sum(dim=1).clamp(min=0)


def as_maps(
    tokens: Float[Tensor, "batch patch width"], grid: tuple[int, int]
) -> Float[Tensor, "batch width row column"]:
    """Row-major patch tokens, without a class token, as feature maps."""
    return tokens.transpose(1, 2).unflatten(2, grid)


class Attended(NamedTuple):
    """One attention that ran, and its weights, (batch, head, query, key), with their gradient's graph."""

    layer: Attention
    weights: Tensor


@contextlib.contextmanager
def kept_attention(model: nn.Module) -> Iterator[list[Attended]]:
    """Collect the weights of every attention that runs inside the ``with``, so that gradients reach them.

    models.attention.record_attention detaches them, and leaves torch's fused kernel at work.

    Yields:
        a list that fills with calls, in the order in which they ran.
    """
    calls: list[Attended] = []
    running: list[Attention] = []
    attend = scaled_dot_product.active

    def keep(query: Tensor, key: Tensor, value: Tensor, *masks: Tensor | None) -> tuple[Tensor, Tensor]:
        mixed, weights = attend(query, key, value, *masks)
        if not weights.requires_grad:  # nothing before it is trained
            weights = weights.requires_grad_()
            mixed = weights @ value
        calls.append(Attended(running[-1], weights))
        return mixed, weights

    layers = [module for module in model.modules() if isinstance(module, Attention)]
    hooks = [layer.register_forward_pre_hook(lambda module, _: running.append(module)) for layer in layers]
    scaled_dot_product.active = keep
    try:
        yield calls
    finally:
        scaled_dot_product.active = attend
        for hook in hooks:
            hook.remove()


class NoPatches(ValueError):
    """Image tokens of a model no longer stand for patches, so nothing can be laid over the image."""


class Told(NamedTuple):
    """An answer's score, and where it comes from."""

    score: Float[Tensor, ""]  # sum of the logits of the answer's tokens, without its end
    ids: Int[Tensor, "1 token"]
    places: Bool[Tensor, "1 token"]  # True where one of them is predicted


def score_answer(
    speaker: Any, features: Float[Tensor, "1 patch features"], instruction: str, answer: str
) -> Told:
    """How strongly a model wants to give this answer about the image with these features.

    Raises:
        ValueError: if the answer has no token but its end.
    """
    rows = speaker.encode([[(instruction, answer)]])
    wanted = following(rows.labels)
    places = (wanted != IGNORED) & (wanted != speaker.words.end)
    if not places.any():
        raise ValueError(f"no token of the answer {answer!r} is learned, so none has a score; give a word")
    logits = speaker.model.head(speaker.hidden(features, rows)[places])
    return Told(logits.gather(1, wanted[places][:, None]).sum(), rows.ids, places)


def cam_map(speaker: Any, image: Image, instruction: str, answer: str) -> Float[Tensor, "row column"]:
    """Grad-CAM of an answer over the patches of the vision encoder's output; zeros if no gradient gets there.

    Raises:
        ValueError: see score_answer.
    """
    features, grid = speaker.features(image[None]), speaker.model.config.vision.grid
    with torch.enable_grad():
        features = features.requires_grad_()
        told = score_answer(speaker, features, instruction, answer)
        (gradients,) = _gradients(told.score, [features])
    count = grid[0] * grid[1]  # what stands before the patches is a class token
    maps = [as_maps(part[:, -count:].detach(), grid) for part in (features, gradients)]
    return grad_cam(*maps)[0]


def relevance_map(speaker: Any, image: Image, instruction: str, answer: str) -> Float[Tensor, "row column"]:
    """How much each patch of the vision encoder's output counts for an answer.

    The rules run over every stack of the model; where one stack reads what another made, their relevances
    are multiplied. Several tokens of an answer are added up.

    Raises:
        ValueError: see score_answer.
        NoPatches: if image tokens no longer stand for patches, as behind pixel shuffle.
    """
    model, features = speaker.model, speaker.features(image[None])
    with torch.enable_grad(), kept_attention(model) as calls:
        told = score_answer(speaker, features.requires_grad_(), instruction, answer)
    weights = [call.weights for call in calls]
    gradients = _gradients(told.score, weights)
    steps = [
        (call.layer, weigh_by_gradient(call.weights[0].detach(), gradient[0]))
        for call, gradient in zip(calls, gradients, strict=True)
    ]
    if speaker.words.opening_apart:
        steps = _without_opening(model, steps)
    counted = _trace(model, steps, told, speaker.words.image)
    rows, columns = grid = model.config.vision.grid
    if len(counted) not in (rows * columns, 1 + rows * columns):
        raise NoPatches(f"{len(counted)} image tokens cannot be laid over {rows} × {columns} patches")
    return counted[-rows * columns :].unflatten(0, grid)


def _gradients(score: Tensor, wanted: list[Tensor]) -> Sequence[Tensor]:
    """Of the score with respect to each; zeros where it does not depend on it, as behind a detach."""
    if not score.requires_grad:
        return [torch.zeros_like(one) for one in wanted]
    return torch.autograd.grad(score, wanted, allow_unused=True, materialize_grads=True)


Steps = Sequence[tuple[Attention, Tensor]]


def _without_opening(model: nn.Module, steps: Steps) -> Steps:
    """Without the language model's first run, over an opening that is read apart, before any image."""
    inside, begun, kept = {*model.language.modules()}, set(), []
    for layer, attention in steps:
        if layer in inside and layer not in begun:
            begun.add(layer)
        else:
            kept.append((layer, attention))
    return kept


def _trace(model: nn.Module, steps: Steps, told: Told, image: int) -> Float[Tensor, "patch"]:
    """From the answer back through the language model's stacks, then through what connects it to the eye."""
    connector = getattr(model, "qformer", None) or getattr(model, "resampler", None)
    inside = set() if connector is None else set(connector.modules())
    seen = _through_words(model, [step for step in steps if step[0] not in inside], told, image)
    inner = [step for step in steps if step[0] in inside]
    if not inner:
        return seen
    return seen @ (_resampled(inner) if isinstance(connector, Resampler) else stack_relevance(inner)[1])


def _through_words(model: nn.Module, steps: Steps, told: Told, image: int) -> Float[Tensor, "seen"]:
    """How much each vector that stands for the image counts for the answer."""
    rows, on_image = told.places[0], told.ids[0] == image
    if not isinstance(model, EncoderDecoder):
        own, across = stack_relevance(steps)
        return (own[rows][:, on_image] if across is None else across[rows]).sum(dim=0)
    writer = next(module for module in model.blocks[0].modules() if isinstance(module, Attention))
    begins = [layer for layer, _ in steps].index(writer)  # an encoder ran before
    _, across = stack_relevance(steps[begins:])
    asked = across[: int(rows.sum())].sum(dim=0)  # each token of the question
    own, across = stack_relevance(steps[:begins])
    return asked @ (own[:, on_image[: len(own)]] if across is None else across)


def stack_relevance(steps: Steps) -> tuple[Tensor, Tensor | None]:
    """Relevance (own, across) behind the steps of one stack; across is None if it looks at nothing else.

    Args:
        steps: each an attention and its map, from weigh_by_gradient. Of a self-attention to more tokens than
            its own, such as cached ones before them, only its own count.
    """
    token = steps[0][1].shape[0]
    own = torch.eye(token)
    looked = [attention.shape[1] for layer, attention in steps if layer.crosses]
    other = torch.eye(looked[0] if looked else 1)
    across, back = torch.zeros(token, len(other)), torch.zeros(len(other), token)
    for layer, attention in steps:
        if layer.crosses:
            across, own = cross_attention_rule(own, other, across, back, attention)
        else:
            own, across = self_attention_rule(own, across, attention[:, -token:])
    return own, across if looked else None


def _resampled(steps: Steps) -> Float[Tensor, "latent patch"]:
    """Of each patch in each latent: patches and latents are looked at as one row, in which patches stay."""
    latents, both = steps[0][1].shape
    patches = both - latents
    own, none = torch.eye(both), torch.zeros(both, 1)
    for _, attention in steps:
        own, _ = self_attention_rule(own, none, F.pad(attention, (0, 0, patches, 0)))
    return own[patches:, :patches]
