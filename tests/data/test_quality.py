"""Duplicates, leakage, habits, ambiguity and fit are found by rules that can be checked by hand."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from vlmcourse.data import quality
from vlmcourse.data.photos import PHOTOS, photo
from vlmcourse.data.quality import (
    ambiguous,
    answer_entropy,
    balanced_records,
    balanced_rows,
    clip_filter,
    cosine_alike,
    difference_hash,
    exact_hash,
    first_of_alike,
    hamming,
    image_dependence,
    in_small_grey,
    leaked,
    leaked_pictures,
    likeness_of,
    picture_hashes,
)
from vlmcourse.data.records import Record
from vlmcourse.world import render, scenes


def test_bits_say_where_it_becomes_brighter_to_the_right():
    grey = torch.tensor([[[1.0, 2, 2, 1], [0, 5, 0, 5]], [[4, 3, 2, 1], [1, 2, 3, 4]]])
    assert difference_hash(grey).tolist() == [
        [True, False, False, True, False, True],
        [False, False, False, True, True, True],
    ]
    assert difference_hash(torch.rand(3, 8, 9)).shape == (3, 64)


def test_pictures_are_shrunk_to_one_column_more_than_rows():
    picture = np.zeros((80, 90, 3), np.uint8)
    picture[:, 45:] = 255
    small = in_small_grey([picture, picture])
    assert small.shape == (2, 8, 9) and small[0, :, 0].max() < 9 and small[0, :, -1].min() > 246
    assert in_small_grey([picture], side=4).shape == (1, 4, 5) and in_small_grey([]).shape == (0, 8, 9)
    assert picture_hashes([]).shape == (0, 64)


def variants(picture):
    image = Image.fromarray(picture)
    yield np.asarray(image.resize((150, 200)))
    yield np.asarray(ImageEnhance.Brightness(image).enhance(0.8))
    yield np.asarray(ImageEnhance.Contrast(image).enhance(0.7))
    yield np.asarray(image.quantize(64).convert("RGB"))


def test_a_photo_keeps_its_hash_in_another_size_and_light_and_photos_differ():
    photos = [photo(name) for name in PHOTOS]
    hashes = picture_hashes(photos)
    for picture, code in zip(photos, hashes, strict=True):
        assert hamming(picture_hashes([*variants(picture)]), code[None]).max() <= 4
    apart = hamming(hashes, hashes) + 64 * torch.eye(4, dtype=torch.long)
    assert apart.min() > 15


def test_scenes_in_another_light_are_found_and_few_others():
    """Half of the scenes repeat one of their group of eight; the rest do so by chance only."""
    batch = scenes.sample("train", 800, duplicates=0.5)
    found = likeness_of(picture_hashes(list(render.render(batch))))
    parts = np.stack([getattr(batch, name) for name in ("shape", "colour", "size", "x", "y")], axis=1)
    texts = [part.tobytes() for part in parts.reshape(len(batch), -1)]
    repeated = torch.tensor([text in texts[:number] for number, text in enumerate(texts)])
    assert repeated.sum() > 300
    assert (found[repeated] >= 0).float().mean() > 0.85
    assert (found[~repeated] >= 0).float().mean() < 0.05


def test_differing_bits_are_counted():
    first = torch.tensor([[True, True, False, False], [False] * 4])
    second = torch.tensor([[True, False, True, False], [True] * 4, [False] * 4])
    assert hamming(first, second).tolist() == [[2, 2, 2], [2, 4, 0]]


def test_bits_and_disagreement_are_counted_as_scipy_counts_them():
    from scipy.spatial.distance import cdist
    from scipy.stats import entropy

    first, second = torch.rand(5, 64) < 0.5, torch.rand(7, 64) < 0.5
    theirs = cdist(first.numpy(), second.numpy(), "hamming") * 64
    assert hamming(first, second).numpy() == pytest.approx(theirs)
    for answers in ("aaaaaaaaab", "aabbccddee", "aaaabbbccd"):
        theirs = entropy([*Counter(answers).values()], base=2)
        assert answer_entropy(answers) == pytest.approx(theirs)


def test_only_the_first_of_those_alike_stays():
    a, b, c = range(3)
    alike = torch.eye(4, dtype=torch.bool)
    for one, other in ((a, b), (b, c)):  # c is like b, which is gone, and not like a: it stays
        alike[one, other] = alike[other, one] = True
    assert first_of_alike(alike).tolist() == [True, False, True, True]
    assert first_of_alike(torch.ones(3, 3, dtype=torch.bool)).tolist() == [True, False, False]
    assert first_of_alike(torch.zeros(0, 0, dtype=torch.bool)).tolist() == []
    assert first_of_alike(alike.to("meta")[:0]).device.type == "meta"


@given(count=st.integers(0, 40), bits=st.integers(2, 6), most=st.integers(0, 3), block=st.integers(1, 9),
       seed=st.integers(0, 99))  # fmt: skip
def test_blocks_find_what_all_pairs_find(count, bits, most, block, seed):
    torch.manual_seed(seed)
    hashes = torch.rand(count, bits) < 0.5
    old, quality._BLOCK = quality._BLOCK, block
    try:
        found, out = likeness_of(hashes, most), leaked_pictures(hashes[:9], hashes, most)
    finally:
        quality._BLOCK = old
    alike = hamming(hashes, hashes) <= most
    kept = first_of_alike(alike)
    assert torch.equal(found < 0, kept)
    for number in torch.nonzero(~kept).flatten().tolist():
        first = torch.nonzero(alike[number, :number] & kept[:number])[0].item()
        assert found[number] == first
    for one in range(count):  # no two that stay are alike
        assert not (alike[one, :one] & kept[:one]).any() or not kept[one]
    assert torch.equal(out, leaked(hashes[:9], hashes, most))


def test_a_test_picture_is_leaked_if_any_training_picture_is_near():
    train = torch.tensor([[True, True, True, True], [False, False, False, False]])
    test = torch.tensor([[True, True, True, False], [False] * 4, [True, True, False, False]])
    assert leaked(train, test, 0).tolist() == [False, True, False]
    assert leaked(train, test, 1).tolist() == [True, True, False]
    assert leaked_pictures(train[:0], test).tolist() == [False] * 3 and leaked_pictures(
        train, test[:0]
    ).shape == (0,)


def test_without_pictures_nothing_is_leaked_whoever_compares():
    leaked.install(lambda train, test, most: hamming(test, train).min(dim=1).values <= most)
    try:
        some = torch.rand(3, 64) < 0.5
        assert leaked_pictures(some[:0], some).tolist() == [False] * 3
        assert leaked_pictures(some, some[:0]).tolist() == [] and leaked_pictures(some, some).all()
    finally:
        leaked.reset()


def test_two_of_64_bits_may_differ():
    hashes = torch.zeros(3, 64, dtype=torch.bool)
    hashes[1, :2] = hashes[2, 10:13] = True
    assert likeness_of(hashes).tolist() == [-1, 0, -1]
    assert leaked_pictures(hashes[:1], hashes).tolist() == [True, True, False]


def test_equal_pixels_have_equal_hashes_whatever_their_memory():
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert exact_hash(picture) == exact_hash(np.asfortranarray(picture)) != exact_hash(picture[::-1])
    assert exact_hash(picture) != exact_hash(picture.reshape(2, 8, 3)) and len(exact_hash(picture)) == 64


def test_features_are_alike_by_their_direction():
    features = torch.tensor([[1.0, 0], [5, 0.1], [0, 1], [-1, 0]])
    assert cosine_alike(features, 0.9).tolist() == [
        [True, True, False, False], [True, True, False, False],
        [False, False, True, False], [False, False, False, True]]  # fmt: skip
    with pytest.raises(ValueError, match="NaN or infinity"):
        cosine_alike(torch.tensor([[torch.nan, 0.0]]), 0.9)


def test_the_most_frequent_answer_is_cut_to_all_the_others():
    asked = ["a", "a", "a", "b", "a", "a", "b", "c"]
    answers = ["yes", "yes", "no", "no", "yes", "what", "yes", "red"]
    assert balanced_rows(asked, answers) == [0, 1, 2, 3, 5, 6]  # the third yes to a, and all of c, are gone
    assert balanced_rows(["a"] * 5, ["yes", "no", "no", "no", "no"]) == [0, 1]
    assert balanced_rows(["a", "a"], ["yes", "yes"]) == [] and balanced_rows([], []) == []
    assert balanced_rows(["a", "b"] * 2, ["yes", "no", "no", "yes"]) == [0, 1, 2, 3]


@given(rows=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")), max_size=30))
def test_after_balancing_habit_is_right_about_half_at_most(rows):
    asked, answers = [row[0] for row in rows], [row[1] for row in rows]
    kept = balanced_rows(asked, answers)
    assert kept == sorted(set(kept))
    for question in set(asked):
        left = Counter(answers[row] for row in kept if asked[row] == question)
        assert not left or max(left.values()) <= left.total() / 2
        habit, often = Counter(answer for one, answer in rows if one == question).most_common(1)[0]
        for answer, count in left.items():  # nothing else is lost
            if answer != habit:
                assert count == sum(row == (question, answer) for row in rows)
        assert left[habit] == min(often, sum(one == question for one in asked) - often)


def asking(text, answer, **more):
    return Record("a.png", (("user", f"<image>{text}"), ("assistant", answer)), **more)


def test_records_are_balanced_by_the_words_of_their_question():
    rows = [asking("Red?", "yes", key="0"), asking("red?", "Yes"), asking("Red?", "no"), asking("Why?", "so")]
    assert [record.key for record in balanced_records(rows)] == ["0", ""]
    with pytest.raises(ValueError, match=r"x\.json, row 3 is no question with one answer"):
        balanced_records([Record("a.png", captions=("a",), file="x.json", row=3)])


def test_entropy_is_that_of_the_shares():
    assert answer_entropy(["a"] * 10) == 0
    assert answer_entropy(["a", "b"] * 5) == 1
    assert answer_entropy("abcdefghij") == pytest.approx(math.log2(10))
    assert answer_entropy(["a"] * 5 + ["b"] * 3 + ["c"] * 2) == pytest.approx(1.4855, abs=1e-4)


def test_ambiguous_questions_are_those_people_disagree_about():
    clear, split = ("red",) * 9 + ("blue",), ("red",) * 4 + ("blue",) * 3 + ("pink",) * 3
    rows = [asking("?", "red", answers=clear), asking("?", "red", answers=split), asking("?", "red")]
    assert ambiguous([asking("?", "red", answers=("red", "blue"))], most=1) == []
    assert ambiguous(rows) == [1] and ambiguous(rows, most=0.4) == [0, 1] and ambiguous(rows, most=2) == []


def test_the_best_share_is_kept():
    similarity = torch.tensor([0.1, 0.4, torch.nan, 0.3, 0.4, 0.2, -0.5, 0.0, 0.35, 0.25])
    kept = lambda share: torch.nonzero(clip_filter(similarity, share)).flatten().tolist()  # noqa: E731
    assert kept(0.1) == [1] and kept(0.2) == [1, 4] and kept(0.3) == [1, 4, 8] and kept(0.39) == [1, 4, 8]
    assert kept(1.0) == [0, 1, 3, 4, 5, 6, 7, 8, 9] and kept(0.9) == kept(1.0) and kept(0.0) == []


def test_a_picture_helps_beside_the_better_of_none_and_a_wrong_one():
    seen, unseen, wrong = torch.tensor([[0.5, 2.0, 3.0, 1.0], [1.5, 2.0, 1.0, 4.0], [2.5, 5.0, 2.0, 1.0]])
    assert image_dependence(seen, unseen, wrong).tolist() == [1.0, 0.0, -2.0, 0.0]
