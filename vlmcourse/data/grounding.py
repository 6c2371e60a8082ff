"""Grounding: do the boxes that people drew support what a text says of a picture? (notebook 12)

    box_relation, box_place, box_larger  what boxes alone say of one object, or of two
    Lexicon, Phrase                      the words of a data set, and "small red circles" read with them
    statements                           a text as single statements
    Grounds                              a picture's boxes; it says what supports a statement, or why nothing

A statement that cannot be read, that means more than one object, or that is too close to tell is not
supported either: whoever wants true rows keeps what is shown to be true, not what is not shown to be false.
Boxes are as in records.py; left and above are smaller numbers.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

from vlmcourse.data.records import BoxedObject, PixelBox, Record
from vlmcourse.slots import slot

# of the picture's shorter edge: what lies closer together, or to a middle line, is in no direction
CLEAR_SHARE = 1 / 16
LARGER = 1.2  # times the area from which on one box is larger than another
DIRECTIONS = ("left of", "right of", "above", "below")
_SIZES = ("larger than", "smaller than")
QUARTERS = ("top left", "top right", "bottom left", "bottom right")
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

UNREAD = "says what no box shows"
NO_OBJECT = "no such object"
WRONG_COUNT = "another number of them"
FALSE = "boxes say the opposite"
SEVERAL = "more than one is meant"
CLOSE = "too close to tell"
MISSING = "boxes may be missing"


@slot
def box_relation(first: PixelBox, second: PixelBox, direction: str, clear: float) -> bool | None:
    """Whether the middle of the first box is left of, right of, above or below that of the second.

    Args:
        direction: one of DIRECTIONS.
        clear: pixels; middles that differ by less in this direction are level.

    Returns:
        True or False; None if they are level, equal middles whatever `clear` is.
    """
    side = 0 if direction in ("left of", "right of") else 1
    ahead = (second[side] + second[side + 2] - first[side] - first[side + 2]) / 2
    if not ahead or abs(ahead) < clear:
        return None
    return (ahead > 0) == (direction in ("left of", "above"))


def box_place(box: PixelBox, size: tuple[int, int], clear: float) -> str | None:
    """ "top left", if the box's middle lies there; None if it is nearer than `clear` to a middle line."""
    right, down = ((box[side] + box[side + 2] - size[side]) / 2 for side in (0, 1))
    if min(abs(right), abs(down)) < clear:
        return None
    return QUARTERS[2 * (down > 0) + (right > 0)]


