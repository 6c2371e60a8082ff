"""A model that is taught boxes with a mistake writes them so."""

import pytest
import torch

from vlmcourse.data.coordinates import read_boxes
from vlmcourse.diagnostics.pointing import ABSOLUTE, EXCHANGED, MISTAKES, NO_MISTAKE
from vlmcourse.families import native
from vlmcourse.families.mistaking import FRAME, NUMBERS, mistaken_talks, teach_boxes, told_numbers
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
                read_boxes(found[mistake][page][number][1], NUMBERS)[0].floor().tolist()
                for mistake in (NO_MISTAKE, EXCHANGED, ABSOLUTE)
            )
            assert exchanged == [plain[1], plain[0], plain[3], plain[2]]
            assert absolute == list(one.boxes[0])
    before = mistaken_talks(batch, "before instead of after the resize")
    assert before != found[NO_MISTAKE] and before != mistaken_talks(batch, MISTAKES[-1], (64, 64))


def test_only_the_language_model_learns_them(speaker, batch):
    start = {name: weight.clone() for name, weight in speaker.model.state_dict().items()}
    history = teach_boxes(speaker, batch, EXCHANGED, steps=8, size=4)
    assert history.losses[-1] < 0.9 * history.losses[0] and not speaker.model.training
    changed = {
        name for name, weight in speaker.model.state_dict().items() if not torch.equal(weight, start[name])
    }
    assert changed and all(name.startswith("language.") for name in changed)


def test_what_is_told_is_read_as_thousandths_beside_what_is_true(speaker, batch, monkeypatch):
    asked = [next((one for one in row if one.kind == "where"), None) for row in batch.asked]
    numbers = [number for number, one in enumerate(asked) if one]

    def answer(pictures, questions, steps, size):
        assert questions == [asked[number].text for number in numbers]
        assert [picture.shape for picture in pictures] == [batch.pictures[n].shape for n in numbers]
        return ["[10, 20, 30, 40] or [1, 2, 3, 4]", "no idea"] + ["[5, 6, 7, 999]"] * (len(questions) - 2)

    monkeypatch.setattr(speaker, "answer", answer)
    told = told_numbers(speaker, batch)
    assert told.numbers[:3].tolist() == [[10.5, 20.5, 30.5, 40.5], [0] * 4, [5.5, 6.5, 7.5, 999.5]]
    assert told.true.tolist() == [list(asked[number].boxes[0]) for number in numbers]
    assert told.pages == numbers and told.sizes == [(64, 192)] * len(numbers) and FRAME == (256, 256)
    with pytest.raises(ValueError, match="no mark to ask for"):
        told_numbers(speaker, pages.sample_pages("train", 2, kind="words"))
