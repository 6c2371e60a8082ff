"""Byte-pair encoding: small cases by hand, and equality with the tokenizers library on real and on random
words."""

import json
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from vlmcourse.models.bpe import apply_bpe, merge_pair, train_bpe
from vlmcourse.world.captions import captions
from vlmcourse.world.scenes import sample


def library(words: dict[str, int], merges: int) -> Tokenizer:
    """The library's tokenizer, trained until it has found as many merges."""
    alphabet = len(set("".join(words)))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=alphabet + merges, show_progress=False)
    tokenizer.train_from_iterator((word for word, count in words.items() for _ in range(count)), trainer)
    return tokenizer


def library_merges(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    return [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]


def test_a_pair_is_merged_left_to_right_without_overlap():
    assert merge_pair(list("aaaa"), ("a", "a")) == ["aa", "aa"]
    assert merge_pair(list("aaa"), ("a", "a")) == ["aa", "a"]
    assert merge_pair(["ab", "c", "ab"], ("ab", "c")) == ["abc", "ab"]
    assert merge_pair([], ("a", "b")) == [] and merge_pair(["a"], ("a", "b")) == ["a"]


def test_the_most_frequent_pair_comes_first():
    assert train_bpe({"low": 5, "lower": 2, "newest": 6, "widest": 3}, 3) == [
        ("e", "s"),
        ("es", "t"),
        ("l", "o"),
    ]
    assert train_bpe({"ab": 1}, 10) == [("a", "b")]


def test_the_input_is_left_alone():
    tokens = list("abab")
    merge_pair(tokens, ("a", "b"))
    assert tokens == list("abab")


def test_merges_and_cuts_equal_the_librarys_on_scene_captions():
    words = Counter(" ".join(captions(sample("train", 2000))).split())
    merges = train_bpe(words, 120)
    tokenizer = library(words, 120)
    assert merges == library_merges(tokenizer) and len(merges) > 50
    for word in [*words, "squarest", "redder", "bluegreen"]:
        assert apply_bpe(word, merges) == tokenizer.encode(word).tokens


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(st.text("abc", min_size=1, max_size=8), st.integers(1, 4), min_size=1, max_size=12))
def test_merges_equal_the_librarys_with_many_ties(words):
    theirs = library_merges(library(words, 15))
    assert train_bpe(words, len(theirs)) == theirs
