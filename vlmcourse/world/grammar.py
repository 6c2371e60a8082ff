"""The grammar of questions and captions, read back: from a text to what it says (notebooks 00 and 07).

Templates and captions write these texts (`truth`, `captions`); here stands what they look like to a reader.
So the truth can follow every edit of a scene and every word that a model writes.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from vlmcourse.world import truth
from vlmcourse.world.scenes import COLOURS, PLACES, RELATIONS, SHAPES, SIZES
from vlmcourse.world.truth import Template, Thing, Who

SENTENCE = " Answer in a sentence."  # behind a question: a word is not enough

_SIZE, _COLOUR, _SHAPE, _PLACE, _RELATION = map("|".join, (SIZES, COLOURS, SHAPES, PLACES, RELATIONS))
_THING = rf"(?:(?:{_SIZE}) )?(?:(?:{_COLOUR}) )?(?:{_SHAPE}|thing)"
_WHO, _OTHER = (rf"(?:the |an? )?(?P<{name}>{_THING})(?:e?s)?" for name in ("who", "other"))
_MENTION = re.compile(rf"(?:({_SIZE}) )?({_COLOUR}) ({_SHAPE})(?: at the ({_PLACE}))?")
_WISH = re.compile(rf"[?.]?{re.escape(SENTENCE.lower().removesuffix('.'))}\.?$")

# Groups have the names of the template's fields
_QUESTIONS: dict[str, Callable[..., Template]] = {
    rf"what (?P<name>colou?r|shape|size) is {_WHO}": truth.Attribute,
    rf"where is {_WHO}": partial(truth.Attribute, name="position"),
    rf"how many {_WHO} are there": truth.Count,
    rf"is there {_WHO}": truth.Existence,
    rf"is {_WHO} (?P<relation>{_RELATION}) {_OTHER}": truth.Relation,
    rf"is {_WHO} larger than {_OTHER}": truth.Larger,
    rf"do {_WHO} and {_OTHER} have the same colou?r": truth.SameColour,
    rf"are there more {_WHO} than {_OTHER}": truth.More,
}


def _who(words: str) -> Who:
    """ "small red circle" -> its description."""
    *before, last = words.split()
    size = next((SIZES.index(word) for word in before if word in SIZES), None)
    colour = next((COLOURS.index(word) for word in before if word in COLOURS), None)
    return Who(SHAPES.index(last) if last in SHAPES else None, colour, size)


_READ = dict(who=_who, other=_who, relation=RELATIONS.index, name=lambda it: it.replace("color", "colour"))


def understand(text: str) -> Template | None:
    """What a question of the course asks; None for any other text.

    Capitals, spaces and the mark at the end do not matter, nor does a wish for a sentence as the answer.
    """
    words = _WISH.sub("", _plain(text)).rstrip("? ")
    for form, template in _QUESTIONS.items():
        if match := re.fullmatch(form, words):
            return template(**{name: _READ[name](part) for name, part in match.groupdict().items()})
    return None


def true_answer(text: str, things: Sequence[Thing]) -> str | None:
    """The right answer about these things: a word, or the sentence that was asked for.

    None if the text is no question of the course; "" if it has no answer there ("the circle" of two).
    """
    template = understand(text)
    if template is None:
        return None
    question = truth.pose("", template, things)
    if question is None:
        return ""
    return truth.in_a_sentence(question) if _WISH.search(_plain(text)) else question.answer


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
    kinds, mentions = (SIZES, COLOURS, SHAPES, PLACES), []
    for words in _MENTION.findall(caption):
        indices = (names.index(word) if word else -1 for names, word in zip(kinds, words, strict=True))
        mentions.append(Mention(*indices))
    return mentions
