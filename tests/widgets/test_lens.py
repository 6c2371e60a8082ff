import numpy as np
import pytest

from tests.widgets import picture_of
from vlmcourse.widgets.base import PRELOAD
from vlmcourse.widgets.lens import TokenLens

RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.integers(0, 256, (24, 36, 3), dtype=np.uint8)
WORDS = [[[f"{moment}.{cell}.{place}" for place in range(4)] for cell in range(6)] for moment in range(3)]
SCORES = -np.sort(-RANDOM.uniform(-0.2, 0.9, (3, 6, 4)))


def lens(**change):
    return TokenLens(**{"image": IMAGE, "words": WORDS, "scores": SCORES, "grid": (2, 3), **change})


def test_words_and_scores_travel_as_they_are():
    widget = lens()
    assert np.allclose(np.frombuffer(widget.blobs["scores"], "<f4").reshape(3, 6, 4), SCORES)
    assert widget.words[(2 * 6 + 5) * 4 + 3] == "2.5.3"
    assert bytes(widget.blobs["image"]) == IMAGE.tobytes()


def test_it_opens_with_the_first_and_the_last_moment_or_with_one_alone():
    assert lens().view == {"cell": 4, "left": 0, "right": 2}
    assert lens(words=WORDS[0], scores=SCORES[0]).view == {"cell": 4, "left": 0, "right": None}
    assert lens(words=WORDS[0], scores=SCORES[0]).shape["moments"] == ["moment 0"]


def test_one_scale_for_all_moments():
    shape = lens().shape
    best = SCORES[..., 0]
    assert shape["low"] == pytest.approx(min(0, best.min())) and shape["high"] == pytest.approx(best.max())


def test_large_worlds_are_sent_whole():
    many = TokenLens(np.zeros((900, 600, 3), np.uint8), [[["word"] * 10] * 576] * 8, np.zeros((8, 576, 10)))
    assert many.shape["size"] == [256, 171] and set(many.blobs) == {"image", "scores"}
    assert sum(map(len, many.blobs.values())) + sum(len(word) + 4 for word in many.words) < PRELOAD


def test_the_picture_follows_the_view():
    widget = lens(moments=["before", "between", "after"])
    first = widget.static_figure()
    assert first.alt == (
        "Nearest words of the image token at row 1, column 1: "
        f"“0.4.0” {SCORES[0, 4, 0]:.3f} (before) and “2.4.0” {SCORES[2, 4, 0]:.3f} (after)"
    )
    widget.view = {"cell": 0, "left": 1, "right": None}
    second = widget.static_figure()
    assert second.alt.endswith(f"row 0, column 0: “1.0.0” {SCORES[1, 0, 0]:.3f} (between)")
    assert second.data != first.data


def test_the_picture_shows_best_scores_words_and_the_list_of_the_cell():
    widget = lens(moments=["before", "between", "after"])
    left, right, *lists, bar = picture_of(widget, cell=5).figure.axes
    for axes, moment in ((left, 0), (right, 2)):
        shown = axes.images[1]
        assert np.allclose(shown.get_array(), SCORES[moment, :, 0].reshape(2, 3))
        assert shown.get_clim() == pytest.approx((widget.shape["low"], widget.shape["high"]))
        assert [text.get_text() for text in axes.texts] == [f"{moment}.{cell}.0" for cell in range(6)]
        assert axes.texts[4].get_position() == (18, 18)  # the middle of row 1, column 1 of 24×36 pixels
        assert axes.patches[0].get_bbox().bounds == (24, 12, 12, 12)
    for axes, moment in zip(lists, (0, 2), strict=True):
        assert np.allclose([row.get_width() for row in axes.patches], SCORES[moment, 5])
        assert [label.get_text() for label in axes.get_yticklabels()] == [f"{moment}.5.{k}" for k in range(4)]
    assert bar.get_ylabel() == "cosine of the nearest word"


def test_words_of_any_kind_are_shown_by_signs():
    odd = [["", " ", "\n", "$x$"], ["<b>a</b>", "\x07bell", "赤", "x" * 99]]
    widget = TokenLens(IMAGE, odd, SCORES[0, :2], grid=(1, 2))
    assert widget.words == ["∅", "␣", "⏎", "$x$", "<b>a</b>", "�bell", "赤", "x" * 99]


def test_tensors_and_lists_of_tensors_are_taken():
    torch = pytest.importorskip("torch")
    from vlmcourse.diagnostics.lens import nearest_words

    near = [
        nearest_words(torch.randn(9, 5), torch.randn(20, 5), [f"w{n}" for n in range(20)], k=3)
        for _ in range(2)
    ]
    widget = TokenLens(IMAGE, [n.words for n in near], [n.scores for n in near])
    assert (widget.shape["rows"], widget.shape["columns"], widget.shape["k"]) == (3, 3, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": [IMAGE, IMAGE]}, r"one picture \(height, width, 3\), got 2"),
        ({"words": WORDS[:2]}, r"words \(2, 6, 4\) and scores \(3, 6, 4\)"),
        ({"words": [WORDS[0][0]], "scores": SCORES[0, :2]}, r"words \(1, 4\) and scores \(2, 4\)"),
        ({"grid": (3, 3)}, "6 cells do not fill a grid of 3 × 3"),
        ({"grid": None}, "6 cells do not fill a grid of 2 × 2"),
        (
            {"words": np.full((9, 6, 1000), "a"), "scores": np.zeros((9, 6, 1000))},
            "9 moments · 6 cells · 1000 words",
        ),
        ({"scores": SCORES[..., ::-1]}, "best first along their last axis"),
        ({"scores": SCORES * np.nan}, "finite and best first"),
        ({"moments": ["before", "after"]}, "2 names for 3 moments"),
    ],
)
def test_bad_input_is_named_with_its_numbers(change, message):
    with pytest.raises(ValueError, match=message):
        lens(**change)
