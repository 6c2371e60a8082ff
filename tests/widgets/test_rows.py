import numpy as np
import pytest

from vlmcourse.widgets.rows import MOST_VALUES, RowTable

NAN = float("nan")
TABLE = RowTable(
    6,
    {"question": ["Is it RED?", "Is it blue?", "a red star", "b", "c", "d"], "answer": list("xyxyxx")},
    {"clip": [0.5, NAN, 0.1, 0.5, 0.9, 0.3], "bits": [3, 0, 1, 2, None, 1]},
    {"kind": ["a", "b", "a", "a", "c", "b"], "end": ["no", "yes", "yes", "no", "no", "no"]},
    {"end": ["yes", "no"]},
)
OPEN = {"by": 0, "down": True, "cuts": [[None, None]] * 2, "tags": [None, None], "text": ""}


def rows(**change):
    view = OPEN | change
    return TABLE.order(view, TABLE.stays(view)).tolist()


def test_rows_are_sorted_equal_ones_as_they_stand_and_unknown_ones_last():
    assert rows() == [4, 0, 3, 5, 2, 1]
    assert rows(down=False) == [2, 5, 0, 3, 4, 1]
    assert rows(by=1) == [0, 3, 2, 5, 1, 4]
    assert rows(by=None) == [0, 1, 2, 3, 4, 5]


def test_both_ends_of_a_cut_belong_to_it_and_unknown_ones_do_not():
    assert rows(cuts=[[0.3, 0.5], [None, None]]) == [0, 3, 5]
    assert rows(cuts=[[0.5, None], [None, None]]) == [4, 0, 3]
    assert rows(cuts=[[None, 0.3], [None, None]]) == [5, 2]
    assert rows(cuts=[[None, 0.5], [2, None]]) == [0, 3]


def test_a_tag_must_be_had_and_each_word_found_in_any_case():
    assert rows(tags=[0, None]) == [0, 3, 2]
    assert rows(tags=[0, 1]) == [0, 3]  # "no" was named second
    assert rows(text=" red  IS ") == [0]
    assert rows(text="red x") == [0, 2]  # one word in each text
    assert rows(text="green") == []


def test_a_group_counts_what_all_the_others_leave():
    assert TABLE.values == {"kind": ["a", "b", "c"], "end": ["yes", "no"]}
    assert TABLE.groups(OPEN) == [[3, 2, 1], [2, 4]]
    assert TABLE.groups(OPEN | {"tags": [0, 1]}) == [[2, 1, 1], [1, 2]]
    assert TABLE.groups(OPEN | {"text": "red"}) == [[2, 0, 0], [1, 1]]


def test_a_histogram_has_all_that_the_cut_alone_takes_away():
    view = OPEN | {"by": 1, "cuts": [[None, None], [1, 2]], "tags": [None, 1]}
    assert TABLE.bars(view) == {
        "low": 0, "high": 3, "edges": [-0.5, 3.5], "unknown": 1, "uncut": [0, 1, 1, 1], "stay": [0, 1, 1, 0],
    }  # fmt: skip
    bars = TABLE.bars(OPEN | {"cuts": [[0.5, None], [None, None]]})
    assert (bars["low"], bars["high"], bars["edges"], bars["unknown"]) == (0.1, 0.9, [0.1, 0.9], 1)
    assert len(bars["uncut"]) == 30 and sum(bars["uncut"]) == 5 and sum(bars["stay"]) == 3
    assert bars["uncut"][0] == bars["stay"][-1] == 1 and bars["stay"][15] == 2


def test_a_score_of_one_number_or_none_has_a_histogram_or_not():
    same = RowTable(2, {"t": ["a", "b"]}, {"s": [0.5, 0.5], "none": [NAN, NAN]}, {})
    view = {"down": True, "cuts": [[None, None]] * 2, "tags": [], "text": ""}
    assert same.bars(view | {"by": 0})["edges"] == [0.5, 1.5]
    assert same.bars(view | {"by": 0})["stay"] == [2] + 29 * [0]
    assert same.bars(view | {"by": 1}) is None is same.bars(view | {"by": None})


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ((0, {"t": []}, {}, {}), "there are no rows"),
        ((2, {}, {}, {}), "there are no texts"),
        ((2, {"t": ["a"]}, {}, {}), "text 't' has 1 entries for 2 rows"),
        ((2, {"t": "ab"}, {"s": [1, 2, 3]}, {}), "score 's' has 3 entries for 2 rows"),
        ((2, {"t": "ab"}, {}, {"k": ["x"]}), "tag 'k' has 1 entries for 2 rows"),
        ((2, {"t": "ab"}, {"s": [1, np.inf]}, {}), "score 's' is infinite somewhere"),
        ((2, {"t": "ab"}, {"s": [[1], [2]]}, {}), r"score 's' has the shape \(2, 1\)"),
        ((25, {"t": "a" * 25}, {}, {"k": range(25)}), f"tag 'k' has 25 different values, {MOST_VALUES}"),
    ],
)
def test_what_is_no_table_is_named(columns, message):
    with pytest.raises(ValueError, match=message):
        RowTable(*columns)


def test_many_equal_rows_stay_as_they_stand():
    scores = [number % 2 for number in range(200)]
    table = RowTable(200, {"text": ["a"] * 200}, {"score": scores}, {})
    view = {"by": 0, "down": True, "cuts": [[None, None]], "tags": [], "text": ""}
    assert table.order(view, table.stays(view)).tolist() == [*range(1, 200, 2), *range(0, 200, 2)]


@pytest.mark.parametrize("most, edges, bars", [(29, [-0.5, 29.5], 30), (30, [0, 30], 30)])
def test_whole_numbers_get_a_bar_each_while_there_are_30_at_most(most, edges, bars):
    table = RowTable(2, {"text": ["a", "b"]}, {"score": [0, most]}, {})
    found = table.bars({"by": 0, "down": True, "cuts": [[None, None]], "tags": [], "text": ""})
    assert found["edges"] == edges and len(found["stay"]) == bars


def test_24_values_of_a_tag_are_not_too_many_and_those_that_are_not_named_follow():
    many = [str(number) for number in range(24)]
    table = RowTable(24, {"text": many}, {}, {"tag": many}, {"tag": ["7", "3"]})
    assert table.values["tag"] == ["7", "3", *(one for one in many if one not in "73")]
