"""Rows from captions and boxes: what the prompt says, what rules write, and what boxes leave of a model's."""

from dataclasses import replace

import pytest

from vlmcourse.data import grounding as gr
from vlmcourse.data.generating import (
    DESCRIBE,
    ROW_KINDS,
    Generated,
    as_records,
    grounded,
    in_symbols,
    keep_grounded,
    prompt_for,
    ruled_rows,
    written_rows,
)
from vlmcourse.data.grounding import Grounds, Lexicon
from vlmcourse.data.records import BoxedObject, Record, checked_record
from vlmcourse.evaluation.statements import true_statement
from vlmcourse.world.exporting import scene_records
from vlmcourse.world.scenes import sample
from vlmcourse.world.truth import list_things

SIZE = (200, 100)
DOG, BUS = (
    BoxedObject("dog", (10, 70, 30, 90), ("brown",)),
    BoxedObject("bus", (120, 5, 180, 45), ("old", "red")),
)
STREET = Record(
    "street.jpg", captions=("A bus and a dog. ", "traffic"), objects=(DOG, BUS), key="7", folder="f", row=3
)
WORDS = Lexicon.of([STREET, Record(objects=(BoxedObject("egg", (0, 0, 1, 1)),))])
GROUNDS = Grounds(STREET, WORDS, SIZE)


def test_a_picture_in_symbols_is_its_captions_and_its_boxes_in_shares():
    assert in_symbols(STREET, SIZE).split("\n") == [
        "A bus and a dog.", "traffic",
        "brown dog: [0.050, 0.700, 0.150, 0.900]", "old red bus: [0.600, 0.050, 0.900, 0.450]",
    ]  # fmt: skip


def test_the_prompt_ends_with_the_instruction():
    prompt = prompt_for(STREET, SIZE, "Where is the dog?")
    assert in_symbols(STREET, SIZE) in prompt and prompt.endswith("\n\nWhere is the dog?")


def test_rules_write_rows_of_every_kind_with_their_boxes():
    rows = {row.instruction: row for row in ruled_rows(STREET, WORDS, SIZE, seed=1)}
    asked = "Which is larger, the dog or the bus, and on which side of the other is it?"
    turned = "Which is larger, the bus or the dog, and on which side of the other is it?"
    reason = rows.pop(asked, None) or rows.pop(turned)
    assert reason.kind == "reasoning" and reason.boxes == (BUS.box, DOG.box)
    assert reason.output in ("The bus is larger than the dog. The bus is right of the dog.",
                             "The bus is larger than the dog. The bus is above the dog.")  # fmt: skip
    described = "There is an old red bus at the top right. There is a brown dog at the bottom left."
    assert rows.pop(DESCRIBE) == Generated("detail", DESCRIBE, described, (BUS.box, DOG.box))
    assert rows.pop("Is there an egg?") == Generated(
        "conversation", "Is there an egg?", "No, there is no egg."
    )
    dog = {"How many dogs are there?": ("There is 1 dog.", (DOG.box,)),
           "Is there a brown dog?": ("Yes, there is a brown dog.", (DOG.box,)),
           "Where is the dog?": ("The dog is at the bottom left.", (DOG.box,))}  # fmt: skip
    bus = {"How many buses are there?": ("There is 1 bus.", (BUS.box,)),
           "Is there a red bus?": ("Yes, there is a red bus.", (BUS.box,)),
           "Where is the bus?": ("The bus is at the top right.", (BUS.box,))}  # fmt: skip
    assert {asked: row[2:] for asked, row in rows.items()} in (dog, bus)


def test_objects_that_words_cannot_tell_apart_are_counted_and_not_meant():
    twice = Record(objects=(DOG, replace_box(DOG, (150, 60, 170, 80))), key="2")
    rows = ruled_rows(twice, WORDS, SIZE)
    assert [row.output for row in rows] == [
        "Yes, there is a brown dog.", "There are 2 dogs.", rows[2].output,
        "There is a brown dog at the bottom left. There is a brown dog at the bottom right.",
    ]  # fmt: skip
    assert rows[2].output in ("No, there is no bus.", "No, there is no egg.")
    assert ruled_rows(Record(captions=("a dog",)), WORDS, SIZE) == []
    old = BoxedObject("bus", (10, 10, 30, 30), ("old", "blue"))
    asked = {row.instruction for row in ruled_rows(Record(objects=(BUS, old), key="2"), WORDS, SIZE)}
    assert asked & {"Where is the red bus?", "Where is the blue bus?"}  # not the old one
    pair = (BUS, old._replace(attributes=("new", "red")))
    asked = {row.instruction for row in ruled_rows(Record(objects=pair, key="2"), WORDS, SIZE)}
    assert asked & {"Where is the old bus?", "Where is the new bus?"}
    black = BoxedObject("dog", (150, 60, 170, 80), ("black",))
    told = {row.instruction for row in ruled_rows(Record(objects=(DOG, black), key="2"), WORDS, SIZE)}
    assert told & {"Where is the brown dog?", "Where is the black dog?"}


def replace_box(one, box):
    return one._replace(box=box)


