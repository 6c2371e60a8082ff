"""Similarity Matrix: every image against every text, and what the temperature makes of it.

It takes cosines as an array and knows no model.  Row i is image i, column i is text i.  The browser does the
arithmetic itself; the functions here say the same in NumPy.

    logits = cosine / temperature
    image→text    softmax over a row: which text belongs to this image?
    text→image    softmax over a column: which image belongs to this text?
    InfoNCE       mean of −log of the diagonal, over both directions

A pair is ranked right in a direction if its cosine is larger than every other one there; a tie is a miss.
"""

import numpy as np
import traitlets

from vlmcourse.widgets.base import THUMBNAIL, Between, as_array, as_images, script, shrink
from vlmcourse.widgets.maps import MapWidget
from vlmcourse.widgets.stills import ACCENT, Still, new_figure

MOST_PAIRS = 64
MODES = {
    "cosine": "cosine",
    "row": "p(text | image): every row sums to 1",
    "column": "p(image | text): every column sums to 1",
}


def log_probabilities(similarity: np.ndarray, temperature: float, axis: int) -> np.ndarray:
    """Log softmax of similarity / temperature along `axis`, float64 (image, text)."""
    logits = similarity.astype(float) / temperature
    logits = logits - logits.max(axis=axis, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=axis, keepdims=True))


def loss_at(similarity: np.ndarray, temperature: float) -> float:
    """What clip.info_nce says of these cosines, in nats; ln n if all are equal."""
    directions = [np.diag(log_probabilities(similarity, temperature, axis)) for axis in (0, 1)]
    return -float(np.mean(directions))


def hits(similarity: np.ndarray, axis: int) -> np.ndarray:
    """Whether each pair beats all others of its row (axis 1) or column (axis 0), bool (pair,)."""
    others = np.where(np.eye(len(similarity), dtype=bool), -np.inf, similarity)
    return np.diag(similarity) > others.max(axis=axis)


class SimilarityMatrix(MapWidget):
    """Cosines of n images and n texts as a heat map, with a temperature, the loss and the mistakes.

    A cross marks a pair that is not ranked first, a ring marks the rival that beats it.

    Args:
        similarity: cosines in -1..1, (image, text) with equally many of both, 2 to 64; array or tensor.
        images: uint8, (image, height, width, 3); shown small.
        texts: one per image; text i belongs to image i.
        temperature: where the slider opens, 0.01 to 1; logits are similarity / temperature.

    `view` holds what is shown: temperature, cell (image, text), and as mode what the colours mean: "cosine",
    or the softmax over a "row" or a "column".
    """

    _esm = script("maps.js", "similarity.js")
    texts = traitlets.List().tag(sync=True)
    size = traitlets.List(help="height and width of a thumbnail").tag(sync=True)

    def __init__(self, similarity, images, texts, temperature: float = 0.07):
        self.similarity = as_array(similarity).astype(np.float32)
        self._images = np.stack([shrink(image, THUMBNAIL) for image in as_images(images)])
        count = len(texts)
        if self.similarity.shape != (count, count) or len(self._images) != count:
            raise ValueError(
                f"similarity {self.similarity.shape} with {len(self._images)} images and {count} texts; "
                "pass (image, text) with one text per image, pair i at (i, i)"
            )
        if not 2 <= count <= MOST_PAIRS:
            raise ValueError(f"{count} pairs; 2 to {MOST_PAIRS} can be told apart, so pass a part, as [:32]")
        if not np.abs(self.similarity).max() <= 1.001:  # also catches NaN
            raise ValueError(
                f"similarity must be cosines in -1..1, found {self.similarity.min():.4g} to "
                f"{self.similarity.max():.4g}; normalise both features, do not divide by a temperature"
            )
        if not 0.01 <= temperature <= 1:
            raise ValueError(f"temperature must be 0.01 to 1, got {temperature}; it is 1 / exp(logit_scale)")
        view = {"temperature": float(temperature), "mode": "cosine", "cell": [0, 0]}
        rules = {"temperature": Between(0.01, 1), "mode": tuple(MODES), "cell": [range(count)] * 2}
        self.allowed = {"view": rules}
        size = list(self._images.shape[1:3])
        super().__init__(texts=[str(text) for text in texts], size=size, view=view)
        self.offer({"similarity": self.similarity.astype("<f4"), "images": self._images})

    def static_figure(self) -> Still:
        """The matrix at the present temperature and mode as a picture."""
        temperature, mode = self.view["temperature"], self.view["mode"]
        count, wrong = len(self.texts), [~hits(self.similarity, axis) for axis in (1, 0)]
        values, limits, missed = self.similarity, {}, wrong[0] | wrong[1]
        if mode != "cosine":
            values = np.exp(log_probabilities(self.similarity, temperature, axis=1 if mode == "row" else 0))
            limits, missed = {"vmin": 0, "vmax": 1}, wrong[0 if mode == "row" else 1]
        drawing = new_figure(4.2)
        axes = drawing.subplots()
        shown = axes.imshow(values, cmap="cividis", interpolation="nearest", **limits)
        marked = np.flatnonzero(missed)
        axes.plot(marked, marked, "x", color=ACCENT, markersize=max(3, 90 / count), markeredgewidth=2)
        strip = np.concatenate([square(image) for image in self._images])
        axes.imshow(strip, extent=(-1.6, -0.6, count - 0.5, -0.5))
        axes.set(xlabel="text", ylabel="image", xlim=(-1.7, count - 0.5), ylim=(count - 0.5, -0.5))
        drawing.colorbar(shown, ax=axes, label=MODES[mode])
        loss = loss_at(self.similarity, temperature)
        title = f"{count} pairs at temperature {temperature:.3g}: loss {loss:.3f} "
        row, column = (100 * (1 - misses.mean()) for misses in wrong)
        title += f"(ln {count} = {np.log(count):.3f}), R@1 image→text {row:.0f} %, text→image {column:.0f} %"
        drawing.suptitle(title, fontsize=9)
        return Still(drawing, f"Similarity matrix of {title}; {len(marked)} pairs marked as not ranked first")

    def __repr__(self) -> str:
        return f"SimilarityMatrix({len(self.texts)} pairs)"


def square(image: np.ndarray) -> np.ndarray:
    """The picture (height, width, 3) in the middle of a white square."""
    spare = [max(image.shape[:2]) - length for length in image.shape[:2]]
    return np.pad(image, [*((n // 2, n - n // 2) for n in spare), (0, 0)], constant_values=255)
