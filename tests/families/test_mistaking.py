"""A model that is taught boxes with a mistake writes them so."""

from dataclasses import replace

import pytest
import torch

from vlmcourse.data.coordinates import read_boxes
from vlmcourse.diagnostics.pointing import ABSOLUTE, EXCHANGED, MISTAKES, NO_MISTAKE
from vlmcourse.families import native
from vlmcourse.families.mistaking import FRAME, IN_THOUSANDTHS, mistaken_talks, teach_boxes, told_numbers
from vlmcourse.families.resolving import things_to_point_at
from vlmcourse.speak import Speaker
from vlmcourse.world import pages


@pytest.fixture
def speaker():
    return Speaker(native.new_native())


@pytest.fixture(scope="module")
def batch():
    return pages.sample_pages("train", 12, kind="marks", sizes=[(64, 192)])


def test_without_a_mistake_the_answers_are_those_of_the_page(batch):
    asked = [[(one.text, one.answer) for one in row if one.kind == "where"] for row in batch.asked]
    assert mistaken_talks(batch, NO_MISTAKE) == asked and any(asked)


def test_each_mistake_writes_other_numbers(batch):
    where = [[one for one in row if one.kind == "where"] for row in batch.asked]
    found = {mistake: mistaken_talks(batch, mistake) for mistake in MISTAKES}
    for page, row in enumerate(where):
        for number, one in enumerate(row):
            plain, exchanged, absolute = (
                read_boxes(found[mistake][page][number][1], IN_THOUSANDTHS)[0].floor().tolist()
                for mistake in (NO_MISTAKE, EXCHANGED, ABSOLUTE)
            )
            assert exchanged == [plain[1], plain[0], plain[3], plain[2]]
            assert absolute == list(one.boxes[0])
    before = mistaken_talks(batch, "before instead of after the resize")
    assert before != found[NO_MISTAKE] and before != mistaken_talks(batch, MISTAKES[-1], (64, 64))


def test_words_numbers_and_bars_are_taught_too():
    batch = pages.sample_pages("train", 30, kind=["words", "tables", "charts"])
    placed = [pages.placed_things(batch, number) for number in range(30)]
    assert mistaken_talks(batch, NO_MISTAKE) == [[one[:2] for one in row] for row in placed]
    assert min(map(len, placed)) >= 1


def test_the_far_edges_of_a_page_count_to_the_last_thousandth(batch):
    corner = pages.PageQuestion("where", "Where is it?", "[989, 843, 999, 999]", ((190, 54, 192, 64),))
    edge = replace(batch[:1], asked=[[corner]])
    assert mistaken_talks(edge, NO_MISTAKE) == [[(corner.text, corner.answer)]]
    assert mistaken_talks(edge, EXCHANGED) == [[(corner.text, "[843, 989, 999, 999]")]]


def test_rates_are_those_of_both_optimizers_and_rise_in_five_steps(speaker, batch, monkeypatch):
    given = {}
    monkeypatch.setattr(speaker, "tune", lambda *rest, **options: given.update(options, rest=rest))
    teach_boxes(speaker, batch, EXCHANGED, steps=10, size=3, lr=0.01, seed=4)
    rates = {type(part).__name__: part.param_groups[0]["lr"] for part in given["optimizer"].parts}
    assert rates == dict(Muon=0.01, AdamW=0.002)
    assert [given["schedule"](step) for step in (0, 3, 4)] == pytest.approx([0.2, 0.8, 1.0])
    assert given["rest"][2:4] == (10, 3) and given["rest"][5] == 4


def test_only_the_language_model_learns_them(speaker, batch):
    start = {name: weight.clone() for name, weight in speaker.model.state_dict().items()}
    history = teach_boxes(speaker, batch, EXCHANGED, steps=8, size=4)
    assert history.losses[-1] < 0.9 * history.losses[0] and not speaker.model.training
    changed = {
        name for name, weight in speaker.model.state_dict().items() if not torch.equal(weight, start[name])
    }
    assert changed and all(name.startswith("language.") for name in changed)


def test_what_is_told_is_read_as_thousandths_beside_what_is_true(speaker, batch, monkeypatch):
    asked = things_to_point_at(batch)

    def answer(pictures, questions, steps, size):
        assert questions == asked.questions and len(pictures) == len(questions)
        return ["[10, 20, 30, 40] or [1, 2, 3, 4]", "no idea"] + ["[5, 6, 7, 999]"] * (len(questions) - 2)

    monkeypatch.setattr(speaker, "answer", answer)
    told = told_numbers(speaker, batch)
    assert told.numbers[:3].tolist() == [[10.5, 20.5, 30.5, 40.5], [0] * 4, [5.5, 6.5, 7.5, 999.5]]
    assert torch.equal(told.true, asked.true)
    assert told.sizes == [(64, 192)] * len(asked.pages) and FRAME == (256, 256)


def test_a_thing_of_each_page_is_asked_for_any_of_its_own():
    batch = pages.sample_pages("train", 60)
    found, other = things_to_point_at(batch), things_to_point_at(batch, seed=1)
    there = [number for number in range(60) if pages.placed_things(batch, number)]
    assert found.pages == there and {batch.kinds[number] for number in there} == {*pages.PAGE_KINDS}
    for number, picture, size, text, box in zip(*found, strict=True):
        assert picture is batch.pictures[number] and size == batch.sizes[number]
        things = [(question, place) for question, _, place in pages.placed_things(batch, number)]
        assert (text, tuple(box.tolist())) in things
    assert found.questions != other.questions
    firsts = [pages.placed_things(batch, number)[0][0] for number in there]
    assert firsts != found.questions  # not always the first


def test_where_nothing_can_be_asked_for_that_is_said():
    batch = pages.sample_pages("train", 1, kind="marks")
    batch.asked[0][:] = [one for one in batch.asked[0] if one.kind != "where"]
    with pytest.raises(ValueError, match="nothing to point at on these pages; sample more, of any kind"):
        things_to_point_at(batch)
