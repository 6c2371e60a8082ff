"""The report card's lines about pages, for a model that takes pictures of any size."""

import pytest

from vlmcourse.families import native, page_card, resolving
from vlmcourse.families.report_card import report_on_scenes
from vlmcourse.speak import Speaker
from vlmcourse.world.pages import sample_pages

COUNT, SEED = 12, 3


@pytest.fixture(scope="module")
def speaker():
    return Speaker(native.new_native())


@pytest.fixture(scope="module")
def lines(speaker):
    return {line.name: line for line in page_card.page_lines(speaker, COUNT, SEED)}


def test_accuracy_is_that_of_pages_seen_so_and_says_its_tokens(speaker, lines):
    exam = resolving.about_pages(sample_pages("test", COUNT, seed=SEED), SEED)
    for name, given in {
        "pages, as they are": (exam,),
        "pages, in 16 tokens": (exam, "native", 16),
        "pages, squashed": (exam, "squash", 16),
        "pages, empty": (exam.blank(),),
    }.items():
        scores = resolving.page_scores(speaker, *given)
        assert lines[name].value == pytest.approx(scores["all"])
        assert lines[name].says == f"{scores['tokens']:.0f} tokens on average"
        assert lines[name].low <= lines[name].value <= lines[name].high and lines[name].high > lines[name].low
    assert lines["pages, squashed"].says == "16 tokens on average"


def test_letters_are_those_of_as_many_pages_with_words(speaker, lines):
    errors = resolving.reading_errors(speaker, sample_pages("test", COUNT, kind="words", seed=SEED))
    names = ("letters wrong", "letters wrong, squashed", "letters wrong, empty")
    assert [lines[name].value for name in names] == [errors[way] for way in ("native", "squash", "blank")]


def test_what_it_points_at_stands_beside_the_mean_box_of_other_pages(speaker, lines, monkeypatch):
    test, train = (sample_pages(split, COUNT, seed=SEED) for split in ("test", "train"))
    scores = resolving.page_boxes(speaker, test, train)
    assert lines["points into the box"].value == pytest.approx(scores["told: middle in the box"])
    assert lines["always the mean box"].value == pytest.approx(scores["mean box: middle in the box"])
    true = resolving.things_to_point_at(test).true
    monkeypatch.setattr(page_card, "told_boxes", lambda *_: true)
    found = {line.name: line for line in page_card.page_lines(speaker, COUNT, SEED)}
    line = found["points into the box"]
    assert line.value == 1 and line.low == pytest.approx(1 - 3 / len(true))


def test_the_report_card_has_them_for_such_a_model(speaker, lines):
    report = report_on_scenes(speaker, "begun", COUNT, SEED)
    there = [line for line in report.lines if line.name in lines]
    assert there == [*lines.values()]
    parts = [line.part for line in there]
    assert parts == sorted(parts, key=parts.index) and len({*parts}) == 3
