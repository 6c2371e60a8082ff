import time

import numpy as np
import pytest
from matplotlib.text import Text

from vlmcourse.widgets.browser import (
    BLANK,
    LARGE,
    ON_A_PAGE,
    LazyPictures,
    RowBrowser,
    in_a_square,
    shown_number,
)

PICTURES = np.random.default_rng(0).integers(0, 256, (60, 64, 64, 3), dtype=np.uint8)
NAMES = [f"row {number}" for number in range(60)]
SCORE = np.arange(60) / 10
VERDICTS = ["right" if number % 3 else "wrong" for number in range(60)]


def make(**more):
    return RowBrowser(
        PICTURES, {"question": NAMES, "said": ["yes"] * 60}, {"sure": SCORE}, {"verdict": VERDICTS}, **more
    )


def numbers(browser):
    return [row["number"] for row in browser.answer["rows"]]


def test_a_page_holds_its_rows_and_their_pictures_alone():
    browser = make()
    assert numbers(browser) == [*range(59, 35, -1)]
    assert browser.small == PICTURES[59:35:-1].tobytes() and not browser.blobs
    browser.view = browser.view | {"page": 2}
    assert numbers(browser) == [*range(11, -1, -1)] and browser.small == PICTURES[11::-1].tobytes()
    assert browser.answer["rows"][0] == {"number": 11, "name": "row 11", "score": "1.1", "sign": ""}


def test_a_page_that_is_gone_after_a_search_gives_way_to_the_last_one():
    browser = make()
    browser.view = browser.view | {"page": 2, "text": "row 1"}
    assert browser.answer["page"] == 0 and browser.answer["stay"] == 15
    assert browser.found.tolist() == [51, 41, 31, 21, *range(19, 9, -1), 1]


def test_the_first_row_is_open_and_any_other_can_be():
    boxes = [[(16, 8, 32, 64)] if number == 7 else [] for number in range(60)]
    browser = make(boxes=boxes, outcome="verdict", signs={"right": "✓", "wrong": "✗"})
    assert browser.answer["opened"]["number"] == 59 and browser.large == PICTURES[59].tobytes()
    browser.view = browser.view | {"opened": 7}
    assert browser.large == PICTURES[7].tobytes()
    assert browser.answer["opened"] == {
        "number": 7, "size": [64, 64], "fault": "", "sign": "✓", "boxes": [[0.25, 0.125, 0.5, 1.0]],
        "texts": [["question", "row 7"], ["said", "yes"]], "scores": [["sure", "0.7"]],
        "tags": [["verdict", "right"]],
    }  # fmt: skip
    browser.view = browser.view | {"opened": None}
    assert browser.answer["opened"] is None


def test_crossed_cuts_are_named_and_the_rows_stay_until_they_are_mended():
    browser = make()
    before = numbers(browser), browser.small
    browser.view = browser.view | {"cuts": [[3, 2.5]]}
    assert (
        browser.answer["problem"] == "sure from 3 to 2.5 holds nothing; the first number must be the smaller"
    )
    assert (numbers(browser), browser.small) == before and browser.answer["view"]["cuts"] == [[3, 2.5]]
    browser.view = browser.view | {"cuts": [[2.5, 3]]}
    assert browser.answer["problem"] == "" and numbers(browser) == [30, 29, 28, 27, 26, 25]


def test_a_picture_that_cannot_be_opened_is_named_and_the_others_stand():
    def open_one(number):
        if number == 1:
            raise OSError("cut off\nand more")
        return PICTURES[number]

    browser = RowBrowser(LazyPictures(3, open_one), {"name": list("abc")})
    assert np.frombuffer(browser.small, np.uint8)[64 * 64 * 3 :][: 64 * 64 * 3].tolist() == [BLANK] * 12288
    assert browser.small[:12288] == PICTURES[0].tobytes() and browser.answer["opened"]["fault"] == ""
    browser.view = browser.view | {"opened": 1}
    assert browser.answer["opened"]["fault"] == "OSError: cut off" and browser.static_figure().data


def test_pictures_are_opened_only_for_the_page_and_once():
    opened = []

    def open_one(number):
        opened.append(number)
        return PICTURES[number]

    browser = RowBrowser(LazyPictures(60, open_one), {"name": NAMES})
    assert set(opened) == set(range(ON_A_PAGE))
    opened.clear()
    browser.view = browser.view | {"text": "row"}
    assert opened == [0]  # the large one


