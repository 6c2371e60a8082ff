"""What is in the picture over what is in its twin."""

import math

import numpy as np
import pytest
import torch

from vlmcourse.data.chat import IGNORED
from vlmcourse.evaluation.answers import answer_probabilities
from vlmcourse.evaluation.statements import true_and_complete
from vlmcourse.families.nano import load_named
from vlmcourse.families.preferring import (
    caption_pairs,
    imitate,
    pair_up,
    prefer,
    seen_by_annotators,
    twin_pairs,
    whole_answers,
)
from vlmcourse.world import scenes, truth
from vlmcourse.world.grammar import true_answer
from vlmcourse.world.instructions import FULL
from vlmcourse.world.render import render


@pytest.fixture(scope="module")
def batch():
    return scenes.sample("train", 12, start=9000)


@pytest.fixture(scope="module")
def speaker():
    return load_named("nano-vlm")[0]


def test_of_twins_each_prefers_what_is_true_of_it(batch):
    shown, about = twin_pairs(batch)
    half = len(about) // 2
    assert len(shown) == len(about)
    for number, (question, better, worse) in enumerate(about):
        things = truth.list_things(shown, number)
        assert true_answer(question, things) == better != worse
        assert about[(number + half) % len(about)] == (question, worse, better)


def test_of_captions_one_is_true_and_the_other_names_another_shape(batch):
    about = caption_pairs(batch)
    assert {asked for asked, *_ in about} == {FULL}
    better, worse = ([pair[n] for pair in about] for n in (1, 2))
    assert true_and_complete(better, batch).all() and not true_and_complete(worse, batch).any()
    changed = [
        sum(a != b for a, b in zip(one.split(), two.split(), strict=True))
        for one, two in zip(better, worse, strict=True)
    ]
    assert set(changed) == {1}


def test_annotators_name_one_thing_that_the_picture_does_not_show():
    full = scenes.sample("train", 12, start=9000, objects=(2, 4))
    shown, talks = seen_by_annotators(full)
    assert (shown.count == full.count - 1).all()
    captions = [talk[0][1] for talk in talks]
    assert true_and_complete(captions, full).all() and not true_and_complete(captions, shown).any()
    for number, talk in enumerate(talks):
        seen, left = (truth.list_things(batch, number) for batch in (full, shown))
        assert left == seen[:-1]
        assert [asked for asked, _ in talk[:1]] == [FULL]
        (gone, said), (stays, also) = talk[1:]
        assert said == also == true_answer(gone, seen) == true_answer(stays, left) == "yes"
        twice = any(one[:2] == seen[-1][:2] for one in left)
        assert true_answer(gone, left) == ("yes" if twice else "no")


def test_of_a_scene_with_one_thing_nothing_would_be_left():
    with pytest.raises(ValueError, match="two or more"):
        seen_by_annotators(scenes.sample("train", 3, objects=(1, 1)))


def test_pairs_are_read_as_the_model_is_asked(speaker, batch):
    shown, about = twin_pairs(batch)
    features = speaker.features(render(shown))
    pairs = pair_up(speaker, features, about)
    with torch.no_grad():
        found = whole_answers(speaker, pairs, batch=5).exp()
    for place in (0, 1):
        asked, said = [row[0] for row in about], [row[1 + place] for row in about]
        alone = answer_probabilities(speaker, render(shown), asked, said)
        assert torch.allclose(found[:, place], alone, atol=1e-4)
    assert (pairs.rows.labels[..., 0] == IGNORED).all()


@pytest.mark.parametrize("learn", [prefer, imitate])
def test_the_better_answers_win(learn, batch):
    speaker, _ = load_named("nano-vlm")
    features = speaker.features(render(batch))
    about = [("Is there a star?", "maybe", "yes")] * len(batch)  # what it never said
    pairs = pair_up(speaker, features, about)
    before = whole_answers(speaker, pairs)
    options = dict(beta=0.5) if learn is prefer else {}
    history = learn(speaker, pairs, steps=12, size=6, lr=1e-3, **options)
    gains = (whole_answers(speaker, pairs) - before).mean(dim=0)
    assert gains[0] > gains[1] + 1
    if learn is prefer:
        assert history.losses[0] == pytest.approx(math.log(2), abs=1e-4)
        assert np.mean(history.metrics["agreed"][-3:]) == 1
