"""The browser of rows in a real JupyterLab: found, cut, opened, by pointer and keyboard, light and dark."""

import re

import numpy as np
import pytest

pytestmark = pytest.mark.browser

ROWS = """
import numpy as np
from vlmcourse.widgets.browser import LazyPictures, RowBrowser
images = np.random.default_rng(5).integers(0, 256, (60, 32, 64, 3), dtype=np.uint8)
browser = RowBrowser(LazyPictures(60, lambda number: images[number] if number != 40 else 1 / 0),
    {"question": [f"<i>What</i> is in {i}?" for i in range(60)], "said": ["a <b>star</b>"] * 60},
    {"CLIP": np.arange(60) / 100, "bits": np.arange(60) % 7},
    {"verdict": ["right" if i % 3 else "wrong" for i in range(60)], "kind": ["colour"] * 30 + ["size"] * 30},
    boxes=[[(16, 8, 32, 24)]] * 60, outcome="verdict", signs={"right": "✓", "wrong": "✗"},
    summary=lambda rows: f"{len(rows)} rows counted", title="<u>Try</u>")
browser
"""
TILE = ".vlm-browser .vlm-row:visible"


@pytest.fixture(scope="module", params=["Light", "Dark"])
def page(lab, request):
    page = lab.open(ROWS, name=f"rows-{request.param}", theme=request.param)
    page.wait_for_selector(".vlm-browser .vlm-row")
    yield page
    assert page.complaints == [] and page.outside == []
    lab.close(page)


@pytest.fixture(autouse=True)
def begin_anew(page):
    clear = page.get_by_role("button", name="Clear all")
    if clear.is_enabled():
        clear.click()
    stays(page, "60 of 60 rows stay")


def stays(page, words):
    page.wait_for_function(
        "words => document.querySelector('.vlm-browser .vlm-words').textContent === words", arg=words
    )


def opened(page, number):
    page.wait_for_function(
        "name => document.querySelector('.vlm-opened .vlm-words').textContent.startsWith(name)",
        arg=f"Row {number} ",
    )


def chip(page, words):
    return page.get_by_role("button", name=words)


def test_a_search_a_tag_and_a_cut_say_what_stays_and_python_knows_it(page, lab):
    chip(page, re.compile("^wrong 20$")).click()
    stays(page, "20 of 60 rows stay")
    assert chip(page, "colour 10").is_visible() and chip(page, "right 40").is_visible()
    assert page.locator(".vlm-summary").inner_text() == "60 rows counted"
    chip(page, "colour 10").click()
    stays(page, "10 of 60 rows stay")
    assert page.locator(".vlm-summary").inner_text() == "30 rows counted"
    page.get_by_label("From", exact=True).fill("0.2")
    page.keyboard.press("Enter")
    stays(page, "3 of 60 rows stay")
    assert lab.ask(page, "browser.found.tolist()") == "[27, 24, 21]"
    page.get_by_label("Search the texts").fill("IN 24")
    stays(page, "1 of 60 rows stay")
    assert page.locator(TILE).get_attribute("aria-label") == "Row 24: <i>What</i> is in 24?, 0.24, ✗"


def test_a_slider_cuts_and_crossed_numbers_are_named(page):
    page.get_by_label("To, by slider").focus()
    for _ in range(50):
        page.keyboard.press("ArrowLeft")
    stays(page, "30 of 60 rows stay")
    assert page.get_by_label("To", exact=True).input_value() == "0.295"
    page.get_by_label("From", exact=True).fill("0.5")
    page.keyboard.press("Enter")
    page.wait_for_selector(".vlm-browser [role=alert]:visible")
    told = page.locator(".vlm-chooser [role=alert]").inner_text()
    assert told == "⚠ CLIP from 0.5 to 0.295 holds nothing; the first number must be the smaller"
    assert page.locator(TILE).count() == 24  # what was there stays
    page.get_by_label("From", exact=True).fill("")
    page.keyboard.press("Enter")
    stays(page, "30 of 60 rows stay")


def test_rows_are_walked_by_keyboard_and_open_with_picture_box_and_numbers(page):
    scope: dict = {}
    exec(ROWS.rsplit("\n", 2)[0], scope)
    page.locator(TILE).first.click()
    opened(page, 59)
    page.keyboard.press("ArrowRight")
    opened(page, 58)
    assert page.evaluate("document.activeElement.ariaLabel") == "Row 58: <i>What</i> is in 58?, 0.58, ✓"
    rgba = page.evaluate("""() => { const canvas = document.querySelector('.vlm-opened canvas');
        return [...canvas.getContext('2d').getImageData(0, 0, 64, 32).data] }""")
    assert np.array_equal(np.reshape(rgba, (32, 64, 4))[..., :3], scope["images"][58])
    told = re.sub(r"\s+", " ", page.locator(".vlm-told").inner_text())
    assert told == (
        "question <i>What</i> is in 58? said a <b>star</b> CLIP 0.58 bits 2 verdict right kind size"
    )
    frame, box = (page.locator(f".vlm-opened {name}").bounding_box() for name in (".vlm-picture", ".vlm-box"))
    found = [(box["x"] - frame["x"]) / frame["width"] * 64, (box["y"] - frame["y"]) / frame["height"] * 32]
    assert np.allclose(found, [16, 8], atol=0.3)
    page.keyboard.press("End")
    opened(page, 36)
    page.keyboard.press("PageDown")
    page.wait_for_function("document.querySelector('.vlm-where').textContent === '25–48 of 60'")
    assert page.locator(TILE).first.get_attribute("aria-label").startswith("Row 35")
    page.get_by_role("button", name="Next page").click()
    page.wait_for_function("document.querySelector('.vlm-where').textContent === '49–60 of 60'")
    assert page.locator(TILE).count() == 12 and page.get_by_role("button", name="Next page").is_disabled()


def test_another_score_sorts_and_a_damaged_picture_is_named(page, lab):
    page.get_by_label("Sort by").select_option("bits")
    page.get_by_role("button", name="largest first").click()
    page.wait_for_function("document.querySelector('.vlm-row').ariaLabel.startsWith('Row 0:')")
    assert lab.ask(page, "browser.found[:3].tolist()") == "[0, 7, 14]"
    page.get_by_label("Search the texts").fill("40")
    stays(page, "1 of 60 rows stay")
    page.locator(TILE).first.click()
    opened(page, 40)
    assert page.locator(".vlm-opened [role=alert]").inner_text() == "⚠ ZeroDivisionError: division by zero"
    page.get_by_role("button", name="smallest first").click()
    page.get_by_label("Sort by").select_option("CLIP")


def test_python_sets_the_view_and_every_label_stays_text(page, lab):
    lab.ask(page, "setattr(browser, 'view', browser.view | {'text': 'in 43', 'opened': 43})")
    stays(page, "1 of 60 rows stay")
    opened(page, 43)
    assert page.get_by_label("Search the texts").input_value() == "in 43"
    assert page.locator(".vlm-browser i:visible, .vlm-told b b, .vlm-browser u").count() == 0


def test_nothing_is_wider_than_a_narrow_page(page):
    page.set_viewport_size({"width": 390, "height": 900})
    page.evaluate("window.jupyterapp.shell.collapseLeft()")
    root = page.locator(".vlm-browser")
    wide = root.evaluate("e => [e.scrollWidth, e.clientWidth]")
    page.set_viewport_size({"width": 1200, "height": 1300})
    assert wide[0] <= wide[1]
