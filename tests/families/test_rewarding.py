"""A model answers its own questions, and what was true becomes likelier."""

from copy import deepcopy
from itertools import combinations

import numpy as np
import pytest
import torch

from vlmcourse.data.chat import IGNORED
from vlmcourse.data.text import END
from vlmcourse.evaluation.answers import answer_probabilities, asked_of_contrasts, asked_of_twins
from vlmcourse.families import rewarding
from vlmcourse.families.nano import load_named
from vlmcourse.families.rewarding import (
    Drill,
    Rollouts,
    branch_scores,
    chances_of_truth,
    drill_about,
    drill_of_contrasts,
    drill_of_twins,
    group_loss,
    hard_questions,
    join_drills,
    reinforce,
    sample_answers,
    sample_draws,
    upto,
)
from vlmcourse.speak import Speaker
from vlmcourse.training.policy import policy_loss
from vlmcourse.training.preferences import entropies, token_log_probabilities
from vlmcourse.world import questions, scenes
from vlmcourse.world.instructions import FULL
from vlmcourse.world.render import render

KINDS = ("count", "comparison")


@pytest.fixture(scope="module")
def batch():
    return scenes.sample("train", 24, start=7000)


@pytest.fixture(scope="module")
def speaker():
    return load_named("nano-vlm")[0]


@pytest.fixture(scope="module")
def drill(speaker, batch):
    return drill_about(speaker, batch, KINDS)


def test_a_drill_asks_each_kind_of_every_scene_that_allows_it(drill, batch):
    asked = {kind: questions.ask(batch, kind) for kind in KINDS}
    assert len(drill.features) == len(batch)
    number = 0
    for kind in KINDS:
        for scene, one in enumerate(asked[kind]):
            if one:
                found = drill.image[number], drill.questions[number], drill.answers[number]
                assert found == (scene, one.text, one.answer)
                number += 1
    assert number == len(drill.image) == len(drill.questions) == len(drill.answers)


def test_another_seed_asks_something_else(speaker, batch):
    some = batch[:6]
    found = drill_about(speaker, some, KINDS, seed=3).questions
    assert found == [one.text for kind in KINDS for one in questions.ask(some, kind, 3) if one]
    assert found != drill_about(speaker, some, KINDS).questions


def test_twins_are_asked_kind_by_kind_each_about_its_own_image(speaker, batch):
    some = batch[:5]
    for options in (dict(), dict(seed=3)):
        found = drill_of_twins(speaker, some, KINDS, **options)
        parts = [asked_of_twins(some, kind, options.get("seed", 0)) for kind in KINDS]
        asked = [one for _, questions in parts for one in questions]
        assert list(zip(found.questions, found.answers, strict=True)) == [
            (one.text, one.answer) for one in asked
        ]
        seen = torch.cat([speaker.features(render(shown)) for shown, _ in parts])
        assert torch.equal(found.features[found.image], seen)


def test_contrasts_are_asked_of_one_picture_each_first_with_one_answer_then_with_the_other(speaker, batch):
    for options in (dict(), dict(seed=3)):
        found = drill_of_contrasts(speaker, batch, KINDS, **options)
        parts = [asked_of_contrasts(batch, kind, options.get("seed", 0)) for kind in KINDS]
        asked = [one for _, first, other in parts for one in (*first, *other)]
        assert list(zip(found.questions, found.answers, strict=True)) == [
            (one.text, one.answer) for one in asked
        ]
        seen = [speaker.features(render(shown)) for shown, *_ in parts]
        assert torch.equal(found.features, torch.cat(seen))
        assert torch.equal(found.features[found.image], torch.cat([one for one in seen for _ in range(2)]))


def test_joined_drills_keep_what_is_asked_of_which_image():
    """The first has an image that nobody asks about, the second asks twice about its last one."""
    first = Drill(torch.tensor([[[1.0]], [[2.0]], [[3.0]]]), [2, 0], ["a", "b"], ["1", "2"])
    second = Drill(torch.tensor([[[4.0]], [[5.0]]]), [1, 1, 0], ["c", "d", "e"], ["3", "4", "5"])
    both = join_drills([first, second])
    assert both.features[both.image].flatten().tolist() == [3, 1, 5, 5, 4]
    assert both.questions == [*"abcde"] and both.answers == [*"12345"]


