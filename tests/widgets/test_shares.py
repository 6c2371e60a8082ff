"""Share map: its numbers are those it was given, and what does not fit together is named."""

from types import SimpleNamespace

import numpy as np
import pytest

from vlmcourse.widgets.shares import ShareMap

RANDOM = np.random.default_rng(3)
WEIGHTS = [RANDOM.random((2, 3, tokens, 4)) / 8 for tokens in (3, 2)]  # (layer, head, token, patch)
SHARES = [weights.sum(-1).mean(1) for weights in WEIGHTS]
TOKENS = [["<user>", " ", "red"], ["a", "b"]]
IMAGES = RANDOM.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)


def made(**more):
    options = {"shares": SHARES, "tokens": TOKENS, "questions": ["What?", "Why?"]}
    options |= {"weights": WEIGHTS, "grid": (2, 2)} | more
    return ShareMap(
        more.pop("images", IMAGES), **{name: it for name, it in options.items() if name != "images"}
    )


def array(widget, name, kind="<f4"):
    return np.frombuffer(widget.blobs[name], kind)


def test_the_page_gets_every_share_and_weight():
    widget = made()
    assert np.allclose(array(widget, "shares/1"), SHARES[1].ravel())
    means = np.concatenate([WEIGHTS[0], WEIGHTS[0].mean(1, keepdims=True)], axis=1)
    largest = array(widget, "largest/0").reshape(2, 4, 3)
    codes = array(widget, "codes/0", np.uint8).reshape(2, 4, 3, 4)
    assert np.abs(codes * largest[..., None] / 255 - means).max() <= largest.max() / 509
    assert np.allclose(
        array(widget, "sums/0").reshape(2, 4, 3)[:, 3], SHARES[0]
    )  # behind the heads their mean
    assert np.array_equal(array(widget, "image/1", np.uint8).reshape(8, 8, 3), IMAGES[1])
    assert widget.shape["tokens"] == [["<user>", "␣", "red"], ["a", "b"]]


def test_it_opens_where_the_answer_begins():
    assert made().view == {"question": 0, "layer": 1, "token": 2, "head": "mean"}
    assert made(view={"question": 1, "head": 2}).view == {"question": 1, "layer": 1, "token": 1, "head": 2}


def test_it_is_made_of_what_was_found_on_a_model():
    some = [
        SimpleNamespace(shares=share, tokens=tokens, weights=weights, grid=(2, 2), kind="attention")
        for share, tokens, weights in zip(SHARES, TOKENS, WEIGHTS, strict=True)
    ]
    widget = ShareMap.of(IMAGES, some, ["What?", "Why?"], view={"layer": 0})
    assert widget.shape == made().shape and widget.view["layer"] == 0
    assert widget.blobs == made().blobs


def test_a_token_is_one_of_its_question():
    widget = made()
    widget.view = {"question": 1, "layer": 0, "token": 1, "head": 0}
    with pytest.raises(ValueError, match=r"token=2, expected 0\.\.1$"):
        widget.view = {"question": 1, "layer": 0, "token": 2, "head": 0}
    with pytest.raises(ValueError, match=r"question=2, expected 0\.\.1$"):
        made(view={"question": 2})


def test_without_weights_there_are_no_heads():
    widget = made(weights=None, kind="update")
    assert widget.shape["heads"] == 0 and not any(name.startswith("codes") for name in widget.blobs)
    with pytest.raises(ValueError, match="head=0"):
        made(weights=[None, None], kind="update", view={"head": 0})
    assert made(weights=[None, None]).shape["heads"] == 0


def test_the_still_shows_the_cell_and_where_it_looks():
    still = made(view={"layer": 0, "token": 1, "head": 2}).static_figure()
    place = int(WEIGHTS[0][0, 2, 1].argmax())
    assert f"layer 0, token “␣”: {100 * SHARES[0][0, 1]:.0f} % from the image" in still.alt
    assert f"most at row {place // 2}, column {place % 2}" in still.alt
    cells, picture = still.figure.axes[:2]
    assert np.allclose(cells.images[0].get_array(), SHARES[0]) and cells.images[0].get_clim() == (0, 1)
    assert np.allclose(picture.images[1].get_array(), WEIGHTS[0][0, 2, 1].reshape(2, 2))
    mean = made().static_figure().figure.axes[1].images[1].get_array()
    assert np.allclose(mean, WEIGHTS[0][1, :, 2].mean(0).reshape(2, 2))
    assert "no weights over patches" in made(weights=None, kind="update").static_figure().alt


@pytest.mark.parametrize(
    "more, message",
    [
        ({"images": IMAGES[:1]}, "2 shares for 1 images; pass one for each image"),
        ({"tokens": TOKENS[:1]}, "1 tokens for 2 images"),
        ({"questions": ["What?"]}, "1 questions for 2 images"),
        ({"weights": WEIGHTS[:1]}, "1 weights for 2 images"),
        ({"shares": [SHARES[0].T, SHARES[1]]}, r"shares\[0\] is \(3, 2\), expected .* \(3, 3\)"),
        ({"shares": [SHARES[0], SHARES[1][:1]]}, r"shares\[1\] is \(1, 2\), expected .* \(2, 2\)"),
        ({"shares": [SHARES[0] + 1, SHARES[1]]}, "must be between 0 and 1"),
        ({"shares": [SHARES[0] * np.nan, SHARES[1]]}, "must be between 0 and 1"),
        ({"tokens": [["x"] * 65, TOKENS[1]]}, "question 0 has 65 tokens, expected 1 to 64"),
        ({"grid": None}, r"pass grid=\(rows, columns\)"),
        ({"grid": (2, 3)}, r"weights\[0\] is \(2, 3, 3, 4\), expected .* \(2, 3, 3, 6\)"),
        ({"weights": [WEIGHTS[0], WEIGHTS[1][:, :2]]}, r"weights\[1\] is \(2, 2, 2, 4\)"),
        ({"weights": [WEIGHTS[0], WEIGHTS[1] * 1.2]}, r"weights\[1\] and the shares differ by 0\.\d+"),
        ({"shares": [SHARES[0] * 0 + 1.01, SHARES[1]], "weights": None}, "must be between 0 and 1"),
        ({"weights": [WEIGHTS[0] + [1, -1, 0, 0], WEIGHTS[1]]}, r"weights\[0\] has values below 0"),
        ({"kind": "gradient"}, "kind is 'gradient', expected one of attention, update"),
    ],
)
def test_what_does_not_fit_together_is_named(more, message):
    with pytest.raises(ValueError, match=message):
        made(**more)


def test_as_many_tokens_as_are_allowed_and_an_oblong_grid():
    whole = made(shares=[np.ones((2, 64)), SHARES[1]], tokens=[["x"] * 64, TOKENS[1]], weights=None)
    assert whole.view["token"] == 63
    still = made(grid=(1, 4), view={"layer": 0, "token": 1, "head": 2}).static_figure()
    assert f"most at row 0, column {WEIGHTS[0][0, 2, 1].argmax()}" in still.alt


def test_what_a_share_is_of_comes_from_what_was_found():
    looks = [
        SimpleNamespace(shares=share, tokens=tokens, weights=None, grid=None, kind="update")
        for share, tokens in zip(SHARES, TOKENS, strict=True)
    ]
    assert ShareMap.of(IMAGES, looks, ["What?", "Why?"]).shape["kind"] == "update"
