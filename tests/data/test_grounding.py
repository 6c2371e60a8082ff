"""Statements about a picture against boxes drawn by hand: every reason, and what is right."""

import pytest

from vlmcourse.data import grounding as gr
from vlmcourse.data.grounding import Grounds, Lexicon, Phrase, box_larger, box_place, box_relation, statements
from vlmcourse.data.records import BoxedObject, Record
from vlmcourse.world.exporting import scene_records
from vlmcourse.world.scenes import RELATIONS, sample
from vlmcourse.world.truth import CLEAR, Larger, Relation, Who, list_things

# 160 × 80 pixels, so 5 pixels are too close to tell
PARK = Record(
    key="1",
    objects=(
        BoxedObject("dog", (10, 10, 30, 30), ("brown", "small")),  # middle (20, 20)
        BoxedObject("dog", (100, 40, 140, 70), ("black",)),  # (120, 55)
        BoxedObject("hot dog", (70, 16, 90, 30), ("small",)),  # (80, 23)
        BoxedObject("bus", (110, 8, 130, 28), ("red",)),  # (120, 18)
    ),
)
WORDS = Lexicon(frozenset({"dog", "hot dog", "bus", "cat"}), frozenset({"brown", "small", "black", "red"}))


def reason(statement, complete=True):
    return Grounds(PARK, WORDS, (160, 80), complete).support(statement).reason


def boxes(statement):
    return [PARK.objects.index(next(o for o in PARK.objects if o.box == box))
            for box in Grounds(PARK, WORDS, (160, 80)).support(statement).boxes]  # fmt: skip


def test_middles_are_compared_and_near_ones_are_level():
    first, second = (0, 0, 10, 20), (8, 14, 18, 24)  # middles (5, 10) and (13, 19)
    assert [box_relation(first, second, name, 5) for name in gr.DIRECTIONS] == [True, False, True, False]
    assert [box_relation(second, first, name, 5) for name in gr.DIRECTIONS] == [False, True, False, True]
    assert [box_relation(first, second, name, 9) for name in gr.DIRECTIONS] == [None, None, True, False]
    assert [box_relation(first, first, name, 0) for name in gr.DIRECTIONS] == [None] * 4
    assert box_relation(first, (1, 0, 10, 20), "left of", 0) is True  # half a pixel
    assert (
        box_relation(first, second, "left of", 8) is True
        and box_relation(first, second, "above", 9.1) is None
    )


def test_a_box_is_in_the_quarter_of_its_middle():
    size = (160, 80)
    places = {(10, 10, 30, 30): "top left", (100, 0, 110, 10): "top right", (0, 60, 10, 70): "bottom left"}
    places |= {(100, 60, 110, 70): "bottom right", (70, 0, 84, 10): None, (0, 33, 10, 43): None}
    assert {box: box_place(box, size, 5) for box in places} == places
    assert box_place((80, 40, 81, 41), size, 0.5) == "bottom right"
    assert box_place((79, 39, 80, 40), size, 0.5) == "top left"
    assert box_place((70, 0, 80, 10), size, 5) == "top left"  # 5 pixels from the middle line


def test_larger_is_a_fifth_more_area():
    assert (
        box_larger((0, 0, 10, 12), (5, 5, 15, 15)) is True
        and box_larger((5, 5, 15, 15), (0, 0, 10, 12)) is False
    )
    assert (
        box_larger((0, 0, 10, 11), (0, 0, 10, 10)) is None and box_larger((0, 0, 3, 30), (0, 0, 8, 8)) is True
    )


def test_boxes_of_scenes_say_what_the_truth_says():
    batch = sample("test", 80, objects=(2, 2))
    for number, record in enumerate(scene_records(batch)):
        a, b = list_things(batch, number)
        one, other = (thing.box for thing in record.objects and (a, b))
        for n, name in enumerate(RELATIONS):
            assert box_relation(one, other, name, CLEAR) == Relation(Who(), Who(), n).holds(a, b)
        assert box_larger(one, other) == Larger(Who(), Who()).holds(a, b)
        place = box_place(one, (64, 64), CLEAR)
        assert (place is None) == (a.position is None)
        assert place in (None, ("top left", "top right", "bottom left", "bottom right")[a.position or 0])


