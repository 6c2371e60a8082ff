"""What the widgets that show weights as colours share; the Python half of maps.js."""

import numpy as np
import traitlets

from vlmcourse.widgets.base import Widget, not_empty
from vlmcourse.widgets.stills import cividis


def quantise(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of weights (..., key), none negative, as bytes, and the largest weight of each row (...), float32.

    weight = code · largest / 255, off by at most largest / 510.
    """
    largest = weights.max(axis=-1).astype(np.float32)
    scale = np.where(largest > 0, largest, 1)[..., None]
    return np.rint(weights / scale * 255).astype(np.uint8), largest


def check_rows(name: str, rows: np.ndarray) -> None:
    """ValueError unless every row (..., key) is a distribution: finite, not negative, its sum 1 (± 0.01)."""
    not_empty(name, rows)
    if not np.isfinite(rows).all():
        raise ValueError(f"{name} holds NaN or infinity; was a softmax taken over a row masked everywhere?")
    if rows.min() < 0:
        raise ValueError(f"{name} holds {rows.min():.3g}; pass weights after the softmax, not scores")
    sums = rows.sum(axis=-1)
    worst = sums.flat[np.abs(sums - 1).argmax()]
    if abs(worst - 1) > 0.01:
        raise ValueError(
            f"every row of {name} must sum to 1 over its keys (the last axis), one sums to {worst:.4g}; "
            "is the softmax over another axis, or was dropout still on? Call model.eval() first"
        )


class MapWidget(Widget):
    """A widget that shows weights as colours; the browser gets the colour table with it."""

    colours = traitlets.Bytes().tag(sync=True)

    @traitlets.default("colours")
    def _table(self) -> bytes:
        return cividis().tobytes()
