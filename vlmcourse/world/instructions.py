"""Talks: instructions about scenes and their answers, in several formats (notebook 08).

    talks           for each scene a question of every kind and a caption
    hard_talks      more of what is learned late, and looks asked for in ways that give no look away
    halves          a place asked for one axis at a time
    pale_talks      the same for scenes seen in grey: nothing of colours
    in_a_sentence   the answer to a question as a whole sentence
    turns           an instruction about an image, with or without its answer, as a conversation

The format is part of the instruction: the same question wants a word, or, if it says so, a sentence. A model
that reads its instructions can be told; one that does not answers everything alike.
"""

import re

import numpy as np

from vlmcourse.data.chat import Turns
from vlmcourse.world import captions, questions
from vlmcourse.world.grammar import SENTENCE
from vlmcourse.world.scenes import COLOURS, SIZES, Scenes
from vlmcourse.world.truth import Attribute, Question, Who, in_a_sentence, list_things, pose

SHORT, FULL = "Describe the image briefly.", "Describe the image."
PALE = "Describe the image without colours."
COLOURFUL = re.compile(f"colour|(?:{'|'.join(COLOURS)}) ")
Talk = list[tuple[str, str]]  # (instruction, answer) about one image


def talks(batch: Scenes, seed: int = 0, sentences: float = 0.125, told: bool = True) -> list[Talk]:
    """For each scene one question of every kind it allows (another question in place of one that it does not).

    Args:
        seed: another seed asks something else.
        sentences: share of questions that ask for a sentence.
        told: whether to ask for a caption as well, a short one half of the time.
    """
    chance = np.random.default_rng(seed)
    kinds = [questions.ask(batch, kind, seed=seed) for kind in questions.KINDS]
    spare, found = questions.ask(batch, seed=seed + 1), []
    styles = [captions.captions(batch, style) for style in ("short", "full")]
    for number, asked in enumerate(zip(*kinds, strict=True)):
        row = []
        for question in (q or spare[number] for q in asked):
            sentence = chance.random() < sentences
            row.append((question.text + SENTENCE, in_a_sentence(question)) if sentence else
                       (question.text, question.answer))  # fmt: skip
        if told:
            style = int(chance.random() < 0.5)
            row.append(((SHORT, FULL)[style], styles[style][number]))
        found.append(row)
    return found


def hard_talks(batch: Scenes, seed: int = 0) -> list[Talk]:
    """For each scene a second relation, a place in halves, and the colour and the shape of a thing named by size alone.

    "What colour is the large thing?" does not say the shape, so nothing can be learned from it of colours
    that a shape usually has. And "Is the star at the left or the right?" asks for one axis in one word: in
    "bottom left", the second word comes late, and until it does, nobody asks the model to keep what the eye
    knows of left and right. Where no size is unique, or no place clear, the scene has fewer questions.

    Args:
        seed: another seed asks something else.
    """
    chance, found = np.random.default_rng((seed, 1)), []
    both = (questions.ask(batch, kind, seed=seed + more) for kind, more in (("relation", 2), ("position", 3)))
    for number, (relation, place) in enumerate(zip(*both, strict=True)):
        things = list_things(batch, number)
        row = [(relation.text, relation.answer)] if relation else []
        row += halves(place) if place else []
        alone = [who for size in range(len(SIZES)) if (who := Who(size=size)).only(things)]
        for name in ("colour", "shape"):
            if alone and (
                question := pose(name, Attribute(alone[chance.integers(len(alone))], name), things)
            ):
                row.append((question.text, question.answer))
        found.append(row)
    return found


def halves(place: Question) -> Talk:
    """The answer to "Where is the star?", "bottom left", as the answers to two questions of one axis each."""
    upright, sideways = place.answer.split()
    return [(f"Is the {place.asked.who} at the top or the bottom?", upright),
            (f"Is the {place.asked.who} at the left or the right?", sideways)]  # fmt: skip


def pale_talks(batch: Scenes, seed: int = 0, tries: int = 3) -> list[Talk]:
    """What can be asked of each scene without colours: questions of all kinds, and a caption that names none.

    Args:
        seed: another seed asks something else.
        tries: questions of each kind to choose from; those that speak of colours are left out.
    """
    found = [{} for _ in range(len(batch))]  # the same question twice is of no use
    for kind in [kind for kind in questions.KINDS if kind not in ("colour", "shape")]:
        for row, several in zip(found, zip(*(questions.ask(batch, kind, seed=seed + n) for n in range(tries)),
                                           strict=True), strict=True):  # fmt: skip
            row |= {q.text: q.answer for q in several if q and not COLOURFUL.search(f"{q.text} {q.answer}")}
    told = [COLOURFUL.sub("", text) for text in captions.captions(batch, "full")]
    return [[*row.items(), (PALE, text)] for row, text in zip(found, told, strict=True)]


def turns(instruction: str, said: str | None = None) -> Turns:
    """One exchange about an image, or an instruction that waits for its answer."""
    asked = [("user", "<image>" + instruction)]
    return asked if said is None else [*asked, ("assistant", said)]
