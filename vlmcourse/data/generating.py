"""Generating: instructions and answers about a picture, from its captions and boxes alone (notebook 12).

    in_symbols, prompt_for     a picture as text, and what a text model that cannot see it is asked
    ROW_KINDS, Generated       conversation, detailed description, complex reasoning; one row
    ruled_rows, written_rows   rows by rules from boxes; rows whose answers any text model writes
    grounded, keep_grounded    what of a row, and of many, the boxes support; all else counted by reason
    as_records                 the rows as records, to be trained on or written out

Whoever writes answers without seeing the picture invents. Boxes were drawn by people who saw it: they decide
what stays.

Source: three kinds of rows written by a text model that reads captions and boxes, Liu et al. 2023 (LLaVA),
    arXiv:2304.08485, section 3. That boxes then decide is the course's own.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from vlmcourse.data.grounding import DIRECTIONS, QUARTERS, Grounds, Lexicon, Phrase, Support, box_place
from vlmcourse.data.records import BoxedObject, PixelBox, Record
from vlmcourse.data.text import IMAGE_WORD

ROW_KINDS = ("conversation", "detail", "reasoning")
DESCRIBE = "Describe the image."
Write = Callable[[Sequence[str]], Sequence[str]]  # a text model: for each prompt what it answers


class Generated(NamedTuple):
    """An instruction about a picture and its answer; `boxes` show what the answer speaks of."""

    kind: str
    instruction: str
    output: str
    boxes: tuple[PixelBox, ...] = ()


def in_symbols(record: Record, size: tuple[int, int]) -> str:
    """A picture as a text model can read it: captions, then a line for each object with its box.

    Boxes are left, top, right, bottom as shares of the picture's width and height, 0…1, as in LLaVA.

    Args:
        size: width and height of the picture in pixels.
    """
    width, height = size
    lines = [caption.strip() for caption in record.captions]
    for one in record.objects:
        left, top, right, bottom = one.box
        shares = (left / width, top / height, right / width, bottom / height)
        named = " ".join((*one.attributes, one.name))
        lines.append(f"{named}: [{', '.join(f'{share:.3f}' for share in shares)}]")
    return "\n".join(lines)


def prompt_for(record: Record, size: tuple[int, int], instruction: str) -> str:
    """What a text model is asked: the picture in symbols, and what to answer as if it saw it."""
    return (
        "This is what people wrote about an image, and the boxes they drew: "
        "name: [left, top, right, bottom], from 0 to 1.\n\n"
        f"{in_symbols(record, size)}\n\n"
        "Answer as if you saw the image. Say nothing that is not written here. Mention no boxes.\n\n"
        f"{instruction}"
    )


def ruled_rows(
    record: Record, lexicon: Lexicon, size: tuple[int, int] | None = None, seed: int = 0
) -> list[Generated]:
    """Rows of all three kinds about one picture, all of them supported by its boxes.

    conversation: what is there, what is not, how many, and where. detail: every object in reading order.
    reasoning: of two objects which is larger, and on which side of the other it is; both have to be found and
    compared. Of two objects that words cannot tell apart, nothing is asked that means one of them.

    Args:
        lexicon: gives what is not there.
        size: see Grounds.
        seed: chooses objects. The rows of a picture do not depend on those of others.

    Returns:
        rows with boxes; none for a record without objects.
    """
    if not record.objects:
        return []
    grounds = Grounds(record, lexicon, size)
    dice = random.Random(f"{seed} {record.key}")
    drafts = [*_conversation(record, lexicon, dice), _detail(record, grounds), *_reasoning(record, dice)]
    kept: dict[str, Generated] = {}  # by instruction: the first of its answers that the boxes support
    for draft in drafts:
        row, _ = grounded(draft, grounds)
        if row:
            kept.setdefault(row.instruction, row)
    return [*kept.values()]


def written_rows(
    record: Record, instructions: Iterable[tuple[str, str]], write: Write, size: tuple[int, int] | None = None
) -> list[Generated]:
    """The answers of a text model that reads the picture in symbols. Nothing is checked yet, see `grounded`.

    Args:
        instructions: (kind, instruction) pairs.
        write: is given a prompt for each, see prompt_for.

    Raises:
        ValueError: if it does not answer each.
    """
    asked, size = list(instructions), size or record.size()
    said = write([prompt_for(record, size, instruction) for _, instruction in asked])
    if len(said) != len(asked):
        raise ValueError(f"{len(said)} answers to {len(asked)} prompts; give one for each")
    return [Generated(*pair, output) for pair, output in zip(asked, said, strict=True)]


def grounded(row: Generated, grounds: Grounds) -> tuple[Generated | None, list[Support]]:
    """What of a row the boxes support, with the boxes; and of each of its statements what supports it.

    A description keeps its supported statements and loses the others. Any other answer stays whole or goes,
    since half of a reason is none. Whether it answers what was asked is not looked at.

    Returns:
        the row, or None if nothing of it may stay.
    """
    judged = list(grounds.supports(row.output))
    found = [support for _, support in judged]
    held = [(text, support) for text, support in judged if not support.reason]
    if not held or (row.kind != "detail" and len(held) < len(judged)):
        return None, found
    boxes = dict.fromkeys(box for _, support in held for box in support.boxes)
    output = row.output
    if len(held) < len(judged):
        output = " ".join(f"{text[0].upper()}{text[1:]}." for text, _ in held)
    return row._replace(output=output, boxes=tuple(boxes)), found


def keep_grounded(pairs: Iterable[tuple[Generated, Grounds]]) -> tuple[list[Generated | None], Counter[str]]:
    """`grounded` for many rows, each with its picture's boxes.

    Returns:
        for each row what stays of it, or None; and how many statements were dropped, by reason; those
            supported are counted under "".
    """
    kept, reasons = [], Counter()
    for row, grounds in pairs:
        stays, found = grounded(row, grounds)
        kept.append(stays)
        reasons.update(support.reason for support in found)
        reasons["nothing is said"] += not found
    return kept, +reasons


def as_records(record: Record, rows: Iterable[Generated]) -> list[Record]:
    """Rows about a picture as records like those of data/own.py, with the boxes in `facts`."""
    bare = replace(record, captions=(), answers=(), objects=(), relationships=(), regions=())
    made = []
    for row in rows:
        turns = (("user", IMAGE_WORD + row.instruction), ("assistant", row.output))
        made.append(replace(bare, turns=turns, kind=row.kind, facts={"boxes": row.boxes}))
    return made


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _fewest_words(one: BoxedObject, objects: Sequence[BoxedObject]) -> str:
    """The fewest words that mean this object alone, "" if none do: "circle", or "red circle".

    The attribute next to the name comes first: "large" would give away which of two is larger.
    """
    options = [(), *((attribute,) for attribute in reversed(one.attributes)), one.attributes]
    for attributes in options:
        if len(Phrase(one.name, attributes).among(objects)) == 1:
            return " ".join((*attributes, one.name))
    return ""


def _conversation(record: Record, lexicon: Lexicon, dice: random.Random) -> list[Generated]:
    one = dice.choice(record.objects)
    many = Phrase(one.name).among(record.objects)
    plural = one.name + ("es" if one.name.endswith("s") else "s")
    count = f"there is 1 {one.name}" if len(many) == 1 else f"there are {len(many)} {plural}"
    there = " ".join((*one.attributes[-1:], one.name))
    pairs = [
        (f"Is there {_with_article(there)}?", f"Yes, there is {_with_article(there)}."),
        (f"How many {plural} are there?", _sentence(count)),
    ]
    absent = sorted(lexicon.names - {each.name for each in record.objects})
    if absent:
        other = dice.choice(absent)
        pairs.append((f"Is there {_with_article(other)}?", f"No, there is no {other}."))
    if who := _fewest_words(one, record.objects):
        pairs += [(f"Where is the {who}?", f"The {who} is at the {place}.") for place in QUARTERS]
    return [Generated("conversation", *pair) for pair in pairs]


def _detail(record: Record, grounds: Grounds) -> Generated:
    def order(one: BoxedObject) -> tuple[bool, float]:
        left, top, right, bottom = one.box
        return top + bottom > grounds.size[1], left + right

    said = []
    for one in sorted(record.objects, key=order):
        place = box_place(one.box, grounds.size, grounds.clear)
        words = _with_article(" ".join((*one.attributes, one.name)))
        said.append(f"There is {words}{f' at the {place}' if place else ''}.")
    return Generated("detail", DESCRIBE, " ".join(said))


def _reasoning(record: Record, dice: random.Random) -> list[Generated]:
    named = [words for one in record.objects if (words := _fewest_words(one, record.objects))]
    if len(named) < 2:
        return []
    first, second = dice.sample(named, 2)
    asked = f"Which is larger, the {first} or the {second}, and on which side of the other is it?"
    sides, rows = dice.sample(DIRECTIONS, len(DIRECTIONS)), []
    for large, small in ((first, second), (second, first)):
        for side in sides:
            said = f"The {large} is larger than the {small}. The {large} is {side} the {small}."
            rows.append(Generated("reasoning", asked, said))
    return rows
