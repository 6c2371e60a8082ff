"""Exercises of chapter 04, part one: vectors of texts and classes (ch04_losses.py and ch04_measures.py follow)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vlmcourse.exercises.base import Slip, Unaffected, chapter
from vlmcourse.models import clip

exercise, quiz = chapter("04_clip")

# ------------------------------------------------------------------------------------------- pool at EOS


def _texts(hidden: Tensor, eos: int, places: list[list[int]]) -> tuple[Tensor, Tensor, int]:
    """Ids below and above ``eos`` everywhere, and ``eos`` itself at the places given for each text."""
    ids = torch.randint(0, 30, hidden.shape[:2])
    ids[ids == eos] += 1
    for row, several in enumerate(places):
        ids[row, several] = eos
    return hidden, ids, eos


def _row(hidden: Tensor, place: Tensor) -> Tensor:
    return hidden[torch.arange(len(hidden), device=hidden.device), place]


def _last_eos(hidden, ids, eos):
    return _row(hidden, ids.shape[1] - 1 - (ids == eos).int().flip(1).argmax(1))


def _noise_behind(case: tuple) -> tuple:
    hidden, ids, eos = case
    behind = torch.arange(ids.shape[1])[None] > (ids == eos).int().argmax(1)[:, None]
    return hidden.masked_fill(behind[..., None], 9.0), ids, eos


exercise(
    clip.pool_at_eos,
    cases=lambda: [
        _texts(torch.randn(3, 7, 5), 12, [[4], [2, 3, 6], [5, 6]]),
        _texts(torch.randn(2, 6, 9), 20, [[3, 5], [1]]),
    ],
    slips=[
        Slip(lambda hidden, ids, eos: hidden[:, -1],
             "this takes the last token, which is padding in every text that is shorter than the longest."),
        Slip(lambda hidden, ids, eos: hidden[:, 0],
             "this takes token 0. In a ViT that token reads everything; in a causal tower it has read only "
             "itself."),
        Slip(lambda hidden, ids, eos: _row(hidden, ids.argmax(1)),
             "this takes the token with the highest id. OpenAI's code did so because its EOS is the last "
             "id of the vocabulary; compare with eos instead."),
        Slip(_last_eos,
             "this takes the last EOS; when texts are padded with EOS, that is padding. Take the first."),
        Slip(lambda hidden, ids, eos: _row(hidden, (ids == eos).int().argmax(1) - 1),
             "this takes the token before EOS; only EOS itself was trained to sum up the text."),
        Slip(lambda hidden, ids, eos: hidden[ids == eos],
             "hidden[ids == eos] gives one vector per EOS, so a text with two of them gives two. Find the "
             "first place in each row."),
        Slip(lambda hidden, ids, eos: hidden[:, (ids == eos).int().argmax(1)],
             "hidden[:, place] takes every text's place in every text. Pair row 0 with place 0, row 1 with "
             "place 1: hidden[arange(batch), place]."),
        Slip(lambda hidden, ids, eos: hidden.mean(1),
             "this is the mean over all tokens, padding included; CLIP reads one token, the first EOS."),
    ],
    hints=[
        "Two steps: where is the first EOS of each text, and how do you take one row from each text?",
        "(ids == eos).int() holds 0 and 1; argmax(dim=1) gives the place of the first 1.",
        "`hidden[torch.arange(batch, device=ids.device), place]` pairs each text with its own place.",
    ],
    gradient=("hidden",),
    unaffected=[Unaffected(
        "the result depends on tokens behind the first EOS; those are padding.", _noise_behind)],
)

# --------------------------------------------------------------------------------------------- normalise

exercise(
    clip.normalise,
    cases=lambda: [(2 * torch.randn(2, 3, 5),), (torch.randn(3, 2, 7) + 1,)],
    axes={"features": "class prompt width", "return": "class prompt width"},
    slips=[
        Slip(lambda x: x / x.norm(),
             "all vectors are divided by one number, the length of everything together; each has its own "
             "length: dim=-1, keepdim=True."),
        Slip(lambda x: x / x.norm(dim=1, keepdim=True),
             "the length runs along axis 1 (also F.normalize's default). The width is the last axis: "
             "dim=-1."),
        Slip(lambda x: x / x.norm(dim=0, keepdim=True),
             "the length runs along axis 0, over different vectors. The width is the last axis: dim=-1."),
        Slip(lambda x: x / x.pow(2).mean(-1, keepdim=True).sqrt(),
             "the squares are averaged; a length sums them. Your vectors have length √width, not 1."),
        Slip(lambda x: x / x.pow(2).sum(-1, keepdim=True),
             "the square root is missing: the length is √(sum of squares)."),
        Slip(lambda x: x / x.abs().sum(-1, keepdim=True),
             "the absolute values sum to 1 now; for cosines the squares must."),
        Slip(lambda x: x.softmax(-1),
             "a softmax makes probabilities and loses the signs; only the length must change, not the "
             "direction."),
        Slip(lambda x: F.layer_norm(x, x.shape[-1:]),
             "this also subtracts the mean, as a layer norm does, and turns the vector. Only its length "
             "must change."),
    ],
    hints=[
        "A vector divided by its own length has length 1. Which axis holds the numbers of one vector?",
        "`features.norm(dim=-1, keepdim=True)` has a last axis of size 1, so the division broadcasts.",
    ],
    gradient=("features",),
)

# ----------------------------------------------------------------------------------- zero-shot classifier


def _long_and_short() -> list[tuple]:
    """Prompts whose vectors have quite different lengths."""
    shapes = [(4, 3, 6), (2, 5, 7)]
    return [(torch.randn(shape) * torch.rand(*shape[:2], 1).mul(3).add(0.3),) for shape in shapes]


def _unit(x: Tensor, axis: int = -1) -> Tensor:
    return F.normalize(x, dim=axis)


exercise(
    clip.zero_shot_classifier,
    cases=_long_and_short,
    slips=[
        Slip(lambda x: _unit(x).mean(1),
             "the mean of unit vectors is shorter than 1, and shorter for classes whose prompts disagree: "
             "normalise it again, or those classes lose."),
        Slip(lambda x: _unit(x.mean(1)),
             "the prompts are averaged as they come, so one with a long vector outweighs the others. "
             "Normalise before the mean, too."),
        Slip(lambda x: x.mean(1),
             "nothing is normalised: normalise each prompt, average, normalise each class."),
        Slip(lambda x: _unit(_unit(x).mean(0)),
             "this averages over the classes; average over the prompts, axis 1, so that one vector per "
             "class is left."),
        Slip(lambda x: _unit(x[:, 0]),
             "only the first prompt of each class is used; the mean over all of them is steadier."),
        Slip(lambda x: _unit(_unit(x, 1).mean(1)),
             "the first normalisation runs over the prompts (axis 1, F.normalize's default). The width is "
             "the last axis: dim=-1."),
        Slip(lambda x: _unit(x).flatten(0, 1),
             "this keeps one row per prompt; average the prompts of a class, so that one row per class is "
             "left."),
        Slip(lambda x: _unit(_unit(x).amax(1)),
             "this takes the largest number per coordinate; the direction between the prompts is their "
             "mean."),
    ],
    hints=[
        "Each prompt is a direction. Which direction lies in the middle of all prompts of a class?",
        "Three steps: length 1 for every prompt, mean over axis 1, length 1 again. You have written "
        "normalise.",
    ],
    gradient=("prompts",),
)

# ---------------------------------------------------------------------------------------------------- quiz

quiz(
    1,
    "You double the batch from 64 to 128. The first loss, before any training, rises from 4.16 to 4.85. "
    "Why?",
    [
        ("The larger batch needs a smaller learning rate.", False,
         "No step has been made yet, so the learning rate has changed nothing."),
        ("There are twice as many candidates: ln 128 = ln 64 + 0.69.", True,
         "Guessing among B candidates costs ln B. Losses of different batch sizes cannot be compared."),
        ("The features are not normalised.", False,
         "Both runs would suffer from that. What differs between them is among how many a pair is sought."),
    ],
)
quiz(
    2,
    "Your zero-shot classifier knows 10 animals. It shall also know the zebra. What do you do?",
    [
        ("Train on labelled pictures of zebras.", False,
         "That is what zero-shot spares you: classes are texts, and the text tower is there already."),
        ('Encode prompts such as "a photo of a zebra" and append one row.', True,
         "One more unit vector in the table of class weights; no weight of the model changes."),
        ("Replace the last layer by one with 11 outputs.", False,
         "There is no such layer: the outputs are cosines with the texts you choose."),
    ],
)
quiz(
    3,
    'A CLIP scores "red left of blue" and "blue left of red" almost alike. What explains it best?',
    [
        ("The text tower cannot know the order of words.", False,
         "It has positions and a causal mask; it could know. The question is who asks it to."),
        ("The scale is too small.", False,
         "A scale stretches a difference, but a ranking of two scores stays as it was."),
        ("A batch rarely holds the swapped text, so the loss rarely asks for order.", True,
         "Naming the right things wins the batch. Hard negatives, swapped on purpose, make order pay."),
    ],
)
