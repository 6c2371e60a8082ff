"""The world is a pure function of its seeds: shipped checkpoints and their numbers rest on these bytes.

Scenes are integer arithmetic, and what is written about them compares doubles, so no machine may differ.
Each test names what has changed; if a change is wanted, checkpoints are made anew.
"""

import hashlib

import numpy as np
import pytest

from vlmcourse.world import captions, chance, changes, instructions, motion, pointing, questions, twins
from vlmcourse.world.scenes import ARRAYS, Scenes, sample

KNOBS = dict(
    train={},
    test=dict(printed_words=0.3),
    novel={},
    validation=dict(objects=(4, 4), language_bias=0.5, duplicates=0.5),
)


def digest(value) -> str:
    """Of scenes: of every number in its place; of anything else: of how it is written."""
    if isinstance(value, Scenes):
        data = b"".join(getattr(value, name).astype("<u8").tobytes() for name in ARRAYS)
    else:
        data = repr(value).encode()
    return hashlib.sha256(data).hexdigest()[:12]


def batch_of(split: str) -> Scenes:
    return sample(split, 60, 5, seed=3, **KNOBS[split])


def plain(asked) -> list:
    return [
        question and (question.kind, question.text, question.answer, question.boxes) for question in asked
    ]


def test_chance_is_splitmix64():
    """Three numbers of the published generator with seed 0: its state is the counter that `mix` scrambles."""
    counters = chance.STEP * np.arange(1, 4, dtype=np.uint64)
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert chance.mix(counters).tolist() == expected


def test_chance_of_another_purpose_or_key_is_another():
    keys = chance.derive(np.arange(1000, dtype=np.uint64), "scene")
    others = chance.derive(np.arange(1000, dtype=np.uint64), "scene", 1)
    assert len({*keys.tolist(), *others.tolist()}) == 2000
    numbers = chance.uniform(keys, 50)
    assert 0 <= numbers.min() < 1e-3 and 0.999 < numbers.max() < 1
    assert (
        np.abs(numbers.mean(0) - 0.5).max() < 0.05 and np.abs(np.corrcoef(numbers.T) - np.eye(50)).max() < 0.2
    )


def made(split: str) -> dict[str, str]:
    """What is made of a split, by name, as digests."""
    batch = batch_of(split)
    spoiled = [captions.captions(batch, style, wrong=0.3, swapped=0.2) for style in captions.STYLES]
    asked = questions.ask(batch)
    edited, answers = twins.twins(batch, asked)
    return dict(
        scenes=digest(batch),
        captions=digest([*spoiled, captions.captions(batch, shallow=0.5, seed=1)]),
        questions=digest([plain(questions.ask(batch, kind)) for kind in (None, *questions.KINDS)]),
        annotators=digest(questions.annotators(batch, asked)),
        twins=digest(edited) + digest(plain(answers)),
        repainted=digest(twins.repaint(batch)) + digest(twins.repaint(batch, "colour", seed=1)),
        talks=digest(instructions.talks(batch, 1)),
        hard_talks=digest(instructions.hard_talks(batch)),
        pale_talks=digest(instructions.pale_talks(batch)),
    )


def test_a_thousand_scenes():
    """Every number in its place: the order of the objects too."""
    assert digest(sample("validation", 1000, seed=5, printed_words=0.5)) == "f2932700198e"


