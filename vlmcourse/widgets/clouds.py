"""Feature Clouds: image and text features in one plane, and the gap between them.

It takes features as arrays and knows no model.  The plane is the two directions of largest variance of both
clouds together (PCA); the numbers told about the gap are measured in the full width.

    gap       mean of the text features − mean of the image features
    closing   text feature − t · gap, for every text; at t = 1 the two means coincide
"""

import numpy as np

from vlmcourse.widgets.base import (
    THUMBNAIL,
    Between,
    Widget,
    as_array,
    as_images,
    one_name_each,
    script,
    shrink,
)
from vlmcourse.widgets.similarity import hits
from vlmcourse.widgets.stills import IMAGE, INK, MASKED, TEXT, Still, new_figure, open_corner

MOST_POINTS = 2_000
STOPS = np.linspace(0, 1.5, 31)
"""Where the slider rests: how much of the gap is closed; beyond 1 the texts have passed the images."""


def plane(images: np.ndarray, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """PCA of both clouds together, by the singular values of the centred features.

    Returns the images (image, 2), the texts (text, 2), and the share of the variance along each axis (2,).
    """
    features = np.concatenate([images, texts])
    features = features - features.mean(axis=0)
    _, strength, directions = np.linalg.svd(features, full_matrices=False)
    points = features @ directions[:2].T
    shares = strength[:2] ** 2 / max((strength**2).sum(), 1e-12)
    return points[: len(images)], points[len(images) :], shares


def unit(features: np.ndarray) -> np.ndarray:
    """The features (point, width), each scaled to length 1."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def recall_while_closing(images: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """R@1 by cosine at every stop, (stop, 2): image→text, text→image.  Rows i are a pair; a tie is a miss.

    Source: moving one cloud along the gap is Liang et al. 2022, arXiv:2203.02053, section 4.
    """
    gap = texts.mean(axis=0) - images.mean(axis=0)
    recall = []
    for t in STOPS:
        cosine = unit(images) @ unit(texts - t * gap).T
        recall.append([hits(cosine, axis).mean() for axis in (1, 0)])
    return np.array(recall)


class FeatureClouds(Widget):
    """Image features as orange circles, text features as blue triangles; a slider closes the gap.

    Args:
        image_features: (image, width), array or tensor; of length 1 if cosines are what the model uses.
        text_features: (text, width), the same width.
        labels: one text per pair; with paired=False (texts for the images, texts for the texts).
        thumbnails: uint8 (image, height, width, 3), one per image.
        paired: whether row i of both belongs together; then lines join the pairs and R@1 is told.

    `view` holds what is shown: closed (0 to 1.5), lines (whether), cloud ("image" or "text"), point or None.
    """

    _esm = script("clouds.js")

    def __init__(self, image_features, text_features, labels=None, thumbnails=None, paired=True):
        images, texts = checked(image_features, text_features, paired)
        names = labels_of_both(labels, len(images), len(texts), paired)
        pictures = [] if thumbnails is None else [shrink(it, THUMBNAIL) for it in as_images(thumbnails)]
        if len(pictures) not in (0, len(images)):
            raise ValueError(f"{len(pictures)} thumbnails for {len(images)} images; pass one per image")
        self._points = plane(images, texts)
        self._recall = recall_while_closing(images, texts) if paired else np.zeros((0, 2))
        self.gap = float(np.linalg.norm(texts.mean(axis=0) - images.mean(axis=0)))
        """Distance between the two means, in the full width."""
        shape = {"labels": names, "paired": paired, "gap": self.gap, "variance": self._points[2].tolist()}
        shape |= {"stops": len(STOPS), "furthest": float(STOPS[-1])}
        shape["thumbnail"] = pictures[0].shape[:2] if pictures else None
        view = {"closed": 0.0, "lines": paired and len(images) <= 100, "cloud": "image", "point": None}
        rules = {"closed": Between(0, float(STOPS[-1])), "lines": bool, "cloud": ("image", "text")}
        rules["point"] = lambda view: (range(len(images if view["cloud"] == "image" else texts)), None)
        self.allowed = {"view": rules}
        super().__init__(view=view, shape=shape)
        floats = {"images": self._points[0], "texts": self._points[1], "recall": self._recall}
        arrays = {name: values.astype("<f4") for name, values in floats.items()}
        self.offer(arrays | {f"thumbnail/{i}": picture for i, picture in enumerate(pictures)})

    def static_figure(self) -> Still:
        """The two clouds with the gap as far closed as now, as a picture."""
        images, texts, variance = self._points
        closed = self.view["closed"]
        texts = texts - closed * (texts.mean(axis=0) - images.mean(axis=0))
        drawing = new_figure(4)
        axes = drawing.subplots()
        if self.shape["paired"] and self.view["lines"]:
            axes.plot(*np.stack([images, texts], axis=1).T, color=MASKED, linewidth=0.6, zorder=1)
        marks = {"s": 20, "alpha": 0.75, "linewidths": 0}
        axes.scatter(*images.T, color=IMAGE, marker="o", label="image features", **marks)
        axes.scatter(*texts.T, color=TEXT, marker="^", label="text features", **marks)
        ends = np.stack([images.mean(axis=0), texts.mean(axis=0)])
        axes.plot(*ends.T, color=INK, linewidth=1.5, marker="+", markersize=9, label="means and gap")
        across, up = (f"direction {i + 1}, {100 * variance[i]:.0f} % of the variance" for i in (0, 1))
        axes.set(aspect="equal", xlabel=across, ylabel=up)
        open_corner(axes)
        drawing.legend(loc="outside lower center", ncols=3, frameon=False)
        words = f"gap {abs(1 - closed) * self.gap:.3f}"
        if self.shape["paired"]:
            stop = np.abs(STOPS - closed).argmin()
            words += ", R@1 image→text {:.0%}, text→image {:.0%}".format(*self._recall[stop])
        drawing.suptitle(words, fontsize=10)
        return Still(drawing, f"Image and text features in one plane: {words}")

    def __repr__(self) -> str:
        images, texts = map(len, self._points[:2])
        return f"FeatureClouds({images} images, {texts} texts{', paired' * self.shape['paired']})"


def checked(image_features, text_features, paired: bool) -> tuple[np.ndarray, np.ndarray]:
    """Both clouds as float64 (point, width); ValueError if they cannot stand in one plane."""
    images, texts = (as_array(features).astype(float) for features in (image_features, text_features))
    if images.ndim != 2 or texts.ndim != 2 or images.shape[1] != texts.shape[1] or images.shape[1] < 2:
        raise ValueError(
            f"features must be (image, width) and (text, width) with one width of at least 2; "
            f"got {images.shape} and {texts.shape}"
        )
    i, t = len(images), len(texts)
    if paired and i != t:
        raise ValueError(f"{i} image and {t} text features cannot be pairs; pass paired=False")
    if min(i, t) < 2 or max(i, t) > MOST_POINTS:
        raise ValueError(f"{i} images and {t} texts; 2 to {MOST_POINTS} of each can be drawn")
    if not (np.isfinite(images).all() and np.isfinite(texts).all()):
        raise ValueError("features hold NaN or infinity; was a vector of zeros normalised?")
    return images, texts


def labels_of_both(labels, images: int, texts: int, paired: bool) -> list[list[str]]:
    """Labels of the images and of the texts; ValueError if a label is missing or one too many."""
    pair = [labels, labels] if paired or labels is None else labels
    if labels is not None and [len(names) for names in pair] != [images, texts]:
        raise ValueError(
            f"labels must name {images} images and {texts} texts: one list if paired, otherwise "
            f"(image labels, text labels); got {[len(names) for names in pair]}"
        )
    return [one_name_each(pair[0], "image", images), one_name_each(pair[1], "text", texts)]
