"""axe-core finds no serious barrier in any widget: in JupyterLab, light and dark, wide and narrow."""

import numpy as np
import pytest
from read_book import barriers

from tests.browser.test_chat import SHOW, TOY
from tests.widgets.test_base import NAMES
from vlmcourse.widgets.base import script
from vlmcourse.widgets.stills import cividis

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


def test_a_word_reads_on_every_colour_of_a_map(chromium):
    page = chromium.new_page()
    page.add_script_tag(content=script("maps.js").replace("export default { render };", ""))
    said = page.evaluate(
        "table => [...Array(256).keys()].map(code => tinted(code, new Uint8Array(table)).color)",
        cividis().flatten().tolist(),
    )
    page.close()
    inks = {"#000000": 0.0, "#ffffff": 1.0}
    for paper, ink in zip(cividis() / 255, said, strict=True):
        linear = np.where(paper <= 0.04045, paper / 12.92, ((paper + 0.055) / 1.055) ** 2.4)
        darker, lighter = sorted([float(linear @ (0.2126, 0.7152, 0.0722)), inks[ink]])
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def test_a_barrier_is_found_and_named(page):
    page.evaluate("what => { document.querySelector(what).append(document.createElement('button')) }", SEEN)
    try:
        [found] = barriers(page, SEEN)
        assert found.startswith("critical: button-name, 1 ×")
    finally:
        page.evaluate("what => { document.querySelector(what).lastChild.remove() }", SEEN)