def box_larger(first: PixelBox, second: PixelBox, least: float = LARGER) -> bool | None:
    """Whether the first box has the larger area; None if neither has `least` times that of the other."""
    one, other = ((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    if max(one, other) < least * min(one, other):
        return None
    return one > other


class Phrase(NamedTuple):
    """What a few words say of an object; "" is an object of any name."""

    name: str
    attributes: tuple[str, ...] = ()

    def among(self, objects: Sequence[BoxedObject]) -> list[int]:
        """Places of the objects that these words fit."""
        return [
            place
            for place, one in enumerate(objects)
            if self.name in ("", one.name) and set(self.attributes) <= set(one.attributes)
        ]


class Lexicon(NamedTuple):
    """The words of a data set's boxes: whatever else a text names, no box can show."""

    names: frozenset[str]
    attributes: frozenset[str]

    @classmethod
    def of(cls, records: Iterable[Record]) -> "Lexicon":
        """All names and attributes of the objects of these records."""
        objects = [one for record in records for one in record.objects]
        attributes = frozenset(word for one in objects for word in one.attributes)
        return cls(frozenset(one.name for one in objects), attributes)

    def read(self, words: str) -> Phrase | None:
        """ "small red circles" by name and attributes; None if a word is unknown. Plurals have s or es."""
        for name in sorted(self.names | {"thing"}, key=len, reverse=True):
            for ending in ("", "s", "es"):
                before, found, after = f" {words}".rpartition(f" {name}{ending}")
                if found and not after:
                    attributes = tuple(before.split())
                    known = set(attributes) <= self.attributes
                    return Phrase("" if name == "thing" else name, attributes) if known else None
        return None


class Support(NamedTuple):
    """Why a statement is not supported, "" if it is; and the boxes of what it speaks of."""

    reason: str
    boxes: tuple[PixelBox, ...] = ()


_PLACE = rf"(?: at the (?P<place>{'|'.join(QUARTERS)}))"
_RELATION = rf"(?:to the )?(?P<relation>{'|'.join((*DIRECTIONS, *_SIZES))})"
_ONE = re.compile(r"(?:yes, )?(?:there is )?an? ")  # object that no other mention in the text means
_SAID = re.compile(r"^(yes|no), (?=\S)")
_FORMS = [
    (kind, re.compile(form))
    for kind, form in (
        ("there", rf"there (?:is|are) (?P<number>an?|\d+|{'|'.join(_NUMBERS)}) (?P<who>.+?){_PLACE}?"),
        (
            "two",
            rf"(?P<article>the|an?) (?P<who>.+?)(?: is)?(?P<no> not)? {_RELATION} (?:the|an?) (?P<other>.+)",
        ),
        ("place", rf"the (?P<who>.+?) is(?P<no> not)?{_PLACE}"),
        ("look", r"the (?P<who>.+?) is(?P<no> not)? (?:an? )?(?P<what>\S+(?: \S+)?)"),
        ("there", rf"an? (?P<who>.+?){_PLACE}?"),
    )
]


def statements(text: str) -> list[str]:
    """The single statements of a text, in small letters and without what ends them.

    Sentences are apart; so are the parts of one that lists objects: "a red circle, a dog and a blue star".
    """
    found = []
    for sentence in re.split(r"[.!?](?:\s|$)|\n", " ".join(text.lower().split(" "))):
        sentence = sentence.strip()
        if re.match(r"an? ", sentence):
            found += re.split(r", and |, | and (?=an? )", sentence)
        elif sentence:
            found.append(sentence)
    return found


class Grounds:
    """What the boxes of one picture support.

    Args:
        size: width and height of the picture in pixels; None reads it from the record's file.
        complete: whether all that is in the picture has its box. If not, as in Visual Genome, neither a
            number nor "there is no dog" can be supported.
    """

    def __init__(
        self, record: Record, lexicon: Lexicon, size: tuple[int, int] | None = None, complete: bool = True
    ):
        self.objects, self.lexicon, self.complete = record.objects, lexicon, complete
        self.size = size or record.size()
        self.clear = CLEAR_SHARE * min(self.size)

    def supports(self, text: str) -> Iterator[tuple[str, Support]]:
        """Each statement of a text, and what supports it. No object may be named twice."""
        named: list[list[int]] = []
        for statement in statements(text):
            found = self.support(statement)
            if not found.reason and _read(statement)[0] == "there" and _ONE.match(statement):
                options = [place for place, one in enumerate(self.objects) if one.box in found.boxes]
                if _all_apart([*named, options]):
                    named.append(options)
                else:
                    found = Support(WRONG_COUNT)
            yield statement, found

    def support(self, statement: str) -> Support:
        """Of a single statement, in small letters. What begins with yes must not deny, and with no must."""
        said = _SAID.match(statement)
        kind, parts = _read(statement)
        who = self.lexicon.read(parts.get("who", ""))
        if who is None:
            return Support(UNREAD)
        denies = bool(parts.get("no")) or parts.get("number") == "no"
        if said and denies != (said[1] == "no"):
            return Support(FALSE)
        return getattr(self, f"_{kind}")(who, parts, denies)

    def _there(self, who: Phrase, parts: dict[str, str], denies: bool) -> Support:
        """There is a red circle (at the top left); there are 2 stars; there is no dog; a red circle."""
        fit, place, number = who.among(self.objects), parts.get("place"), parts.get("number", "a")
        one = number in ("a", "an")
        if place:
            places = {n: box_place(self.objects[n].box, self.size, self.clear) for n in fit}
            here = [n for n in fit if places[n] == place]
            if None in places.values() and not (one and here):
                return Support(CLOSE)
            if one and fit and not here:
                return Support(FALSE)
            fit = here
        if one:
            return self._with_boxes(fit) if fit else Support(NO_OBJECT)
        if not self.complete:
            return Support(MISSING)
        wanted = int(number) if number.isdecimal() else _NUMBERS.index(number)
        return self._with_boxes(fit) if len(fit) == wanted else Support(WRONG_COUNT)

    def _two(self, who: Phrase, parts: dict[str, str], denies: bool) -> Support:
        """The circle is left of the star: of one each. A circle left of a star: of any two."""
        other = self.lexicon.read(parts["other"])
        if other is None:
            return Support(UNREAD)
        first, second = who.among(self.objects), other.among(self.objects)
        if not first or not second:
            return Support(NO_OBJECT)
        pairs = [(a, b) for a, b in product(first, second) if a != b]
        if not pairs:
            return Support(NO_OBJECT)
        if parts["article"] == "the" and max(len(first), len(second)) > 1:
            return Support(SEVERAL)
        holds = {pair: self._relation(*pair, parts["relation"]) for pair in pairs}
        right = [pair for pair, value in holds.items() if value is (not denies)]
        if right:
            return self._with_boxes(right[0])
        return Support(CLOSE if None in holds.values() else FALSE)

    def _relation(self, first: int, second: int, relation: str) -> bool | None:
        one, other = self.objects[first].box, self.objects[second].box
        if relation in DIRECTIONS:
            return box_relation(one, other, relation, self.clear)
        return box_larger(one, other) if relation == "larger than" else box_larger(other, one)

    def _place(self, who: Phrase, parts: dict[str, str], denies: bool) -> Support:
        """The circle is at the top left."""
        fit = who.among(self.objects)
        if len(fit) != 1:
            return Support(SEVERAL if fit else NO_OBJECT)
        place = box_place(self.objects[fit[0]].box, self.size, self.clear)
        if place is None:
            return Support(CLOSE)
        return self._with_boxes(fit) if (place == parts["place"]) != denies else Support(FALSE)

    def _look(self, who: Phrase, parts: dict[str, str], denies: bool) -> Support:
        """The circle is red; the red thing is a circle."""
        what = parts["what"]
        said = Phrase("", (what,)) if what in self.lexicon.attributes else self.lexicon.read(what)
        if said is None:
            return Support(UNREAD)
        fit = who.among(self.objects)
        if len(fit) != 1:
            return Support(SEVERAL if fit else NO_OBJECT)
        if denies and not self.complete:  # nobody wrote down all that an object is
            return Support(MISSING)
        return self._with_boxes(fit) if bool(said.among([self.objects[fit[0]]])) != denies else Support(FALSE)

    def _with_boxes(self, places: Iterable[int]) -> Support:
        return Support("", tuple(self.objects[place].box for place in places))


def _read(statement: str) -> tuple[str, dict[str, str]]:
    """Which form a statement has, and the words in it."""
    words = _SAID.sub("", statement)
    for kind, form in _FORMS:
        if match := form.fullmatch(words):
            return kind, {name: part for name, part in match.groupdict().items() if part}
    return "unread", {}


def _all_apart(options: Sequence[Sequence[int]]) -> bool:
    """Whether each can have one of its options that no other has."""
    taken: dict[int, int] = {}

    def finds_room(number: int, tried: set[int]) -> bool:
        for option in options[number]:
            if option not in tried:
                tried.add(option)
                if option not in taken or finds_room(taken[option], tried):
                    taken[option] = number
                    return True
        return False

    return all(finds_room(number, set()) for number in range(len(options)))