def test_rows_are_chosen_by_seed_and_picture_alone():
    batch = scene_records(sample("test", 12, objects=(3, 3)))
    lexicon = Lexicon.of(batch)
    alone = ruled_rows(batch[5], lexicon, (64, 64))
    assert alone == [ruled_rows(one, lexicon, (64, 64)) for one in batch][5]
    assert alone != ruled_rows(batch[5], lexicon, (64, 64), seed=1)


def test_rules_are_true_of_scenes_and_of_every_kind():
    batch = sample("train", 60, objects=(1, 4))
    records = scene_records(batch)
    lexicon, kinds = Lexicon.of(records), set()
    for number, record in enumerate(records):
        for row in ruled_rows(record, lexicon, (64, 64)):
            kinds.add(row.kind)
            for statement in gr.statements(row.output):
                assert true_statement(statement, list_things(batch, number)), (row, record)
    assert kinds == set(ROW_KINDS)


def test_a_text_model_reads_the_picture_in_symbols_and_answers():
    heard = []

    def write(prompts):
        heard.extend(prompts)
        return ["A dog.", "Because."]

    asked = [("detail", DESCRIBE), ("reasoning", "Why?")]
    rows = written_rows(STREET, asked, write, SIZE)
    assert rows == [Generated("detail", DESCRIBE, "A dog."), Generated("reasoning", "Why?", "Because.")]
    assert heard == [prompt_for(STREET, SIZE, DESCRIBE), prompt_for(STREET, SIZE, "Why?")]
    with pytest.raises(ValueError, match="2 answers to 1 prompts"):
        written_rows(STREET, asked[:1], write, SIZE)


def test_a_description_loses_what_no_box_supports_and_other_answers_stay_whole_or_go():
    text = "A brown dog at the bottom left, an egg and an old bus."
    row, found = grounded(Generated("detail", DESCRIBE, text), GROUNDS)
    assert row.output == "A brown dog at the bottom left. An old bus." and row.boxes == (DOG.box, BUS.box)
    assert [support.reason for support in found] == ["", gr.NO_OBJECT, ""]
    assert grounded(Generated("reasoning", "Why?", text), GROUNDS)[0] is None
    assert grounded(Generated("conversation", "What?", "There is an egg."), GROUNDS)[0] is None
    assert grounded(Generated("detail", "What?", "An egg."), GROUNDS)[0] is None
    whole = Generated("conversation", "Where?", "The bus is above the dog. It honks.")
    assert grounded(whole, GROUNDS)[0] is None
    whole = whole._replace(output="The bus is above the dog! The dog is brown.")
    assert grounded(whole, GROUNDS)[0] == whole._replace(boxes=(BUS.box, DOG.box))
    assert grounded(whole._replace(output=" "), GROUNDS) == (None, [])


def test_what_is_dropped_is_counted_by_its_reason():
    rows = [
        Generated("detail", DESCRIBE, text) for text in ("A dog, a dog, an egg.", "An egg.", "", "A bus.")
    ]
    kept, reasons = keep_grounded((row, GROUNDS) for row in rows)
    assert [row and row.output for row in kept] == ["A dog.", None, None, "A bus."]
    assert reasons == {"": 2, gr.WRONG_COUNT: 1, gr.NO_OBJECT: 2, "nothing is said": 1}
    assert keep_grounded([])[1] == {}


def test_rows_become_records_that_carry_their_boxes():
    (record,) = as_records(STREET, [Generated("reasoning", "Why?", "It is red.", (BUS.box,))])
    turns = (("user", "<image>Why?"), ("assistant", "It is red."))
    expected = Record("street.jpg", turns, kind="reasoning", key="7", facts={"boxes": (BUS.box,)})
    assert record == expected == checked_record(record) and (record.folder, record.row) == ("f", 3)
    assert replace(record, turns=()) != record


def test_descriptions_go_in_reading_order_and_the_middle_counts_as_the_top():
    corners = [("ant", 190, 90), ("cat", 10, 10), ("bee", 20, 80), ("egg", 180, 10), ("dog", 5, 50)]
    objects = tuple(BoxedObject(name, (x - 4, y - 4, x + 4, y + 4)) for name, x, y in corners)
    record = Record(objects=objects)
    (row,) = [row for row in ruled_rows(record, Lexicon.of([record]), SIZE) if row.kind == "detail"]
    assert [sentence.split()[3] for sentence in row.output.rstrip(".").split(". ")] == [
        "dog", "cat", "egg", "bee", "ant",
    ]  # fmt: skip
    assert row.output.startswith(
        "There is a dog. There is a cat at the top left. There is an egg at the top right."
    )


def test_a_name_in_s_has_a_plural_in_es():
    rows = ruled_rows(Record(objects=(BUS,)), WORDS, SIZE)
    assert [row.instruction for row in rows][:2] == ["Is there a red bus?", "How many buses are there?"]
    pair = (BUS, replace_box(BUS, (10, 60, 30, 90)))
    assert ruled_rows(Record(objects=pair), WORDS, SIZE)[1].output == "There are 2 buses."
