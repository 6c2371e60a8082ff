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
