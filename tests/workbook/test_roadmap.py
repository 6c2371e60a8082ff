"""Every point of the roadmap leads to a cell that is there and that can fail."""

import re
from pathlib import Path

import pytest

from vlmcourse.workbook.roadmap import ROADMAP, roadmap

SOURCES = Path(__file__).parents[2] / "notebooks" / "src"


@pytest.mark.parametrize("point", ROADMAP, ids=lambda point: f"{point.chapter}-{point.cell}")
def test_the_cell_is_there_and_asserts(point):
    (source,) = SOURCES.glob(f"{point.chapter}_*.py")
    cells = re.split(r"^# %% ", source.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (cell,) = [cell for cell in cells if cell.startswith(f'id="{point.cell}"')]
    assert "assert " in cell


def test_it_is_shown_as_a_table(capsys):
    roadmap()
    assert "proved in" in capsys.readouterr().out
