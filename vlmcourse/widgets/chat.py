"""Picture Chat: ask a model about a scene, or about a picture of your own.

The widget knows no model: it calls the functions it was given, in the kernel.  An uploaded file goes to the
kernel as it is and is read there as ``vlmcourse ask`` reads it; what comes back is the small picture that the
model sees, so that one looks at what it looks at.
"""

import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import traitlets

from vlmcourse.data.photos import PictureError, load_upload
from vlmcourse.widgets.base import AskedWidget, as_array, as_images, script
from vlmcourse.widgets.maps import MapWidget, quantise
from vlmcourse.widgets.playground import draw_choices
from vlmcourse.widgets.stills import Still, new_figure, overlay, scale_bar

LARGEST = 20_000_000  # bytes of an uploaded file
CHOICES, KEPT = 5, 8  # of the likeliest answers; lines of the conversation
UPLOAD = -1  # the number of the picture that was uploaded


class PictureChat(AskedWidget, MapWidget):
    """A picture, a line to ask in, and what a model says: how sure it is, and where it looked.

    ``chat.ask("What shape is it?")`` and ``chat.look_at("photo.jpg")`` do from Python what the controls do.

    Args:
        answer: takes a picture, uint8 (side, side, 3), and a question; returns {"answer": str, "choices":
            [(text, probability), ...] best first, "attention": weights (row, column), or None}.
        images: pictures to begin with, uint8 (image, side, side, 3).
        foreign: takes pictures and returns whether each is unlike those that the model learned from.
        questions: shown as buttons; the first is asked at once.
        name: of the model.

    Raises:
        ValueError: if there is no question, or pictures have another form.
        Exception: whatever `answer` raises for the first picture, so that a broken model is noticed at once.
    """

    _esm = script("maps.js", "chat.js")
    pixels = traitlets.Bytes(help="the picture as the model sees it, uint8 (side, side, 3)").tag(sync=True)
    attention = traitlets.Bytes(help="one byte for each cell of the grid").tag(sync=True)
    texts = traitlets.Dict(help="name, questions, side, number of pictures").tag(sync=True)

    def __init__(
        self,
        answer: Callable,
        images: np.ndarray,
        *,
        foreign: Callable | None = None,
        questions: Sequence[str] = ("Describe the image.",),
        name: str = "model",
    ):
        if not questions:
            raise ValueError("there is no question to begin with; pass one, such as 'Describe the image.'")
        self._answer_to, self._images = answer, as_images(images)
        if self._images.shape[1] != self._images.shape[2]:
            raise ValueError(f"pictures must be square, got {self._images.shape[1:3]}")
        self._foreign = foreign or (lambda pictures: np.zeros(len(pictures), dtype=bool))
        self._upload, self._log = None, []
        texts = dict(name=name, questions=list(questions), side=self._images.shape[1])
        super().__init__(texts=texts | dict(count=len(self._images), best=CHOICES, largest=LARGEST))
        state = {"turn": 0, "by": "python", "number": 0, "question": str(questions[0])}
        self._show(state)
        numbers = range(UPLOAD, len(self._images))
        self.allowed = {"state": {"turn": int, "by": str, "number": numbers, "question": str}}
        self.state = state

    def ask(self, question: str) -> str:
        """Ask about the picture that is shown; returns the answer."""
        self._turn(question=str(question))
        return self.answer["answer"]

    def look_at(self, file: str | Path) -> str:
        """Look at a picture file and ask the same about it; returns the answer.

        Raises:
            PictureError, OSError: if it cannot be read.
        """
        self._upload = load_upload(Path(file).read_bytes(), Path(file).name, self.texts["side"])
        self._upload_name = Path(file).name
        self._turn(number=UPLOAD)
        return self.answer["answer"]

    def _turn(self, **change) -> None:
        self.state = {**self.state, **change, "turn": self.state["turn"] + 1, "by": "python"}

    def _answer(self, widget, content, buffers) -> None:
        """Take a file that the page sends; what is wrong with it is shown, and the last picture stays."""
        if not (isinstance(content, dict) and isinstance(content.get("upload"), str) and buffers):
            return super()._answer(widget, content, buffers)
        name, data = content["upload"][:120], bytes(buffers[0])
        try:
            if len(data) > LARGEST:
                raise PictureError(
                    f"{name} has {len(data):,} bytes, more than {LARGEST:,}; scale it down first"
                )
            self._upload, self._upload_name = load_upload(data, name, self.texts["side"]), name
        except (PictureError, OSError) as error:
            self.answer = {**self.answer, "error": str(error)}
            return None
        return self._turn(number=UPLOAD)

    def _show(self, state: dict) -> None:
        """Ask the model about a state, and show all of what it says at once."""
        image, called = self._picture(state["number"])
        question, start = state["question"].strip(), time.perf_counter()
        nothing = {"answer": "", "choices": [], "attention": None}
        said = self._answer_to(image, question) if question else nothing
        foreign = bool(as_array(self._foreign(image[None]))[0])
        choices = [{"text": str(text), "p": float(p)} for text, p in said["choices"]][:CHOICES]
        weights = np.zeros((0, 0)) if said["attention"] is None else as_array(said["attention"])
        codes, largest = (
            quantise(weights.astype(np.float32).ravel()) if weights.size else (np.zeros(0, np.uint8), 0)
        )
        sure = choices[0]["p"] if choices else 0.0
        if question:
            self._log = [*self._log, [called, question, str(said["answer"]), sure]][-KEPT:]
        answer = {"by": state["by"], "turn": state["turn"], "error": "", "question": question}
        answer |= {"answer": str(said["answer"]), "choices": choices, "foreign": foreign, "picture": called}
        answer |= {"grid": weights.shape, "largest": float(largest), "share": float(weights.sum())}
        answer |= {"log": self._log, "milliseconds": round(1000 * (time.perf_counter() - start))}
        with self.hold_sync():
            self.pixels, self.attention, self.answer = image.tobytes(), codes.tobytes(), answer

    def _picture(self, number: int) -> tuple[np.ndarray, str]:
        if number != UPLOAD:
            return self._images[number], f"picture {number + 1}"
        if self._upload is None:
            raise ValueError("no picture was uploaded yet")
        return self._upload, self._upload_name

    def static_figure(self) -> Still:
        """The picture with the attention of the answer, and the likeliest answers."""
        said, side = self.answer, self.texts["side"]
        drawing = new_figure(2.8)
        seen, bars = drawing.subplots(1, 2, width_ratios=(1.1, 1.2))
        picture = np.frombuffer(self.pixels, np.uint8).reshape(side, side, 3)
        if self.attention:
            weights = np.frombuffer(self.attention, np.uint8).reshape(said["grid"]) * (said["largest"] / 255)
            shown = overlay(seen, picture, weights)
            scale_bar(shown, seen).set_label("attention of the answer", fontsize=9)
        else:
            seen.imshow(picture, extent=(0, side, side, 0), interpolation="nearest")
        seen.axis("off")
        draw_choices(bars, [{**choice, "right": False} for choice in said["choices"]][::-1])
        unlike = "unlike what it learned from" if said["foreign"] else ""
        drawing.suptitle("\n".join(textwrap.wrap(f"{said['question']}  {said['answer']}", 80)), fontsize=10)
        if unlike:
            drawing.supxlabel(f"This picture is {unlike}.", fontsize=9)
        alt = f"{self.texts['name']}, asked “{said['question']}” about {said['picture']}"
        alt = f"{alt}, says “{said['answer']}”"
        return Still(drawing, f"{alt}; {unlike}" if unlike else alt)

    def __repr__(self) -> str:
        return f"PictureChat({self.texts['name']}, {len(self._images)} pictures)"
