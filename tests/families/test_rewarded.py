"""nano-grpo: rounds of practice, each with new questions that the model is unsure about."""

import inspect
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from vlmcourse.evaluation.answers import asked_of_contrasts
from vlmcourse.families import making, nano, rewarded
from vlmcourse.families.rewarding import (
    chances_of_truth,
    drill_about,
    drill_of_contrasts,
    drill_of_twins,
    hard_questions,
    join_drills,
    sample_draws,
)
from vlmcourse.recipes.nano_grpo import NANO_GRPO
from vlmcourse.speak import Speaker
from vlmcourse.world import captions, scenes
from vlmcourse.world.instructions import FULL, last_talks, ordered_captions
from vlmcourse.world.questions import KINDS
from vlmcourse.world.render import render

TOLD = [stage for stage in NANO_GRPO.stages if stage.name in rewarded.TOLD]
ROUNDS = [stage for stage in NANO_GRPO.stages if stage.name not in rewarded.TOLD]


def few(number: int = 0, **changes):
    """A round of a few steps."""
    stage = ROUNDS[number]
    return replace(stage, steps=2, size=4, data=stage.data | dict(scenes=60) | changes)


@pytest.fixture(scope="module")
def speaker():
    return nano.load_named("nano-vlm")[0]


def test_eight_answers_are_drawn_and_every_round_has_scenes_of_its_own():
    draws = [stage.data["draw"] for stage in ROUNDS]
    assert draws == [*range(len(draws))] and [stage.name for stage in TOLD] == [*rewarded.TOLD]
    assert {stage.data["samples"] for stage in ROUNDS} == {8}
    end = 0
    for data in (stage.data for stage in ROUNDS):
        begin = data["begin"] + data["draw"] * data["scenes"]
        assert begin >= end  # so no scene comes twice
        end = begin + data["scenes"]
    for data in (stage.data for stage in TOLD if "forms" in stage.data):
        assert data["begin"] >= end
        end = data["begin"] + 2 * data["scenes"]  # behind the contrasts stand usual lessons


def unsure(speaker, batch, kinds, draw):
    asked = [ask(speaker, batch, kinds, draw) for ask in (drill_of_twins, drill_of_contrasts)]
    return hard_questions(speaker, join_drills(asked))


def test_it_practises_what_the_model_is_unsure_about_in_scenes_of_its_round_and_their_twins(speaker):
    found = rewarded.questions(speaker, few(1), seed=0)
    batch = scenes.sample("train", 60, start=500_000 + 60, objects=(2, 4))
    expected = unsure(speaker, batch, ["comparison", "count"], 1)
    number = len(expected.image)
    practised = found.pick(range(number))
    assert practised.questions == expected.questions and practised.answers == expected.answers
    assert torch.equal(found.features[practised.image], expected.features[expected.image])
    chances = chances_of_truth(speaker, practised)
    assert ((chances > 0.02) & (chances < 0.98)).all()
    assert rewarded.questions(speaker, few(0), seed=0).questions != found.questions


def test_behind_it_stands_a_share_of_every_other_kind_of_question_and_of_captions(speaker):
    stage = few(1)
    for keep in (0.2, 0.5):
        found = rewarded.questions(speaker, replace(stage, data=stage.data | dict(keep=keep)), seed=0)
        batch = scenes.sample("train", 60, start=500_000 + 60, objects=(2, 4))
        practised = unsure(speaker, batch, stage.data["kinds"], 1)
        kept = found.pick(range(len(practised.image), len(found.image)))
        share = len(kept.image) / len(found.image)
        assert share == pytest.approx(keep, abs=0.1)  # some scenes do not allow every kind
        number = round(len(practised.image) * keep / (1 - keep) / 7)
        expected = drill_about(speaker, batch[:number], stage.data["kept"], 1)
        described = kept.pick(range(len(kept.image) - number, len(kept.image)))
        assert described.questions == [FULL] * number
        assert described.answers == ordered_captions(batch[:number])
        seen = speaker.features(render(batch[:number]))
        assert torch.equal(described.features[described.image], seen)
        kept = kept.pick(range(len(kept.image) - number))
        assert kept.questions == expected.questions and kept.answers == expected.answers
        assert torch.equal(found.features[kept.image], expected.features[expected.image])
    for data in (stage.data for stage in ROUNDS):
        assert sorted([*data["kept"], *data["kinds"]]) == sorted(KINDS)


