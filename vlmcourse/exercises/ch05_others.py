"""Exercises of chapter 05, part three: words into tokens, and what BERT and T5 do otherwise; and the quiz."""

import itertools
import math

import torch
from torch import Tensor

from vlmcourse.exercises.base import Slip, chapter
from vlmcourse.models import bert, bpe, t5

exercise, quiz = chapter("05_language_models")
IGNORED = -100

# ------------------------------------------------------------------------------------------------- BPE


def _merge(tokens: list[str], pair: tuple[str, str], *, skip: int = 2, most: int = 10**9) -> list[str]:
    merged, k = [], 0
    while k < len(tokens):
        if tuple(tokens[k : k + 2]) == pair and most:
            merged.append("".join(pair))
            k, most = k + skip, most - 1
        else:
            merged.append(tokens[k])
            k += 1
    return merged


def _by_text(tokens: list[str], pair: tuple[str, str]) -> list[str]:
    return " ".join(tokens).replace(" ".join(pair), "".join(pair)).split(" ")


def _overlapping(tokens: list[str], pair: tuple[str, str]) -> list[str]:
    """Compares neighbours of the old list, so a token can be used twice."""
    hit = [two == pair for two in itertools.pairwise(tokens)]
    return ["".join(pair) if k < len(hit) and hit[k] else token for k, token in enumerate(tokens)
            if (k < len(hit) and hit[k]) or k == 0 or not hit[k - 1]]  # fmt: skip


def _from_the_right(tokens: list[str], pair: tuple[str, str]) -> list[str]:
    merged = _merge([t[::-1] for t in tokens[::-1]], (pair[1][::-1], pair[0][::-1]))
    return [t[::-1] for t in merged[::-1]]


def _last_lost(tokens: list[str], pair: tuple[str, str]) -> list[str]:
    merged = _merge(tokens, pair)
    return merged if tuple(tokens[-2:]) == pair else merged[:-1]


exercise(
    bpe.merge_pair,
    cases=lambda: [
        (["t", "h", "e", " ", "t", "h", "i", "n"], ("t", "h")),
        (["a", "a", "a", "b", "a", "a"], ("a", "a")),
        (["re", "d", "are", "d", "re", "dy", "re", "d"], ("re", "d")),
        (["x"], ("x", "y")),
    ],
    slips=[
        Slip(_overlapping, "a token is used twice: in a a a only the first two merge, and the third stays."),
        Slip(_from_the_right, "it merges from the right; go from left to right: a a a becomes aa a."),
        Slip(lambda t, p: _merge(t, p, most=1), "only the first place is merged; every place must be."),
        Slip(_by_text,
             "the tokens were joined to a text and cut again, so ends of longer tokens matched: compare "
             "whole tokens."),
        Slip(lambda t, p: _merge(t, p, skip=1),
             "the second token of the pair is still there: after a merge, step over both."),
        Slip(_last_lost, "the last token is lost when it is in no pair: the loop ends one step too early."),
        Slip(lambda t, p: list(t),
             "nothing is merged. `tokens[k:k+2]` is a list, and a list never equals the tuple `pair`: "
             "compare tuples."),
        Slip(lambda t, p: [x for x in _merge(t, p) if x != "".join(p)],
             "the pairs are removed, but what they became is not put in their place."),
    ],
    hints=[
        "Walk through the list with an index. When do you step by one, and when by two?",
        "`while k < len(tokens)`: if `(tokens[k], tokens[k + 1]) == pair` (mind the end), append the "
        "joined string and add 2 to k; else append tokens[k] and add 1.",
    ],
)

# ------------------------------------------------------------------------------------- BERT's masked tokens


def _mask(ids, chosen, dice, random_ids, mask_id, special, *, share=0.15, masked=0.8, replaced=0.9, spare=True):
    picked = chosen < share
    picked = picked & ~special if spare else picked
    inputs = torch.where(picked & (dice < masked), mask_id, ids)
    inputs = torch.where(picked & (dice >= masked) & (dice < replaced), random_ids, inputs)
    return inputs, torch.where(picked, ids, IGNORED)


def _labels_where_changed(ids, *rest):
    inputs = _mask(ids, *rest)[0]
    return inputs, torch.where(inputs == ids, IGNORED, ids)


def _labels_upside_down(ids, *rest):
    inputs, labels = _mask(ids, *rest)
    return inputs, torch.where(labels == IGNORED, ids, IGNORED)


def _labels_from_inputs(ids, *rest):
    inputs, labels = _mask(ids, *rest)
    return inputs, torch.where(labels == IGNORED, labels, inputs)


def _kept_before_random(ids, chosen, dice, random_ids, mask_id, special):
    swapped = torch.where((dice >= 0.8) & (dice < 0.9), dice + 0.1, torch.where(dice >= 0.9, dice - 0.1, dice))
    return _mask(ids, chosen, swapped, random_ids, mask_id, special)


def _mask_case(batch: int, token: int) -> tuple:
    ids, random_ids = torch.randint(10, 90, (2, batch, token))
    special = torch.zeros(batch, token, dtype=torch.bool)
    special[:, ::4] = True
    return ids, 0.3 * torch.rand(batch, token), torch.rand(batch, token), random_ids, 5, special


def _is_wrong_on_its_head(ids, chosen, *rest):
    return _mask(ids, 0.3 - chosen, *rest)