def test_questions_about_one_image_need_not_stand_together(speaker, drill, batch):
    pairs = combinations(range(len(drill.image)), 2)
    first, again = next(pair for pair in pairs if drill.image[pair[0]] == drill.image[pair[1]])
    between = next(number for number, image in enumerate(drill.image) if image != drill.image[first])
    some = drill.pick([first, between, again])
    some = some._replace(answers=[*some.answers[:2], "purple"])  # wrong, so the last one is unlikely
    alone = answer_probabilities(speaker, render(batch)[some.image], some.questions, some.answers)
    assert torch.allclose(chances_of_truth(speaker, some), alone, atol=1e-4) and alone[1] - alone[2] > 0.1


def test_chances_are_those_of_the_true_answers(speaker, drill, batch):
    some = drill.pick([30, 2, 5, 31])  # not in the order of images
    alone = answer_probabilities(speaker, render(batch)[some.image], some.questions, some.answers)
    assert torch.allclose(chances_of_truth(speaker, some), alone, atol=1e-4)


def test_hard_questions_are_those_in_between(speaker, drill):
    chances = chances_of_truth(speaker, drill)
    between = [n for n, chance in enumerate(chances.tolist()) if 0.3 < chance < 0.99]
    assert 0 < len(between) < len(chances)
    assert hard_questions(speaker, drill, 0.3, 0.99).questions == [drill.questions[n] for n in between]


def test_what_is_nearly_always_right_or_wrong_is_not_hard(speaker, drill, monkeypatch):
    chances = torch.tensor([0.0, 0.02, 0.03, 0.97, 0.98, 1.0])
    monkeypatch.setattr(rewarding, "chances_of_truth", lambda *_: chances)
    assert hard_questions(speaker, drill).questions == drill.questions[2:4]


def test_samples_are_as_frequent_as_the_model_finds_them_likely(speaker, drill):
    chances = chances_of_truth(speaker, drill)
    doubtful = int((chances - 0.6).abs().argmin())
    some = drill.pick([doubtful, 0])
    dice = torch.Generator().manual_seed(0)
    _, answers = sample_answers(speaker, some.features[some.image], some.questions, 400, generator=dice)
    said = speaker.words.spell(answers[0])
    share = np.mean([text == some.answers[0] for text in said])
    assert share == pytest.approx(chances[doubtful].item(), abs=0.08)
    assert {len(group) for group in answers} == {400}


def test_numbers_of_its_own_decide_what_is_answered_to_a_question(speaker, drill):
    some = drill.pick([2, 30, 9])
    draws = sample_draws([2, 30, 9], 5, 8, seed=4)
    assert draws.shape == (3, 5, 8) and draws.min() >= 0 and draws.max() < 1
    assert torch.equal(sample_draws([9, 7], 5, 8, seed=4)[0], draws[2])
    assert not torch.equal(sample_draws([9], 5, 8, seed=5)[0], draws[2])
    given = dict(samples=5, temperature=4.0)
    _, together = sample_answers(speaker, some.features[some.image], some.questions, draws=draws, **given)
    alone = drill.pick([9])
    _, [again] = sample_answers(
        speaker, alone.features[alone.image], alone.questions, draws=draws[2:], **given
    )
    assert again == together[2] and len({*map(tuple, again)}) > 1


def test_a_number_chooses_the_token_whose_share_of_the_line_it_lies_in(speaker, drill):
    chances = chances_of_truth(speaker, drill)
    doubtful = drill.pick([int((chances - 0.6).abs().argmin())])
    features = doubtful.features[doubtful.image]
    line = ((torch.arange(1000) + 0.5) / 1000).view(1, -1, 1).expand(-1, -1, 8).double()
    _, [answers] = sample_answers(speaker, features, doubtful.questions, 1000, 1, draws=line)
    tokens = torch.tensor(answers)[:, 0]
    assert (tokens.diff() >= 0).all()  # along the line the tokens follow each other as they are numbered
    (said,) = speaker.words.number([doubtful.answers[0]])
    assert len(said) == 1
    share = (tokens == said[0]).float().mean().item()
    assert share == pytest.approx(chances[(chances - 0.6).abs().argmin()].item(), abs=0.01)
    ends = torch.tensor([[[0.0] * 8, [1 - 2.0**-53] * 8]], dtype=torch.float64)
    _, [[[first], [last]]] = sample_answers(speaker, features, doubtful.questions, 2, 1, draws=ends)
    assert 0 <= first < tokens.min() + 1 and tokens.max() <= last < speaker.model.language.config.vocabulary


