"""Report cards say what was measured, and are read back."""

import json
import re

import pytest

from vlmcourse.evaluation.report import Report, ReportLine, read_report
from vlmcourse.training.reading import CheckpointError

REPORT = Report(
    "nano <b>",
    "3 scenes & more",
    (
        ReportLine("answers", "colour", 0.9, 0.85, 0.944, says="of <i>"),
        ReportLine("answers", "shape", 0.25),
        ReportLine("price", "an answer", 20.26, unit="ms"),
    ),
)


def test_rows():
    assert REPORT.rows() == [
        ["answers", "colour", "90.0%", "85.0% to 94.4%", "of <i>"],
        ["", "shape", "25.0%", "", ""],
        ["price", "an answer", "20.3 ms", "", ""],
    ]


def test_by_name():
    assert REPORT["shape"] == 0.25
    with pytest.raises(KeyError, match="no line 'size'; it has colour, shape, an answer"):
        REPORT["size"]


def test_json_is_read_back(tmp_path):
    path = tmp_path / "card.json"
    path.write_text(REPORT.to_json(), encoding="utf-8")
    assert read_report(path) == REPORT


@pytest.mark.parametrize(
    "change", [lambda held: held.pop("lines"), lambda held: held["lines"][0].update(no=1)]
)
def test_another_file_is_no_report(tmp_path, change):
    held = json.loads(REPORT.to_json())
    change(held)
    (tmp_path / "card.json").write_text(json.dumps(held))
    with pytest.raises(CheckpointError, match=r"card\.json is no report card"):
        read_report(tmp_path / "card.json")


def test_page_escapes_texts_and_draws_bars():
    page = REPORT.to_html()
    assert "<b>" not in page and "nano &lt;b&gt;" in page and "of &lt;i&gt;" in page and "&amp; more" in page
    assert re.findall(r'<rect width="(\d+)"', page) == ["108", "30"]  # of 120 pixels; none for milliseconds
    assert 'd="M102.0 6H113.3M' in page  # from 85.0 to 94.4 %
    assert not re.search(r"(src|href)=|https?:", page)


def test_large_numbers_whole_shares_and_intervals_from_0():
    none = ReportLine("answers", "none", 0.0, 0.0, 0.05)
    card = Report(
        "模型", "x", (none, ReportLine("answers", "all", 1.0), ReportLine("price", "it", 12_345.4, unit=""))
    )
    assert [row[2:4] for row in card.rows()] == [["0.0%", "0.0% to 5.0%"], ["100.0%", ""], ["12,345", ""]]
    assert re.findall(r'<rect width="(\d+)"', card.to_html()) == ["0", "120"]
    assert 'd="M0.0 6H6.0M' in card.to_html() and '"模型"' in card.to_json()
    assert "<i>" not in Report("a", "b", (ReportLine("<i>", "a", 0.5),)).to_html()


def test_what_rounds_to_a_thousand_is_written_out():
    line = ReportLine("price", "it", 999.6, unit="ms")
    assert (
        line.shown(999.6) == "1,000 ms" and line.shown(999.4) == "999 ms" and line.shown(1.234) == "1.23 ms"
    )
