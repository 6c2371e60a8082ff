"""What a page reads of a widget, Python sends."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

from vlmcourse import widgets
from vlmcourse.widgets.base import Widget


def kinds(kind):
    """A class and all that come from it."""
    return [kind, *(found for below in kind.__subclasses__() for found in kinds(below))]


for module in pkgutil.iter_modules(widgets.__path__):
    importlib.import_module(f"{widgets.__name__}.{module.name}")
SHOWN = [
    kind for kind in kinds(Widget) if kind.__module__.startswith(widgets.__name__) and "_esm" in vars(kind)
]


@pytest.mark.parametrize("kind", SHOWN, ids=lambda kind: kind.__name__)
def test_every_trait_that_the_page_asks_for_is_sent(kind):
    page = Path(inspect.getfile(kind)).with_suffix(".js").read_text()
    read = set(re.findall(r'model\.(?:get|set)\("(\w+)"', page))
    assert len(SHOWN) > 10 and read
    assert read <= set(kind.class_trait_names(sync=True))


def test_a_still_can_be_told_apart_from_other_pictures():
    from matplotlib.figure import Figure

    from vlmcourse.widgets.stills import Still

    still = Still(Figure(figsize=(1, 1)), alt="nothing")
    _, metadata = still._repr_mimebundle_()
    assert all(entry["unconfined"] is True for entry in metadata.values())
