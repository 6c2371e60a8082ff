"""VQA v2: a file of questions and a file of annotations, joined by question_id (notebook 12).

    questions    {"data_subtype": "train2014", "questions": [
                     {"image_id": 458752, "question": "What colour is the door?",
                      "question_id": 458752000}, ...], ...}
    annotations  {"annotations": [{"question_id": 458752000, "image_id": 458752, "answer_type": "other",
                      "question_type": "what colour is the", "multiple_choice_answer": "red", "answers": [
                         {"answer": "red", "answer_confidence": "maybe", "answer_id": 1}, ... ten]},
                      ...], ...}

Questions of the test split have no annotations.  The picture of image_id 458752 is
train2014/COCO_train2014_000000458752.jpg.  A third file lists complementary pairs: two questions with the
same words, similar pictures and different answers.
Source: Goyal et al. 2017, arXiv:1612.00837; formats at visualqa.org/download.html.
"""

from collections.abc import Iterator
from pathlib import Path

from vlmcourse.data.formats.reading import json_items, json_rows, json_value
from vlmcourse.data.records import Record, RowError, Skips, taken_record
from vlmcourse.data.text import IMAGE_WORD
from vlmcourse.slots import slot


@slot
def coco_picture(subtype: str, image_id: int) -> str:
    """Where the picture of this number lies among those of 2014 and 2015: its folder, and its name.

    The number has twelve digits, with zeros in front.
    """
    return f"{subtype}/COCO_{subtype}_{image_id:012d}.jpg"


@slot
def vqa_record(question: dict, annotation: dict | None, image: str) -> Record:
    """A question about a picture, the answer most people gave, and what each of the ten said.

    Args:
        question, annotation: entries of the two files with the same question_id; None for test questions.
        image: the picture's path.

    Returns:
        turns: the question and, if it is known, "multiple_choice_answer".
        answers: of all people, in the order of answer_id, as they wrote them.
        kind: "answer_type", which is yes/no, number or other.
    """
    turns = [("user", IMAGE_WORD + question["question"])]
    key = str(question["question_id"])
    if annotation is None:
        return Record(image=image, turns=tuple(turns), key=key)
    turns.append(("assistant", annotation["multiple_choice_answer"]))
    people = sorted(annotation["answers"], key=lambda one: one["answer_id"])
    answers = tuple(one["answer"] for one in people)
    return Record(image, tuple(turns), answers=answers, kind=annotation["answer_type"], key=key)


def read_vqa(
    questions: str | Path, annotations: str | Path | None, pictures: str | Path, skips: Skips | None = None
) -> Iterator[Record]:
    """Records of the two files; in memory are the questions, some 150 MB for the training split.

    A question without annotation and an annotation without question are skips; with annotations=None, as in
    the test split, every question is a record without answer.

    Args:
        pictures: the folder in which train2014, val2014 or test2015 lies.
    """
    skips = Skips() if skips is None else skips
    subtype = json_value(questions, "data_subtype")
    needs = dict(question_id=int, image_id=int)
    asked = json_rows(questions, "questions", needs | dict(question=str), skips)
    waiting = {question["question_id"]: (number, question) for number, question in asked}

    def taken(number: int, question: dict, annotation: dict | None, file: str | Path) -> Record | None:
        def parse() -> Record:
            if annotation is not None and annotation["image_id"] != question["image_id"]:
                raise RowError("question and annotation disagree", "they name different pictures")
            return vqa_record(question, annotation, coco_picture(subtype, question["image_id"]))

        return taken_record(parse, folder=pictures, file=file, number=number, skips=skips)

    for number, annotation in json_rows(annotations, "annotations", needs, skips) if annotations else ():
        found = waiting.pop(annotation["question_id"], None)
        if found is None:
            skips.leave_out(annotations, number, RowError("annotation without question"))
        elif record := taken(number, found[1], annotation, annotations):
            yield record
    for number, question in waiting.values():
        if annotations:
            skips.leave_out(questions, number, RowError("question without annotation"))
        elif record := taken(number, question, None, questions):
            yield record
    skips.finish()


def read_complementary_pairs(path: str | Path) -> list[tuple[str, str]]:
    """The keys of records that are each other's twin, such as ("458752000", "25000")."""
    return [(str(first), str(second)) for _, (first, second) in json_items(path)]
