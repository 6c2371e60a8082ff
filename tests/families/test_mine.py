"""Whose code a planned model runs, as is said of it; and an error of the learner's names its place."""

import pytest

from vlmcourse.exercises.base import all_exercises
from vlmcourse.families import mine
from vlmcourse.families.mine import (
    OwnCodeError,
    ReferenceRan,
    WhoseCode,
    left_to_solve,
    own_mistakes,
    said_of_code,
)
from vlmcourse.slots import REGISTRY
from vlmcourse.workbook import portfolio

ROWS = [
    WhoseCode("training", "b.one", "15_optimizers", False),
    WhoseCode("words", "a.two", "05_attention", True),
    WhoseCode("words", "a.three", "05_attention", False),
    WhoseCode("words", "a.four", "15_optimizers", False),
]


def test_what_is_left_is_listed_by_chapter_in_the_order_of_the_course():
    left = left_to_solve(ROWS)
    assert list(left.items()) == [("05_attention", ["a.three"]), ("15_optimizers", ["b.one", "a.four"])]
    assert left_to_solve(ROWS[1:2]) == {}


def test_it_is_said_how_many_functions_are_the_learners():
    assert said_of_code(ROWS) == (
        "1 of the 4 functions that this plan calls are yours; the course's stand in for the rest. "
        "Left to solve: chapter 05 (a.three), 15 (b.one, a.four)"
    )
    assert said_of_code(ROWS[1:2]) == "All 1 functions that this plan calls are yours."


def test_a_slot_that_no_chapter_teaches_and_one_that_runs_the_learners():
    slot = REGISTRY["attention.merge_heads"]
    untaught = next(name for name in REGISTRY if name not in all_exercises())
    slot.install(lambda heads: heads)
    try:
        rows = mine.whose_code(["attention.merge_heads", "vit.patchify", untaught])
    finally:
        slot.reset()
    assert [row[2:] for row in rows] == [("02_vit", True), ("02_vit", False), ("", False)]
    assert [row.part for row in rows[:2]] == ["attention", "vision encoder"] and rows[2].slot == untaught


def failing(place, text="def one(x):\n    return x / 0\n\n\ndef two(x):\n    return one(x)\n"):
    """Two functions of a file, of which the second calls the first, which divides by zero in line 2."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    held = {}
    exec(compile(text, str(place), "exec"), held)
    return held["two"]


def test_the_last_line_of_the_learners_is_named(workspace):
    own = failing(workspace / "my_vlm" / "vit_two.py")
    with pytest.raises(OwnCodeError) as caught, own_mistakes():
        own(1)
    says = str(caught.value)
    file = workspace / "my_vlm" / "vit_two.py"
    assert f"{file}, line 2, `return x / 0` raised ZeroDivisionError: division by zero." in says
    assert "Mend it in its notebook" in says and "Checkpoints are whole" in says
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("place", ["elsewhere/vit_two.py", "my_vlm/deeper/vit_two.py"])
def test_an_error_from_elsewhere_stays_what_it_is(workspace, place):
    with pytest.raises(ZeroDivisionError), own_mistakes():
        failing(workspace / place)(1)


def test_an_error_that_names_its_place_is_not_named_twice(workspace):
    own = failing(workspace / "my_vlm" / "vit_two.py")
    with pytest.raises(OwnCodeError) as caught, own_mistakes(), own_mistakes():
        own(1)
    assert str(caught.value).count("your own function stopped it") == 1


def test_references_refuse_within_the_block_alone_and_the_learners_runs():
    names = ["attention.merge_heads", "attention.split_heads"]
    merge, split = map(REGISTRY.get, names)
    before = [(slot.reference, slot.active) for slot in (merge, split)]
    split.install(len)
    try:
        with mine.without_references(names):
            assert split.active is len
            for refuses, name in ((merge, names[0]), (split.reference, names[1])):
                with pytest.raises(ReferenceRan, match=f"the course's {name} was called") as caught:
                    refuses(1)
                assert caught.value.slot == name
        assert split.active is len
    finally:
        split.reset()
    assert [(slot.reference, slot.active) for slot in (merge, split)] == before


def test_files_that_cannot_be_read_are_not_gathered(workspace, monkeypatch):
    good = portfolio.Saved(workspace / "one.py", "def one():\n    return 3\n")
    monkeypatch.setattr(mine.portfolio, "saved", lambda _: {"vit.one": good, "vit.two": OSError("torn")})
    text = mine.gather_code().read_text()
    assert '"vit.one": one' in text and "vit.two" not in text


def test_where_a_plan_and_its_weights_stand(workspace):
    assert mine.plan_file() == workspace / "my_vlm" / "vlm.toml"
    assert mine.trained_file("other") == workspace / "runs" / "other.safetensors"
