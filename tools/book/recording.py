"""Runs in the kernel, behind the last cell: press the buttons of widgets that ask a model, keep the answers.

On a page there is no model.  But a search has a few queries on its buttons, so their answers can go along.
"""

import base64

MIME = "application/vnd.vlmcourse.recorded+json"


def recorded() -> dict[str, dict]:
    """By the identity of a widget: {trait that the page sets: {its value: what then changes}}.

    Bytes among what changes are written as {"base64": text}.
    """
    from ipywidgets.widgets.widget import _instances

    from vlmcourse.widgets.search import TextToImageSearch

    searches = [widget for widget in _instances.values() if isinstance(widget, TextToImageSearch)]
    return {widget.model_id: {"query": answers(widget)} for widget in searches if widget.comm is not None}


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
