"""Talks: instructions about scenes and their answers, in several formats (notebook 08).

    talks           for each scene a question of every kind and a caption
    hard_talks      more of what is learned late, and looks asked for in ways that give no look away
    last_talks      a full caption of every scene, and what is still wrong when the rest is right
    paired_talks    mostly what holds two things against each other
    pale_talks      for scenes seen in grey: nothing of colours

The format is part of the instruction: the same question wants a word, or, if it says so, a sentence. A model
that reads its instructions can be captioned; one that does not answers everything alike.
"""

import re
from collections.abc import Sequence

import numpy as np

from vlmcourse.data.chat import Turns
from vlmcourse.world import captions, questions
from vlmcourse.world.grammar import SENTENCE
from vlmcourse.world.scenes import COLOURS, PLACES, RELATIONS, SIDE, SIZES, Scenes, in_reading_order
from vlmcourse.world.truth import Attribute, Relation, Thing, Who, in_a_sentence, list_things, pose

SHORT, FULL = "Describe the image briefly.", "Describe the image."
PALE = "Describe the image without colours."
COLOURFUL = re.compile(f"colour|(?:{'|'.join(COLOURS)}) ")
Talk = list[tuple[str, str]]  # (instruction, answer) about one image


def talks(batch: Scenes, seed: int = 0, sentences: float = 0.125, captioned: bool = True) -> list[Talk]:
    """For each scene one question of every kind; of any other kind in place of one that it does not allow.

    Args:
        sentences: share of questions that ask for a sentence.
        captioned: whether to ask for a caption as well, a short one half of the time.
    """
    chance = np.random.default_rng(seed)
    kinds = [questions.ask(batch, kind, seed=seed) for kind in questions.KINDS]
    spare, about = questions.ask(batch, seed=seed + 1), []
    short, full = captions.captions(batch, "short"), ordered_captions(batch)
    for number, asked in enumerate(zip(*kinds, strict=True)):
        row = []
        for question in asked:
            question = question or spare[number]
            wordy = chance.random() < sentences
            answer = in_a_sentence(question) if wordy else question.answer
            row.append((question.text + SENTENCE * wordy, answer))
        if captioned:
            row.append((FULL, full[number]) if chance.random() < 0.5 else (SHORT, short[number]))
        about.append(row)
    return about


def ordered_captions(batch: Scenes) -> list[str]:
    """Full captions that name the objects in reading order.

    In any order there are up to 24 right captions of a picture, and whoever writes one has to remember what
    was named; from left to right, the next object is the one behind the last.
    """
    return captions.captions(in_reading_order(batch), "full")


def hard_talks(batch: Scenes, seed: int = 0) -> list[Talk]:
    """For each scene a second relation, a place in halves, and two looks of a thing named by size alone.

    "What colour is the large thing?" does not say the shape, so nothing can be learned from it of colours
    that a shape usually has. And "Is the star at the left or the right?" asks for one axis in one word: in
    "bottom left", the second word comes late, and until it does, nobody asks the model to keep what the eye
    knows of left and right. Every fourth scene asks it of the thing nearest to a middle line too, whose place
    only captions say. Where no size is unique, or no place clear, the scene has fewer questions.
    """
    chance, about = np.random.default_rng((seed, 1)), []
    sizes = [Who(size=size) for size in range(len(SIZES))]
    relations = questions.ask(batch, "relation", seed=seed + 2)
    places = questions.ask(batch, "position", seed=seed + 3)
    for number, (relation, place) in enumerate(zip(relations, places, strict=True)):
        things = list_things(batch, number)
        row = [(relation.text, relation.answer)] if relation else []
        row += halves(place.asked.who, place.answer) if place else []
        row += [] if number % 4 else close_call(things)
        alone = [who for who in sizes if who.only(things)]
        for name in ("colour", "shape") if alone else ():
            question = pose(name, Attribute(alone[chance.integers(len(alone))], name), things)
            row.append((question.text, question.answer))
        about.append(row)
    return about


