"""axe-core finds no serious barrier in any widget: in JupyterLab, light and dark, wide and narrow."""

import pytest
from read_book import barriers

from tests.browser.test_chat import SHOW, TOY
from tests.widgets.test_base import NAMES

pytestmark = pytest.mark.browser

ALL = """
from IPython.display import display
from tests.widgets.test_base import WIDGETS_BY_NAME
for make in WIDGETS_BY_NAME.values():
    display(make())"""
SEEN = ".jp-OutputArea .vlm"
SIZES = {"desktop": 1200, "phone": 390}


@pytest.fixture(scope="module", params=["Light", "Dark"])
def page(lab, request):
    page = lab.open(ALL, TOY, SHOW, name=f"barriers-{request.param}", theme=request.param)
    page.wait_for_function(
        "([what, many]) => document.querySelectorAll(what).length === many", arg=[SEEN, len(NAMES) + 1]
    )
    yield page
    page.set_viewport_size({"width": 1200, "height": 1300})
    lab.close(page)


@pytest.mark.parametrize("size", SIZES)
def test_no_widget_has_a_serious_barrier(page, size):
    page.set_viewport_size({"width": SIZES[size], "height": 1300})
    assert barriers(page, SEEN) == []


def test_a_barrier_is_found_and_named(page):
    page.evaluate("what => { document.querySelector(what).append(document.createElement('button')) }", SEEN)
    try:
        [found] = barriers(page, SEEN)
        assert found.startswith("critical: button-name, 1 ×")
    finally:
        page.evaluate("what => { document.querySelector(what).lastChild.remove() }", SEEN)
