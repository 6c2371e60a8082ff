"""Text-to-Image Search: type, and the pictures that fit best come up.

The widget knows no model: it calls the function it was given, in the kernel, for every query.  Only the
pictures found travel to the browser, so a gallery of thousands opens as fast as one of twelve.
"""

import textwrap

import numpy as np
import traitlets

from vlmcourse.widgets.base import Widget, as_array, as_images, one_name_each, same_words, script, shrink
from vlmcourse.widgets.stills import TEXT, Still, new_figure

RESULTS = 12
SIDE_OF_RESULT = 96


class TextToImageSearch(Widget):
    """A search box over a gallery; `score` ranks the pictures for every query.

    The query goes to the kernel once typing rests for 120 ms.  If some labels equal the query, their pictures
    are marked as right and the rank of the first is told.  If `score` raises later on, its message is shown
    in one line and the last pictures stay.  `search.query = "a red circle"` searches from Python.

    Args:
        score: takes the query (str) and returns a number per picture, (image,), array or tensor; larger fits.
        images: the gallery, uint8 (image, height, width, 3).
        labels: one text per picture.
        suggestions: example queries, shown as buttons; the first is the first query.
        attribution: where the pictures come from, such as "OpenMoji, CC BY-SA 4.0"; stands under the results.

    Raises:
        ValueError: if the numbers of images, labels and scores differ.
        Exception: whatever `score` raises for the first query, so that a broken encoder is noticed at once.
    """

    _esm = script("search.js")
    query = traitlets.Unicode(help="what is searched for").tag(sync=True)
    answer = traitlets.Dict(help="query, results, rank, low, high, error").tag(sync=True)
    pixels = traitlets.Bytes(help="uint8 (result, height, width, 3)").tag(sync=True)
    texts = traitlets.Dict(help="suggestions, attribution, number and size of pictures").tag(sync=True)

    def __init__(self, score, images, labels, *, suggestions=(), attribution=""):
        self._score, self._images = score, as_images(images)
        self.allowed = {"query": str}
        self._labels = one_name_each(labels, "image", len(self._images), called="label")
        suggestions = [str(text) for text in suggestions]
        height, width = shrink(self._images[0], SIDE_OF_RESULT).shape[:2]
        texts = {"suggestions": suggestions, "attribution": attribution}
        super().__init__(texts={**texts, "count": len(self._images), "size": [height, width]})
        query = suggestions[0] if suggestions else ""
        self._show(query, self._ranked(query))
        self.query = query

    @traitlets.observe("query")
    def _search(self, change):
        if change["new"] == self.answer.get("query"):
            return
        try:
            answer = self._ranked(change["new"])
        except Exception as problem:  # the encoder is not ours; whatever it raises, the widget lives
            line = f"{type(problem).__name__}: {problem}".splitlines()[0]
            self.answer = {**self.answer, "query": change["new"], "error": line}
        else:
            self._show(change["new"], answer)

    def _ranked(self, query: str) -> dict:
        """What `answer` holds for a query; nothing for an empty one."""
        if not query.strip():
            return {"results": [], "rank": None, "low": 0.0, "high": 0.0}
        scores = as_array(self._score(query))
        count = len(self._images)
        if scores.shape != (count,) or not np.isfinite(scores).all():
            fault = f"shape {scores.shape}" if scores.shape != (count,) else "NaN or infinity"
            raise ValueError(f"score returned {fault}; expected {count} finite numbers, one per picture")
        order = np.argsort(-scores, kind="stable")
        right = [same_words(self._labels[i], query) for i in order]
        results = [
            {"index": int(i), "score": float(scores[i]), "label": self._labels[i], "right": right[place]}
            for place, i in enumerate(order[:RESULTS])
        ]
        rank = right.index(True) + 1 if any(right) else None
        return {"results": results, "rank": rank, "low": float(scores.min()), "high": float(scores.max())}

    def _show(self, query: str, answer: dict) -> None:
        pictures = [shrink(self._images[result["index"]], SIDE_OF_RESULT) for result in answer["results"]]
        with self.hold_sync():  # pictures and numbers change together
            self.pixels = b"".join(picture.tobytes() for picture in pictures)
            self.answer = {"query": query, "error": "", **answer}

    def static_figure(self) -> Still | None:
        """The best pictures for the present query, best first; None while nothing is searched for."""
        results = self.answer["results"]
        if not results:
            return None
        drawing = new_figure(3.9)
        all_axes = drawing.subplots(2, RESULTS // 2).ravel()
        for axes in all_axes:
            axes.axis("off")
        for axes, result in zip(all_axes, results):  # noqa: B905 - there may be fewer results than places
            axes.imshow(self._images[result["index"]])
            mark, weight = ("✓ ", "bold") if result["right"] else ("", "normal")
            label = "\n".join(textwrap.wrap(result["label"], 15, max_lines=2, placeholder=" …"))
            title = f"{mark}{result['score']:.3f}\n{label}"
            axes.set_title(title, fontsize=9, fontweight=weight)
        query = self.answer["query"]
        drawing.suptitle(f"“{query}”", fontsize=10, color=TEXT)
        drawing.supxlabel(textwrap.fill(self.texts["attribution"], 95), fontsize=9)
        first = ", ".join(result["label"] for result in results[:3])
        alt = f"The {len(results)} best of {len(self._images)} pictures for “{query}”: {first} first"
        return Still(drawing, alt)

    def __repr__(self) -> str:
        return f"TextToImageSearch({len(self._images)} pictures)"