def last_talks(batch: Scenes, seed: int = 0, described: float = 0.0) -> list[Talk]:
    """For each scene what a model that answers well still gets wrong: a full caption, and the close call.

    Args:
        described: share of scenes of which nothing else is asked. Of the others are a question of every kind,
            those of hard_talks, and a second comparison and count.
    """
    asked, hard = talks(batch, seed, captioned=False), hard_talks(batch, seed)
    full, short = ordered_captions(batch), captions.captions(batch, "short")
    more = [questions.ask(batch, kind, seed=seed + 4) for kind in ("comparison", "count")]
    alone, about = np.random.default_rng((seed, 2)).random(len(batch)) < described, []
    for number, silent in enumerate(alone):
        row = [(FULL, full[number]), *close_call(list_things(batch, number))]
        if not silent:
            row += asked[number] + [(SHORT, short[number])] * (number % 4 == 0) + hard[number]
            row += [(kind[number].text, kind[number].answer) for kind in more if kind[number]]
        about.append(row)
    return about


def paired_talks(
    batch: Scenes, seed: int = 0, relations: int = 5, comparisons: int = 2, orders: int = 0
) -> list[Talk]:
    """For each scene a question of every kind, and more that hold two things against each other.

    Among the many questions of `talks`, relations may never be learned: until both things are found, an
    answer can only be guessed, and what is learned of it drowns. Whoever finds single things learns to
    compare them from these.

    Args:
        relations, comparisons: how many to ask about each scene beyond the first; none twice.
        orders: to how many of these relations to add what nobody answers who reads a question as a bag of
            words: where one thing and the other are, and the relation as seen from the other.
    """
    wanted = {"relation": relations, "comparison": comparisons}
    more = [
        questions.ask(batch, kind, seed=seed + 10 + number)
        for kind, count in wanted.items()
        for number in range(count)
    ]
    about = []
    rows = zip(talks(batch, seed, captioned=False), *more, strict=True)
    for number, (row, *others) in enumerate(rows):
        asked = dict(row)
        asked |= {other.text: other.answer for other in others if other}
        for relation in filter(None, others[:relations][:orders]):
            asked |= dict(ordered_pair(relation.asked, list_things(batch, number)))
        about.append([*asked.items()])
    return about


def ordered_pair(relation: Relation, things: Sequence[Thing]) -> Talk:
    """Where the two things of a relation are, and the relation, true or not, turned round."""
    who, other = relation.who, relation.other
    back = RELATIONS[relation.relation ^ 1]
    first, second = (quarter(each.only(things)) for each in (who, other))
    return [
        (f"Turn round: the {who} is {relation.words} the {other}.", f"the {other} is {back} the {who}"),
        (f"Where are the {who} and the {other}?", f"{first} and {second}"),
    ]


def halves(who: Who, place: str) -> Talk:
    """The answer to "Where is the star?", "bottom left", as the answers to two questions of one axis each."""
    upright, sideways = place.split()
    return [
        (f"Is the {who} at the top or the bottom?", upright),
        (f"Is the {who} at the left or the right?", sideways),
    ]


def close_call(things: Sequence[Thing]) -> Talk:
    """`halves` of the thing nearest to a middle line, of those that a full description names."""
    named = [(Who(*thing[:3]), thing) for thing in things]
    named = [(who, thing) for who, thing in named if who.only(things)]
    if not named:
        return []
    middle = (SIDE - 1) / 2
    who, thing = min(named, key=lambda pair: min(abs(pair[1].x - middle), abs(pair[1].y - middle)))
    return halves(who, quarter(thing))


def quarter(thing: Thing) -> str:
    """Where a thing is, however near to a middle line; see Thing.position."""
    middle = (SIDE - 1) / 2
    return PLACES[2 * (thing.y > middle) + (thing.x > middle)]


def pale_talks(batch: Scenes, seed: int = 0) -> list[Talk]:
    """What can be asked of each scene without colours: up to three questions of a kind, and a caption."""
    about = [{} for _ in range(len(batch))]  # by text: the same question twice is of no use
    for kind in [kind for kind in questions.KINDS if kind not in ("colour", "shape")]:
        for attempt in range(3):
            for row, question in zip(about, questions.ask(batch, kind, seed=seed + attempt), strict=True):
                if question and not COLOURFUL.search(f"{question.text} {question.answer}"):
                    row[question.text] = question.answer
    pale = [COLOURFUL.sub("", text) for text in ordered_captions(batch)]
    return [[*row.items(), (PALE, text)] for row, text in zip(about, pale, strict=True)]


def turns(instruction: str, said: str | None = None) -> Turns:
    """One exchange about an image, or an instruction that waits for its answer."""
    asked = [("user", "<image>" + instruction)]
    return asked if said is None else [*asked, ("assistant", said)]