def test_the_card_tells_twins_apart_and_what_nobody_rewarded(speaker, monkeypatch):
    """A model that always says the same of a scene and its twin is never right about both."""
    monkeypatch.setattr(rewarded.nano, "measure", lambda model, count: dict(answers=count / 100))
    told = rewarded.measure(speaker.model, 40)
    kinds = [f"twins of {kind}, both right" for kind in ("comparison", "count")]
    kinds += [f"contrasts of {kind}, both right" for kind in ("comparison", "count")]
    names = [name + more for more in ("", ", new combinations") for name in kinds]
    assert [*told] == ["answers", *names, "caption perplexity"] and told["answers"] == 0.4
    assert 0.3 < told[names[0]] < 0.7 < told[names[1]]
    assert told["caption perplexity"] == pytest.approx(5.04, abs=0.05)

    def habit(speaker, drill):
        """Right about every first picture, wrong about its twin."""
        half = len(drill.image) // 2
        return torch.tensor([0.9] * half + [0.4] * half)

    monkeypatch.setattr(rewarded, "chances_of_truth", habit)
    assert all(rewarded.measure(speaker.model, 40)[name] == 0 for name in names)


class Asked:
    """A speaker that keeps what it encodes."""

    def __init__(self, speaker):
        self.model, self.speaker = speaker.model, speaker

    def encode(self, about):
        self.about = about
        return self.speaker.encode(about)


