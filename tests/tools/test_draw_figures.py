"""Tests of tools/draw_figures.py: what stands is what the script draws, and words fit their boxes."""

import importlib.util
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("draw_figures", ROOT / "tools" / "draw_figures.py")
figures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(figures)


@pytest.mark.parametrize("name", figures.DRAWINGS)
def test_the_drawing_that_stands_is_the_scripts(name):
    svg = figures.draw(*figures.DRAWINGS[name])
    assert (figures.FIGURES / f"{name}.svg").read_text(encoding="utf-8") == svg
    ElementTree.fromstring(svg)
    sources = (ROOT / "notebooks" / "src").glob("*.py")
    assert sum(f'drawing("{name}")' in path.read_text(encoding="utf-8") for path in sources) == 1


@pytest.mark.parametrize("name", figures.DRAWINGS)
def test_words_fit_their_boxes(name):
    svg = figures.draw(*figures.DRAWINGS[name])
    for width, words in re.findall(r'width="(\d+)" height="44".*?/>(<text.*)', svg):
        longest = max(re.findall(r">([^<]+)</text>", words), key=len)
        assert len(longest) * 6.4 < int(width), longest
