"""INSTRUCTOR.md says what the exercises and the README say."""

import re
from pathlib import Path

import pytest

from tools import instructor_tables
from vlmcourse.exercises.base import all_exercises
from vlmcourse.workbook.chapters import CHAPTERS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "INSTRUCTOR.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
MINUTES = {row[0]: int(row[1]) for row in re.findall(r"^\| \[(\d\d)_.*?\| (\d+) \|", README, re.M)}
WEEKS = re.findall(r"^\| \d+ \| ([\d, ]+) \| (\d+) \|", PAGE, re.M)


def test_the_table_of_mistakes_is_that_of_the_exercises():
    assert instructor_tables.page_with(PAGE) == PAGE
    assert all(f"`{name}`" in PAGE for name in all_exercises())


@pytest.mark.parametrize(("chapters", "minutes"), WEEKS)
def test_a_weeks_minutes_are_those_of_the_readme(chapters, minutes):
    assert sum(MINUTES[chapter] for chapter in chapters.split(", ")) == int(minutes)


def test_fourteen_weeks_are_the_whole_course():
    taught = [chapter for chapters, _ in WEEKS[:14] for chapter in chapters.split(", ")]
    assert taught == [chapter.name[:2] for chapter in CHAPTERS if chapter.ready]
    assert len(WEEKS) == 20
