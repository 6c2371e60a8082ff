"""The chat in a real JupyterLab: a question is typed, a file uploaded, a bad one refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.browser.test_looks import text_of
from tests.widgets import test_chat

pytestmark = pytest.mark.browser

TOY = Path(test_chat.__file__).read_text("utf-8").split("@pytest.fixture")[0]
SHOW = (
    "chat = PictureChat(answer, IMAGES, foreign=foreign, questions=['What?', 'How many?'], name='toy')\nchat"
)
IDLE = ".vlm-chat[aria-busy=false]"


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_type_and_upload(lab, tmp_path, theme):
    page = lab.open(TOY, SHOW, name=f"chat-{theme}", theme=theme)
    page.wait_for_selector(IDLE)
    assert text_of(page, ".vlm-chat .vlm-answer") == "10"
    assert (
        page.locator(".vlm-chat .vlm-chance").first.inner_text().startswith("<b>yes</b>")
    )  # text stays text
    box = page.locator(".vlm-chat .vlm-search-box")
    box.fill("is it dark?")
    box.press("Enter")
    page.wait_for_selector(".vlm-chat .vlm-log:has-text('picture 1: is it dark? 10')")
    Image.fromarray(np.full((40, 90, 3), 180, np.uint8)).save(tmp_path / "mine.png")
    page.locator(".vlm-chat input[type=file]").set_input_files(tmp_path / "mine.png")
    page.wait_for_selector(".vlm-chat .vlm-answer:text-is('180')")
    assert text_of(page, ".vlm-chat .vlm-stage .vlm-words") == "mine.png"
    assert page.locator(".vlm-chat .vlm-stage .vlm-warning").is_visible()
    (tmp_path / "notes.txt").write_text("hello")
    page.locator(".vlm-chat input[type=file]").set_input_files(tmp_path / "notes.txt")
    page.wait_for_selector(".vlm-chat .vlm-warning:has-text('notes.txt is no picture')")
    assert text_of(page, ".vlm-chat .vlm-answer") == "180"
    page.locator(".vlm-chat .vlm-button", has_text="Next picture").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".vlm-chat .vlm-stage .vlm-words:text-is('picture 1')")
    assert not page.locator(".vlm-chat .vlm-stage .vlm-warning").is_visible()
    assert page.complaints == [] and page.outside == []
    lab.close(page)


OUT = """root => {
    const right = root.getBoundingClientRect().right + 1;
    return [...root.querySelectorAll('*')].filter(it => it.getBoundingClientRect().right > right)
        .map(it => it.className) }"""


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_by_keyboard_alone_on_a_telephone_with_odd_files(lab, tmp_path, theme):
    page = lab.open(TOY, SHOW, name=f"chat-narrow-{theme}", theme=theme)
    page.wait_for_selector(IDLE)
    page.set_viewport_size({"width": 390, "height": 844})
    page.evaluate("window.jupyterapp.shell.collapseLeft()")
    page.wait_for_timeout(200)
    assert page.locator(".vlm-chat").evaluate(OUT) == []
    reached = []
    page.locator(".vlm-chat .vlm-picture").first.focus()
    for _ in range(9):
        it = "document.activeElement"
        name = page.evaluate(f"{it}.getAttribute('aria-label') || {it}.textContent || {it}.type")
        seen = page.evaluate(f"getComputedStyle({it}).outlineStyle != 'none' || {it}.type == 'text'")
        reached.append(name.split(":")[0].strip())
        assert seen, name
        if name == "How many?":
            break
        page.keyboard.press("Tab")
    wanted = [
        "Next picture",
        "checkbox",
        "Upload a picture of yours",
        "Question about the picture",
        "Ask",
        "What?",
    ]
    assert [name for name in reached if name in wanted or name == "on"] == [
        name for name in wanted if name in reached
    ] and {"Next picture", "Upload a picture of yours", "Question about the picture", "Ask"} <= set(reached)
    page.keyboard.press("Enter")
    page.wait_for_selector(".vlm-chat .vlm-log:has-text('picture 1: How many? 10')")
    files = page.locator(".vlm-chat input[type=file]")
    for name, (data, pixel) in test_chat.ODD.items():
        (tmp_path / name).write_bytes(data)
        files.set_input_files(tmp_path / name)
        page.wait_for_selector(f".vlm-chat .vlm-stage .vlm-words:text-is('{name}')")
        assert abs(float(text_of(page, ".vlm-chat .vlm-answer")) - sum(pixel) / 3) <= 1
    for name, (data, words) in test_chat.REFUSED.items():
        (tmp_path / name).write_bytes(data)
        files.set_input_files(tmp_path / name)
        page.wait_for_selector(f".vlm-chat .vlm-warning:has-text('{name}'):has-text('{words}')")
    assert text_of(page, ".vlm-chat .vlm-stage .vlm-words") == list(test_chat.ODD)[-1]
    log = page.locator(".vlm-chat .vlm-log")
    assert log.evaluate("e => e.scrollTop + e.clientHeight >= e.scrollHeight - 1"), "the newest line is seen"
    assert page.locator(".vlm-chat").evaluate(OUT) == []
    page.locator(".vlm-chat").screenshot(path=str(tmp_path / f"{theme}.png"))
    page.set_viewport_size({"width": 1200, "height": 1300})
    assert page.complaints == [] and page.outside == []
    lab.close(page)