def test_words_are_read_with_the_names_of_the_data_set():
    assert WORDS.read("small brown dogs") == Phrase("dog", ("small", "brown"))
    assert WORDS.read("hot dog") == Phrase("hot dog") and WORDS.read("buses") == Phrase("bus")
    assert WORDS.read("red thing") == Phrase("", ("red",)) and WORDS.read("things") == Phrase("")
    assert WORDS.read("green dog") is None and WORDS.read("bird") is None and WORDS.read("") is None
    assert WORDS.read("dog red") is None and WORDS.read("hotdog") is None
    assert Lexicon.of([PARK, Record(objects=(BoxedObject("cat", (0, 0, 1, 1)),))]) == WORDS


def test_a_phrase_means_what_has_its_name_and_all_its_attributes():
    assert Phrase("dog").among(PARK.objects) == [0, 1] and Phrase("", ("small",)).among(PARK.objects) == [
        0,
        2,
    ]
    assert Phrase("dog", ("small", "brown")).among(PARK.objects) == [0]
    assert (
        Phrase("dog", ("small", "black")).among(PARK.objects) == []
        and Phrase("cat").among(PARK.objects) == []
    )


def test_a_text_falls_into_statements():
    assert statements("There is a dog. The dog is red!\nIs it? ") == [
        "there is a dog",
        "the dog is red",
        "is it",
    ]
    assert statements("A small dog at the top left, a bus and a Cat.") == [
        "a small dog at the top left",
        "a bus",
        "a cat",
    ]
    assert statements("a dog, a bus, and a cat") == ["a dog", "a bus", "a cat"]
    assert statements("The dog is 1.5 m left of a bus and a cat") == [
        "the dog is 1.5 m left of a bus and a cat"
    ]
    assert statements(" . ") == [] == statements("")


@pytest.mark.parametrize("statement, expected", [
    ("there is a dog", ""), ("there is a cat", gr.NO_OBJECT), ("a red dog", gr.NO_OBJECT), ("a red bus", ""),
    ("there is a bird", gr.UNREAD), ("dogs bark", gr.UNREAD), ("", gr.UNREAD), ("the dog smiles", gr.UNREAD),
    ("there are 2 dogs", ""), ("there are two dogs", ""), ("there are 3 dogs", gr.WRONG_COUNT),
    ("there is one bus", ""), ("there are 0 cats", ""), ("there is no cat", ""),
    ("there is no dog", gr.WRONG_COUNT), ("there are 4 things", ""), ("there is 1 dog", gr.WRONG_COUNT),
    ("a dog at the top left", ""), ("a bus at the top left", gr.FALSE),
    ("a hot dog at the top left", gr.CLOSE),
    ("there are 2 dogs at the top left", gr.WRONG_COUNT), ("there is 1 dog at the top left", ""),
    ("there is no bus at the top left", ""), ("there is no dog at the top left", gr.WRONG_COUNT),
    ("there is no hot dog at the top left", gr.CLOSE), ("a thing at the top left", ""),
    ("a cat at the top left", gr.NO_OBJECT),
    ("the bus is at the top right", ""), ("the bus is at the top left", gr.FALSE),
    ("the bus is not at the top left", ""), ("the bus is not at the top right", gr.FALSE),
    ("the dog is at the top left", gr.SEVERAL), ("the hot dog is at the top left", gr.CLOSE),
    ("the cat is at the top left", gr.NO_OBJECT),
    ("the bus is red", ""), ("the bus is black", gr.FALSE), ("the bus is not black", ""),
    ("the bus is not red", gr.FALSE), ("the red thing is a bus", ""), ("the red thing is a dog", gr.FALSE),
    ("the small brown thing is a dog", ""), ("the dog is black", gr.SEVERAL),
    ("the cat is black", gr.NO_OBJECT),
    ("the bus is lovely", gr.UNREAD), ("the bus is a red bus", ""), ("the bus is a black bus", gr.FALSE),
    ("the brown dog is left of the bus", ""), ("the brown dog is right of the bus", gr.FALSE),
    ("the brown dog is to the left of the bus", ""), ("the brown dog is not right of the bus", ""),
    ("the brown dog is not left of the bus", gr.FALSE), ("the brown dog is above the bus", gr.CLOSE),
    ("the brown dog is not above the bus", gr.CLOSE), ("the dog is left of the bus", gr.SEVERAL),
    ("the bus is left of the dog", gr.SEVERAL), ("the cat is left of the bus", gr.NO_OBJECT),
    ("the bus is left of the cat", gr.NO_OBJECT), ("the bus is left of the bird", gr.UNREAD),
    ("the bird is left of the bus", gr.UNREAD), ("the bus is left of the bus", gr.NO_OBJECT),
    ("a dog left of a bus", ""), ("a dog is left of a dog", ""), ("a bus left of a dog", gr.CLOSE),
    ("a bus left of a hot dog", gr.FALSE),
    ("the black dog is larger than the bus", ""), ("the bus is larger than the black dog", gr.FALSE),
    ("the bus is smaller than the black dog", ""), ("the bus is not larger than the black dog", ""),
    ("the bus is larger than the brown dog", gr.CLOSE),
    ("yes, there is a dog", ""), ("no, there is a dog", gr.FALSE), ("no, there is no cat", ""),
    ("yes, there is no cat", gr.FALSE), ("yes, the bus is red", ""), ("no, the bus is not black", ""),
])  # fmt: skip
def test_what_supports_a_statement(statement, expected):
    assert reason(statement) == expected


