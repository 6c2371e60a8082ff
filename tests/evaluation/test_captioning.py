"""BLEU and CIDEr by hand on small captions; and what neither of them sees."""

import math
from collections import Counter

import pytest

from vlmcourse.evaluation.captioning import (
    bleu,
    brevity_penalty,
    cider,
    cider_d,
    clipped_cosine,
    clipped_matches,
    closest_length,
    consensus,
    count_ngrams,
    document_frequency,
    length_penalty,
    ngram_cosine,
    plain_words,
    tf_idf,
)


@pytest.mark.parametrize("text, words", [
    ("A red circle.", ["a", "red", "circle"]), ("  (Blue-green), don't!  ", ["blue-green", "don't"]),
    ("... — ", ["—"]), ("", []), ("3.5 STRASSE\tÉ", ["3.5", "strasse", "é"]),
])  # fmt: skip
def test_words_are_lowered_and_bare(text, words):
    assert plain_words(text) == words


def test_ngrams_are_counted_to_the_last():
    words = list("abab")
    assert count_ngrams(words, 1) == {("a",): 2, ("b",): 2}
    assert count_ngrams(words, 2) == {("a", "b"): 2, ("b", "a"): 1}
    assert count_ngrams(words, 4) == {("a", "b", "a", "b"): 1}
    assert count_ngrams(words, 5) == count_ngrams([], 1) == {}


def test_matches_are_clipped_at_the_reference_that_has_most():
    candidate = ["red"] * 4
    references = [["red", "circle", "red"], ["a", "red"], ["red"] * 2]
    assert clipped_matches(candidate, references, 1) == (2, 4)
    assert clipped_matches(candidate, references, 2) == (1, 3)
    assert clipped_matches(candidate, references[:2], 2) == (0, 3)
    assert clipped_matches(["red", "blue"], references, 1) == (1, 2)
    assert clipped_matches([], references, 1) == (0, 0)


def test_of_two_lengths_as_near_the_shorter_counts():
    assert closest_length(5, [7, 3, 9]) == closest_length(5, [3, 7]) == 3
    assert closest_length(5, [8, 6, 1]) == 6
    assert closest_length(5, [1, 5]) == 5


def test_short_captions_are_punished_and_long_ones_are_not():
    assert brevity_penalty(5, 10) == pytest.approx(math.exp(-1))
    assert brevity_penalty(8, 10) == pytest.approx(math.exp(-0.25))
    assert brevity_penalty(11, 10) == brevity_penalty(10, 5) == 1
    assert brevity_penalty(10, 10) == pytest.approx(1)
    assert brevity_penalty(0, 4) == brevity_penalty(0, 0) == 0


def test_bleu_by_hand():
    candidates = ["a red circle above a square", "a star"]
    references = [["a red circle below a square", "there is a red circle"], ["one big star"]]
    # 8 words; the closest references have 6 (not 5) and 3
    # of runs match 5 + 1 of 8, 3 + 0 of 6, 1 of 4, 0 of 3
    penalty = math.exp(1 - 9 / 8)
    third = (6 / 8 * 3 / 6 * 1 / 4) ** (1 / 3)
    fourth = (6 / 8 * 3 / 6 * 1 / 4 * 1e-15 / 3) ** (1 / 4)
    right = [6 / 8, (6 / 8 * 3 / 6) ** 0.5, third, fourth]
    assert bleu(candidates, references) == pytest.approx([penalty * score for score in right], rel=1e-6)


def test_bleu_ends_at_1_and_never_quite_at_0():
    assert bleu(["A blue circle, here!"], [["a blue circle here"]]) == pytest.approx([1] * 4)
    three_words = bleu(["a blue circle"], [["a blue circle"]])
    assert three_words[:3] == pytest.approx([1] * 3)
    assert three_words[3] == pytest.approx(1e-6**0.25, rel=1e-6)
    assert 0 < bleu(["green star is here"], [["a blue circle"]])[3] < 1e-12


def test_bleu_is_not_the_mean_of_single_bleus():
    candidates, references = ["a b c d e f g h", "x y"], [["a b c d e f g h"], ["a y"]]
    together = bleu(candidates, references)[0]
    single = [bleu([one], [several])[0] for one, several in zip(candidates, references, strict=True)]
    assert together == pytest.approx(0.9)
    assert sum(single) / 2 == pytest.approx(0.75)


def test_an_ngram_counts_once_per_image():
    references = [[["a", "red", "a"], ["a"]], [["a", "blue"]], [[]]]
    assert document_frequency(references, 1) == {("a",): 2, ("red",): 1, ("blue",): 1}
    assert document_frequency(references, 2) == {("a", "red"): 1, ("red", "a"): 1, ("a", "blue"): 1}
    assert isinstance(document_frequency(references, 1), Counter)


