"""The small base every widget of the course stands on.

A widget is one Python class and one JavaScript file; both get their common half from here.  What widgets with
a map of colours share besides stands in maps.py, how a picture is drawn in stills.py.

Showing a widget writes two outputs: the live view, and a picture (`static_figure()`) of the same thing.
Where the live view runs, style rules hide the picture; where no kernel answers (a web page, an untrusted or
closed notebook), the picture is what remains.  Under CI=true a widget opens no channel to a browser and shows
only its text and picture.
"""

import os
from collections.abc import Mapping
from importlib.resources import files

import anywidget
import numpy as np
import traitlets
from IPython.display import display

from vlmcourse.widgets.stills import Still

THUMBNAIL = 64  # the longer side of a picture shown small, in pixels
PRELOAD = 1_900_000  # bytes of blobs sent with a widget: below 2 MB with script and labels
SOURCE = files(__package__)


def script(*names: str) -> str:
    """The ESM source of a widget: base.js, then `names`; joined here because a module may import nothing."""
    return "\n".join((SOURCE / part).read_text("utf-8") for part in ("base.js", *names))


def under_ci() -> bool:
    """Whether this runs under CI, where nobody looks and notebooks are compared."""
    return os.environ.get("CI", "").lower() in {"1", "true"}


def as_array(values) -> np.ndarray:
    """NumPy array of an array, a nested list, or a tensor on any device and with any floating type."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values
    return np.asarray(values)


def as_images(images) -> np.ndarray:
    """Pictures as uint8 (image, height, width, 3); one picture (height, width, 3) becomes a batch of one.

    Raises:
        ValueError: if the shape or the type differs; the message says what to do.
    """
    images = as_array(images)
    if images.ndim not in (3, 4) or images.shape[-1] != 3:
        hint = "; the channel comes last, so permute it there" if 3 in images.shape[:2] else ""
        raise ValueError(f"images must be ([image,] height, width, 3), got {images.shape}{hint}")
    if images.dtype != np.uint8:
        raise ValueError(
            f"images must be uint8 in 0..255, got {images.dtype}; "
            "for values in 0..1 pass (images * 255).round().astype('uint8')"
        )
    return images if images.ndim == 4 else images[None]


def one_name_each(names, thing: str, count: int, called: str = "name") -> list[str]:
    """`count` names as texts, "image 0", "image 1", ... if None are given; ValueError if not so many."""
    if names is None:
        return [f"{thing} {number}" for number in range(count)]
    if len(names) != count:
        raise ValueError(f"{len(names)} {called}s for {count} {thing}s; pass one {called} per {thing}")
    return [str(name) for name in names]


def check_view(view: Mapping, sizes: Mapping[str, int], **words) -> None:
    """ValueError unless a view such as {"layer": 1, "head": "mean"} names a place that is there.

    Args:
        sizes: how many there are of what; the view counts them from 0.
        words: what may stand in place of a number, such as head="mean".
    """
    for name, size in sizes.items():
        value = view[name]
        if name in words and value == words[name]:
            continue
        if not isinstance(value, int | np.integer) or not 0 <= value < size:
            word = f" or {words[name]}" if name in words else ""
            raise ValueError(f"view has {name}={value!r}, expected 0..{size - 1}{word}")


def same_words(text: str, other: str) -> bool:
    """Whether two texts say the same but for case, spaces and a full stop at the end."""
    text, other = (words.casefold().rstrip(". ").split() for words in (text, other))
    return text == other


def visible(token: str) -> str:
    """A token as one can see it: spaces, line ends and other unprintable characters as signs."""
    if not token.strip():
        return token.replace(" ", "␣").replace("\n", "⏎") or "∅"
    return "".join(letter if letter.isprintable() else "�" for letter in token)


def shrink(image: np.ndarray, side: int) -> np.ndarray:
    """The picture (height, width, 3), averaged down so that no side exceeds `side` pixels."""
    from PIL import Image

    small = Image.fromarray(image)
    small.thumbnail((side, side), Image.Resampling.BOX, reducing_gap=None)
    return np.asarray(small)


class Widget(anywidget.AnyWidget):
    """An anywidget with blobs, a fixed text form and a picture beside its live view.

    A blob is an array as bytes under a name such as "image/3".  `blobs` holds those sent at once; the browser
    asks for any other by name and `blob(name)` answers.  What a widget cannot show, it refuses with a
    ValueError when it is made, which names what does not fit, the numbers, and what to do.
    """

    _css = (SOURCE / "widgets.css").read_text("utf-8")
    blobs = traitlets.Dict().tag(sync=True)
    shape = traitlets.Dict(help="sizes and names of what is shown").tag(sync=True)
    view = traitlets.Dict(help="what is shown now, where one can choose").tag(sync=True)

    def __init__(self, **traits):
        self._arrays: Mapping[str, np.ndarray] = {}
        super().__init__(**traits)
        self.on_msg(self._answer)

    def open(self):
        """Open the channel to the browser; called by ipywidgets."""
        if not under_ci():
            super().open()

    def offer(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep arrays as blobs under their names, and send them with the widget while they fit."""
        self._arrays = arrays
        self.preload(list(arrays))

    def blob(self, name: str) -> bytes:
        """The bytes called `name`; KeyError if there are none."""
        return self._arrays[name].tobytes()

    def preload(self, names: list[str]) -> None:
        """Send the blobs `names` with the widget, in this order, while they fit in PRELOAD."""
        chosen, room = {}, PRELOAD
        for name in names:
            data = self.blob(name)
            room -= len(data)
            if room < 0:
                break
            chosen[name] = data
        self.blobs = chosen

    def _answer(self, _, content, buffers):
        """Send the blob that the page asks for; a message that asks for none of them is passed over."""
        want = content.get("want") if isinstance(content, Mapping) else None
        try:
            data = self.blob(want) if isinstance(want, str) else None
        except (KeyError, IndexError, ValueError):  # no such name, no such number
            return
        if data is not None:
            self.send({"have": want}, [data])

    def static_figure(self) -> Still | None:
        """The widget as a picture, for viewers without a kernel; None if its text says it all."""
        return None

    def _ipython_display_(self, **_):
        # Not _repr_mimebundle_: ipywidgets 7 and 8 ask for this method first, and it can write two outputs.
        self._show_live()
        still = self.static_figure()
        if still is not None:
            display(still)

    def _show_live(self) -> None:
        data, metadata = {"text/plain": repr(self)}, {}
        if self.comm is not None:
            data, metadata = self._repr_mimebundle_()
        display(data, metadata=metadata, raw=True)
