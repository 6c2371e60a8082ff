"""Retrieval counts what was found, in both directions, and knows that equal captions are equally right."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vlmcourse.evaluation.retrieval import median_rank, recall_at_k, retrieval, right_pairs
from vlmcourse.models.clip import normalise

SIMILARITY = torch.tensor([[0.9, 0.1, 0.5], [0.8, 0.2, 0.7], [0.3, 0.2, 0.1], [0.1, 0.4, 0.3]])


def test_counted_by_hand():
    right = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1]], dtype=torch.bool)
    assert recall_at_k(SIMILARITY, right, 1) == 0.5  # queries 0 and 3
    assert recall_at_k(SIMILARITY, right, 2) == 0.5
    assert recall_at_k(SIMILARITY, right, 3) == 1


def test_several_hits_count_once():
    assert recall_at_k(SIMILARITY, torch.ones(4, 3, dtype=torch.bool), 3) == 1


@given(queries=st.integers(1, 6), candidates=st.integers(1, 6), seed=st.integers(0, 99))
def test_recall_grows_with_k_and_ends_at_the_share_that_has_an_answer(queries, candidates, seed):
    torch.manual_seed(seed)
    similarity, right = torch.randn(queries, candidates), torch.rand(queries, candidates) < 0.3
    values = [recall_at_k(similarity, right, k) for k in range(1, candidates + 1)]
    assert values == sorted(values)
    assert values[-1] == pytest.approx(right.any(dim=1).float().mean().item())


def test_equal_captions_are_all_right():
    right = right_pairs(["red", "blue", "red"], ["blue", "red"])
    assert right.tolist() == [[False, True], [True, False], [False, True]]


def test_an_image_with_a_twin_caption_is_not_punished():
    features = normalise(torch.randn(3, 4))
    features[2] = features[0]
    captions = ["a cat", "a dog", "a cat"]
    diagonal = torch.eye(3, dtype=torch.bool)
    assert (
        retrieval(features, features, diagonal, ks=(1,))["image→text R@1"] < 1
    )  # one of the twins must lose
    assert retrieval(features, features, right_pairs(captions, captions), ks=(1,)) == {
        "image→text R@1": 1.0, "text→image R@1": 1.0}  # fmt: skip


def test_both_directions_are_what_their_names_say():
    image, text = torch.eye(2), torch.tensor([[1.0, 0.0], [0.9, 0.1]])
    found = retrieval(image, text, torch.eye(2, dtype=torch.bool), ks=(1, 2))
    assert found == {
        "image→text R@1": 1.0,
        "image→text R@2": 1.0,
        "text→image R@1": 0.5,
        "text→image R@2": 1.0,
    }


def test_more_places_than_candidates_are_refused():
    with pytest.raises(ValueError, match="only 3 candidates, so no best 4"):
        recall_at_k(SIMILARITY, torch.ones(4, 3, dtype=torch.bool), 4)


def test_both_directions_are_given_at_one_and_five():
    torch.manual_seed(0)
    image, text = normalise(torch.randn(6, 4)), normalise(torch.randn(7, 4))
    right = torch.rand(6, 7) < 0.3
    result = retrieval(image, text, right)
    assert list(result) == ["image→text R@1", "image→text R@5", "text→image R@1", "text→image R@5"]
    assert result["text→image R@5"] == recall_at_k(text @ image.T, right.T, 5)


@pytest.mark.parametrize("k", [1, 3])
def test_a_similarity_that_is_no_number_is_refused(k):
    similarity = SIMILARITY.clone()
    similarity[1, 2] = torch.nan
    with pytest.raises(ValueError, match="a similarity is NaN"):
        recall_at_k(similarity, torch.ones(4, 3, dtype=torch.bool), k)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("side", ["image", "text"])
def test_features_that_are_no_numbers_are_refused_whoever_counts(side, value):
    features = {name: normalise(torch.randn(3, 4)) for name in ("image", "text")}
    features[side][1, 1] = value
    recall_at_k.install(lambda similarity, right, k: 0.1)
    try:
        with pytest.raises(ValueError, match=f"{side} features hold NaN or infinity"):
            retrieval(features["image"], features["text"], torch.eye(3, dtype=torch.bool), (1,))
    finally:
        recall_at_k.reset()


def test_median_rank_counted_by_hand():
    right = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1]], dtype=torch.bool)
    assert median_rank(SIMILARITY, right) == 2  # ranks 1, 3, 3, 1: the mean of 1 and 3
    assert median_rank(SIMILARITY[1:], right[1:]) == 3
    assert median_rank(SIMILARITY[:1], torch.tensor([[False, True, True]])) == 2  # the better of the two


def test_who_finds_everything_equal_has_the_worst_rank():
    assert median_rank(torch.zeros(3, 5), torch.eye(3, 5, dtype=torch.bool)) == 5
    assert median_rank(torch.zeros(1, 4), torch.tensor([[True, True, False, True]])) == 2  # one wrong one


def test_a_query_without_a_rank_is_refused():
    right = torch.tensor([[True, False], [False, False], [True, True]])
    with pytest.raises(ValueError, match="query 1 has no right candidate"):
        median_rank(torch.zeros(3, 2), right)
    with pytest.raises(ValueError, match="a similarity is NaN"):
        median_rank(torch.tensor([[0.0, torch.nan]]), torch.tensor([[True, False]]))
