"""Does a model see what is not there? POPE asks for single objects, CHAIR reads captions (notebook 13).

    co_occurrence, ranked_absent, poll     POPE's questions: as many about what is there as about what is not
    said_yes, pope_scores                  answers read and counted
    mentioned, chair                       objects that captions name, and how many are not there
    scene_objects                          what stands in each of the course's scenes

Apart from scene_objects nothing here knows where objects come from: `present` maps each image (its number,
its name) to the names of what is in it.
"""

import random
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

from vlmcourse.evaluation.captioning import plain_words
from vlmcourse.slots import slot
from vlmcourse.world.scenes import COLOURS, SHAPES, Scenes

NEGATIVES = ("random", "popular", "adversarial")
IN_THE_IMAGE = "Is there {} in the image?"  # POPE's question; {} is the object with its article
OF_A_SCENE = "Is there {}?"  # as the course's models were asked

Present = Mapping[Hashable, Collection[str]]


class Poll(NamedTuple):
    """One question of POPE."""

    image: Hashable
    name: str
    question: str
    answer: str  # "yes" or "no"


@slot
def co_occurrence(images: Iterable[Collection[str]]) -> dict[str, Counter[str]]:
    """For each object: in how many images each other one stands with it; an object is not its own company."""
    together: dict[str, Counter[str]] = {}
    for names in images:
        for name in set(names):
            together.setdefault(name, Counter()).update(set(names) - {name})
    return together


@slot
def ranked_absent(counts: Mapping[str, int], here: Collection[str]) -> list[str]:
    """The counted objects that are not here, from the most frequent on; equals stand by the alphabet."""
    absent = [name for name in counts if name not in here]
    return sorted(absent, key=lambda name: (-counts[name], name))


def poll(
    present: Present, negatives: str, per_image: int = 3, seed: int = 0, template: str = IN_THE_IMAGE
) -> list[Poll]:
    """POPE's questions: pairs of one object that is in the image, and one that is not.

    The object that is not there is, by `negatives`:
        random       any that is in another image
        popular      the most frequent one of all images: who answers by habit says yes
        adversarial  the one that most often stands with the object asked before; where all its company is
                     here, any: who completes the usual picture says yes

    Args:
        per_image: pairs about each image; fewer where fewer objects are there or not there, so that yes is
            right exactly half of the time. No object is asked for twice at one image.
        seed: chooses objects. The questions of an image do not depend on the order of images or names.

    Raises:
        ValueError: if the way to choose is unknown, or no image gives a question.

    Source: Li et al. 2023 (POPE), arXiv:2305.10355, section 5.1.
    """
    if negatives not in NEGATIVES:
        raise ValueError(f"unknown choice of negatives {negatives!r}; use one of {', '.join(NEGATIVES)}")
    frequency: Counter[str] = Counter()
    for names in present.values():
        frequency.update(set(names))
    together = co_occurrence(present.values())
    polls = []
    for image, names in present.items():
        dice = random.Random(f"{seed} {image}")
        absent = ranked_absent(frequency, names)
        pairs = min(per_image, len(set(names)), len(absent))
        for there in dice.sample(sorted(set(names)), pairs):
            order = absent if negatives == "popular" else dice.sample(absent, len(absent))
            if negatives == "adversarial":
                order = ranked_absent(together[there], names) + order
            lacking = next(name for name in order if name in absent)
            absent.remove(lacking)
            polls.append(Poll(image, there, template.format(_with_article(there)), "yes"))
            polls.append(Poll(image, lacking, template.format(_with_article(lacking)), "no"))
    if not polls:
        raise ValueError(
            "no question can be asked: there must be objects that are in some images, not in all"
        )
    return polls


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


@slot
def said_yes(answer: str) -> bool:
    """Whether an answer counts as yes: unless a word of its first sentence is "No", "no" or "not".

    The first sentence ends at the first period; commas are dropped; words are what stands between spaces.
    So whatever does not deny is a yes: "I cannot tell", "NO", "No!", and saying nothing.

    Source: evaluation code of Li et al. 2023 (POPE), arXiv:2305.10355.
    """
    words = answer.split(".")[0].replace(",", "").split(" ")
    return not any(word in ("No", "no", "not") for word in words)


