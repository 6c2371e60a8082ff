"""What is in the picture over what is in its twin."""

import math

import numpy as np
import pytest
import torch

from vlmcourse.data.chat import IGNORED
from vlmcourse.data.text import END
from vlmcourse.evaluation.answers import answer_probabilities, asked_of
from vlmcourse.evaluation.statements import true_and_complete
from vlmcourse.families import preferring
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
from vlmcourse.training.preferences import dpo_loss
from vlmcourse.world import questions, scenes, truth, twins
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
    assert all(question.startswith("Is there") for question, *_ in about)  # if nothing else is asked for
    for number, (question, better, worse) in enumerate(about):
        things = truth.list_things(shown, number)
        assert true_answer(question, things) == better != worse
        assert about[(number + half) % len(about)] == (question, worse, better)


def test_twins_are_asked_what_is_wanted_and_another_seed_asks_something_else(batch):
    found = {}
    for kind, seed in (("existence", 0), ("existence", 4), ("colour", 0), ("colour", 4)):
        shown, about = found[kind, seed] = twin_pairs(batch, kind, seed)
        half = len(about) // 2
        asked = [one.text for one in questions.ask(batch, kind, seed) if one]
        assert {question for question, *_ in about[:half]} <= {*asked} and half > 0
    for kind in ("existence", "colour"):
        assert found[kind, 0][1] != found[kind, 4][1]
    some, asked = asked_of(batch, "existence", 4)
    other, changed = twins.twins(some, asked, 4)
    shown, about = found["existence", 4]
    half = len(about) // 2
    assert [question for question, *_ in about[half:]] == [one.text for one in changed]
    for number in range(half):
        assert truth.list_things(shown, half + number) == truth.list_things(other, number)


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
    shapes = {*scenes.SHAPES}
    for one, two in zip(better, worse, strict=True):
        (words,) = ({a, b} for a, b in zip(one.split(), two.split(), strict=True) if a != b)
        assert {word.strip(",.") for word in words} <= shapes
    assert [worse for *_, worse in caption_pairs(batch, seed=1)] != worse


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
    full = scenes.sample("train", 3, objects=(2, 2))
    with pytest.raises(ValueError, match="two or more"):
        seen_by_annotators(scenes.concatenate([full, scenes.sample("train", 1, objects=(1, 1))]))


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
    labels = pairs.rows.labels
    assert (labels[..., 0] == IGNORED).all() and ((labels == END).sum(dim=-1) == 1).all()


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
    assert not speaker.model.training
    if learn is prefer:
        assert history.losses[0] == pytest.approx(math.log(2), abs=1e-4)
        assert np.mean(history.metrics["agreed"][-3:]) == 1
        better, worse = history.metrics["better"], history.metrics["worse"]
        assert better[0] == pytest.approx(0, abs=1e-3) == worse[0]
        assert better[-1] > worse[-1] + 1


@pytest.mark.parametrize("learn", [prefer, imitate])
def test_another_seed_reads_the_pairs_in_another_order(learn, batch):
    firsts = []
    for seed in (0, 1):
        speaker, _ = load_named("nano-vlm")
        pairs = pair_up(speaker, speaker.features(render(batch)), caption_pairs(batch))
        firsts.append(learn(speaker, pairs, steps=2, size=3, lr=1e-3, seed=seed).losses[-1])
    assert firsts[0] != firsts[1]


def test_of_two_equal_answers_none_gained_more_and_beta_is_told(batch, monkeypatch):
    told = []

    def loss(*given):
        told.append(given[-1])
        return dpo_loss(*given)

    monkeypatch.setattr(preferring, "dpo_loss", loss)
    speaker, _ = load_named("nano-vlm")
    pairs = pair_up(speaker, speaker.features(render(batch)), [("Is it?", "maybe", "maybe")] * len(batch))
    history = prefer(speaker, pairs, steps=1, size=6, beta=0.7)
    assert history.metrics["agreed"] == [0]
    prefer(speaker, pairs, steps=1, size=6)
    assert told == [0.7, 0.1]


def test_the_control_learns_each_token_of_the_better_answers_alike(batch):
    speaker, _ = load_named("nano-vlm")
    about = [("Is there a star?", better, "no") for better in ("maybe", "yes it is there") * 6]
    pairs = pair_up(speaker, speaker.features(render(batch)), about)
    before = whole_answers(speaker, pairs)
    assert not before.requires_grad
    tokens = (pairs.rows.labels[:, 0] != IGNORED).sum()
    history = imitate(speaker, pairs, steps=1, size=12)
    assert history.losses[0] == pytest.approx((-before[:, 0].sum() / tokens).item(), rel=1e-4)
