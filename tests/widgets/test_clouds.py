import numpy as np
import pytest

from vlmcourse.widgets.clouds import STOPS, FeatureClouds, plane, recall_while_closing

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(9, 5)) + 1
TEXTS = IMAGES + 0.8 * RANDOM.normal(size=(9, 5)) - 3


def test_the_plane_is_the_one_of_largest_variance():
    decomposition = pytest.importorskip("sklearn.decomposition")
    images, texts, share = plane(IMAGES, TEXTS[:7])
    pca = decomposition.PCA(2, svd_solver="full")
    truth = pca.fit_transform(np.concatenate([IMAGES, TEXTS[:7]]))
    assert np.allclose(abs(np.concatenate([images, texts])), abs(truth))  # a direction may be flipped
    assert np.allclose(share, pca.explained_variance_ratio_)


def test_the_gap_is_measured_in_the_full_width_and_closes_at_one():
    clouds = FeatureClouds(IMAGES, TEXTS)
    assert clouds.gap == pytest.approx(np.linalg.norm(IMAGES.mean(0) - TEXTS.mean(0)))
    assert clouds.static_figure().alt.startswith(
        f"Image and text features in one plane: gap {clouds.gap:.3f}, R@1"
    )
    clouds.view = {**clouds.view, "closed": 1.0}
    assert "gap 0.000" in clouds.static_figure().alt


def test_recall_is_that_of_the_moved_texts():
    found = recall_while_closing(IMAGES, TEXTS)
    for stop in (0, 7, 20):
        moved = TEXTS - STOPS[stop] * (TEXTS.mean(0) - IMAGES.mean(0))
        cosine = np.array([[i @ t / np.linalg.norm(i) / np.linalg.norm(t) for t in moved] for i in IMAGES])
        assert found[stop, 0] == np.mean(cosine.argmax(axis=1) == range(9))
        assert found[stop, 1] == np.mean(cosine.argmax(axis=0) == range(9))
    assert found[0, 0] < found[20, 0]  # closing this gap helps: the slider has news


def test_features_that_are_all_equal_find_nothing():
    assert not recall_while_closing(np.ones((4, 3)), np.ones((4, 3))).any()


def test_everything_but_late_thumbnails_is_sent_at_once():
    many = RANDOM.normal(size=(400, 8))
    clouds = FeatureClouds(many, many, thumbnails=np.zeros((400, 64, 64, 3), np.uint8))
    assert {"images", "texts", "recall", "thumbnail/0"} <= set(
        clouds.blobs
    ) and "thumbnail/399" not in clouds.blobs
    assert len(clouds.blob("thumbnail/399")) == 64 * 64 * 3
    sent = np.frombuffer(clouds.blobs["texts"], "<f4").reshape(400, 2)
    assert np.allclose(sent, plane(many, many)[1], atol=1e-5)


def test_clouds_of_different_size_are_no_pairs():
    clouds = FeatureClouds(IMAGES, TEXTS[:4], ([f"image {i}" for i in range(9)], list("abcd")), paired=False)
    assert repr(clouds) == "FeatureClouds(9 images, 4 texts)" and clouds.blobs["recall"] == b""
    assert "R@1" not in clouds.static_figure().alt


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text_features": TEXTS[:4]}, "9 image and 4 text features cannot be pairs; pass paired=False"),
        ({"text_features": TEXTS[:, 1:]}, r"one width of at least 2; got \(9, 5\) and \(9, 4\)"),
        ({"labels": ["a"]}, r"labels must name 9 images and 9 texts"),
        ({"labels": ["a"] * 9, "paired": False}, r"otherwise \(image labels, text labels\)"),
        ({"thumbnails": np.zeros((3, 8, 8, 3), np.uint8)}, "3 thumbnails for 9 images"),
        ({"image_features": IMAGES * np.inf}, "NaN or infinity"),
        ({"image_features": IMAGES[:1], "text_features": TEXTS[:1]}, "1 images and 1 texts; 2 to 2000"),
    ],
)
def test_bad_input_is_named_with_its_numbers(change, message):
    with pytest.raises(ValueError, match=message):
        FeatureClouds(**{"image_features": IMAGES, "text_features": TEXTS, **change})
