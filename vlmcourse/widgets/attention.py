"""Attention Explorer: click a patch and see where every head looks from there.

It takes pictures and attention weights as arrays and knows no model.  Token 0 is the class token if there is
one, the patches follow row by row.

How weights become colours: each map is scaled to its own largest *patch* weight, which the scale under the
picture states.  So the brightest patch is always yellow, and maps of different heads compare in pattern, not
in height.  The class token stays out of that scale, because it often holds most of the weight; its tile is
coloured on the same scale and saturates.  Weights travel as one byte each, so a number shown is right to
within 1/510 of that maximum.
"""

import numpy as np

from vlmcourse.widgets.base import as_array, as_images, one_name_each, script, shrink
from vlmcourse.widgets.maps import MapWidget, check_rows, quantise
from vlmcourse.widgets.stills import Still, new_figure, outline, overlay, scale_bar

LARGEST_SIDE = 512
NAMES = {"image": "image", "step": "training step", "cls": "class token"}


def named_axes(names: dict[str, str]) -> dict[str, str]:
    """NAMES with other `names` for some of them; ValueError for an axis that has no name."""
    if unknown := ", ".join(set(names) - set(NAMES)):
        raise ValueError(f"names has {unknown}, expected some of {', '.join(NAMES)}")
    return NAMES | {axis: str(name) for axis, name in names.items()}


