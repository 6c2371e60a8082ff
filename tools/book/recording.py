"""Runs in the kernel, behind the last cell: press the buttons of widgets that ask a model, keep the answers.

On a page there is no kernel.  But a search has a few queries on its buttons, so their answers can go along;
and a small model can go along itself (speaking.py).
"""

import base64

from book.speaking import speaker_of, truths, written

MIME = "application/vnd.vlmcourse.recorded+json"


def recorded() -> dict[str, dict]:
    """By the identity of a widget: {trait that the page sets: {value: what then changes}}, or its speaker.

    Bytes among what changes are written as {"base64": text}.
    """
    from ipywidgets.widgets.widget import _instances

    from vlmcourse.widgets.playground import ScenePlayground
    from vlmcourse.widgets.search import TextToImageSearch
    from vlmcourse.world.arranging import OUTSIDE

    found = {}
    for widget in [widget for widget in _instances.values() if widget.comm is not None]:
        if isinstance(widget, TextToImageSearch):
            found[widget.model_id] = {"query": answers(widget)}
        elif isinstance(widget, ScenePlayground) and (model := speaker_of(widget)):
            known = {"truths": truths(widget), "outside": OUTSIDE}
            found[widget.model_id] = {"speaker": written(model) | known}
    return found


def answers(search) -> dict[str, dict]:
    """What a search finds for the queries on its buttons, and for none; it is left as it was."""
    before, found = search.query, {}
    for query in [*search.texts["suggestions"], "", before]:
        search.query = query
        found[query] = {
            "answer": search.answer,
            "pixels": {"base64": base64.b64encode(search.pixels).decode()},
        }
    return found
