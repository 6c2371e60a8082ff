"""The README's pictures are there, small, and drawn from what a widget shows."""

import base64
import importlib.util
import re
from pathlib import Path

import draw_animation
import nbformat
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from vlmcourse.data import pixels
from vlmcourse.widgets.attention import AttentionExplorer

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("draw_screenshots", ROOT / "tools" / "draw_screenshots.py")
draw_screenshots = importlib.util.module_from_spec(spec)
spec.loader.exec_module(draw_screenshots)


def test_the_readme_shows_both_themes_and_is_quick_to_load():
    named = set(re.findall(r"assets/screenshots/\w+\.png", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert named == {str(path.relative_to(ROOT)) for path in draw_screenshots.FOLDER.glob("*.png")}
    shown = [
        f"{name}_{theme}"
        for name in ("playground", "attention_explorer")
        for theme in draw_screenshots.THEMES
    ]
    assert named == {f"assets/screenshots/{name}.png" for name in shown}
    assert sum((ROOT / name).stat().st_size for name in named) <= 300_000


def test_the_animation_is_short_light_and_holds_long_enough_to_be_read():
    assert str(draw_animation.FILE.relative_to(ROOT)) in (ROOT / "README.md").read_text(encoding="utf-8")
    with Image.open(draw_animation.FILE) as film:
        shown = [frame.info["duration"] for frame in ImageSequence.Iterator(film)]
        assert film.size == (draw_animation.WIDTH, draw_animation.HEIGHT)
    assert shown.count(draw_animation.SLOW) == 2, (
        "the card that says what is wrong, and the one that says passed"
    )
    assert sum(shown) <= 15_000 and draw_animation.FILE.stat().st_size <= 100_000


def test_what_the_animation_types_gets_the_cards_that_it_waits_for():
    given = pixels.normalise.reference
    space = {"torch": torch}
    exec(
        f"def wrong(images):\n    {draw_animation.WRONG}\ndef right(images):\n    {draw_animation.RIGHT}",
        space,
    )
    images = torch.randint(0, 256, (2, 5, 7, 3), dtype=torch.uint8)
    assert torch.equal(space["right"](images), given(images))
    assert torch.equal(space["wrong"](images), given(images).transpose(2, 3))


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


def test_a_cell_of_a_chapter_gives_what_it_shows_and_an_unknown_one_is_named(tmp_path, monkeypatch):
    cells = [
        nbformat.v4.new_code_cell(source, id=f"cell-{n}")
        for n, source in enumerate(["x = 6", "x * 7", "1 / 0"])
    ]
    (tmp_path / "notebooks").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "notebooks" / "01_tiny.ipynb")
    monkeypatch.setattr(draw_screenshots, "ROOT", tmp_path)
    assert draw_screenshots.made_by("01_tiny", "cell-1") == 42
    with pytest.raises(ZeroDivisionError):
        draw_screenshots.made_by("01_tiny", "cell-2")
    cells.pop()
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "notebooks" / "01_tiny.ipynb")
    with pytest.raises(LookupError, match="01_tiny has no code cell cell-9"):
        draw_screenshots.made_by("01_tiny", "cell-9")


def test_the_chapter_still_shows_the_explorer_in_the_cell_that_is_run():
    notebook = nbformat.read(ROOT / "notebooks" / "02_vit.ipynb", 4)
    (cell,) = [cell for cell in notebook.cells if cell.id == "dino-explore"]
    assert "AttentionExplorer(" in cell.source.splitlines()[-3]