def test_a_token_without_a_chance_is_not_drawn_at_the_ends_of_the_line_either(speaker, drill):
    """At so low a temperature all chances but the highest are 0, in front of it and behind."""
    features, asked = drill.features[drill.image[:4]], drill.questions[:4]
    ends = torch.tensor([[0.0] * 8, [1 - 2.0**-53] * 8], dtype=torch.float64).expand(4, 2, 8)
    _, answers = sample_answers(speaker, features, asked, 2, temperature=1e-4, draws=ends)
    likeliest = speaker.answer(render(scenes.sample("train", 24, start=7000))[drill.image[:4]], asked, 8)
    assert [speaker.words.spell(group) for group in answers] == [[text] * 2 for text in likeliest]


def test_a_prompt_is_the_question_with_its_image_and_answers_keep_their_end(speaker, drill):
    some = drill.pick([0, 26])
    prompts, answers = sample_answers(speaker, some.features[some.image], some.questions, 2, temperature=0.01)
    for prompt, question in zip(prompts, some.questions, strict=True):
        ids, mask = speaker.words.prompts([question], speaker.model.tokens_per_image)
        assert prompt == ids[0][mask[0]].tolist()
    assert all(answer[-1] == END for group in answers for answer in group)
    assert upto([5, 6, END, 1, 1], END) == [5, 6, END]
    assert upto([5, 6, 7], END) == [5, 6, 7]


def test_an_answer_has_so_many_tokens_at_most(speaker, drill):
    features = drill.features[drill.image[:1]]
    _, [answers] = sample_answers(speaker, features, [FULL])
    assert len(answers) == 8 and {len(answer) for answer in answers} == {8}  # a caption is longer
    _, [answers] = sample_answers(speaker, features, [FULL], 3, 2)
    assert len(answers) == 3 and {len(answer) for answer in answers} == {2}


def test_eight_answers_to_each_of_32_questions_are_learned_from_twice(speaker, drill):
    it = Rollouts(speaker, drill)
    assert (it.samples, it.size, it.repeats, it.temperature, it.seed) == (8, 32, 2, 1.0, 0)


def test_groups_hold_what_was_drawn_earned_and_how_likely_it_was(speaker, drill):
    groups = Rollouts(speaker, drill, samples=4, size=6).draw([0, 9, 20, 30, 31, 33])
    for row, question in enumerate([0, 9, 20, 30, 31, 33]):
        for place, labels in enumerate(groups.rows.labels[row].tolist()):
            (text,) = speaker.words.spell([[token for token in labels if token != IGNORED]])
            assert groups.rewards[row, place] == (text == drill.answers[question])
    with torch.no_grad():
        now = token_log_probabilities(
            branch_scores(speaker, groups.features, groups.rows), groups.rows.labels
        )
    assert torch.allclose(groups.before, now, atol=1e-5)
    assert torch.allclose(groups.reference, now, atol=1e-5)
    assert groups.mask.sum() == (groups.rows.labels != IGNORED).sum()


def test_answers_that_serve_one_step_teach_the_same_without_reading_them_before(speaker, drill):
    learning, found = Speaker(deepcopy(speaker.model), speaker.words), []
    weight = learning.model.language.head.weight.requires_grad_(True)
    for repeats in (1, 2):
        rollouts = Rollouts(learning, drill, samples=4, size=2, repeats=repeats, temperature=3.0)
        groups = rollouts.draw([3, 25])
        assert (groups.before is None) == (repeats == 1)
        loss, _ = group_loss(learning, groups, 0.2, 0.04)
        found.append((groups.rewards, loss.detach(), *torch.autograd.grad(loss, weight)))
    assert found[0][2].abs().max() > 1e-3
    for once, twice in zip(*found, strict=True):
        torch.testing.assert_close(once, twice, atol=1e-5, rtol=1e-3)


