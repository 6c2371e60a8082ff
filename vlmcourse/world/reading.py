"""From the text of a question back to what it asks, so that the truth can follow every edit of a scene (notebook 00).

understand     a text -> the template behind it, or None
true_answer    the right answer to a text about things, in the form that it asks for
"""

import re
from collections.abc import Callable, Sequence

from vlmcourse.world.scenes import COLOURS, RELATIONS, SHAPES, SIZES
from vlmcourse.world.truth import (
    Asked,
    Attribute,
    Count,
    Existence,
    Larger,
    More,
    Relation,
    SameColour,
    Thing,
    Who,
    pose,
)

IN_A_SENTENCE = re.compile(r"[?.]? answer in a sentence\.?$")  # talks.SENTENCE


def _any(words: Sequence[str]) -> str:
    return "|".join(words)


WHO = rf"(?:the |an? )?((?:(?:{_any(SIZES)}) )?(?:(?:{_any(COLOURS)}) )?(?:{_any(SHAPES)}|thing))(?:e?s)?"
TEMPLATES: dict[str, Callable[..., Asked]] = {
    rf"what (colou?r|shape|size) is {WHO}": lambda name, who: Attribute(
        _who(who), name.replace("color", "colour")
    ),
    rf"where is {WHO}": lambda who: Attribute(_who(who), "position"),
    rf"how many {WHO} are there": lambda who: Count(_who(who)),
    rf"is there {WHO}": lambda who: Existence(_who(who)),
    rf"is {WHO} ({_any(RELATIONS)}) {WHO}": lambda a, how, b: Relation(
        _who(a), _who(b), RELATIONS.index(how)
    ),
    rf"is {WHO} larger than {WHO}": lambda a, b: Larger(_who(a), _who(b)),
    rf"do {WHO} and {WHO} have the same colou?r": lambda a, b: SameColour(_who(a), _who(b)),
    rf"are there more {WHO} than {WHO}": lambda a, b: More(_who(a), _who(b)),
}


def understand(text: str) -> Asked | None:
    """What a question of the course asks; None for any other text.

    Capitals, spaces and the mark at the end do not matter, nor does a wish for a sentence as the answer.
    """
    words = IN_A_SENTENCE.sub("", _plain(text)).rstrip("? ")
    for form, template in TEMPLATES.items():
        if found := re.fullmatch(form, words):
            return template(*found.groups())
    return None


def true_answer(text: str, things: Sequence[Thing]) -> str | None:
    """The right answer about these things: a word, or the sentence that was asked for.

    Returns:
        None if the text is no question of the course; "" if it has no answer there, such as "What colour is
        the circle?" without a circle or with two.
    """
    asked = understand(text)
    question = asked and pose("", asked, things)
    if asked is None or question is None:
        return None if asked is None else ""
    if IN_A_SENTENCE.search(_plain(text)):
        from vlmcourse.world.instructions import in_a_sentence

        return in_a_sentence(question)
    return question.answer


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _who(words: str) -> Who:
    """ "small red circle" -> its description."""
    *before, last = words.split()
    size = next((SIZES.index(word) for word in before if word in SIZES), None)
    colour = next((COLOURS.index(word) for word in before if word in COLOURS), None)
    return Who(SHAPES.index(last) if last in SHAPES else None, colour, size)
