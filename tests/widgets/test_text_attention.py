import numpy as np
import pytest

from tests.widgets import picture_of
from vlmcourse.widgets.base import PRELOAD
from vlmcourse.widgets.stills import tint
from vlmcourse.widgets.text_attention import TextAttention

RANDOM = np.random.default_rng(0)
TOKENS = ["the", "cat", "sat", "on", "it"]


def causal(layers, heads, tokens):
    weights = np.tril(RANDOM.random((layers, heads, tokens, tokens)) + 0.01)
    return weights / weights.sum(axis=-1, keepdims=True)


WEIGHTS = causal(2, 3, 5)


def test_every_head_and_the_mean_come_back_within_half_a_code():
    widget = TextAttention(TOKENS, WEIGHTS)
    codes = np.frombuffer(widget.blobs["codes"], np.uint8).reshape(2, 4, 5, 5)
    largest = np.frombuffer(widget.blobs["largest"], "<f4").reshape(2, 4, 5)
    truth = np.concatenate([WEIGHTS, WEIGHTS.mean(axis=1, keepdims=True)], axis=1)
    assert np.abs(codes * largest[..., None] / 255 - truth).max() <= 1 / 509
    assert not np.triu(codes, 1).any()  # masked stays exactly zero


def test_the_largest_world_is_sent_whole():
    widget = TextAttention(["x"] * 64, np.full((12, 12, 64, 64), 1 / 64, np.float32), causal=False)
    assert set(widget.blobs) == {"codes", "largest"} and sum(map(len, widget.blobs.values())) < PRELOAD


def test_the_picture_follows_the_view():
    widget = TextAttention(TOKENS, WEIGHTS, view={"layer": 0, "head": 1, "query": 2})
    row = WEIGHTS[0, 1, 2]
    best = f"token {row.argmax()} “{TOKENS[row.argmax()]}” most, with weight {row.max():.3f}"
    assert widget.static_figure().alt == f"Attention of layer 0, head 1: token 2 “sat” reads {best}"
    assert picture_of(widget, query=0).alt.endswith("reads token 0 “the” most, with weight 1.000")
    before = widget.static_figure().data
    widget.view = {**widget.view, "head": "mean"}
    assert widget.static_figure().data != before


def test_the_picture_shows_the_row_the_matrix_and_what_is_masked():
    widget = TextAttention(TOKENS, WEIGHTS)
    bars, matrix = picture_of(widget, layer=1, head=2, query=3).figure.axes
    weights = WEIGHTS[1, 2]
    assert np.allclose([bar.get_width() for bar in bars.patches], weights[3])
    colours = [bar.get_facecolor()[:3] for bar in bars.patches]
    assert np.allclose(colours, tint(weights[3] / weights[3].max()))
    shown = matrix.images[0].get_array()
    assert np.array_equal(shown.mask, np.triu(np.ones((5, 5)), 1))
    assert np.allclose(shown, weights / weights.max(axis=1, keepdims=True))
    assert matrix.patches[0].get_bbox().intervaly.tolist() == [2.5, 3.5]


def test_a_weight_in_the_future_is_not_masked_and_an_encoder_masks_nothing():
    leaking = WEIGHTS.copy()
    leaking[0, 0, 1, :4] = [0.5, 0.2, 0, 0.3]
    _, matrix = picture_of(TextAttention(TOKENS, leaking), layer=0, head=0).figure.axes
    assert matrix.images[0].get_array().mask[1].tolist() == [False, False, True, False, True]
    _, whole = TextAttention(TOKENS, WEIGHTS, causal=False).static_figure().figure.axes
    assert not np.ma.is_masked(whole.images[0].get_array())


def test_it_opens_on_the_last_token():
    assert TextAttention(TOKENS, WEIGHTS).view == {"layer": 1, "head": "mean", "query": 4}


def test_tokens_of_any_kind_make_a_picture():
    odd = ["", " ", "\n", "$", "<b>"]
    assert TextAttention(odd, WEIGHTS).static_figure().data.startswith(b"\x89PNG")


def test_tensors_of_any_float_type_are_taken():
    torch = pytest.importorskip("torch")
    weights = torch.softmax(torch.randn(1, 2, 5, 5, requires_grad=True), -1).bfloat16()
    assert TextAttention(TOKENS, weights, causal=False).shape["heads"] == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"attention": WEIGHTS[None]},
            r"must be \(layer, head, query, key\).* = 5, .* got shape \(1, 2, 3, 5, 5\)",
        ),
        ({"attention": WEIGHTS[..., 1:]}, r"got shape \(2, 3, 5, 4\)"),
        ({"tokens": TOKENS[1:]}, "query = key = 4"),
        ({"attention": WEIGHTS * 3}, "sum to 1 over its keys"),
        ({"attention": np.log(WEIGHTS + 1e-9)}, "after the softmax, not scores"),
        ({"view": {"query": 5}}, r"query=5, expected 0..4$"),
        ({"attention": causal(29, 5, 5)}, "5 tokens and 29×5 maps; at most 64 tokens and 144 maps"),
        ({"view": {"layer": 2}}, r"layer=2, expected 0..1"),
        ({"view": {"head": "max"}}, r"head='max', expected 0..2 or mean"),
        ({"tokens": ["x"] * 65, "attention": causal(1, 1, 65)}, r"65 tokens and 1×1 maps; at most 64 tokens"),
    ],
)
def test_bad_input_is_named_with_its_numbers(change, message):
    with pytest.raises(ValueError, match=message):
        TextAttention(**{"tokens": TOKENS, "attention": WEIGHTS, **change})


def test_the_axes_of_the_picture_count_tokens_in_whole_numbers():
    figure = TextAttention(TOKENS * 2 + ["."], causal(1, 1, 11)).static_figure().figure
    for axis in (figure.axes[1].xaxis, figure.axes[1].yaxis):
        assert all(place == round(place) for place in axis.get_ticklocs())