def test_the_reward_sees_reply_answer_and_question(speaker, drill):
    seen = []

    def reward(reply, answer, question):
        seen.append((answer, question))
        replies.append(reply)
        return float(len(reply))

    replies = []
    groups = Rollouts(speaker, drill, reward, samples=2, size=2, temperature=3.0).draw([3, 4])
    assert seen == [(drill.answers[n], drill.questions[n]) for n in (3, 3, 4, 4)]
    said = [[token for token in row if token != IGNORED] for row in groups.rows.labels.flatten(0, 1).tolist()]
    assert replies == speaker.words.spell(said) and set(replies) - {*drill.answers}
    assert groups.rewards.flatten().tolist() == [len(reply) for reply in replies]
    assert Rollouts.reward("Red.", "red", "What colour is it?") == 1  # by default that of truth


def test_what_is_drawn_hangs_on_temperature_and_seed(speaker, drill):
    def draw(**options):
        return Rollouts(speaker, drill, samples=8, size=3, **options).draw([0, 9, 20]).rows.labels

    cold, hot = draw(temperature=0.01), draw(temperature=3.0)
    assert (cold == cold[:, :1]).all() and not (hot == hot[:, :1]).all()
    torch.manual_seed(5)  # which has no part in it
    assert torch.equal(draw(temperature=3.0), hot)
    other = draw(temperature=3.0, seed=1)
    assert other.shape != hot.shape or not torch.equal(other, hot)


def test_given_numbers_a_group_is_drawn_by_them_alone(speaker, drill):
    rollouts = Rollouts(speaker, drill, samples=4, size=2, temperature=4.0)
    draws = sample_draws([3, 25], 4, 8, seed=0)
    first, again = (rollouts.draw([3, 25], draws).rows.labels for _ in range(2))
    other = rollouts.draw([3, 25], sample_draws([3, 25], 4, 8, seed=1)).rows.labels
    assert torch.equal(first, again)
    assert other.shape != first.shape or not torch.equal(other, first)


def test_advantages_may_be_somebody_elses(speaker, drill):
    groups = Rollouts(speaker, drill, samples=4, size=3, advantages=lambda earned: 7 * earned - 1).draw(
        [0, 9]
    )
    assert torch.equal(groups.advantages, 7 * groups.rewards - 1)


def test_the_reference_is_the_model_as_it_was(speaker, drill):
    learning = Speaker(deepcopy(speaker.model).train(), speaker.words)
    rollouts = Rollouts(learning, drill, samples=4, size=2, temperature=3.0)
    assert not rollouts.reference.training
    assert not any(weight.requires_grad for weight in rollouts.reference.parameters())
    with torch.no_grad():
        for weight in learning.model.eval().language.parameters():
            weight *= 0.7
    groups = rollouts.draw([3, 25])
    labels = groups.rows.labels
    with torch.no_grad():
        then, now = (token_log_probabilities(branch_scores(one, groups.features, groups.rows), labels)
                     for one in (speaker, learning))  # fmt: skip
    torch.testing.assert_close(groups.reference, then, atol=1e-5, rtol=0)
    torch.testing.assert_close(groups.before, now, atol=1e-5, rtol=0)
    assert (then - now).abs().max() > 0.01


def test_another_model_may_be_the_reference(speaker, drill):
    other = deepcopy(speaker.model)
    with torch.no_grad():
        for weight in other.language.parameters():
            weight *= 0.7
    rollouts = Rollouts(speaker, drill, samples=4, size=2, reference=other.train())
    assert rollouts.reference is other and not other.training
    assert not any(weight.requires_grad for weight in other.parameters())
    groups = rollouts.draw([3, 25])
    with torch.no_grad():
        scores = branch_scores(Speaker(other, speaker.words), groups.features, groups.rows)
    then = token_log_probabilities(scores, groups.rows.labels)
    torch.testing.assert_close(groups.reference, then, atol=1e-5, rtol=0)
    assert (then - groups.before).abs().max() > 0.01