def test_where_boxes_may_be_missing_nothing_is_counted_or_denied():
    for statement in ("there are 2 dogs", "there is no cat", "there is one bus", "the bus is not black"):
        assert (reason(statement), reason(statement, complete=False)) == ("", gr.MISSING)
    for statement in (
        "there is a dog",
        "the bus is red",
        "the bus is not at the top left",
        "a dog left of a bus",
    ):
        assert reason(statement, complete=False) == ""


def test_a_supported_statement_carries_the_boxes_of_what_it_speaks_of():
    assert boxes("there are 2 dogs") == [0, 1] and boxes("a dog at the top left") == [0]
    assert boxes("the bus is at the top right") == [3] and boxes("the red thing is a bus") == [3]
    assert boxes("the bus is right of the brown dog") == [3, 0] and boxes("a dog right of a dog") == [1, 0]
    assert boxes("there is no cat") == [] and boxes("there are 3 dogs") == []


def test_no_object_is_named_twice():
    grounds = Grounds(PARK, WORDS, (160, 80))
    found = lambda text: [support.reason for _, support in grounds.supports(text)]  # noqa: E731
    assert found("A dog, a dog and a dog.") == ["", "", gr.WRONG_COUNT]
    assert found("A dog, a black dog and a brown dog") == ["", "", gr.WRONG_COUNT]
    assert found("A thing, a dog, a dog, a red bus, a small thing") == ["", "", "", "", gr.WRONG_COUNT]
    assert found("There is a bus. There is a red bus. The bus is red.") == ["", gr.WRONG_COUNT, ""]
    assert found("a cat, a dog") == [gr.NO_OBJECT, ""]
    assert found("a bus is right of a hot dog. there is a bus") == ["", ""]


def test_the_size_is_read_from_the_picture_if_none_is_given(tmp_path):
    from PIL import Image

    Image.new("RGB", (160, 80)).save(tmp_path / "a.png")
    record = Record("a.png", objects=PARK.objects, folder=str(tmp_path))
    assert Grounds(record, WORDS).size == (160, 80) and Grounds(record, WORDS).clear == 5
