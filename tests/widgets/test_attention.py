import numpy as np
import pytest

from tests.widgets import picture_of
from vlmcourse.widgets.attention import AttentionExplorer
from vlmcourse.widgets.base import PRELOAD

RANDOM = np.random.default_rng(0)


def attention(*shape):
    return RANDOM.dirichlet(np.full(shape[-1], 0.3), shape[:-1])


def pictures(count, side=16):
    return RANDOM.integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def decode(explorer, blob, which):
    """Weights (key,) of one map from the bytes of one query."""
    shape = explorer.shape
    maps = shape["layers"] * (shape["heads"] + 1) + shape["rollout"]
    numbers = np.frombuffer(blob[: 8 * maps], "<f4").reshape(maps, 2)
    codes = np.frombuffer(blob[8 * maps :], np.uint8).reshape(maps, -1)
    patches = codes[which] * numbers[which, 0] / 255
    return np.concatenate([numbers[which, 1:], patches]) if shape["cls"] else patches


def test_every_map_of_a_query_travels():
    weights, rollout = attention(2, 3, 2, 4, 10, 10), attention(2, 3, 10, 10)
    explorer = AttentionExplorer(pictures(3), weights, grid=(3, 3), rollout=rollout, steps=[0, 9])
    blob = explorer.blob("rows/1/2/7")
    first, second = weights[1, 2, :, :, 7]  # the two layers, five maps each
    for which, truth in {0: first[0], 4: first.mean(0), 8: second[3], 10: rollout[1, 2, 7]}.items():
        assert np.allclose(decode(explorer, blob, which), truth, atol=truth.max() / 500)
    assert explorer.blob("rows/1/2")[7 * len(blob) : 8 * len(blob)] == blob


def test_without_class_token_the_first_key_is_the_first_patch():
    weights = attention(1, 2, 6, 6)
    explorer = AttentionExplorer(pictures(1)[0], weights, grid=(2, 3), cls=False)
    assert np.allclose(decode(explorer, explorer.blob("rows/0/0/4"), 1), weights[0, 1, 4], atol=0.003)
    assert explorer.view["query"] == 4  # the middle of the grid


def sent(explorer):
    """Bytes of the state a browser gets when the widget opens."""
    state = explorer.get_state()
    text = sum(len(repr(value)) for key, value in state.items() if key != "blobs")
    return text + sum(map(len, state["blobs"].values()))


def test_small_worlds_are_sent_whole():
    explorer = AttentionExplorer(pictures(4, 64), attention(3, 4, 4, 4, 65, 65), grid=(8, 8), steps=[0, 1, 2])
    assert {f"rows/{s}/{i}" for s in range(3) for i in range(4)} <= set(explorer.blobs)
    assert sent(explorer) <= 2_000_000


@pytest.mark.parametrize("count", [1, 12])
def test_large_worlds_open_with_at_most_two_megabytes_and_the_view_they_open_on(count):
    weights = np.full((count, 12, 12, 197, 197), 1 / 197, np.float32)
    explorer = AttentionExplorer(pictures(count, 224), weights, grid=(14, 14), view={"query": 90})
    assert {"image/0", "rows/0/0/90"} <= set(explorer.blobs)
    assert sent(explorer) <= 2_000_000


def test_other_rows_come_when_asked_for(monkeypatch):
    explorer = AttentionExplorer(
        pictures(2, 224), np.full((2, 12, 12, 197, 197), 1 / 197, np.float32), grid=(14, 14)
    )
    answers = []
    monkeypatch.setattr(explorer, "send", lambda content, buffers: answers.append((content, buffers)))
    explorer._handle_custom_msg({"want": "rows/0/1/33"}, [])
    assert "rows/0/1/33" not in explorer.blobs
    assert answers == [({"have": "rows/0/1/33"}, [explorer.blob("rows/0/1/33")])]


def test_large_photos_are_made_smaller():
    explorer = AttentionExplorer(np.zeros((600, 1200, 3), np.uint8), attention(1, 1, 3, 3), grid=(1, 2))
    assert [list(size) for size in explorer.shape["sizes"]] == [[256, 512]]
    assert len(explorer.blob("image/0")) == 256 * 512 * 3 < PRELOAD


def test_axes_bear_the_names_they_are_given():
    names = {"image": "family", "step": "word", "cls": "the word"}
    explorer = AttentionExplorer(
        pictures(2), attention(2, 2, 1, 1, 5, 5), grid=(2, 2), steps=["is", "?"], names=names
    )
    assert explorer.shape["names"] == names and explorer.shape["labels"] == ["family 0", "family 1"]
    assert "query the word, family 0, word ?;" in explorer.static_figure().alt
    explorer = AttentionExplorer(pictures(1), attention(1, 1, 1, 5, 5), grid=(2, 2), names={"cls": "summary"})
    assert explorer.shape["names"] == {"image": "image", "step": "training step", "cls": "summary"}


def test_the_picture_follows_the_view():
    explorer = AttentionExplorer(pictures(2), attention(2, 2, 3, 5, 5), grid=(2, 2), labels=["cat", "dog"])
    assert explorer.static_figure().alt.startswith(
        "Attention of layer 1, mean of heads, query class token, cat"
    )
    explorer.view = {"image": 1, "step": 0, "layer": 0, "head": 2, "query": 4}
    still = explorer.static_figure()
    assert still.alt.startswith("Attention of layer 0, head 2, query patch at row 1, column 1, dog")
    assert still.data.startswith(b"\x89PNG") and still.data != picture_of(explorer, query=1).data


