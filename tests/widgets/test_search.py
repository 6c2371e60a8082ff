import numpy as np
import pytest

from vlmcourse.widgets.search import RESULTS, TextToImageSearch

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (30, 8, 12, 3), dtype=np.uint8)
LABELS = [f"picture {i % 20}" for i in range(30)]


def score(text):
    """Picture k is best for the query "picture k", then its neighbours on both sides."""
    if "?" in text:
        raise RuntimeError("no such word\nsecond line")
    return -abs(np.arange(30) - int(text.split()[-1])) / 30


def indices(search):
    return [result["index"] for result in search.answer["results"]]


def test_the_best_pictures_come_first_and_bring_their_pixels():
    search = TextToImageSearch(score, IMAGES, LABELS, suggestions=["picture 3"])
    assert indices(search)[:5] == [3, 2, 4, 1, 5] and len(indices(search)) == RESULTS
    search.query = "picture 25"
    assert indices(search)[0] == 25
    assert search.pixels == IMAGES[indices(search)].tobytes()


def test_pictures_of_that_name_are_right_but_for_case_and_spaces():
    search = TextToImageSearch(score, IMAGES, LABELS, suggestions=["  Picture  12 "])
    right = [result["right"] for result in search.answer["results"]]
    assert search.answer["rank"] == 1 and right == [True] + 11 * [False]
    search.query = "picture 29"  # named "picture 9", so nothing is called so
    assert search.answer["rank"] is None
    assert (
        TextToImageSearch(lambda _: np.arange(30), IMAGES, LABELS, suggestions=["picture 11"]).answer["rank"]
        == 19
    )


def test_an_error_is_one_line_and_the_last_pictures_stay():
    search = TextToImageSearch(score, IMAGES, LABELS, suggestions=["picture 7"])
    before = search.answer["results"], search.pixels
    search.query = "picture ?"
    assert search.answer["error"] == "RuntimeError: no such word" and search.answer["query"] == "picture ?"
    assert (search.answer["results"], search.pixels) == before
    search.query = "picture 8"
    assert search.answer["error"] == "" and indices(search)[0] == 8


def test_scores_of_another_shape_are_named():
    search = TextToImageSearch(
        lambda text: np.zeros(29 if text == "b" else 30), IMAGES, LABELS, suggestions=["a"]
    )
    search.query = "b"
    assert search.answer["error"] == (
        "ValueError: score returned shape (29,); expected 30 finite numbers, one per picture"
    )


def test_an_encoder_that_is_broken_from_the_start_is_noticed():
    with pytest.raises(RuntimeError, match="no such word"):
        TextToImageSearch(score, IMAGES, LABELS, suggestions=["?"])
    with pytest.raises(ValueError, match="NaN or infinity; expected 30"):
        TextToImageSearch(lambda _: np.full(30, np.nan), IMAGES, LABELS, suggestions=["a"])
    with pytest.raises(ValueError, match="29 labels for 30 images"):
        TextToImageSearch(score, IMAGES, LABELS[1:])


def test_an_empty_query_asks_nobody():
    search = TextToImageSearch(score, IMAGES, LABELS)
    assert search.answer["results"] == [] and search.static_figure() is None
    search.query = "picture 1"
    search.query = "   "
    assert search.answer["results"] == [] and search.pixels == b""


def test_only_what_is_found_travels():
    gallery = np.zeros((4000, 128, 64, 3), np.uint8)
    search = TextToImageSearch(lambda _: np.arange(4000), gallery, ["x"] * 4000, suggestions=["x"])
    assert len(search.pixels) == RESULTS * 96 * 48 * 3 and search.texts["size"] == [96, 48]


def test_the_picture_shows_the_present_query():
    search = TextToImageSearch(
        score, IMAGES, LABELS, suggestions=["picture 7"], attribution="drawn for this test, $5"
    )
    assert search.static_figure().alt == (
        "The 12 best of 30 pictures for “picture 7”: picture 7, picture 6, picture 8 first"
    )
    before = search.static_figure().data
    search.query = "picture 2"
    assert search.static_figure().data != before