exercise(
    bert.mask_tokens,
    cases=lambda: [_mask_case(2, 31), _mask_case(3, 40)],
    slips=[
        Slip(lambda i, *r: (_mask(i, *r)[0], i),
             "every token has a label; the loss must count only the chosen ones, so the others get -100."),
        Slip(_labels_where_changed,
             "chosen tokens that stayed as they were have no label; BERT must predict those too."),
        Slip(lambda *a: _mask(*a, masked=1.0),
             "every chosen token is masked; only 80 % are, 10 % become a random token and 10 % stay."),
        Slip(lambda *a: _mask(*a, replaced=1.0),
             "20 % become random; the last 10 % (dice ≥ 0.9) must stay as they are."),
        Slip(lambda *a: _mask(*a, spare=False), "special tokens are chosen too; they are never hidden."),
        Slip(_labels_upside_down,
             "the labels are inside out: the chosen tokens need their ids, the others -100."),
        Slip(_labels_from_inputs,
             "the labels are taken from the masked text; they must be the original ids."),
        Slip(_kept_before_random,
             "random and kept changed places: dice from 0.8 to 0.9 means random, from 0.9 on kept."),
        Slip(_is_wrong_on_its_head, "the wrong ones are chosen: chosen < 0.15 picks 15 %."),
    ],
    hints=[
        "First decide who is picked: chosen below 0.15, and not special. Labels depend on that alone.",
        "`labels = torch.where(picked, ids, -100)`; then two torch.where for the inputs, one per range of "
        "dice.",
    ],
    picture=lambda output: output[1] != IGNORED,
)

# ------------------------------------------------------------------------------------------ T5's buckets


def _buckets(distance, buckets, farthest, both_ways, *, half=True, sign=1, future=1, log=True, cap=True, exact=2):
    n, first = sign * distance, torch.zeros_like(distance)
    if both_ways:
        buckets = buckets // 2 if half else buckets
        first = (future * n > 0).long() * buckets
        n = n.abs()
    else:
        n = (-n).clamp(min=0)
    one_each = buckets // exact
    ratio = (n.clamp(min=1) / one_each).log() / math.log(farthest / one_each)
    far = one_each + (ratio * (buckets - one_each)).long() if log else n
    far = far.clamp(max=buckets - 1) if cap else far
    return first + torch.where(n < one_each, n, far)


def _steps(query: int, key: int) -> Tensor:
    """Distances key − query with spread-out queries, to the future and to the past."""
    return torch.arange(key) - torch.linspace(0, key - 1, query).long()[:, None]


exercise(
    t5.relative_buckets,
    cases=lambda: [(_steps(5, 130), 20, 100, True), (_steps(4, 131), 20, 100, False), (_steps(3, 60), 12, 40, True)],
    slips=[
        Slip(lambda *a: _buckets(*a, sign=-1),
             "past and future are swapped: distance is key − query, so it is negative for earlier tokens."),
        Slip(lambda d, b, f, w: _buckets(d, b, f, True),
             "both_ways is not used: a decoder sees no future, so all its buckets serve the past."),
        Slip(lambda d, b, f, w: _buckets(d if w else -d.abs(), b, f, w),
             "in a decoder the future shares bucket 0; here it is counted like the past."),
        Slip(lambda *a: _buckets(*a, half=False),
             "looking both ways, each side has half of the buckets; here each side has all of them."),
        Slip(lambda *a: _buckets(*a, future=-1),
             "the upper half of the buckets belongs to the future (distance > 0), here it went to the past."),
        Slip(lambda *a: _buckets(*a, log=False),
             "far distances have one bucket each until they run out; they must share buckets, wider and "
             "wider (log)."),
        Slip(lambda *a: _buckets(*a, cap=False),
             "the numbers run past the last bucket: everything beyond `farthest` shares it."),
        Slip(lambda *a: _buckets(*a, exact=4),
             "too few distances have a bucket of their own: half of each side's buckets hold one distance "
             "each."),
    ],
    hints=[
        "Three zones: near distances one by one, far ones on a logarithmic scale, the rest in the last "
        "bucket.",
        "If both ways: halve the buckets, add that half where distance > 0, and go on with the absolute "
        "distance. Else n = (−distance).clamp(min=0).",
        "With e = buckets // 2: n below e keeps its number; else e + int(log(n / e) / log(farthest / e) · "
        "(buckets − e)), at most buckets − 1.",
    ],
    picture=lambda output: output / output.max(),
)

# ------------------------------------------------------------------------------------------------- quiz

quiz(
    1,
    "A VLM has read 576 image tokens and now writes an answer with a KV cache. What does the image cost at "
    "each further step?",
    [
        ("All 576 tokens go through the model again.", False,
         "That is what the cache saves: their keys and values are kept."),
        ("Nothing; the image was read already.", False,
         "Every new token still looks at them, and they stay in memory."),
        ("In every layer, the new token reads 576 kept keys and values.", True,
         "That is why few image tokens and few key heads matter."),
    ],
)
quiz(
    2,
    "Your caption model sees no image, yet its loss on new captions falls clearly below their entropy. "
    "What do you conclude?",
    [
        ("It generalises better than expected.", False,
         "No model can on average be less surprised than the process that made the captions."),
        ("Something shows it the answer: mask or labels are wrong.", True,
         "You planted exactly that: a mask that is off by one."),
        ("It was trained for too long.", False,
         "Overfitting raises the loss on new captions; it never lowers it below the entropy."),
    ],
)
quiz(
    3,
    "Why is BERT a poor choice for writing a caption word by word?",
    [
        ("It has no scores for words.", False,
         "Its masked-token head gives a score for every word of the vocabulary."),
        ("Its earlier tokens see the new one, so nothing can be kept.", True,
         "Without a causal mask every new word changes all keys and values. BLIP adds the mask, so BERT "
         "writes."),
        ("It cannot look at an image.", False,
         "BLIP gives it cross-attention to an image; looking is not the problem."),
    ],
)
