from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest

from vlmcourse.data.records import Record
from vlmcourse.families import spoiling
from vlmcourse.widgets.browsing import (
    browse_answers,
    browse_records,
    browse_set,
    browse_two,
    compared_in_words,
)
from vlmcourse.world import questions
from vlmcourse.world.render import render
from vlmcourse.world.scenes import sample


class Asked(NamedTuple):
    text: str
    answer: str
    kind: str


def columns(browser):
    table = browser.table
    return table.texts, {name: values.tolist() for name, values in table.scores.items()}, table.values


def test_records_bring_texts_disagreement_and_kinds(tmp_path):
    from PIL import Image

    Image.fromarray(np.full((16, 32, 3), 9, np.uint8)).save(tmp_path / "1.png")
    talk = (("user", "<image>What?"), ("assistant", "A sky."))
    records = [
        Record(
            "1.png", turns=talk, answers=("red", "red", "pink", "rose"), kind="other", folder=str(tmp_path)
        ),
        Record(
            "lost.png", captions=("a cat", "a dog"), key="7", folder=str(tmp_path), file="x/a.json", row=3
        ),
        Record(turns=(("user", "Hello"),), answers=("yes",)),
    ]
    browser = browse_records(records, {"clip": [0.1, 0.3, None]}, {"set": ["a", "b", "a"]})
    texts, scores, tags = columns(browser)
    assert texts == {
        "said": ["user: <image>What? / assistant: A sky.", "a cat / a dog", "user: Hello"],
        "answers": ["red, red, pink, rose", "", "yes"],
        "where": ["a record without a file, row 0", "7 (a.json, row 3)", "a record without a file, row 0"],
    }
    assert scores["disagreement"][0] == 1.5 and np.isnan(scores["disagreement"][1:]).all()
    assert scores["clip"][:2] == [0.1, 0.3]
    assert tags == {"kind": ["other", "none"], "picture": ["there", "none"], "set": ["a", "b"]}
    assert browser.answer["opened"]["number"] == 1  # the best by the first score
    assert "picture is missing" in browser.answer["opened"]["fault"]
    browser.view = browser.view | {"opened": 0}
    assert browser.answer["opened"]["fault"] == "" and set(browser.large) == {9}


def test_records_of_one_kind_have_no_tags_and_no_empty_columns():
    texts, scores, tags = columns(browse_records([Record(captions=("a",)), Record(captions=("b",))]))
    assert texts["said"] == ["a", "b"] and "answers" not in texts and scores == tags == {}


SET = spoiling.clean(4)


def test_each_question_of_a_set_stands_by_its_picture():
    alike, need = [0.1, 0.2, 0.3, 0.4], np.arange(len(SET.rows))
    browser = browse_set(
        SET, {"clip": alike}, {"need": need}, {"caption fits": ["true", "false", "true", "true"]},
        sign="caption fits", start={"caption fits": "true"},
    )  # fmt: skip
    texts, scores, tags = columns(browser)
    place = [row.picture for row in SET.rows]
    assert browser.answer["stay"] == sum(one != 1 for one in place)
    browser.view = browser.view | {"tags": [None, None]}
    assert scores["clip"] == [alike[one] for one in place] and scores["need"] == need.tolist()
    assert texts["caption"] == [SET.told[one] for one in place] and tags["kind"] == list(spoiling.ASKED)
    assert texts["question"][0] == SET.rows[0].question and texts["answer"][0] == SET.rows[0].answer
    browser.view = browser.view | {"opened": len(place) - 1}
    assert browser.large == SET.images[place[-1]].tobytes()
    signs = {row["number"]: row["sign"] for row in browser.answer["rows"]}
    assert all(sign == ("✗" if place[number] == 1 else "✓") for number, sign in signs.items())
    with pytest.raises(ValueError, match="'clip' has 3 entries for 4 pictures"):
        browse_set(SET, {"clip": alike[:3]})


SCENES = sample("test", 4, seed=2)
QUESTIONS = questions.ask(SCENES, "colour")
assert all(QUESTIONS)
IMAGES = render(SCENES)
SAID = [question.answer for question in QUESTIONS]


def test_mistakes_come_first_with_the_evidence_and_an_interval():
    browser = browse_answers(
        IMAGES, QUESTIONS, ["?", *SAID[1:]], [0, 1, 1, 1], probability=[0.4, 0.9, 0.8, 0.7], name="it"
    )
    assert browser.found.tolist() == [0] and browser.answer["rows"][0]["sign"] == "✗"
    assert np.allclose(np.array(browser.answer["opened"]["boxes"]) * 64, QUESTIONS[0].boxes)
    texts, scores, tags = columns(browser)
    assert texts["said"][0] == "?" and texts["right answer"] == SAID and tags["kind"] == ["colour"]
    assert scores == {"probability of what it said": [0.4, 0.9, 0.8, 0.7]}
    assert browser.answer["summary"] == [
        "it: 1 of 4 answers are wrong; right 75.0%, 95 % interval 25.0% to 100.0%, by image"
    ]
    browser.view = browser.view | {"tags": [None, None]}
    assert browser.found.tolist() == [1, 2, 3, 0]


