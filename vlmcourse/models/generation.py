"""Writing text, one token at a time (notebooks 05 and 08).

    generate         read a prompt, choose a token, read that, and so on
    write_greedily   answer prompts made of vectors, such as words with an image, with the likeliest tokens

With a cache, each step reads one token; without, it reads the whole text again. Both write the same.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from vlmcourse.models.attention import Cache
from vlmcourse.models.language import Ids, LanguageModel, Marks, Real, next_scores
from vlmcourse.models.native import PatchRow, SomePictures
from vlmcourse.models.replay import Replay
from vlmcourse.models.vlm import VLM, Reading
from vlmcourse.slots import slot

Scores = Float[Tensor, "batch vocabulary"]


@slot
def top_p(
    logits: Float[Tensor, "batch vocabulary"], temperature: float, top_p: float
) -> Float[Tensor, "batch vocabulary"]:
    """Probabilities of the next token, without the tail: nucleus sampling.

    The tokens are taken from the most probable down until together they reach ``top_p``; the one that crosses
    the line is still in. The others get 0, and what is left is scaled to sum to 1 again.

    Args:
        temperature: divides the logits; below 1 sharper, above 1 flatter, 0 puts all on the best token.
        top_p: in (0, 1]; 1 keeps all tokens.

    Source: Holtzman et al. 2019, arXiv:1904.09751, section 3.1.
    """
    if temperature == 0:
        best = logits.argmax(dim=-1, keepdim=True)
        return torch.zeros_like(logits).scatter(1, best, 1.0)
    probabilities = (logits / temperature).softmax(dim=-1)
    if top_p == 1:
        return probabilities
    ordered, order = probabilities.sort(descending=True)
    mass_before = ordered.cumsum(dim=-1) - ordered
    kept = ordered.masked_fill(mass_before >= top_p, 0.0)
    return torch.zeros_like(kept).scatter(1, order, kept / kept.sum(dim=-1, keepdim=True))


@slot
def write_greedily(
    model: LanguageModel | Reading,
    prompt: Float[Tensor, "batch token width"],
    mask: Bool[Tensor, "batch token"],
    steps: int,
    end: int,
    pad: int = 0,
) -> Int[Tensor, "batch written"]:
    """Answer prompts made of vectors, always with the likeliest token.

    The prompt is read once, into a cache; after that every step reads one token. So an image, whose vectors
    stand in the prompt, is paid for once.

    Args:
        prompt: words and image tokens, see Llava.embed; shorter prompts are padded on the left.
        mask: True for real tokens.
        steps: most tokens to write.
        end: the token that ends an answer; it is written, and after it a row gets ``pad``. When every row has
            ended, writing stops. A number that no token has, such as -1, ends nothing.
    """
    caches = [Cache() for _ in model.blocks]
    ended = torch.zeros(len(prompt), dtype=torch.bool, device=prompt.device)
    unread, written = prompt, []
    for _ in range(steps):
        last = model.hidden(embeddings=unread, mask=mask, caches=caches)[:, -1]
        token = model.head(last).argmax(dim=-1).masked_fill(ended, pad)
        written.append(token)
        ended = ended | (token == end)
        if ended.all():
            break
        unread, mask = model.embed(token[:, None]), F.pad(mask, (0, 1), value=True)
    return torch.stack(written, dim=1)


@torch.inference_mode()
def generate(
    model: LanguageModel | VLM,
    ids: Ids,
    *,
    mask: Marks | None = None,
    images: Tensor | SomePictures | PatchRow | None = None,
    steps: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    eos: int | None = None,
    pad: int = 0,
    cached: bool = True,
    seed: int | None = None,
    replay: Replay | None = None,
) -> Int[Tensor, "batch longer"]:
    """Continue every prompt by up to ``steps`` tokens.

    Args:
        ids: prompts; shorter ones are padded on the left, so that all end together.
        mask: True for real tokens; None if there is no padding.
        images: for a model that reads images, see VLM.hidden.
        temperature, top_p: see top_p; temperature 0 always takes the best token.
        eos: the token that ends a text; after it a row gets ``pad``, and when all rows ended, writing stops.
        cached: keep keys and values of earlier tokens rather than compute them again at every step.
        seed: of the random choices; None goes on from torch's own state.
        replay: a recording of the model, to be kept from call to call; needs the cache, takes no images.

    Returns:
        the prompts with what was written behind them; longer ≤ token + steps.

    Raises:
        ValueError: if the temperature is below 0, top_p not in (0, 1], a prompt is padded on the right, or a
            replay comes with images, without the cache, or is another model's.
    """
    if temperature < 0 or not 0 < top_p <= 1:
        raise ValueError(f"temperature must be at least 0 and top_p in (0, 1], not {temperature} and {top_p}")
    if mask is not None and not mask[:, -1].all():
        raise ValueError("a prompt is padded on the right: its next token would follow padding; pad left")
    if replay is not None and (images is not None or not cached or replay.model is not model):
        raise ValueError("a replay is of one language model; give it with that model, cached, no images")
    reader, prompt = model.begin(ids, images)
    if images is not None and cached and temperature == 0 and steps > 0:
        real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
        written = write_greedily(reader, prompt, real, steps, -1 if eos is None else eos, pad)
        return torch.cat([ids, written], dim=1)
    generator = None if seed is None else torch.Generator(ids.device).manual_seed(seed)
    read = _reading_on(reader, cached, replay)
    choose = functools.partial(_choose, temperature=temperature, nucleus=top_p, generator=generator)
    mask = None if mask is None or mask.all() else mask
    return torch.cat([ids, *write(read, prompt, mask, steps, choose, eos, pad)], dim=1)


def write(
    read: Callable[[Tensor, Real], Scores],
    prompt: Tensor,
    mask: Marks | None,
    steps: int,
    choose: Callable[[Scores], Int[Tensor, "batch 1"]],
    eos: int | None,
    pad: int,
) -> list[Int[Tensor, "batch 1"]]:
    """The loop behind all writing: read what is new, choose a token, read that; gives the tokens chosen.

    Args:
        read: scores for what follows, from what is new: first ``prompt``, then a token for each text.
        choose: the tokens, from these scores.
        eos, pad: see generate.
    """
    unread, written = prompt, []
    ended = torch.zeros(len(prompt), 1, dtype=torch.bool, device=prompt.device)
    for _ in range(steps):
        unread = choose(read(unread, mask))
        if eos is not None:
            unread = unread.masked_fill(ended, pad)
            ended = ended | (unread == eos)
        written.append(unread)
        if eos is not None and ended.all():
            break
        mask = mask if mask is None else F.pad(mask, (0, 1), value=True)
    return written


def _reading_on(reader: Any, cached: bool, replay: Replay | None) -> Callable:
    """``read`` for write: each step reads one token, or without a cache the whole text again."""
    if cached:
        read_one = replay or functools.partial(next_scores, reader)
        return functools.partial(read_one, caches=[Cache() for _ in reader.blocks])
    text = []

    def read_again(unread: Tensor, mask: Tensor | None) -> Tensor:
        text.append(unread if unread.is_floating_point() else reader.embed(unread))
        return next_scores(reader, torch.cat(text, dim=1), mask)

    return read_again


def _choose(
    logits: Scores, temperature: float, nucleus: float, generator: torch.Generator | None
) -> Int[Tensor, "batch 1"]:
    if temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)
    return torch.multinomial(top_p(logits.float(), temperature, nucleus), 1, generator=generator)
