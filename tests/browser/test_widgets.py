"""Quiz, scene browser and live plot in a real JupyterLab, by keyboard and pointer, in light and dark."""

import re

import numpy as np
import pytest

pytestmark = pytest.mark.browser

QUIZ = """
from vlmcourse.widgets.quiz import Quiz
heard = []
quiz = Quiz("<script>alert('run')</script> How many `patches`?", [
    ("<b>four</b>", False, "That is the side."),
    ("sixteen", True, "Four rows of four."), ("eight", False, "Half.")])
quiz.observe(lambda change: heard.append((quiz.chosen, quiz.correct)), "chosen")
quiz
"""
SCENES = """
import numpy as np
from vlmcourse.widgets.scenes import SceneBrowser
images = np.random.default_rng(5).integers(0, 256, (30, 32, 64, 3), dtype=np.uint8)
boxes = [(16, 8, 32, 24), (0, 0, 64, 4)]
records = [[{"question": f"<i>What</i> is in {i}?", "answer": "a square", "boxes": boxes},
            {"question": "Is there a star?", "answer": "no", "boxes": []}] for i in range(30)]
SceneBrowser(images, [f"<b>scene</b> {i}" for i in range(30)], records)
"""
PLOT = """
import time
from vlmcourse.widgets.plot import LivePlot
with LivePlot("<u>digits</u>", series=("train_loss", "held_out_loss", "accuracy")) as plot:
    for step in range(101):
        more = {"held_out_loss": 3 - step / 50, "accuracy": step / 100} if step % 50 == 0 else {}
        plot.add(step, train_loss=2 - step / 100, **more)
        time.sleep(0.002)
"""
INK = (
    "e => [getComputedStyle(e).color, getComputedStyle(document.body).getPropertyValue('--jp-layout-color0')]"
)


@pytest.fixture(scope="module", params=["Light", "Dark"])
def page(lab, request):
    page = lab.open(QUIZ, SCENES, PLOT, name=f"widgets-{request.param}", theme=request.param)
    page.theme = request.param
    for widget in (".vlm-quiz", ".vlm-scenes", ".vlm-plot"):
        page.wait_for_selector(widget)
    yield page
    assert page.complaints == [] and page.outside == []
    lab.close(page)


def test_a_quiz_is_answered_by_keyboard_and_python_hears_it(page, lab):
    why = page.locator(".vlm-why")
    page.locator(".vlm-quiz input").first.focus()
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    assert [why.nth(i).is_visible() for i in range(3)] == [True, False, False]
    assert "✗" in page.locator(".vlm-choice").first.inner_text()
    assert "Not this one" in page.locator(".vlm-verdict").inner_text()
    page.keyboard.press("ArrowDown")
    assert not why.nth(1).is_visible()  # choosing is not yet answering
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator(".vlm-verdict").inner_text() == "Right."
    assert why.all_inner_texts() == ["That is the side.", "Four rows of four.", "Half."]
    page.wait_for_timeout(200)
    assert lab.ask(page, "heard") == "[(0, False), (1, True)]"


def test_every_label_stays_text(page):
    assert (
        page.locator(".vlm script, .vlm-choice b, .vlm-caption b, .vlm-question i, .vlm-title u").count() == 0
    )
    assert page.locator(".vlm-quiz legend").inner_text() == "<script>alert('run')</script> How many patches?"
    assert page.locator(".vlm-quiz legend code").inner_text() == "patches"
    assert page.locator(".vlm-caption").inner_text().startswith("<b>scene</b>")


def test_scenes_are_browsed_by_keyboard_and_pages_hold_their_pictures(page):
    scope: dict = {}
    exec(SCENES.rsplit("\n", 2)[0], scope)
    page.locator(".vlm-scenes .vlm-thumb").first.click()
    for key, scene in [
        ("ArrowRight", 1),
        ("ArrowDown", 5),
        ("PageDown", 17),
        ("PageDown", 29),
        ("ArrowUp", 25),
        ("ArrowLeft", 24),
        ("ArrowLeft", 23),
    ]:
        page.keyboard.press(key)
        assert page.locator(".vlm-caption").inner_text() == f"<b>scene</b> {scene}"
        assert page.evaluate("document.activeElement.ariaLabel") == f"Scene {scene}: <b>scene</b> {scene}"
    rgba = page.evaluate("""() => { const canvas = document.querySelector('.vlm-scenes .vlm-picture canvas');
        return [...canvas.getContext('2d').getImageData(0, 0, 64, 32).data] }""")
    assert np.array_equal(np.reshape(rgba, (32, 64, 4))[..., :3], scope["images"][23])
    page.get_by_role("button", name="Next page").click()
    assert page.locator(".vlm-where").inner_text() == "24–29 of 30"
    assert page.locator(".vlm-scenes .vlm-thumb:visible").count() == 6


def test_pointing_at_a_question_outlines_its_evidence(page):
    page.locator(".vlm-question").first.hover()
    picture = page.locator(".vlm-scenes .vlm-picture").bounding_box()
    box = page.locator(".vlm-box").first.bounding_box()
    assert page.locator(".vlm-box").count() == 2
    found = [
        (box["x"] - picture["x"]) / picture["width"] * 64,
        (box["y"] - picture["y"]) / picture["height"] * 32,
        box["width"] / picture["width"] * 64,
        box["height"] / picture["height"] * 32,
    ]
    assert np.allclose(found, [16, 8, 16, 16], atol=0.3)
    page.locator(".vlm-question").nth(1).focus()
    page.mouse.move(0, 0)
    assert page.locator(".vlm-box").count() == 0


def told(keys) -> list[str]:
    return [re.sub(r"\s", "", text) for text in keys.all_inner_texts()]


def test_the_plot_ends_with_the_last_numbers_and_tells_those_under_the_pointer(page):
    keys = page.locator(".vlm-key")
    page.wait_for_function("document.querySelector('.vlm-key').textContent === 'train loss1'")
    assert told(keys) == ["trainloss1", "heldoutloss1", "accuracy1"]
    canvas = page.locator(".vlm-panel > canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 46 + (box["width"] - 56) / 2, box["y"] + 60)  # step 50, between the axes
    assert told(keys) == ["trainloss1.5at50", "heldoutloss1", "accuracy1"]
    assert canvas.get_attribute("aria-label").startswith("<u>digits</u>: train loss 1.5")
    page.mouse.move(0, 0)


def test_the_pictures_beside_live_views_are_there_but_hidden(page):
    stills = page.locator("img.jp-mod-unconfined")
    assert stills.count() == 2 and not any(stills.nth(i).is_visible() for i in range(2))


def test_text_reads_on_the_theme(page):
    for part in ("quiz legend", "choice label", "caption", "question", "title", "button"):
        ink, paper = page.locator(f".vlm-{part}").first.evaluate(INK)
        light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (part, ink, paper)
    assert (luminance(page.locator(".vlm-quiz").evaluate(INK)[1]) > 0.5) == (page.theme == "Light")


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2) of rgb(…), #rrggbb, #rgb, or white and black by name."""
    colour = {"white": "#ffffff", "black": "#000000"}.get(colour.strip(), colour.strip())
    if colour.startswith("#"):
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        values = [int(digits[i : i + 2], 16) for i in (0, 2, 4)]
    else:
        values = [float(value) for value in re.findall(r"[\d.]+", colour)[:3]]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in np.divide(values, 255)]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))