def test_what_stands_everywhere_weighs_nothing():
    counts = {("a",): 3, ("red",): 2, ("new",): 1}
    weights = tf_idf(counts, {("a",): 8, ("red",): 2}, 8)
    assert weights == pytest.approx({("a",): 0, ("red",): 2 * math.log(4), ("new",): math.log(8)})
    assert set(tf_idf(counts, {("a",): 1}, 1).values()) == {0}


def test_cosines_of_small_vectors():
    one, other = {"x": 3.0, "y": 4.0}, {"x": 1.0, "z": 2.0}
    assert ngram_cosine(one, other) == pytest.approx(3 / (5 * 5**0.5))
    assert clipped_cosine(one, other) == pytest.approx(1 / (5 * 5**0.5))
    assert clipped_cosine(other, one) == pytest.approx(3 / (5 * 5**0.5))
    assert ngram_cosine(one, one) == clipped_cosine(one, one) == pytest.approx(1)
    for cosine in (ngram_cosine, clipped_cosine):
        assert cosine({}, one) == cosine(one, {}) == cosine({"x": 0.0}, one) == cosine({}, {}) == 0


def test_length_penalty_is_a_bell():
    assert length_penalty(7, 7) == length_penalty(0, 1) == length_penalty(1, 0) == 1
    assert length_penalty(13, 7) == length_penalty(7, 13) == pytest.approx(math.exp(-0.5))
    assert length_penalty(0, 7) == pytest.approx(math.exp(-0.5))
    assert length_penalty(4, 7) == pytest.approx(math.exp(-1 / 8))


def test_consensus_by_hand():
    """Two images; every word but "a" is telling, at log 2."""
    frequencies = [
        {("a",): 2, ("red",): 1, ("star",): 1},
        {("a", "red"): 1, ("red", "star"): 1, ("a", "star"): 1},
    ]
    candidate, references = ["a", "red", "red"], [["a", "red"], ["a", "star"]]
    # words: (red 2) and (red 1): cosine 1, clipped 1 × 1 / 2; pairs: (a red, red red) and (a red): 1 / √2
    plain = (1 + 0 + 1 / 2**0.5 + 0) / 4 * 10
    assert consensus(candidate, references, frequencies, 2, clip=False) == pytest.approx(plain)
    clipped = (1 / 2 + 1 / 2**0.5) / 4 * 10 * math.exp(-1 / 72)
    assert consensus(candidate, references, frequencies, 2, clip=True) == pytest.approx(clipped)


def test_cider_of_a_perfect_corpus_is_10_and_of_one_image_0():
    texts = ["a red circle left of a star", "two blue squares", "one green cross at the top"]
    long = [f"{text} in the picture" for text in texts]
    for score in (cider, cider_d):
        assert score(long, [[text] for text in long]) == pytest.approx([10] * 3)
        assert score(texts[:1], [texts[:1]]) == [0]
        assert score(["", *texts[1:]], [[text] for text in texts])[0] == 0


def test_repeating_a_telling_word_pays_in_cider_alone():
    references = [["red"], ["blue"], ["green"]]
    said = ["red red red", "blue", "green"]
    assert cider(said, references)[0] == pytest.approx(2.5)  # as far as single words go, a perfect caption
    assert cider_d(said, references)[0] == pytest.approx(2.5 / 3 * math.exp(-4 / 72))


def test_a_score_depends_on_the_other_images():
    said = ["a red dog", "a star", "a star"]
    rare = cider_d(said, [["a red star"], ["a dog"], ["a cat"]])
    usual = cider_d(said, [["a red star"], ["a red dog"], ["a cat"]])
    assert rare[0] > usual[0] + 0.5  # "red" tells more where it stands at one image only


@pytest.mark.parametrize("score", [bleu, cider, cider_d])
def test_what_does_not_fit_together_is_refused(score):
    with pytest.raises(ValueError, match="2 captions, references of 1 images"):
        score(["a", "b"], [["a"]])
    with pytest.raises(ValueError, match="0 captions"):
        score([], [])
    with pytest.raises(ValueError, match="image 1 has no list of references"):
        score(["a", "b"], [["a"], []])
    with pytest.raises(ValueError, match="image 0 has no list of references"):
        score(["a"], ["a red circle"])


def test_neither_sees_the_picture():
    """A paraphrase that is right scores below a caption whose colour is wrong."""
    references = [
        ["a red circle left of a blue square"],
        ["a green star"],
        ["a yellow cross above a black circle"],
    ]
    paraphrase = ["one round crimson shape beside a square on its right"]
    wrong_colour = ["a green circle left of a blue square"]
    others = [texts[0] for texts in references[1:]]
    for score in (lambda *corpus: bleu(*corpus)[3], lambda *corpus: cider_d(*corpus)[0]):
        assert score(wrong_colour + others, references) > score(paraphrase + others, references)
