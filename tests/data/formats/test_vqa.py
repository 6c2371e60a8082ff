"""VQA v2 in the published form: questions and annotations in two files, ten answers to each."""

import json

import pytest

from vlmcourse.data.formats.vqa import coco_picture, read_complementary_pairs, read_vqa, vqa_record
from vlmcourse.data.records import Record, Skips

TEN = ["red"] * 6 + ["dark red", "maroon", "red", "brown"]


def question(number, text="What colour is the door?", image=9):
    return dict(image_id=image, question=text, question_id=number)


def annotation(number, answer="red", kind="other", image=9, ten=TEN):
    answers = [dict(answer=said, answer_confidence="yes", answer_id=n) for n, said in enumerate(ten, 1)]
    return dict(question_type="what color is the", multiple_choice_answer=answer, answers=answers,
                image_id=image, answer_type=kind, question_id=number)  # fmt: skip


def published(folder, questions, annotations, subtype="train2014"):
    shared = dict(info={}, data_type="mscoco", data_subtype=subtype, license={})
    paths = folder / "questions.json", folder / "annotations.json"
    paths[0].write_text(json.dumps(shared | dict(task_type="Open-Ended", questions=questions)))
    paths[1].write_text(json.dumps(shared | dict(annotations=annotations)))
    return paths


def test_question_and_annotation_become_one_record(tmp_path):
    paths = published(tmp_path, [question(9000), question(9001, "Is it open?")],
                      [annotation(9001, "no", "yes/no", ten=["no"] * 10), annotation(9000)])  # fmt: skip
    shut, door = read_vqa(*paths, tmp_path)
    image = "train2014/COCO_train2014_000000000009.jpg"
    turns = (("user", "<image>What colour is the door?"), ("assistant", "red"))
    assert door == Record(image, turns, answers=tuple(TEN), kind="other", key="9000")
    assert shut.kind == "yes/no" and shut.answers == ("no",) * 10 and shut.turns[1] == ("assistant", "no")
    assert door.where == "annotations.json, row 2"


def test_answers_are_in_the_order_of_their_people():
    mixed = annotation(9000)
    mixed["answers"] = mixed["answers"][::-1]
    assert vqa_record(question(9000), mixed, "a.jpg").answers == tuple(TEN)


def test_questions_of_the_test_split_have_no_answer(tmp_path):
    questions, _ = published(tmp_path, [question(2621440, "Is it open?", 262144)], [], "test2015")
    (record,) = read_vqa(questions, None, tmp_path)
    assert record == Record("test2015/COCO_test2015_000000262144.jpg", (("user", "<image>Is it open?"),),
                            key="2621440")  # fmt: skip
    assert record.where == "questions.json, row 1"


def test_a_picture_has_twelve_digits():
    assert coco_picture("val2014", 391895) == "val2014/COCO_val2014_000000391895.jpg"


def test_what_does_not_belong_together_is_a_skip(tmp_path):
    questions = [question(1), question(2), question(3), question(5, ""), dict(question_id=6)]
    annotations = [annotation(1), annotation(2, image=8), annotation(4), annotation(5), {"question_id": "1"}]
    skips = Skips(most=0.9)
    assert [
        record.key for record in read_vqa(*published(tmp_path, questions, annotations), tmp_path, skips)
    ] == ["1"]
    assert skips.reasons == {
        "question and annotation disagree": 1, "annotation without question": 1, "empty text": 1,
        "question without annotation": 1, "not in the published form": 2}  # fmt: skip
    assert "questions.json, row 3" in str(skips) and "annotations.json, row 3" in str(skips)


def test_a_missing_answer_field_names_its_row(tmp_path):
    broken = annotation(1)
    del broken["multiple_choice_answer"]
    skips = Skips(most=1)
    assert not [*read_vqa(*published(tmp_path, [question(1)], [broken]), tmp_path, skips)]
    assert "annotations.json, row 1: KeyError 'multiple_choice_answer'" in str(skips)


def test_pairs_are_keys_of_records(tmp_path):
    (tmp_path / "pairs.json").write_text("[[458752000, 25000], [1, 2]]")
    assert read_complementary_pairs(tmp_path / "pairs.json") == [("458752000", "25000"), ("1", "2")]


def test_the_files_exchanged_are_noticed(tmp_path):
    questions, annotations = published(tmp_path, [question(1)], [annotation(1)])
    with pytest.raises(ValueError, match=r"annotations\.json has no list 'questions'"):
        [*read_vqa(annotations, questions, tmp_path)]
