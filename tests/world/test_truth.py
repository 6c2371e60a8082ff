"""What is true of things, by hand: each template's answer, its evidence, and where it makes no sense."""

import pytest

from vlmcourse.world.scenes import COLOURS, PLACES, RELATIONS, SHAPES, SIZES
from vlmcourse.world.truth import (
    CLEAR,
    Attribute,
    Count,
    Existence,
    Larger,
    More,
    Relation,
    SameColour,
    Template,
    Thing,
    Who,
    in_a_sentence,
    pose,
)


def thing(text: str, x: int = 20, y: int = 20) -> Thing:
    """ "small red circle" -> the thing, somewhere."""
    size, colour, shape = text.split()
    return Thing(SHAPES.index(shape), COLOURS.index(colour), SIZES.index(size), x, y)


def who(text: str) -> Who:
    words = text.split()
    part = {"size": SIZES, "colour": COLOURS, "shape": SHAPES}
    return Who(**{name: n for name, names in part.items() for n, word in enumerate(names) if word in words})


CIRCLE = thing("small red circle", 10, 12)
STAR = thing("large red star", 40, 14)
CROSS = thing("large blue cross", 42, 50)
ALL = [CIRCLE, STAR, CROSS]


@pytest.mark.parametrize(("template", "answer", "evidence"), [
    (Attribute(who("circle"), "colour"), "red", [CIRCLE]),
    (Attribute(who("blue"), "shape"), "cross", [CROSS]),
    (Attribute(who("small"), "size"), "small", [CIRCLE]),
    (Attribute(who("star"), "position"), "top right", [STAR]),
    (Attribute(who("cross"), "position"), "bottom right", [CROSS]),
    (Attribute(who("red"), "shape"), None, None),  # there are two
    (Attribute(who("square"), "colour"), None, None),
    (Count(who("red")), "2", [CIRCLE, STAR]),
    (Count(who("")), "3", ALL),
    (Count(who("large red")), "1", [STAR]),
    (Count(who("square")), "0", ALL),
    (Existence(who("red star")), "yes", [STAR]),
    (Existence(who("red")), "yes", [CIRCLE, STAR]),
    (Existence(who("blue star")), "no", ALL),
    (Relation(who("circle"), who("star"), RELATIONS.index("left of")), "yes", [CIRCLE, STAR]),
    (Relation(who("circle"), who("star"), RELATIONS.index("right of")), "no", [CIRCLE, STAR]),
    (Relation(who("cross"), who("circle"), RELATIONS.index("below")), "yes", [CROSS, CIRCLE]),
    (Relation(who("cross"), who("circle"), RELATIONS.index("above")), "no", [CROSS, CIRCLE]),
    (Relation(who("circle"), who("star"), RELATIONS.index("above")), None, None),  # level: two pixels
    (Relation(who("circle"), who("circle"), RELATIONS.index("above")), None, None),
    (Relation(who("red"), who("cross"), RELATIONS.index("above")), None, None),
    (Relation(who("cross"), who("square"), RELATIONS.index("above")), None, None),
    (Larger(who("star"), who("circle")), "yes", [STAR, CIRCLE]),
    (Larger(who("circle"), who("star")), "no", [CIRCLE, STAR]),
    (Larger(who("cross"), who("star")), None, None),  # equally large
    (Larger(who("cross"), who("red")), None, None),
    (SameColour(who("circle"), who("star")), "yes", [CIRCLE, STAR]),
    (SameColour(who("cross"), who("star")), "no", [CROSS, STAR]),
    (SameColour(who("cross"), who("cross")), None, None),
    (More(who("red"), who("blue")), "yes", [CIRCLE, STAR, CROSS]),
    (More(who("blue"), who("red")), "no", [CROSS, CIRCLE, STAR]),
    (More(who("star"), who("cross")), "no", [STAR, CROSS]),  # as many are not more
    (More(who("square"), who("triangle")), None, None),
])  # fmt: skip
def test_answers_and_evidence(template, answer, evidence):
    question = pose("any", template, ALL)
    assert isinstance(template, Template) and (question is None) == (answer is None)
    if question:
        assert (question.kind, question.text, question.asked) == ("any", str(template), template)
        assert (question.answer, question.boxes) == (answer, tuple(meant.box for meant in evidence))


@pytest.mark.parametrize("apart", [CLEAR - 1, CLEAR])
@pytest.mark.parametrize("relation", range(4))
def test_a_relation_needs_four_pixels(apart, relation):
    things = [thing("small red circle", 30, 30), thing("small blue star", 30 + apart, 30 + apart)]
    question = pose("relation", Relation(who("circle"), who("star"), relation), things)
    assert (question is not None) == (apart == CLEAR)
    assert question is None or question.answer == (
        "yes" if RELATIONS[relation] in ("left of", "above") else "no"
    )


def test_a_place_needs_four_pixels_to_the_middle_lines():
    """The middle lies between pixels 31 and 32."""
    places = {(x, y): thing("small red circle", x, y).position for x in range(64) for y in range(64)}
    for (x, y), place in places.items():
        far = min(abs(x - 31.5), abs(y - 31.5)) >= CLEAR
        name = f"{'top' if y < 32 else 'bottom'} {'left' if x < 32 else 'right'}"
        assert place == (PLACES.index(name) if far else None)


def test_descriptions_in_words():
    assert str(who("small red circle")) == "small red circle" and str(who("")) == "thing"
    assert [who(text).many for text in ("cross", "red", "large star")] == [
        "crosses",
        "red things",
        "large stars",
    ]
    assert who("red").only(ALL) is None and who("blue").only(ALL) == CROSS


@pytest.mark.parametrize(("template", "answer", "sentence"), [
    (Attribute(who("star"), "position"), "top right", "The star is at the top right."),
    (Attribute(who("blue"), "shape"), "cross", "The blue thing is a cross."),
    (Count(who("red star")), "1", "There is 1 red star."),
    (Count(who("red")), "2", "There are 2 red things."),
    (Existence(who("red star")), "yes", "Yes, there is a red star."),
    (Existence(who("blue star")), "no", "No, there is no blue star."),
    (Relation(who("star"), who("cross"), 2), "yes", "Yes, the star is above the cross."),
    (Relation(who("star"), who("cross"), 3), "no", "No, the star is not below the cross."),
    (Larger(who("circle"), who("star")), "no", "No, the circle is not larger than the star."),
    (SameColour(who("star"), who("circle")), "yes", "Yes, the star and the circle have the same colour."),
    (SameColour(who("star"), who("cross")), "no", "No, the star and the cross do not have the same colour."),
    (More(who("red"), who("blue")), "yes", "Yes, there are more red things than blue things."),
    (More(who("star"), who("cross")), "no", "No, there are not more stars than crosses."),
])  # fmt: skip
def test_sentences(template, answer, sentence):
    question = pose("any", template, ALL)
    assert (question.answer, in_a_sentence(question)) == (answer, sentence)