def test_a_large_picture_travels_smaller():
    browser = RowBrowser(
        np.zeros((1, 1000, 500, 3), np.uint8), {"name": ["a"]}, boxes=[[(0, 500, 500, 1000)]]
    )
    assert browser.answer["opened"]["size"] == [LARGE, LARGE // 2] and len(browser.large) == LARGE**2 // 2 * 3
    assert browser.answer["opened"]["boxes"] == [[0, 0.5, 1, 1]]


def test_a_summary_counts_whatever_the_outcome_that_is_chosen():
    browser = make(
        outcome="verdict",
        start={"verdict": "wrong"},
        summary=lambda rows: f"{len(rows)} rows\nfrom {rows[0]}",
    )
    assert browser.answer["stay"] == 20 and browser.answer["summary"] == ["60 rows", "from 0"]
    browser.view = browser.view | {"cuts": [[5, None]]}
    assert browser.answer["stay"] == 3 and browser.answer["summary"] == ["10 rows", "from 50"]
    browser.view = browser.view | {"text": "nothing of the kind"}
    assert browser.answer["summary"] == [
        "IndexError: index 0 is out of bounds for axis 0 with size 0"
    ] and not numbers(browser)


def test_values_of_the_outcome_come_in_the_order_of_their_signs():
    signs = {"right": "✓", "wrong": "✗"}
    assert make(outcome="verdict", signs=signs).shape["tags"] == [["verdict", ["right", "wrong"]]]
    assert make().shape["tags"] == [["verdict", ["wrong", "right"]]]
    assert [row["sign"] for row in make(outcome="verdict", signs=signs).answer["rows"][:3]] == list("✓✓✗")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"boxes": [[]]}, "1 lists of boxes for 60 rows"),
        ({"outcome": "kind"}, "outcome 'kind' is none of the tags verdict"),
        ({"start": {"verdict": "odd"}}, "no row has verdict='odd'"),
        ({"start": {"kind": "right"}}, "no row has kind='right'"),
    ],
)
def test_what_does_not_fit_is_named(more, message):
    with pytest.raises(ValueError, match=message):
        make(**more)
    with pytest.raises(ValueError, match="must be uint8"):
        RowBrowser(PICTURES / 255, {"name": NAMES})
    with pytest.raises(ValueError, match="text 'name' has 60 entries for 59"):
        RowBrowser(PICTURES[1:], {"name": NAMES})


def test_python_may_look_only_where_something_is():
    browser = make()
    for change in (
        {"opened": 60},
        {"page": 3},
        {"by": 1},
        {"cuts": []},
        {"tags": [2]},
        {"cuts": [[0, np.nan]]},
    ):
        with pytest.raises(ValueError, match=f"view has {next(iter(change))}="):
            browser.view = browser.view | change
    browser.view = browser.view | {"tags": [1], "cuts": [[0, 5.9]], "by": None, "page": 2}
    assert numbers(browser) == [row for row in range(60) if row % 3][24:]  # its last page


def test_the_order_of_fields_does_not_matter_to_the_page():
    browser = make()
    fields = [*browser.view]
    browser.view = dict(reversed((browser.view | {"text": "5"}).items()))
    assert [*browser.answer["view"]] == fields


def test_five_thousand_rows_are_looked_through_at_once():
    count = 5000
    table = {"text": [f"a row with the number {number}" for number in range(count)]}
    tag = {"kind": [f"kind {number % 8}" for number in range(count)]}
    browser = RowBrowser(
        LazyPictures(count, lambda number: PICTURES[number % 60]), table, {"s": range(count)}, tag
    )
    started = time.process_time()
    for turn in range(10):
        browser.view = browser.view | {"text": f"number {turn}", "tags": [turn % 8], "cuts": [[turn, None]]}
    assert (time.process_time() - started) / 10 < 0.25  # seconds; it takes 0.02
    assert len(browser.small) <= ON_A_PAGE * 64 * 64 * 3


def test_numbers_are_short_and_unknown_ones_a_dash():
    assert [shown_number(value) for value in (0.12345, 3.0, -12, 1234.5, np.nan)] == [
        "0.123", "3", "-12", "1.23e+03", "–",
    ]  # fmt: skip


def test_a_picture_of_any_size_stands_in_the_middle_of_its_square():
    square = in_a_square(np.full((8, 4, 3), 7, np.uint8), 64)
    assert square.shape == (64, 64, 3) and (square[:, 16:48] == 7).all()
    assert (square[:, :16] == BLANK).all() and (square[:, 48:] == BLANK).all()
    wide = in_a_square(np.full((50, 200, 3), 7, np.uint8), 64)
    assert (wide[24:40] == 7).all() and (wide[:24] == BLANK).all() and (wide[40:] == BLANK).all()


def test_the_picture_shows_what_stays():
    browser = make(outcome="verdict", signs={"right": "✓", "wrong": "✗"}, summary=lambda rows: "said")
    still = browser.static_figure()
    assert still.alt == "Rows: 60 of 60 rows stay; the first: row 59; row 58; row 57"
    texts = [text.get_text() for text in still.figure.findobj(Text)]
    assert "✗ 5.7\nrow 57\nsaid: yes" in texts and "Rows: 60 of 60 rows stay\nsaid" in texts
    browser.view = browser.view | {"text": "row 3"}
    assert browser.static_figure().alt.startswith("Rows: 15 of 60 rows stay; the first: row 53; row 43")
    browser.view = browser.view | {"text": "nothing of the kind"}
    assert browser.static_figure().data
