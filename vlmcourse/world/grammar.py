"""The grammar of questions and captions, read back: from a text to what it says (notebooks 00 and 07).

    understand     a question -> the template behind it, or None
    true_answer    the right answer to a question about things, in the form that it asks for
    stated         a caption -> what it says of every thing it names

Templates and captions write these texts (`truth`, `captions`); here stands what they look like to a reader.
So the truth can follow every edit of a scene and every word that a model writes.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from vlmcourse.world.scenes import COLOURS, PLACES, RELATIONS, SHAPES, SIZES
from vlmcourse.world.truth import (
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

SENTENCE = " Answer in a sentence."  # behind a question: a word is not enough

_SIZE, _COLOUR, _SHAPE, _PLACE, _RELATION = map("|".join, (SIZES, COLOURS, SHAPES, PLACES, RELATIONS))
_WHO = rf"(?:the |an? )?((?:(?:{_SIZE}) )?(?:(?:{_COLOUR}) )?(?:{_SHAPE}|thing))(?:e?s)?"
_MENTION = re.compile(rf"(?:({_SIZE}) )?({_COLOUR}) ({_SHAPE})(?: at the ({_PLACE}))?")
_WISH = re.compile(rf"[?.]?{re.escape(SENTENCE.lower().removesuffix('.'))}\.?$")


def _who(words: str) -> Who:
    """ "small red circle" -> its description."""
    *before, last = words.split()
    size = next((SIZES.index(word) for word in before if word in SIZES), None)
    colour = next((COLOURS.index(word) for word in before if word in COLOURS), None)
    return Who(SHAPES.index(last) if last in SHAPES else None, colour, size)


def _attribute(name: str, who: str) -> Attribute:
    return Attribute(_who(who), name.replace("color", "colour"))


def _relation(first: str, relation: str, second: str) -> Relation:
    return Relation(_who(first), _who(second), RELATIONS.index(relation))


_QUESTIONS: dict[str, Callable[..., Template]] = {
    rf"what (colou?r|shape|size) is {_WHO}": _attribute,
    rf"where is {_WHO}": lambda who: Attribute(_who(who), "position"),
    rf"how many {_WHO} are there": lambda who: Count(_who(who)),
    rf"is there {_WHO}": lambda who: Existence(_who(who)),
    rf"is {_WHO} ({_RELATION}) {_WHO}": _relation,
    rf"is {_WHO} larger than {_WHO}": lambda first, second: Larger(_who(first), _who(second)),
    rf"do {_WHO} and {_WHO} have the same colou?r": lambda first, second: SameColour(
        _who(first), _who(second)
    ),
    rf"are there more {_WHO} than {_WHO}": lambda first, second: More(_who(first), _who(second)),
}


def understand(text: str) -> Template | None:
    """What a question of the course asks; None for any other text.

    Capitals, spaces and the mark at the end do not matter, nor does a wish for a sentence as the answer.
    """
    words = _WISH.sub("", _plain(text)).rstrip("? ")
    for form, template in _QUESTIONS.items():
        if match := re.fullmatch(form, words):
            return template(*match.groups())
    return None


def true_answer(text: str, things: Sequence[Thing]) -> str | None:
    """The right answer about these things: a word, or the sentence that was asked for.

    Returns:
        None if the text is no question of the course; "" if it has no answer there, such as "What colour is
        the circle?" without a circle or with two.
    """
    template = understand(text)
    if template is None:
        return None
    question = pose("", template, things)
    if question is None:
        return ""
    return in_a_sentence(question) if _WISH.search(_plain(text)) else question.answer


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


class Mention(NamedTuple):
    """What a caption says of one thing: indices into SIZES, COLOURS, SHAPES, PLACES; -1 for nothing."""

    size: int
    colour: int
    shape: int
    place: int


def stated(caption: str) -> list[Mention]:
    """Every thing that a caption names with colour and shape, in the order of the text."""
    mentions = []
    for words in _MENTION.findall(caption):
        indices = [
            names.index(word) if word else -1
            for names, word in zip((SIZES, COLOURS, SHAPES, PLACES), words, strict=True)
        ]
        mentions.append(Mention(*indices))
    return mentions
