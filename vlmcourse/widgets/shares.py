"""Share Map: how much each token takes from the image in every layer, and where on the image it looks.

It takes shares and attention weights as arrays and knows no model; diagnostics/share.py, prompt_looks,
computes them.  The map's colours stand for shares from 0 to 1, the same for all questions; those over the
picture end at the largest weight of a patch, which their scale states.  Weights travel as one byte each, so a
number shown is right to within 1/510 of that largest one.
"""

import numpy as np

from vlmcourse.widgets.base import as_array, as_images, script, shrink, visible
from vlmcourse.widgets.maps import MapWidget, quantise
from vlmcourse.widgets.stills import ACCENT, Still, new_figure, overlay, scale_bar
from vlmcourse.widgets.text_attention import MOST_IN_TEXT

SIDE_OF_PICTURE = 288
SHARE_OF = {
    "attention": "share of the attention on the image",
    "update": "share of what is added that comes from the image",
}
"""What a share is, see diagnostics/share.py, Shares."""


class ShareMap(MapWidget):
    """Layers by tokens, coloured by how much comes from the image; choose a cell and see where it looks.

        ShareMap.of(images, [prompt_looks(speaker, *pair) for pair in zip(images, questions)], questions)

    `view` holds what is shown: question, layer, token, and head, a number or "mean".

    Args:
        images: uint8, (question, height, width, 3).
        shares: for each question (layer, token), 0 to 1; arrays or tensors.
        tokens: for each question its tokens as text, at most 64.
        questions: one text each.
        weights: for each question attention weights on the image, (layer, head, token, patch); their sum over
            the patches, mean over the heads, is the share. None where the image is not looked at by them.
        grid: (rows, columns) of patches; needed with weights.
        kind: what a share is, "attention" or "update".
        view: where to open, any of question, layer, token, head.

    Raises:
        ValueError: if numbers or shapes do not fit, or weights do not add up to the shares.
    """

    _esm = script("maps.js", "shares.js")

    def __init__(
        self, images, shares, tokens, questions, *, weights=None, grid=None, kind="attention", view=None
    ):
        if kind not in SHARE_OF:
            raise ValueError(f"kind is {kind!r}, expected one of {', '.join(SHARE_OF)}")
        batch, self._questions = as_images(images), [str(text) for text in questions]
        self._images = [shrink(image, SIDE_OF_PICTURE) for image in batch]
        self._tokens = [[visible(str(token)) for token in some] for some in tokens]
        self._shares = [as_array(some).astype(np.float32) for some in shares]
        self._weights = None
        if weights is not None and any(some is not None for some in weights):
            self._weights = [as_array(some).astype(np.float32) for some in weights]
        self._grid = None if grid is None else tuple(map(int, grid))
        self._check_all()
        layers = len(self._shares[0])
        heads = 0 if self._weights is None else self._weights[0].shape[1]
        start = {"question": 0, "layer": layers - 1, "token": None, "head": "mean", **(view or {})}
        if start["token"] is None and start["question"] in range(len(self._tokens)):
            start["token"] = len(self._tokens[start["question"]]) - 1
        rules = {"question": range(len(batch)), "layer": range(layers), "head": (range(heads), "mean")}
        self.allowed = {"view": rules | {"token": lambda view: range(len(self._tokens[view["question"]]))}}
        shape = {"questions": self._questions, "tokens": self._tokens, "layers": layers, "heads": heads}
        shape |= {"grid": self._grid, "kind": kind, "measure": SHARE_OF[kind]}
        shape["sizes"] = [image.shape[:2] for image in self._images]
        super().__init__(view=start, shape=shape)
        self.offer(self._all_blobs())

    @classmethod
    def of(cls, images, looks, questions, **more) -> "ShareMap":
        """The map of what diagnostics/share.py, prompt_looks, found: one for each image and question."""
        shares, tokens = [look.shares for look in looks], [look.tokens for look in looks]
        some = dict(grid=looks[0].grid, kind=looks[0].kind) if len(looks) else {}
        weights = [look.weights for look in looks]
        return cls(images, shares, tokens, questions, weights=weights, **some, **more)

    def _check_all(self) -> None:
        """ValueError unless everything fits together."""
        count = len(self._images)
        every = {"shares": self._shares, "tokens": self._tokens, "questions": self._questions}
        every |= {} if self._weights is None else {"weights": self._weights}
        for name, some in every.items():
            if len(some) != count:
                raise ValueError(f"{len(some)} {name} for {count} images; pass one for each image")
        for number in range(count):
            self._check_one(number)

    def _check_one(self, number: int) -> None:
        shares, tokens = self._shares[number], len(self._tokens[number])
        layers, name = len(self._shares[0]), f"shares[{number}]"
        if not 1 <= tokens <= MOST_IN_TEXT:
            raise ValueError(f"question {number} has {tokens} tokens, expected 1 to {MOST_IN_TEXT}")
        if shares.shape != (layers, tokens) or not layers:
            raise ValueError(f"{name} is {shares.shape}, expected (layer, token) = ({layers}, {tokens})")
        if not np.isfinite(shares).all() or shares.min() < 0 or shares.max() > 1.001:
            raise ValueError(f"{name} must be between 0 and 1; a share is a sum of weights after the softmax")
        if self._weights is not None:
            self._check_weights(number)

    def _check_weights(self, number: int) -> None:
        weights, (layers, tokens) = self._weights[number], self._shares[number].shape
        name = f"weights[{number}]"
        if self._grid is None:
            raise ValueError("weights are laid over the picture; pass grid=(rows, columns) of their patches")
        shape = (layers, self._weights[0].shape[1], tokens, self._grid[0] * self._grid[1])
        if weights.shape != shape or not weights.size:
            raise ValueError(f"{name} is {weights.shape}, expected (layer, head, token, patch) = {shape}")
        off = np.abs(weights.sum(axis=-1).mean(axis=1) - self._shares[number]).max()
        if weights.min() < 0:
            raise ValueError(f"{name} has values below 0; pass the weights after the softmax")
        if not off <= 0.01:
            raise ValueError(
                f"{name} and the shares differ by {off:.3g}; the sum over the patches, mean over the heads, "
                "must be the share"
            )

    def _maps(self, number: int) -> np.ndarray:
        """Weights of a question (layer, head, token, patch), the mean over the heads behind the heads."""
        weights = self._weights[number]
        return np.concatenate([weights, weights.mean(axis=1, keepdims=True)], axis=1)

    def _all_blobs(self) -> dict[str, np.ndarray]:
        """Of question N image/N, shares/N, and with weights sums/N, codes/N, largest/N, see _maps."""
        blobs = {}
        for number, image in enumerate(self._images):
            blobs |= {f"image/{number}": image, f"shares/{number}": self._shares[number].astype("<f4")}
            if self._weights is not None:
                maps = self._maps(number)
                codes, largest = quantise(maps)
                sums = maps.sum(axis=-1).astype("<f4")
                blobs |= {f"codes/{number}": codes, f"largest/{number}": largest.astype("<f4")}
                blobs[f"sums/{number}"] = sums
        return blobs

    def static_figure(self) -> Still:
        """The map with the chosen cell, and where that one looks."""
        view, kind = self.view, self.shape["kind"]
        shares, tokens = self._shares[view["question"]], self._tokens[view["question"]]
        place, image = (view["layer"], view["token"]), self._images[view["question"]]
        drawing = new_figure(3.4)
        cells, picture = drawing.subplots(1, 2, width_ratios=(1.5, 1))
        drawn = cells.imshow(shares, vmin=0, vmax=1, cmap="cividis", aspect="auto")
        cells.set(yticks=range(len(shares)), ylabel="layer")
        cells.set_xticks(range(len(tokens)), tokens, rotation=60, ha="right", fontsize=9)
        cells.plot(place[1], place[0], "s", ms=11, mfc="none", mec=ACCENT, mew=2)
        drawing.colorbar(drawn, ax=cells, label="share of the image", fraction=0.046)
        if self._weights is None:
            picture.imshow(image)
            picture.axis("off")
            words = "no weights over patches" if kind == "update" else "no patches"
        else:
            maps = self._maps(view["question"])
            head = -1 if view["head"] == "mean" else view["head"]
            weights = maps[view["layer"], head, view["token"]].reshape(self._grid)
            scale_bar(overlay(picture, image, weights), picture, "attention weight")
            row, column = divmod(int(weights.argmax()), self._grid[1])
            words = f"most at row {row}, column {column}"
        picture.set_title(words, fontsize=9)
        said = f"layer {place[0]}, token “{tokens[place[1]]}”: {100 * shares[place]:.0f} % from the image"
        drawing.suptitle(f"{self._questions[view['question']]}\n{said}", fontsize=9)
        return Still(drawing, f"Layers by tokens, {SHARE_OF[kind]}; {said}; {words}")

    def __repr__(self) -> str:
        return (
            f"ShareMap({len(self._questions)} questions, {self.shape['layers']} layers, {self.shape['kind']})"
        )