def test_every_pass_asks_all_questions_in_another_order_and_repeats_each_group(speaker, drill):
    rollouts = Rollouts(speaker, drill.pick(range(6)), samples=2, size=3, repeats=2)
    orders = []
    rollouts.draw = lambda numbers: numbers
    for _ in range(2):
        found = [*rollouts]
        assert found[0] == found[1] and found[2] == found[3] and len(found) == 4
        orders.append(found[0] + found[2])
        assert sorted(orders[-1]) == [*range(6)]
    assert orders[0] != orders[1]


def test_another_seed_has_another_order_and_what_does_not_fill_a_group_waits(speaker, drill):
    orders = []
    for seed in (0, 1):
        rollouts = Rollouts(speaker, drill.pick(range(8)), samples=2, size=3, repeats=1, seed=seed)
        rollouts.draw = lambda numbers: numbers
        orders.append([*rollouts])
        assert [len(numbers) for numbers in orders[-1]] == [3, 3]
    assert orders[0] != orders[1]


def test_the_loss_gets_what_it_is_told_and_the_history_has_what_was_drawn(speaker, drill, monkeypatch):
    learning, told = Speaker(deepcopy(speaker.model), speaker.words), []

    def loss(*given):
        told.append(given[-2:])
        return policy_loss(*given)

    monkeypatch.setattr(rewarding, "policy_loss", loss)
    rollouts = Rollouts(learning, drill.pick([0, 9, 20, 30]), samples=4, size=4, temperature=2.0)
    with torch.no_grad():
        for weight in rollouts.reference.language.parameters():
            weight *= 1.05
    groups = rollouts.draw([0, 1, 2, 3])
    groups = groups._replace(rewards=torch.tensor([[1.0, 0, 0, 0], [1.0] * 4, [0.0] * 4, [0.0] * 4]))
    rollouts.draw = lambda _: groups
    with torch.no_grad():
        scores = branch_scores(speaker, groups.features, groups.rows)[..., :-1, :]
    back = (groups.reference - groups.before)[groups.mask]
    expected = dict(reward=5 / 16, mixed=1 / 4, entropy=entropies(scores)[groups.mask].mean().item())
    expected |= dict(divergence=(back.exp() - back - 1).mean().item())
    history = reinforce(rollouts, steps=1, clip=0.3, beta=0.05)
    assert {name: history.metrics[name][0] for name in expected} == pytest.approx(expected, rel=1e-3)
    assert expected["divergence"] > 1e-4 and not learning.model.training
    reinforce(rollouts, steps=1)
    assert told == [(0.3, 0.05), (0.2, 0.04)]


def test_what_is_rewarded_becomes_likelier_and_the_reference_stays():
    speaker, _ = load_named("nano-vlm")
    about = drill_about(speaker, scenes.sample("train", 60, start=8000), KINDS)
    about = Drill(about.features, about.image, about.questions, ["no"] * len(about.image))  # true or not
    drill = hard_questions(speaker, about, 0.05, 0.95)
    before = chances_of_truth(speaker, drill).mean()
    rollouts = Rollouts(speaker, drill, samples=4, size=min(8, len(drill.image)))
    frozen = {name: weight.clone() for name, weight in rollouts.reference.state_dict().items()}
    history = reinforce(rollouts, steps=10, lr=1e-3, beta=0.0)
    assert chances_of_truth(speaker, drill).mean() > before + 0.2
    assert all(torch.equal(weight, frozen[name]) for name, weight in rollouts.reference.state_dict().items())
    assert {"reward", "entropy", "mixed", "divergence"} <= set(history.metrics)
    assert history.metrics["divergence"][0] == pytest.approx(0, abs=1e-5)


@pytest.mark.gpu
def test_on_a_gpu_the_same_code_draws_rewards_and_learns():
    speaker, _ = load_named("nano-vlm")
    drill = hard_questions(speaker, drill_about(speaker, scenes.sample("train", 60, start=8000), KINDS))
    rollouts = Rollouts(speaker, drill, samples=4, size=4)
    history = reinforce(rollouts, steps=4, lr=1e-4)
    assert history.steps == 4 and next(speaker.model.parameters()).device.type == "cpu"