@slot
def pope_scores(yes: Sequence[bool], right: Sequence[bool]) -> dict[str, float]:
    """How well yes and no were said, each 0…1.

    Args:
        yes: whether the model said yes to each question.
        right: whether yes is right.

    Returns:
        accuracy   share of right answers
        precision  share of yes that is right; 0 if it never said yes
        recall     share of objects that are there and were affirmed; 0 if there are none
        f1         2 × precision × recall / (precision + recall), 0 if both are
        yes        share of yes; half is right where half of the objects are there

    Raises:
        ValueError: if there are no answers, or not one for each question.

    Source: Li et al. 2023 (POPE), arXiv:2305.10355, section 5.1: accuracy, F1 and the share of yes.
    """
    if not 0 < len(yes) == len(right):
        raise ValueError(f"{len(yes)} answers to {len(right)} questions; give one for each")
    pairs = Counter(zip(yes, right, strict=True))
    hits, false_alarms, misses = pairs[True, True], pairs[True, False], pairs[False, True]
    precision = hits / max(hits + false_alarms, 1)
    recall = hits / max(hits + misses, 1)
    return dict(
        accuracy=(hits + pairs[False, False]) / len(yes),
        precision=precision,
        recall=recall,
        f1=2 * precision * recall / (precision + recall) if hits else 0.0,
        yes=(hits + false_alarms) / len(yes),
    )


@slot
def mentioned(text: str, aliases: Mapping[str, Sequence[str]]) -> list[str]:
    """The objects that a text names, in its order, each as often as it is named.

    From left to right, the longest name that begins at a word counts, and its words are used up: "hot dog" is
    no dog. The last word of a name may bear an s or es. Capitals and punctuation do not matter.

    Args:
        aliases: for each object its other names, of one word or several: {"dog": ["puppy"], "hot dog": []}.
            Other plurals, "men" and "puppies", have to be among them.
    """
    names = {}
    for name, others in aliases.items():
        for alias in (name, *others):
            for ending in ("", "s", "es"):
                names[tuple(plain_words(alias + ending))] = name
    words, start, found = plain_words(text), 0, []
    longest = max(map(len, names), default=0)
    while start < len(words):
        here = (tuple(words[start : start + length]) for length in range(longest, 0, -1))
        match = next((run for run in here if run in names), None)
        if match:
            found.append(names[match])
        start += len(match) if match else 1
    return found


@slot
def chair(mentions: Sequence[Sequence[str]], present: Sequence[Collection[str]]) -> tuple[float, float]:
    """CHAIR of instances and of sentences: how much of what captions name is not there.

    Args:
        mentions: for each caption the objects it names, see mentioned; naming one twice counts twice.
        present: for each caption the objects in its image.

    Returns:
        chair_i: share of mentions that are not in the image.
        chair_s: share of captions with at least one of those.
        Nothing is lost by saying less: "a picture" has neither. Look at recall beside it.

    Raises:
        ValueError: if there is not one image per caption, or no caption names any object.

    Source: Rohrbach et al. 2018, arXiv:1809.02156, section 2.1; repetitions as in the authors' code.
    """
    if len(mentions) != len(present):
        raise ValueError(f"{len(mentions)} captions and objects of {len(present)} images; give one for each")
    if not any(mentions):
        raise ValueError("no caption names any object; do the aliases fit the captions?")
    total = invented = spoilt = 0
    for names, there in zip(mentions, present, strict=True):
        wrong = [name for name in names if name not in there]
        total += len(names)
        invented += len(wrong)
        spoilt += bool(wrong)
    return invented / total, spoilt / len(mentions)


def scene_objects(batch: Scenes) -> list[list[str]]:
    """What stands in each scene, such as ["blue star", "red circle"]; what stands there twice, twice."""
    named = []
    for count, shapes, colours in zip(batch.count, batch.shape, batch.colour, strict=True):
        pairs = zip(colours[:count], shapes[:count], strict=True)
        named.append([f"{COLOURS[colour]} {SHAPES[shape]}" for colour, shape in pairs])
    return named
