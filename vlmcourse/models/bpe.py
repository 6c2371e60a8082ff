"""Byte-pair encoding: where a language model's vocabulary comes from (notebook 05).

    merge_pair   glue one pair of neighbours together, wherever it occurs
    train_bpe    glue the most frequent pair, again and again; the list of pairs is the tokenizer
    apply_bpe    cut a new word with that list

The course's own tokenizer is trained by the ``tokenizers`` library; the same words give it the same merges.
"""

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise

from vlmcourse.slots import slot

Pair = tuple[str, str]


@slot
def merge_pair(tokens: list[str], pair: Pair) -> list[str]:
    """Replace every occurrence of ``pair`` by one token, left to right; a token is never used twice.

    Source: Sennrich et al. 2015, arXiv:1508.07909, section 3.2.
    """
    merged: list[str] = []
    place = 0
    while place < len(tokens):
        hit = tuple(tokens[place : place + 2]) == pair
        merged.append("".join(pair) if hit else tokens[place])
        place += 2 if hit else 1
    return merged


def train_bpe(words: Mapping[str, int], merges: int) -> list[Pair]:
    """Find the pairs to merge, most frequent first.

    Args:
        words: how often each word occurs; pairs never reach across words.
        merges: how many pairs to find; fewer come back if the words are used up.

    Returns:
        the pairs as they were found. Of equally frequent pairs the one whose tokens came into being first is
        taken, characters in alphabetical order before merged ones, as in the tokenizers library.

    Source: Sennrich et al. 2015, arXiv:1508.07909, algorithm 1.
    """
    cut = {word: list(word) for word in words}
    born = {token: number for number, token in enumerate(sorted(set("".join(words))))}
    learned: list[Pair] = []
    for _ in range(merges):
        counts: Counter[Pair] = Counter()
        for word, tokens in cut.items():
            for pair in pairwise(tokens):
                counts[pair] += words[word]
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], born[pair[0]], born[pair[1]]))
        learned.append(best)
        born.setdefault("".join(best), len(born))
        cut = {word: merge_pair(tokens, best) for word, tokens in cut.items()}
    return learned


def apply_bpe(word: str, merges: list[Pair]) -> list[str]:
    """Cut a word into tokens: of the pairs in it, the one that was found first is merged first."""
    rank = {pair: number for number, pair in enumerate(merges)}
    tokens = list(word)
    while known := [pair for pair in pairwise(tokens) if pair in rank]:
        tokens = merge_pair(tokens, min(known, key=rank.__getitem__))
    return tokens
