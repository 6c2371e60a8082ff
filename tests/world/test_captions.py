import re
from collections import Counter

import numpy as np
import pytest

from tests.world.eyes import look
from vlmcourse.world.captions import SHALLOW, captions, entropy, exchange_words, surprise
from vlmcourse.world.render import render
from vlmcourse.world.scenes import sample

SHORT = re.compile(r"a (\w+ \w+)(?: (left of|right of|above|below) a (\w+ \w+))?")


def holds(text, seen):
    """Whether a short caption is true of what was seen."""
    first, relation, second = SHORT.fullmatch(text).groups()
    named = {phrase: [s for s in seen if f"{s.colour} {s.shape}" == phrase] for phrase in (first, second)}
    if relation is None:
        return len(seen) == 1 and bool(named[first])
    return any(
        {"left of": a.x < b.x, "right of": a.x > b.x, "above": a.y < b.y, "below": a.y > b.y}[relation]
        for a in named[first]
        for b in named[second]
        if a != b
    )


def test_short_captions_are_true_of_the_pixels():
    batch = sample("test", 1000)
    assert all(holds(text, look(image)) for text, image in zip(captions(batch), render(batch), strict=True))


def test_full_captions_name_every_object_in_the_pixels():
    batch = sample("validation", 1000)
    for text, image in zip(captions(batch, "full"), render(batch), strict=True):
        told = Counter(re.split(", | and ", text))
        assert told == Counter(
            f"a {s.size} {s.colour} {s.shape} at the {'top' if s.y < 31.5 else 'bottom'} "
            f"{'left' if s.x < 31.5 else 'right'}"
            for s in look(image)
        )


def test_shallow_captions_say_nothing():
    assert set(captions(sample(count=200), "shallow")) == set(SHALLOW)


@pytest.mark.parametrize("objects", [(1, 4), (1, 1), (2, 3)])
def test_short_captions_have_the_stated_entropy(objects):
    """(1, 4): H = H(1/4) + 1/4·ln 25 + 3/4·(2·ln 25 + ln 4) nats; an estimate from counts is a little low."""
    count = 100_000
    share = np.array(list(Counter(captions(sample(count=count, objects=objects))).values())) / count
    bias = (len(share) - 1) / (2 * count)  # Miller 1955
    assert -(share * np.log(share)).sum() + bias == pytest.approx(entropy(objects), abs=0.01)


def test_entropy_by_hand():
    by_hand = (
        -(0.25 * np.log(0.25) + 0.75 * np.log(0.75)) + 0.25 * np.log(25) + 0.75 * (2 * np.log(25) + np.log(4))
    )
    assert entropy() == pytest.approx(by_hand)
    assert entropy((1, 1)) == pytest.approx(np.log(25))


def test_surprise_is_a_probability_over_all_captions_and_averages_to_the_entropy():
    seen = sorted(set(captions(sample(count=100_000))))
    assert len(seen) == 25 + 25 * 4 * 25
    assert np.exp(-surprise(seen)).sum() == pytest.approx(1)
    assert surprise(captions(sample("validation", 20_000))).mean() == pytest.approx(entropy(), abs=0.03)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a red",
        "a red circle left of",
        "a circle",
        "a red circle near a blue square",
        "a black circle",
        "a  red circle",
    ],
)
def test_a_text_outside_the_grammar_is_infinitely_surprising(text):
    assert surprise([text]) == np.inf


@pytest.mark.parametrize("split", ["train", "novel"])
def test_wrong_captions_are_false_of_the_pixels(split):
    batch = sample(split, 600, objects=(1, 2))
    held = [
        holds(text, look(image))
        for text, image in zip(captions(batch, wrong=1.0), render(batch), strict=True)
    ]
    assert np.mean(held) < 0.02  # two objects alike: a wrong word may happen to fit the pair


@pytest.mark.parametrize("style", ["short", "full"])
@pytest.mark.parametrize("knob", ["wrong", "swapped", "shallow"])
def test_knobs_spoil_the_stated_share(style, knob):
    batch = sample(count=10_000)
    true = captions(batch, style)
    for share in (0.0, 0.3, 1.0):
        spoiled = captions(batch, style, **{knob: share})
        assert np.mean([a != b for a, b in zip(true, spoiled, strict=True)]) == pytest.approx(share, abs=0.02)
    assert captions(batch, style, **{knob: 0.3}, seed=1) != captions(batch, style, **{knob: 0.3})
    if knob == "swapped":
        assert Counter(captions(batch, style, swapped=0.5)) == Counter(true)


def test_bad_styles_and_shares_are_named():
    with pytest.raises(ValueError, match="unknown caption style 'long'; choose one of short, full, shallow"):
        captions(sample(), "long")
    with pytest.raises(ValueError, match="swapped is a share between 0 and 1, got 2"):
        captions(sample(), swapped=2)


def test_exchanged_captions_have_the_same_words_and_are_false():
    two = sample("test", 200, objects=(2, 2))
    texts, pictures = captions(two, "short"), [look(image) for image in render(two)]
    alike = (two.shape[:, 0] == two.shape[:, 1]) & (two.colour[:, 0] == two.colour[:, 1])
    for text, other, seen, same in zip(texts, exchange_words(texts), pictures, alike, strict=True):
        assert sorted(text.split()) == sorted(other.split()) and exchange_words([other]) == [text]
        assert holds(text, seen) and (same or not holds(other, seen))
    with pytest.raises(ValueError, match="'a red star' names no two things"):
        exchange_words(["a red star"])