def test_without_a_mistake_all_answers_stay_and_one_image_gives_no_interval():
    browser = browse_answers(IMAGES, QUESTIONS, SAID, [True] * 4, groups=[7] * 4)
    assert len(browser.found) == 4
    assert browser.answer["summary"] == [
        "The model: 0 of 4 answers are wrong; too few images for an interval"
    ]


def test_grades_that_are_none_are_named():
    for right, message in (([1, 1], "2 grades for 4 questions"), ([1, 1, 1, 0.5], "pass one for each, 1")):
        with pytest.raises(ValueError, match=message):
            browse_answers(IMAGES, QUESTIONS, SAID, right)


RIGHT = {"A": [1, 1, 0, 0], "B": [1, 0, 1, 0], "C": [0, 0, 0, 0]}


def test_two_models_are_sorted_by_who_was_right():
    said = {name: [f"{name}{number}" for number in range(4)] for name in "AB"}
    browser = browse_two(IMAGES, QUESTIONS, said, RIGHT)
    assert browser.shape["tags"][0] == ["right", ["both right", "only A", "only B", "neither"]]
    assert browser.found.tolist() == [1] and browser.answer["groups"][0] == [1, 1, 1, 1]
    assert ["A said", "A1"] in browser.answer["opened"]["texts"]
    browser.view = browser.view | {"tags": [None, None]}
    assert [row["sign"] for row in browser.answer["rows"]] == ["✓✓", "✓✗", "✗✓", "✗✗"]
    assert browser.answer["summary"][0] == (
        "only A right: 1, only B: 1; p = 1 by image, 1 by question (McNemar)"
    )
    with pytest.raises(ValueError, match=r"answers of \['A'\]"):
        browse_two(IMAGES, QUESTIONS, {"A": said["A"]}, RIGHT)
    with pytest.raises(ValueError, match=r"grades of \['A'\]"):
        browse_two(IMAGES, QUESTIONS, said, {"A": RIGHT["A"]})


def test_the_test_is_of_the_rows_that_pass_the_other_filters_and_of_whole_images():
    one, other = np.array([True] * 6), np.array([False] * 6)
    assert compared_in_words(("A", "B"), one, other, range(6)) == (
        "only A right: 6, only B: 0; p = 0.031 by image, 0.031 by question (McNemar)\n"
        "difference +100.0 points, 95 % interval +100.0 to +100.0, by image"
    )  # 2 of the 64 ways to exchange six images are as far
    twice = compared_in_words(("A", "B"), one, other, [0, 0, 0, 1, 1, 1])
    assert "p = 0.5 by image, 0.031 by question" in twice  # 2 of 4
    assert compared_in_words(("A", "B"), one, other, [0] * 6) == (
        "only A right: 6, only B: 0; too few images for a test"
    )


def test_questions_without_boxes_have_no_evidence():
    asked = [Asked("Is it red?", "yes", "yes/no")] * 4
    assert browse_answers(IMAGES, asked, ["no"] * 4, [0] * 4).answer["opened"]["boxes"] == []


def test_wrong_answers_are_counted_among_the_rows_that_pass_the_other_filters():
    asked = [Asked("What?", "a", kind) for kind in ("one", "one", "two", "two")]
    browser = browse_answers(IMAGES, asked, ["b"] * 4, [0, 1, 0, 0], name="it")
    assert browser.answer["summary"][0].startswith("it: 3 of 4 answers are wrong; right 25.0%")
    browser.view = browser.view | {"tags": [None, 0]}
    assert browser.answer["summary"][0].startswith("it: 1 of 2 answers are wrong; right 50.0%")


def test_a_question_of_no_kind_is_of_the_kind_none():
    found = SimpleNamespace(
        images=SET.images, told=SET.told, rows=[row._replace(kind="") for row in SET.rows]
    )
    assert columns(browse_set(found))[2] == {"kind": ["none"]}


def test_where_the_first_model_is_never_alone_right_all_rows_stay():
    said = {name: SAID for name in "AB"}
    assert browse_two(IMAGES, QUESTIONS, said, {"A": [1, 0, 0, 0], "B": [1, 1, 0, 0]}).found.tolist() == [
        0,
        1,
        2,
        3,
    ]
