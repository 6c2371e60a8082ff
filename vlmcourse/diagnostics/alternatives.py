"""What the Scene Playground asks of a speaker (speak.py): an answer, its rivals, its attention; a caption."""

import contextlib
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vlmcourse.data.text import END
from vlmcourse.diagnostics.share import image_grid
from vlmcourse.models.attention import Cache, record_attention
from vlmcourse.models.language import LanguageModel, next_scores
from vlmcourse.models.vlm import Reading
from vlmcourse.world.instructions import FULL
from vlmcourse.world.render import to_tensor

LONGEST = 64  # tokens of an answer
LEAST = math.log(1e-3)  # an answer a thousand times less likely than the best is not worth a step


def answers_for(speaker: Any) -> tuple[Callable[..., dict[str, Any]], Callable[[np.ndarray], str]]:
    """(answer, caption) for the Scene Playground: of an image and a question, and of an image."""
    return partial(look_and_answer, speaker), lambda image: look_and_answer(speaker, image, FULL, 1)["answer"]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One thread for a small model: two gain nothing, and wait for each other where a browser is busy too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@one_thread()
@torch.inference_mode()
def look_and_answer(
    speaker: Any, image: np.ndarray, instruction: str, choices: int = 5, least: float = LEAST
) -> dict[str, Any]:
    """The likeliest answers to an instruction about an image, and where the model looked before it answered.

    Args:
        speaker: a model with its words, see speak.Speaker.
        image: uint8 (64, 64, 3), or of another size where a model takes any.
        choices: how many answers at most; with one, it is what greedy decoding writes.
        least: see beam.

    Returns:
        "answer", the likeliest; "choices", pairs (answer, probability), best first; "attention", (row,
        column): how much the last token of the prompt attends to each image token, mean over heads and over
        the later half of the layers. What these weights lack to 1 goes to words. None where image tokens
        stand for no place in the image.
    """
    model, words = speaker.model, speaker.words
    height, width = image.shape[:2]
    ids, _ = words.prompts([instruction], model.tokens_of(height, width))
    reader, prompt = model.begin(ids, to_tensor(image[None]))
    caches = [Cache() for _ in reader.blocks]
    with record_attention(model.language) if model.patchwise else contextlib.nullcontext([]) as layers:
        scores = next_scores(reader, prompt, caches=caches)
    finished = beam(reader, scores.log_softmax(dim=-1), caches, choices, words.end, least)
    texts = words.spell([tokens for tokens, _ in finished])
    likely = [(text, math.exp(score)) for text, (_, score) in zip(texts, finished, strict=True)]
    looked = None
    if model.patchwise:
        weights = _looked(layers)[ids[0] == words.image]
        looked = weights.reshape(image_grid(len(weights), height, width) or (1, -1))
    return {"answer": texts[0], "choices": likely, "attention": looked}


def _looked(layers: list[Tensor]) -> Float[Tensor, "key"]:
    """Where the last token looked, mean over heads and the later half of the layers."""
    return torch.cat([layer[0, :, -1] for layer in layers[len(layers) // 2 :]]).mean(dim=0)


def beam(
    reader: LanguageModel | Reading,
    scores: Tensor,
    caches: list[Cache],
    width: int,
    end: int = END,
    least: float = LEAST,
) -> list[tuple[list[int], float]]:
    """The likeliest texts behind a prompt, best first, each with its log-probability, the end included.

    At each step the ``width`` likeliest beginnings are kept. A beginning only becomes less likely as it
    grows: one less likely than ``width`` finished texts, or far less than the best of all, is given up.

    Args:
        scores: logarithms of the first token's probabilities, (1, vocabulary).
        caches: of the prompt; used up.
        least: logarithm of how likely an answer is, over the likeliest, to be worth a step; with -inf there
            are always ``width``.
    """
    begun, sums, ended = [[]], torch.zeros(1, 1), []
    for _ in range(LONGEST):
        best = (sums + scores).flatten().topk(width)
        parents, tokens = best.indices // scores.shape[1], best.indices % scores.shape[1]
        grown = list(zip(best.values.tolist(), parents.tolist(), tokens.tolist(), strict=True))
        ended += [(begun[parent], total) for total, parent, token in grown if token == end]
        floor = least + max(total for total, *_ in grown + [(total,) for _, total in ended])
        ended = sorted((text for text in ended if text[1] > floor), key=lambda text: -text[1])[:width]
        floor = ended[-1][1] if len(ended) == width else floor
        grown = [text for text in grown if text[2] != end and text[0] > floor]
        if not grown:
            return ended
        begun = [[*begun[parent], token] for _, parent, token in grown]
        sums = torch.tensor([[total] for total, _, _ in grown])
        parents = [parent for _, parent, _ in grown]
        for kept in (*caches, *[reader] * isinstance(reader, Reading)):
            kept.select(parents)
        tokens = torch.tensor([[token] for _, _, token in grown])
        tokens = reader.embed(tokens) if isinstance(reader, Reading) else tokens
        scores = next_scores(reader, tokens, caches=caches).log_softmax(dim=-1)
    cut = [(tokens, total) for tokens, (total, _, _) in zip(begun, grown, strict=True)]
    return sorted(ended + cut, key=lambda text: -text[1])[:width]