def test_the_picture_shows_the_weights_of_the_patches_and_frames_the_query():
    weights = attention(1, 2, 3, 7, 7)
    explorer = AttentionExplorer(pictures(1), weights, grid=(2, 3))
    plain, over, bar = picture_of(explorer, layer=1, head=2, query=5).figure.axes
    assert np.array_equal(plain.images[0].get_array(), explorer._images[0])
    assert np.allclose(over.images[1].get_array(), weights[0, 1, 2, 5, 1:].reshape(2, 3))
    assert bar.get_ylabel() == "attention weight"
    for axes in (plain, over):  # token 5 is patch 4: row 1, column 1 of 16×16 pixels
        assert axes.patches[0].get_bbox().bounds == pytest.approx((16 / 3, 8, 16 / 3, 8))
    assert not picture_of(explorer, query=0).figure.axes[0].patches  # the class token has no place
    mean = picture_of(explorer, layer=0, head="mean", query=6).figure.axes[1].images[1].get_array()
    assert np.allclose(mean, weights[0, 0, :, 6, 1:].mean(axis=0).reshape(2, 3))


def test_the_picture_of_the_rollout_shows_the_rollout():
    rollout = attention(1, 5, 5)
    explorer = AttentionExplorer(pictures(1), attention(1, 2, 3, 5, 5), grid=(2, 2), rollout=rollout)
    still = picture_of(explorer, layer="rollout", query=3)
    assert still.alt.startswith("Attention of rollout, query patch at row 1, column 0, image 0")
    assert np.allclose(still.figure.axes[1].images[1].get_array(), rollout[0, 3, 1:].reshape(2, 2))


def test_a_class_token_that_holds_the_most_does_not_change_the_scale_of_the_patches():
    weights = np.array([0.8, 0.02, 0.06, 0.1, 0.02])
    explorer = AttentionExplorer(pictures(1), np.tile(weights, (1, 1, 1, 5, 1)), grid=(2, 2))
    blob = explorer.blob("rows/0/0/2")
    assert np.frombuffer(blob[:8], "<f4") == pytest.approx([0.1, 0.8])  # largest patch, then the class token
    assert list(blob[16:20]) == [51, 153, 255, 51]


def test_tensors_of_any_float_type_are_taken():
    torch = pytest.importorskip("torch")
    weights = torch.softmax(torch.randn(1, 2, 2, 5, 5, requires_grad=True), -1).bfloat16()
    assert (
        AttentionExplorer(torch.zeros(1, 8, 8, 3, dtype=torch.uint8), weights, grid=(2, 2)).shape["heads"]
        == 2
    )


GOOD = attention(2, 3, 4, 10, 10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention": GOOD[0]}, r"must be \(image, layer, head, query, key\), got shape \(3, 4, 10, 10\)"),
        (
            {"attention": GOOD[:, :, :, 1:, 1:]},
            r"9 along its query axis, expected 10: 3×3 patches \+ class token; check",
        ),
        ({"attention": GOOD[:1]}, "1 along its image axis, expected 2"),
        ({"grid": (2, 3)}, "10 along its query axis, expected 7: 2×3 patches"),
        ({"cls": False}, "10 along its query axis, expected 9"),
        ({"steps": [1, 2]}, r"must be \(step, image, layer, head, query, key\)"),
        ({"attention": GOOD * 2}, "sum to 1 over its keys .* one sums to 2; .*model.eval"),
        ({"attention": GOOD.swapaxes(-1, -2)}, "sum to 1"),
        ({"attention": np.where(GOOD.max() == GOOD, np.nan, GOOD)}, "NaN or infinity; .*masked everywhere"),
        ({"attention": np.log(GOOD + 1e-9)}, "after the softmax, not scores"),
        ({"rollout": GOOD[:, 0]}, r"rollout must be \(image, query, key\)"),
        ({"rollout": GOOD[:, 0, 0] * 0.5}, "every row of rollout must sum to 1"),
        ({"labels": ["cat"]}, "1 labels for 2 images"),
        ({"view": {"layer": 3}}, r"layer=3, expected 0..2"),
        ({"view": {"layer": "rollout"}}, "'rollout', expected 0..2, or rollout if rollout= is given"),
        ({"view": {"layer": 3}, "rollout": GOOD[:, 0, 0]}, r"layer=3, expected 0..2 or rollout"),
        ({"view": {"head": 4}}, r"head=4, expected 0..3 or mean"),
        ({"view": {"head": "max"}}, r"head='max', expected 0..3 or mean"),
        ({"view": {"query": -1}}, r"query=-1, expected 0..9"),
        ({"view": {"image": 2}}, r"image=2, expected 0..1"),
        ({"view": {"step": 1}}, r"step=1, expected 0..0"),
        ({"view": {"query": 10}}, r"query=10, expected 0..9"),
        ({"names": {"layer": "block"}}, "names has layer, expected some of image, step, cls"),
    ],
)
def test_bad_input_is_named_with_its_numbers(change, message):
    with pytest.raises(ValueError, match=message):
        AttentionExplorer(**{"images": pictures(2), "attention": GOOD, "grid": (3, 3), **change})