class AttentionExplorer(MapWidget):
    """Where does it look?  Pictures with an attention map over them, for every layer, head and query.

    Args:
        images: uint8, (height, width, 3) or (image, height, width, 3).
        attention: weights after the softmax, (step, image, layer, head, query, key).  `image` is there if
            images has that axis; `step` is there if `steps` is given.
        grid: (rows, columns) of patches.
        cls: whether token 0 is a class token; query = key = rows · columns, and 1 more with it.
        rollout: one more map, weights through all layers: (step, image, query, key), leading axes likewise.
        steps: names of the training steps to play back, such as [0, 50, 100]; opens at the last.
        labels: one name per image.
        names: what the axes and the class token are called where they are something else than in NAMES.
        view: where to open, any of image, step, layer, head, query; layer may be "rollout" and head "mean".

    Source: rollout is Abnar & Zuidema 2020, arXiv:2005.00928; the caller computes it.
    """

    _esm = script("maps.js", "attention.js")

    def __init__(
        self,
        images,
        attention,
        *,
        grid,
        cls=True,
        rollout=None,
        steps=None,
        labels=None,
        names=None,
        view=None,
    ):
        self._names = named_axes(names or {})
        batch = as_images(images)
        self._images = [shrink(image, LARGEST_SIDE) for image in batch]
        self._steps = [""] if steps is None else [str(step) for step in steps]
        self._grid, self._cls = tuple(grid), int(cls)
        if min(self._grid) < 1:
            raise ValueError(f"grid is {self._grid}, expected (rows, columns) of at least 1 each")
        lead = {} if steps is None else {"step": len(self._steps)}
        lead |= {} if as_array(images).ndim == 3 else {"image": len(batch)}
        self._attention = self._checked("attention", attention, lead, ("layer", "head"))
        self._rollout = None if rollout is None else self._checked("rollout", rollout, lead, ())
        labels = one_name_each(labels, self._names["image"], len(batch), called="label")
        layers, heads = self._attention.shape[2:4]
        centre = self._cls + grid[0] // 2 * grid[1] + grid[1] // 2
        start = {"image": 0, "step": len(self._steps) - 1, "layer": layers - 1, "head": "mean"}
        start |= {"query": 0 if cls else centre, **(view or {})}
        shape = {"rows": grid[0], "columns": grid[1], "cls": self._cls, "layers": layers, "heads": heads}
        shape |= {"rollout": rollout is not None, "labels": labels, "steps": self._steps}
        shape["names"] = self._names
        shape["sizes"] = [image.shape[:2] for image in self._images]
        if start["layer"] == "rollout" and rollout is None:
            last = layers - 1
            raise ValueError(f"view has layer='rollout', expected 0..{last}, or rollout if rollout= is given")
        self.allowed = {"view": self._rules()}
        super().__init__(view=start, shape=shape)
        self.preload(self._in_order())

    def _checked(self, name: str, values, lead: dict[str, int], axes: tuple[str, ...]) -> np.ndarray:
        """Weights as float32 (step, image, ..., query, key), the two leading axes added where absent."""
        values, (rows, columns) = as_array(values), self._grid
        tokens = rows * columns + self._cls
        expected = lead | dict.fromkeys(axes) | {"query": tokens, "key": tokens}
        if values.ndim != len(expected):
            raise ValueError(
                f"{name} must be ({', '.join(expected)}), got shape {values.shape}; "
                "it has an image axis if images is a batch, a step axis if steps= is given"
            )
        for (axis, size), got in zip(expected.items(), values.shape, strict=True):
            if size not in (None, got):
                patches = f": {rows}×{columns} patches{' + class token' * self._cls}"
                why = patches if axis in ("query", "key") else ""
                raise ValueError(
                    f"{name} has {got} along its {axis} axis, expected {size}{why}; "
                    "check grid=, cls= and the order of the axes"
                )
        values = values.astype(np.float32)
        check_rows(name, values)
        return values.reshape(len(self._steps), len(self._images), *values.shape[len(lead) :])

    def _rules(self) -> dict:
        """What `view` may hold."""
        steps, images, layers, heads, tokens, _ = self._attention.shape
        layer = range(layers) if self._rollout is None else (range(layers), "rollout")
        rules = {"image": range(images), "step": range(steps), "query": range(tokens)}
        return rules | {"layer": layer, "head": (range(heads), "mean")}

    def _place(self) -> int:
        """Which of `maps` is shown now."""
        layers, heads = self._attention.shape[2:4]
        layer, head = self.view["layer"], self.view["head"]
        if layer == "rollout":
            return layers * (heads + 1)
        return layer * (heads + 1) + (heads if head == "mean" else head)

    def maps(self, step: int, image: int, queries: slice) -> np.ndarray:
        """All maps of some queries, (query, map, key): per layer its heads and mean, then the rollout."""
        weights = self._attention[step, image, :, :, queries]
        weights = np.concatenate([weights, weights.mean(axis=1, keepdims=True)], axis=1)
        weights = weights.reshape(-1, *weights.shape[2:])
        if self._rollout is not None:
            weights = np.concatenate([weights, self._rollout[step, image, None, queries]])
        return weights.transpose(1, 0, 2)

    def blob(self, name: str) -> bytes:
        """image/I: pixels.  rows/S/I: all queries of a step and image.  rows/S/I/Q: one query.

        One query is (largest, class weight) of every map in float32, then the patch codes of every map.
        """
        kind, *place = name.split("/")
        if kind == "image":
            return self._images[int(place[0])].tobytes()
        step, image, query = (*map(int, place), None)[:3]
        weights = self.maps(step, image, slice(None) if query is None else slice(query, query + 1))
        codes, largest = quantise(weights[..., self._cls :])
        cls = weights[..., 0] if self._cls else np.zeros_like(largest)
        head = np.stack([largest, cls], axis=-1).astype("<f4").reshape(len(weights), -1)
        return np.concatenate([head.view(np.uint8), codes.reshape(len(weights), -1)], axis=1).tobytes()

    def _in_order(self) -> list[str]:
        """The blobs: the opening view first, then its playback, then the other images."""
        image, step, query = (self.view[name] for name in ("image", "step", "query"))
        steps = sorted(range(len(self._steps)), key=lambda other: other != step)
        images = sorted(range(len(self._images)), key=lambda other: other != image)
        pictures, rows = [f"image/{i}" for i in images], [f"rows/{s}/{i}" for i in images for s in steps]
        return [pictures[0], f"{rows[0]}/{query}", rows[0], *pictures[1:], *rows[1:]]

    def static_figure(self) -> Still:
        """The current view as a picture."""
        view, query = self.view, self.view["query"]
        weights = self.maps(view["step"], view["image"], slice(query, query + 1))[0, self._place()]
        pixels, patches = self._images[view["image"]], weights[self._cls :].reshape(self._grid)
        source, place = self._words(**view)
        drawing = new_figure(3.1)
        plain, overlaid = drawing.subplots(1, 2)
        plain.imshow(pixels, extent=(0, pixels.shape[1], pixels.shape[0], 0), interpolation="nearest")
        plain.axis("off")
        scale_bar(overlay(overlaid, pixels, patches), overlaid, "attention weight")
        if query >= self._cls:
            for axes in (plain, overlaid):
                outline(axes, query - self._cls, self._grid, pixels)
        drawing.suptitle(f"Attention of {source}\n{place}", fontsize=9)
        return Still(drawing, f"Attention of {source}, {place}; largest patch weight {patches.max():.3f}")

    def _words(self, image, step, layer, head, query) -> tuple[str, str]:
        """Whose weights are shown, and of what."""
        heads = "mean of heads" if head == "mean" else f"head {head}"
        source = "rollout" if layer == "rollout" else f"layer {layer}, {heads}"
        row, column = divmod(query - self._cls, self._grid[1])
        place = self._names["cls"] if query < self._cls else f"patch at row {row}, column {column}"
        at = f", {self._names['step']} {self._steps[step]}" if len(self._steps) > 1 else ""
        return f"{source}, query {place}", f"{self.shape['labels'][image]}{at}"

    def __repr__(self) -> str:
        (layers, heads), (rows, columns) = self._attention.shape[2:4], self._grid
        steps = f", {len(self._steps)} steps" if len(self._steps) > 1 else ""
        sizes = f"{len(self._images)} images, {rows}×{columns} patches, {layers} layers, {heads} heads{steps}"
        return f"AttentionExplorer({sizes})"
