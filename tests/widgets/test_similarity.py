import numpy as np
import pytest

from tests.widgets import picture_of
from vlmcourse.widgets.similarity import MODES, SimilarityMatrix, hits, log_probabilities, loss_at, square

RANDOM = np.random.default_rng(0)
COSINES = RANDOM.uniform(-1, 1, (5, 5))
IMAGES = RANDOM.integers(0, 256, (5, 8, 16, 3), dtype=np.uint8)
TEXTS = [f"text {i}" for i in range(5)]


def test_without_knowledge_the_loss_is_the_logarithm_of_the_number_of_pairs():
    assert loss_at(np.full((7, 7), 0.3), 0.01) == pytest.approx(np.log(7))
    assert loss_at(np.eye(7), 0.01) < 1e-6


def test_the_loss_is_that_of_clip():
    torch = pytest.importorskip("torch")
    from vlmcourse.models.clip import info_nce

    loss = info_nce.reference(torch.tensor(COSINES), torch.eye(5, dtype=torch.float64), 1 / 0.07)
    assert loss_at(COSINES, 0.07) == pytest.approx(float(loss))


@pytest.mark.parametrize("axis", [0, 1])
def test_probabilities_sum_to_one_at_the_coldest_temperature(axis):
    assert np.allclose(np.exp(log_probabilities(COSINES, 0.01, axis)).sum(axis=axis), 1)


def test_a_tie_is_a_miss():
    similarity = np.array([[0.9, 0.9, 0.1], [0.2, 0.5, 0.6], [0.3, 0.1, 0.7]])
    assert hits(similarity, 1).tolist() == [False, False, True]
    assert hits(similarity, 0).tolist() == [True, False, True]


def test_everything_is_sent_with_the_widget_as_bytes():
    widget = SimilarityMatrix(np.eye(64), np.zeros((64, 200, 100, 3), np.uint8), ["x"] * 64)
    assert set(widget.blobs) == {"similarity", "images"} and widget.size == [64, 32]
    assert np.array_equal(np.frombuffer(widget.blobs["similarity"], "<f4").reshape(64, 64), np.eye(64))


def test_the_picture_tells_loss_and_recall_of_the_present_temperature():
    widget = SimilarityMatrix(COSINES, IMAGES, TEXTS, temperature=0.1)
    first = widget.static_figure()
    assert f"temperature 0.1: loss {loss_at(COSINES, 0.1):.3f} (ln 5 = 1.609)" in first.alt
    wrong = ~hits(COSINES, 1)
    second = picture_of(widget, temperature=1.0, mode="row")
    assert f"loss {loss_at(COSINES, 1.0):.3f}" in second.alt and second.data != first.data
    assert f"{wrong.sum()} pairs marked as not ranked first" in second.alt


def test_the_picture_shows_cosines_or_one_softmax_and_marks_the_mistakes():
    cosines = np.array([[0.9, 0.1, 0.75], [0.2, 0.5, 0.6], [0.3, 0.1, 0.7]])
    widget = SimilarityMatrix(cosines, IMAGES[:3], TEXTS[:3], temperature=0.1)
    expected = {
        "cosine": (cosines, [1, 2]),  # image 1 is nearer to text 2, and text 2 to image 0
        "row": (np.exp(log_probabilities(cosines, 0.1, 1)), [1]),
        "column": (np.exp(log_probabilities(cosines, 0.1, 0)), [2]),
    }
    for mode, (values, missed) in expected.items():
        axes, bar = picture_of(widget, mode=mode).figure.axes
        assert np.allclose(axes.images[0].get_array(), values) and bar.get_ylabel() == MODES[mode]
        assert axes.lines[0].get_xdata().tolist() == axes.lines[0].get_ydata().tolist() == missed


def test_pictures_stand_in_the_middle_of_white_squares():
    padded = square(np.full((2, 5, 3), 7, np.uint8))
    assert padded.shape == (5, 5, 3) and (padded[1:3] == 7).all() and (padded[[0, 3, 4]] == 255).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"similarity": COSINES[:4]}, r"similarity \(4, 5\) with 5 images and 5 texts"),
        ({"texts": TEXTS[:4]}, "5 images and 4 texts"),
        ({"images": IMAGES[:3]}, "3 images"),
        ({"similarity": COSINES / 0.07}, "cosines in -1..1, .* do not divide by a temperature"),
        ({"similarity": COSINES * np.nan}, "cosines in -1..1, found nan"),
        ({"temperature": 100}, "temperature must be 0.01 to 1, got 100"),
        ({"similarity": np.eye(65), "images": IMAGES[[0] * 65], "texts": ["x"] * 65}, "65 pairs; 2 to 64"),
    ],
)
def test_bad_input_is_named_with_its_numbers(change, message):
    with pytest.raises(ValueError, match=message):
        SimilarityMatrix(**{"similarity": COSINES, "images": IMAGES, "texts": TEXTS, **change})


def test_one_number_beyond_a_cosine_is_enough_to_be_refused():
    similarity = np.array([[1.0, 0.0], [0.0, 1.2]], np.float32)
    with pytest.raises(ValueError, match=r"found 0 to 1\.2"):
        SimilarityMatrix(similarity, np.zeros((2, 4, 4, 3), np.uint8), ["a", "b"])
