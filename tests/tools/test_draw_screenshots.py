"""The README's pictures are there, small, and drawn from what a widget shows."""

import base64
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from vlmcourse.widgets.attention import AttentionExplorer

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("draw_screenshots", ROOT / "tools" / "draw_screenshots.py")
draw_screenshots = importlib.util.module_from_spec(spec)
spec.loader.exec_module(draw_screenshots)


def test_the_readme_shows_both_themes_and_is_quick_to_load():
    named = set(re.findall(r"assets/screenshots/\w+\.png", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert named == {str(path.relative_to(ROOT)) for path in draw_screenshots.FOLDER.glob("*.png")}
    assert {f"assets/screenshots/playground_{theme}.png" for theme in draw_screenshots.THEMES} <= named
    assert sum((ROOT / name).stat().st_size for name in named) <= 300_000


def test_a_page_holds_the_widgets_state_script_and_theme():
    even = np.full((1, 1, 5, 5), 0.2, np.float32)
    explorer = AttentionExplorer(np.zeros((8, 8, 3), np.uint8), even, grid=(2, 2))
    page = draw_screenshots.page_of(explorer, "dark")
    assert base64.b64encode(explorer.blobs["image/0"]).decode() in page
    assert base64.b64encode(str(explorer._esm).encode()).decode() in page
    assert draw_screenshots.THEMES["dark"]["--jp-layout-color1"] in page


def test_what_json_cannot_hold_is_named():
    with pytest.raises(TypeError, match="object cannot be written into a page"):
        draw_screenshots.as_text(object())