def test_contrasts_are_told_with_their_answers_and_usual_lessons_beside_them(speaker):
    for number, kept in ((0, 0.0), (1, 0.6)):
        data = TOLD[number].data | dict(scenes=60, kept=kept)
        asked = Asked(speaker)
        features, rows = rewarded.contrast_lessons(asked, replace(TOLD[number], data=data), seed=3)
        assert len(features) == len(rows.ids) == len(asked.about)
        batch = scenes.sample("train", 60, start=data["begin"], objects=(3, 4), seed=3)
        shown, first, other = asked_of_contrasts(batch, "comparison", 3 + data["draw"])
        formed = [n for n, one in enumerate(first) if any(form in one.text for form in data["forms"])]
        two = [[(one[n].text, one[n].answer) for one in (first, other)] for n in formed]
        assert 5 < len(two) < len(first) and asked.about[: len(two)] == two
        seen = nano.features(speaker.model, render(shown[np.array(formed)]))
        assert torch.equal(features[: len(two)], seen)
        usual = asked.about[len(two) :]
        assert len(usual) % 4 == 0 and len(usual) / len(asked.about) == pytest.approx(kept, abs=0.03)
    # each usual picture has four rows of three of its lessons, none of them twice
    begin = data["begin"] + data["scenes"]
    old = scenes.sample("train", len(usual) // 4, start=begin, seed=3)
    assert torch.equal(features[len(two) :], nano.features(speaker.model, render(old).repeat(4, axis=0)))
    draw = np.random.default_rng(3 + data["draw"])
    for number, row in enumerate(last_talks(old, 3 + data["draw"])):
        told = usual[4 * number : 4 * number + 4]
        flat = [text for part in told for text in part]
        assert [len(part) for part in told[:3]] == [3, 3, 3] and 1 <= len(told[3]) <= 3
        assert all(flat.count(text) <= row.count(text) for text in flat)
        mixed = [row[n] for n in draw.permutation(len(row))]
        assert flat == mixed[: len(flat)]
        assert flat != row[: len(flat)]  # mixed, so that captions and close calls are not in every first row


def test_what_is_told_is_learned_by_instruction_tuning(monkeypatch):
    given = []
    monkeypatch.setattr(
        rewarded, "contrast_lessons", lambda speaker, stage, seed: (speaker.model, (stage, seed))
    )
    monkeypatch.setattr(rewarded.nano, "lessons_of", lambda *asked: ("usual", asked))
    monkeypatch.setattr(rewarded.nano, "tune", lambda *parts, **options: given.append((parts, options)))
    model = nano.load_vlm()[0]
    rewarded.tell_lessons(TOLD[0], model, 4, save_every=7)
    rewarded.tell_lessons(TOLD[1], model, steps=3)
    rewarded.tell_lessons(TOLD[2], model, 5)
    rewarded.tell_lessons(replace(TOLD[0], data=TOLD[2].data), model)
    assert given.pop()[0][1] == "usual"
    (first, told), (second, changed), (third, _) = given
    assert third == (model, "usual", (TOLD[2], model, 5)) and TOLD[2].data["described"] > 0.5
    assert first == (model, model, (TOLD[0], 4)) and second == (model, model, (TOLD[1], 0))
    size, steps = TOLD[0].size, TOLD[0].steps
    assert told == dict(stage=TOLD[0], size=size, steps=steps, seed=4, save_every=7)
    assert changed == dict(stage=TOLD[1], size=TOLD[1].size, steps=3, seed=0)


def test_first_it_is_told_and_then_rewarded_with_what_it_was_told_as_reference(monkeypatch):
    seen = []

    def tell(stage, model, seed, **options):
        assert options == dict(asked=stage.name)
        seen.append((stage.name, model.projector.expand.weight[0, 0].item(), None))
        torch.nn.init.constant_(model.projector.expand.weight, seed)

    def practise(stage, model, reference, seed, **options):
        weights = (one.projector.expand.weight[0, 0].item() for one in (model, reference))
        seen.append((stage.name, *weights))
        torch.nn.init.constant_(model.projector.expand.weight, 8)

    monkeypatch.setattr(rewarded, "tell_lessons", tell)
    monkeypatch.setattr(rewarded, "practise", practise)
    begin = nano.load_vlm()[0].projector.expand.weight[0, 0].item()
    stages = (*TOLD, *ROUNDS[:2])
    [*rewarded.run(replace(NANO_GRPO, stages=stages, seed=7), lambda stage, _: dict(asked=stage.name))]
    assert seen == [
        ("told", begin, None), ("rehearsed", 7, None), ("described", 7, None),
        ("round 1", 7, 7), ("round 2", 8, 7)]  # fmt: skip


def test_too_few_questions_are_refused(speaker):
    stage = replace(few(), size=48, data=few().data | dict(scenes=6))
    with pytest.raises(ValueError, match=r"unsure about \d+ questions of 6 scenes, but a step asks 48"):
        rewarded.questions(speaker, stage)


def test_rounds_change_all_but_the_eye_and_draw_the_same_again():
    recipe = replace(NANO_GRPO, stages=(few(0), few(1)))
    runs = [[*making.run(recipe, lambda *_: dict(precision="no"))] for _ in range(2)]
    first, again = ([made.history.gradient_norms for made in run] for run in runs)
    assert first == again and first[0] != first[1]
    start = nano.load_vlm()[0].state_dict()
    moved = {name.split(".")[0] for name, weight in runs[0][-1].stored.state_dict().items()
             if not torch.equal(weight, start[name])}  # fmt: skip
    assert moved == {"projector", "language"}
    assert {"reward", "entropy", "mixed", "divergence"} <= runs[0][0].history.metrics.keys()


def test_the_reference_is_the_model_before_the_first_round_in_every_round(speaker, monkeypatch):
    seen = []

    def watch(speaker, groups, clip, beta):
        assert groups.before is None  # each answer serves one step
        assert clip == rewarded.RATIO_CLIP and beta == ROUNDS[0].data["beta"]
        loss, metrics = plain(speaker, groups, clip, beta)
        seen.append(metrics["divergence"].item())
        return loss, metrics

    plain = rewarded.group_loss
    monkeypatch.setattr(rewarded, "group_loss", watch)
    high = dict(muon=0.02, adamw=2e-3)
    stages = [replace(few(number), size=16, rates=high) for number in (0, 1)]
    [*making.run(replace(NANO_GRPO, stages=tuple(stages)), lambda *_: dict(precision="no"))]
    assert seen[0] == pytest.approx(0, abs=1e-6)
    assert seen[2] > 1e-5  # the second round begins away from it


def test_a_round_that_was_broken_off_goes_on_as_if_it_had_not_been(tmp_path):
    stage = replace(few(), steps=4)
    norms = []
    for folder, stops in (("whole", (4,)), ("twice", (2, 4))):
        for steps in stops:
            model, reference = nano.load_vlm()[0], nano.load_vlm()[0]
            options = dict(checkpoint=tmp_path / folder, save_every=2, resume=True, steps=steps)
            history = rewarded.practise(stage, model, reference, **options)
        norms.append(history.gradient_norms)
    assert norms[0] == norms[1]


def test_as_many_questions_as_a_step_asks_are_enough(speaker, monkeypatch):
    drill = drill_about(speaker, scenes.sample("train", 24), ["colour"]).pick(range(12))
    monkeypatch.setattr(rewarded, "hard_questions", lambda *_: drill)
    asked = rewarded.questions(speaker, replace(few(scenes=12), size=12)).questions
    assert asked[:12] == drill.questions
    with pytest.raises(ValueError, match="unsure about 12 questions of 12 scenes, but a step asks 13"):
        rewarded.questions(speaker, replace(few(scenes=12), size=13))


def test_another_seed_asks_about_other_scenes(speaker, monkeypatch):
    seeds = []

    def sample(split, count, *, seed, **rest):
        seeds.append(seed)
        raise InterruptedError

    monkeypatch.setattr(rewarded.scenes, "sample", sample)
    for seed in (0, 6):
        with pytest.raises(InterruptedError):
            rewarded.questions(speaker, few(), seed)
    assert seeds == [0, 6]


def test_a_seed_and_a_round_together_choose_what_is_asked(speaker, monkeypatch):
    drill, drawn = drill_about(speaker, scenes.sample("train", 12), ["colour"]), []

    def ask(speaker, batch, kinds, seed):
        drawn.append(seed)
        return drill

    for name in ("drill_of_twins", "drill_of_contrasts", "drill_about"):
        monkeypatch.setattr(rewarded, name, ask)
    monkeypatch.setattr(rewarded, "hard_questions", lambda speaker, drill: drill)
    for options in (dict(), dict(seed=6)):
        rewarded.questions(speaker, few(1), **options)
    assert drawn == [1, 1, 1, 7, 7, 7]


def test_a_round_asks_what_its_own_seed_draws(speaker, monkeypatch):
    asked = []

    def questions(speaker, stage, seed):
        asked.append((speaker.model, stage, seed))
        raise InterruptedError

    monkeypatch.setattr(rewarded, "questions", questions)
    for seed in ([], [6]):
        with pytest.raises(InterruptedError):
            rewarded.practise(few(), speaker.model, speaker.model, *seed)
    assert asked == [(speaker.model, few(), 0), (speaker.model, few(), 6)]


@pytest.fixture
def little(speaker, monkeypatch):
    """Nine questions, whatever a stage would ask."""
    drill = drill_about(speaker, scenes.sample("train", 9), ["colour"])
    monkeypatch.setattr(rewarded, "questions", lambda *_: drill)
    return drill


def test_a_round_trains_as_its_stage_says_and_options_may_change_that(little, monkeypatch):
    given = []

    def learn(model, batches, loss_of, **options):
        given.append((batches, options))
        assert {name.split(".")[0] for name, part in model.named_parameters() if part.requires_grad} == {
            "projector",
            "language",
        }

    monkeypatch.setattr(rewarded, "learn", learn)
    model, reference = nano.load_vlm()[0].requires_grad_(False), nano.load_vlm()[0]
    stage = replace(few(), steps=7, rates=dict(muon=0.01, adamw=0.003))
    for seed, options in ((0, {}), (5, dict(steps=3, save_every=2, schedule="mine"))):
        rewarded.practise(stage, model, reference, seed, **options)
    (first, told), (second, changed) = given
    assert first.size == second.size == stage.size and first.length == len(little.image)
    assert (first.seed, second.seed) == (0, 5)
    assert told["steps"] == 7 and told["precision"] == "no" and not told["by_block"]
    assert changed["steps"] == 3 and changed["save_every"] == 2 and changed["precision"] == "no"
    assert changed["schedule"] == "mine" and callable(told["schedule"])
    rates = {type(part).__name__: part.param_groups[0]["lr"] for part in told["optimizer"].parts}
    assert rates == dict(Muon=0.01, AdamW=0.003)


def test_numbers_for_every_token_decide_each_answer_and_each_round_has_its_own(little, monkeypatch):
    """So that processes which share a step draw what one would."""
    seen = []

    class Watched(rewarded.Rollouts):
        def draw(self, numbers, draws=None):
            assert self.steps == rewarded.ANSWER_STEPS
            groups = super().draw(numbers, draws)
            seen.append((numbers, draws, groups.rewards.shape))
            return groups

    monkeypatch.setattr(rewarded, "Rollouts", Watched)
    for number, seed in ((0, 0), (1, 0), (0, 5)):
        stage = replace(few(number, samples=3), steps=1)
        rewarded.practise(stage, nano.load_vlm()[0], nano.load_vlm()[0], seed)
    steps = rewarded.ANSWER_STEPS
    for numbers, draws, shape in seen:
        assert draws.shape == (len(numbers), 3, steps) and shape == (len(numbers), 3)
        assert len(draws.unique()) == draws.numel()
    plain = [torch.equal(draws, sample_draws(numbers, 3, steps, 0)) for numbers, draws, _ in seen]
    assert plain == [True, False, False]  # another round, another seed


def test_what_a_round_leaves_is_measured_with_the_weights_of_then(monkeypatch):
    given = []
    monkeypatch.setattr(rewarded, "practise", lambda *asked, **options: given.append((*asked, options)))
    monkeypatch.setattr(rewarded, "measure", lambda model: model)
    recipe = replace(NANO_GRPO, stages=(few(0), few(1)), seed=7)
    first, second = rewarded.run(recipe, lambda stage, model: dict(told=stage.name))
    assert first.stored is second.stored is first.measure()
    for (stage, model, reference, seed, options), made in zip(given, (first, second), strict=True):
        assert stage is made.stage and model is made.stored and reference is not model
        assert type(model) is type(reference) is nano.Llava and reference is given[0][2]
        assert seed == 7 and options == dict(told=stage.name)


def test_model_and_reference_begin_where_the_recipe_says(monkeypatch):
    names, given = [], []

    def load(name="another"):
        names.append(name)
        return [object()]

    monkeypatch.setattr(rewarded.nano, "load_vlm", load)
    monkeypatch.setattr(rewarded, "practise", lambda stage, model, *rest, told: given.append((model, told)))
    recipe = replace(NANO_GRPO, stages=(few(),), start=dict(begins="nano-aligned"))
    [made] = rewarded.run(recipe, lambda stage, model: dict(told=model))
    assert names == ["nano-aligned"] and given == [(made.stored, made.stored)]


def test_the_card_says_which_scenes_are_told_apart_and_counts_what_is_likelier_than_not(speaker, monkeypatch):
    """Of test scenes all is right, just so; of new combinations one of every two twins."""
    counts = [inspect.signature(family.measure).parameters["count"].default for family in (rewarded, nano)]
    assert counts == [300, 300]  # so their cards can be compared
    asked, both, one = [], torch.tensor([0.51] * 4), torch.tensor([0.5, 0.51, 0.51, 0.5])
    monkeypatch.setattr(rewarded.nano, "measure", lambda model, count: dict(scenes=count))

    def ask(name, speaker, batch, kinds):
        asked.append((batch.split, len(batch), name, *kinds))
        return batch.split

    for name in ("drill_of_twins", "drill_of_contrasts"):
        monkeypatch.setattr(rewarded, name, partial(ask, name))
    monkeypatch.setattr(rewarded, "chances_of_truth", lambda speaker, split: both if split == "test" else one)
    told = rewarded.measure(speaker.model, 20)
    assert asked == [
        (split, 20, name, kind)
        for split in ("test", "novel")
        for name in ("drill_of_twins", "drill_of_contrasts")
        for kind in ("comparison", "count")
    ]
    assert told["scenes"] == 20
    for what in ("twins", "contrasts"):
        for kind in ("comparison", "count"):
            assert told[f"{what} of {kind}, both right"] == 1
            assert told[f"{what} of {kind}, both right, new combinations"] == 0
    texts = captions.captions(scenes.sample("test", 20), "full")
    expected = nano.caption_perplexity(speaker.model, texts)
    assert told["caption perplexity"] == pytest.approx(expected, abs=6e-5)


def test_it_is_asked_as_nano_vlm_is(speaker):
    assert making.can_be_asked(NANO_GRPO)
    assert isinstance(rewarded.load_named("nano-vlm")[0], Speaker)