KNOWN = {
    "train": {
        "scenes": "ad324aef72dd",
        "captions": "92b2458a3592",
        "questions": "f916b85f573e",
        "annotators": "6e728f6f7efb",
        "twins": "0c017f9abbc5af9a4f19e04b",
        "repainted": "8bf7d7c8ca3c0e8eb88edf99",
        "talks": "a31853a9de3b",
        "hard_talks": "506cdb86af09",
        "pale_talks": "8119a08d6c2f",
    },
    "test": {
        "scenes": "2046a1c929fb",
        "captions": "848ab85e157c",
        "questions": "6644e0270a86",
        "annotators": "6ca7ae522233",
        "twins": "f476ce26716f26c276c68974",
        "repainted": "170fa937940e1eaa64240801",
        "talks": "e5a235ecf532",
        "hard_talks": "e5a23a27c276",
        "pale_talks": "fa22d90790f1",
    },
    "novel": {
        "scenes": "620702413245",
        "captions": "476aaa425236",
        "questions": "ef8e184d6d23",
        "annotators": "ccbfb3979889",
        "twins": "21c1b85f5549321fe0a46d18",
        "repainted": "b5abfbc05d2aa15d3e98966c",
        "talks": "e95f1b11b9d7",
        "hard_talks": "1c61c2f26b9a",
        "pale_talks": "3683d7d878c4",
    },
    "validation": {
        "scenes": "f0d27a5b2543",
        "captions": "09f1704f4f92",
        "questions": "d1c19cfc99d3",
        "annotators": "7962605e49d2",
        "twins": "d3f9fb11eee9d029ea2addc4",
        "repainted": "bb2cb0fcba9b2a5d98434341",
        "talks": "469d4e28b6c2",
        "hard_talks": "146254351c19",
        "pale_talks": "80a460873d52",
    },
}


@pytest.mark.parametrize("split", KNOBS)
def test_all_that_is_made_of_a_split_is_what_it_was(split):
    assert made(split) == KNOWN[split], "shipped checkpoints and their numbers no longer hold"


def order_of(clips: motion.Clips, images: np.ndarray) -> list[list[int]]:
    """Which frames of each clip these are."""
    alike = (images[:, :, None] == clips.pictures()[:, None]).all(axis=(3, 4, 5))
    return alike.argmax(axis=2).tolist()


def told_of_several(split: str) -> dict[str, str]:
    """Pairs, clips and boxes, and what is asked of them: nano-video rests on these."""
    pairs = changes.sample_changes(split, 30, 5, seed=3)
    told = dict(before=pairs.before, after=pairs.after, sentences=pairs.sentences())
    told |= {f"which, {kind}": changes.ask_which(pairs, 1, kind) for kind in (None, "size", "position")}
    told["appeared"] = changes.sample_changes(split, 10, kind="appeared").after
    told |= dict(
        point=pointing.point_talks(pairs.before, 1), boxes=pointing.true_boxes(pairs.before).tolist()
    )
    for path in motion.PATHS:
        clips = motion.sample_clips(split, 20, 5, seed=3, frames=8, path=path, objects=(1, 3))
        asked = clips.questions(), clips.answers(), motion.ask_when(clips, 1), motion.point_when(clips, 1)
        told |= {path: clips.scenes, f"{path}, asked": asked}
        told[f"{path}, controls"] = [
            order_of(clips, images) for images in (clips.shuffled(1), clips.still(1))
        ]
    return {name: digest(value) for name, value in told.items()}


KNOWN_OF_SEVERAL = {
    "train": {
        "before": "a6c948ac182e",
        "after": "daba087464db",
        "sentences": "e73ed4c54742",
        "which, None": "c244b1c5e362",
        "which, size": "bea4969252fe",
        "which, position": "9d668df2f3a8",
        "appeared": "802b2efe71fc",
        "point": "754194bde588",
        "boxes": "8f8a8d468a83",
        "straight": "2abd1d9da78a",
        "straight, asked": "58de0bb61e91",
        "straight, controls": "b2fb73c5b531",
        "round": "36e63c508f77",
        "round, asked": "f002b6322aae",
        "round, controls": "ace81c9e851b",
    },
    "novel": {
        "before": "a5a76153ebff",
        "after": "6bff1806280a",
        "sentences": "09ec00bad0ca",
        "which, None": "664e4e16880e",
        "which, size": "db96bb08204a",
        "which, position": "9a5e4b63acc5",
        "appeared": "0cb1f6fe2e25",
        "point": "dc1285bf3a11",
        "boxes": "2399d9854e5f",
        "straight": "abc51c0f2cdd",
        "straight, asked": "f0abc3ce854c",
        "straight, controls": "49f4cb05fc0c",
        "round": "6b6c2d9d7732",
        "round, asked": "24a240ca20da",
        "round, controls": "579859072952",
    },
}


@pytest.mark.parametrize("split", KNOWN_OF_SEVERAL)
def test_all_that_is_made_of_pairs_and_clips_is_what_it_was(split):
    assert told_of_several(split) == KNOWN_OF_SEVERAL[split], "nano-video and its numbers no longer hold"
