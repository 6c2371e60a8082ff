"""LLaVA's conversations, with the picture before or behind the question or without one."""

import json

import pytest

from vlmcourse.data.formats.llava import llava_record, read_llava
from vlmcourse.data.records import Record, Skips, TooManySkips


def row(*said, **more):
    turns = [{"from": who, "value": text} for who, text in zip(("human", "gpt") * 9, said, strict=False)]
    return dict(id="000000033471", image="coco/train2017/000000033471.jpg", conversations=turns) | more


def test_a_conversation_has_the_form_of_the_course():
    record = llava_record(row("<image>\nWho is in the boat?", "Two people.", "Is there a dog?", "Yes."))
    turns = (("user", "<image>Who is in the boat?"), ("assistant", "Two people."),
             ("user", "Is there a dog?"), ("assistant", "Yes."))  # fmt: skip
    assert record == Record("coco/train2017/000000033471.jpg", turns, key="000000033471")


def test_the_picture_may_stand_behind_the_question():
    assert llava_record(row("Who?\n<image>", "Two.")).turns[0] == ("user", "<image>Who?")


def test_a_row_without_picture_is_text():
    text = row("How are you?", "Fine <image>.")
    text["id"], text["model"] = 7, ""
    del text["image"]
    assert llava_record(text) == Record(
        None, (("user", "How are you?"), ("assistant", "Fine <image>.")), key="7"
    )


def test_an_answer_before_the_first_question_is_dropped_and_a_system_turn_is_not():
    turns = [{"from": "gpt", "value": "Hello."}, {"from": "system", "value": "Be brief."},
             {"from": "gpt", "value": "Hi."},
             {"from": "human", "value": "<image>\nWho?"}, {"from": "gpt", "value": "Two."}]  # fmt: skip
    assert llava_record(row(conversations=turns)).turns == (
        ("system", "Be brief."), ("user", "<image>Who?"), ("assistant", "Two."))  # fmt: skip


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (row("Who?", "Two."), "picture and <image> do not match"),
        (row("<image>\n<image>\nWho?", "Two."), "several pictures"),
        (row("<image>\nWho?", "Two.", "<image>\nAnd now?", "Three."), "picture and <image> do not match"),
        (row("<image>\nWho?", "Two.", image=None), "picture and <image> do not match"),
        (row("<image>\nWho?", ""), "empty text"),
        (row("<image>\nWho?", None), "wrong type"),
        (row("<image>\nWho?", "Two.", image=["a.jpg"]), "wrong type"),
        (row(conversations=[{"from": "bing", "value": "a"}]), "not in the published form"),
        (row(conversations=None), "not in the published form"),
        (row(conversations=[]), "nothing is said"),
        ({}, "not in the published form"),
        ("text", "not in the published form"),
    ],
)
def test_a_broken_row_is_a_skip_with_its_number(tmp_path, broken, reason):
    (tmp_path / "mix.json").write_text(json.dumps([row("<image>\nWho?", "Two."), broken]))
    skips = Skips(most=0.5)
    (record,) = read_llava(tmp_path / "mix.json", tmp_path, skips)
    assert record.row == 1 and list(skips.reasons) == [reason] and "mix.json, row 2" in str(skips)


def test_too_many_broken_rows_stop_the_run(tmp_path):
    (tmp_path / "mix.json").write_text(json.dumps([row("<image>\nWho?", "Two."), {}]))
    with pytest.raises(TooManySkips, match=r"1 of 2 rows"):
        [*read_llava(tmp_path / "mix.json", tmp_path)]
