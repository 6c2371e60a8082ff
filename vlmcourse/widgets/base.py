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
from types import FunctionType
from typing import NamedTuple

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


def not_empty(name: str, values: np.ndarray) -> np.ndarray:
    """The values as they came; ValueError if there are none."""
    if not values.size:
        raise ValueError(f"{name} is empty, its shape is {values.shape}; pass at least one along every axis")
    return values


def as_images(images) -> np.ndarray:
    """Pictures as uint8 (image, height, width, 3); one picture (height, width, 3) becomes a batch of one.

    Raises:
        ValueError: if the shape or the type differs; the message says what to do.
    """
    images = not_empty("images", as_array(images))
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


class Between(NamedTuple):
    """A rule of `fits`: any number from low to high."""

    low: float
    high: float


class UpTo(NamedTuple):
    """A rule of `fits`: a list of at most `most` values, each what `rule` allows."""

    most: int
    rule: object


def fits(value, rule) -> bool:
    """Whether a value is what a rule allows.

    A range allows its whole numbers, a type such as str its values, a tuple what one of its rules allows, a
    list one value for each of its rules; all but these, such as "mean" or None, allows only itself.
    """
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if isinstance(rule, range):
        return number and isinstance(value, int | np.integer) and value in rule
    if isinstance(rule, Between):
        return number and rule.low - 1e-9 <= value <= rule.high + 1e-9  # a slider's end is rounded
    if isinstance(rule, type):
        return type(value) is rule
    if isinstance(rule, UpTo):
        few = isinstance(value, list | tuple) and len(value) <= rule.most
        return few and all(fits(one, rule.rule) for one in value)
    if isinstance(rule, tuple):
        return any(fits(value, one) for one in rule)
    if isinstance(rule, list):
        same = isinstance(value, list | tuple) and len(value) == len(rule)
        return same and all(map(fits, value, rule))
    return type(value) is type(rule) and value == rule


def in_words(rule) -> str:
    """What a rule of `fits` allows, for the message that refuses a value."""
    if isinstance(rule, range):
        return f"{rule.start}..{rule.stop - 1}"
    if isinstance(rule, Between):
        return f"{rule.low:g} to {rule.high:g}"
    if isinstance(rule, UpTo):
        return f"at most {rule.most} of {in_words(rule.rule)}"
    if isinstance(rule, tuple):
        return " or ".join(map(in_words, rule))
    if isinstance(rule, list):
        return f"({', '.join(map(in_words, rule))})"
    return rule.__name__ if isinstance(rule, type) else str(rule)


def check_value(name: str, value, rules) -> None:
    """ValueError, which names the place, unless a value such as {"layer": 1, "head": "mean"} is allowed.

    Args:
        rules: a rule of `fits`; or one for each field the value has to have.  A function there takes the
            value, whose fields before it are right, and returns the rule.
    """
    if not isinstance(rules, Mapping):
        if not fits(value, rules):
            raise ValueError(f"{name} is {value!r:.80}, expected {in_words(rules)}")
        return
    if not isinstance(value, Mapping) or set(value) != set(rules):
        raise ValueError(f"{name} is {value!r:.80}, expected a dict with the fields {', '.join(rules)}")
    for field, rule in rules.items():
        rule = rule(value) if isinstance(rule, FunctionType) else rule
        if not fits(value[field], rule):
            raise ValueError(f"{name} has {field}={value[field]!r:.80}, expected {in_words(rule)}")


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

    `allowed` holds the rules (see check_value) of the traits that one may set once it is made.  Python gets
    a ValueError for another value; the page, which may set no other trait, gets the old one back.
    """

    allowed: Mapping[str, object] = {}

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

    @traitlets.validate("view", "state", "chosen", "query")
    def _check(self, proposal):
        name, value = proposal["trait"].name, proposal["value"]
        if name in self.allowed:
            self.check(name, value)
        return value

    def check(self, name: str, value) -> None:
        """ValueError unless the trait `name` may be set to `value`."""
        check_value(name, value, self.allowed[name])

    def set_state(self, sync_data):
        """Take from the page what it may set, and tell it again what became of the rest."""
        said = sync_data if isinstance(sync_data, Mapping) else {}
        taken = {name: value for name, value in said.items() if self._may_set(name, value)}
        super().set_state(taken)
        if refused := {name for name in said if name in self.keys} - set(taken):
            self.send_state(refused)

    def _may_set(self, name: str, value) -> bool:
        try:
            self.check(name, value)
        except (KeyError, ValueError):  # no trait that the page sets, no value for it
            return False
        return True

    def offer(self, arrays: Mapping[str, np.ndarray], beside: int = 0) -> None:
        """Keep arrays as blobs under their names, and send what fits with the widget, see preload."""
        self._arrays = arrays
        self.preload(list(arrays), beside)

    def blob(self, name: str) -> bytes:
        """The bytes called `name`; KeyError if there are none."""
        return self._arrays[name].tobytes()

    def preload(self, names: list[str], beside: int = 0) -> None:
        """Send the blobs `names` with the widget, in this order, while they fit in PRELOAD.

        Args:
            beside: bytes that other traits send and that count as well.
        """
        chosen, room = {}, PRELOAD - beside
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


class AskedWidget(Widget):
    """A widget that asks a model in the kernel about every state; base.js, `requests`, is its other half.

    A state has a turn and by whom it was set, and its answer has the same two, so that a page knows whether
    it was answered. A subclass says in `_show` what to do with a state.
    """

    state = traitlets.Dict(help="what is set, with the fields turn and by").tag(sync=True)
    answer = traitlets.Dict(help="what came of it, with the fields turn, by and error").tag(sync=True)

    def _show(self, state: dict) -> None:
        """Ask the model, and set `answer` and whatever else is shown."""
        raise NotImplementedError

    @traitlets.observe("state")
    def _react(self, change):
        state = change["new"]
        if (state["by"], state["turn"]) == (self.answer.get("by"), self.answer.get("turn")):
            return
        try:
            self._show(state)
        except Exception as problem:  # the model is not ours; whatever it raises, the widget lives
            line = f"{type(problem).__name__}: {problem}".splitlines()[0]
            self.answer = {**self.answer, "by": state["by"], "turn": state["turn"], "error": line}
