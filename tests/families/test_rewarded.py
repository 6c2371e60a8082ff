"""nano-grpo: rounds of practice, each with new questions that the model is unsure about."""

import inspect
from dataclasses import replace

import pytest
import torch

from vlmcourse.families import making, nano, rewarded
from vlmcourse.families.rewarding import (
    chances_of_truth,
    drill_about,
    drill_of_twins,
    hard_questions,
    sample_draws,
)
from vlmcourse.recipes.nano_grpo import NANO_GRPO
from vlmcourse.speak import Speaker
from vlmcourse.world import captions, scenes
from vlmcourse.world.questions import KINDS


def few(number: int = 0, **changes):
    """A round of a few steps."""
    stage = NANO_GRPO.stages[number]
    return replace(stage, steps=2, size=4, data=stage.data | dict(scenes=60) | changes)


@pytest.fixture(scope="module")
def speaker():
    return nano.load_named("nano-vlm")[0]


def test_eight_answers_are_drawn_and_every_round_has_scenes_of_its_own():
    draws = [stage.data["draw"] for stage in NANO_GRPO.stages]
    assert draws == [*range(len(draws))]
    assert {stage.data["samples"] for stage in NANO_GRPO.stages} == {8}
    end = 0
    for data in (stage.data for stage in NANO_GRPO.stages):
        begin = data["begin"] + data["draw"] * data["scenes"]
        assert begin >= end  # so no scene comes twice
        end = begin + data["scenes"]


def test_it_practises_what_the_model_is_unsure_about_in_scenes_of_its_round_and_their_twins(speaker):
    found = rewarded.questions(speaker, few(2), seed=0)
    batch = scenes.sample("train", 60, start=500_000 + 2 * 60, objects=(2, 4))
    expected = hard_questions(speaker, drill_of_twins(speaker, batch, ["comparison", "count"], 2))
    number = len(expected.image)
    practised = found.pick(range(number))
    assert practised.questions == expected.questions and practised.answers == expected.answers
    assert torch.equal(found.features[practised.image], expected.features[expected.image])
    chances = chances_of_truth(speaker, practised)
    assert ((chances > 0.02) & (chances < 0.98)).all()
    assert rewarded.questions(speaker, few(0), seed=0).questions != found.questions


def test_behind_it_stands_a_share_of_every_other_kind_of_question(speaker):
    stage = few(1)
    for keep in (0.2, 0.5):
        found = rewarded.questions(speaker, replace(stage, data=stage.data | dict(keep=keep)), seed=0)
        batch = scenes.sample("train", 60, start=500_000 + 60, objects=(2, 4))
        practised = hard_questions(speaker, drill_of_twins(speaker, batch, stage.data["kinds"], 1))
        kept = found.pick(range(len(practised.image), len(found.image)))
        share = len(kept.image) / len(found.image)
        assert share == pytest.approx(keep, abs=0.1)  # some scenes do not allow every kind
        number = round(len(practised.image) * keep / (1 - keep) / 6)
        expected = drill_about(speaker, batch[:number], stage.data["kept"], 1)
        assert kept.questions == expected.questions and kept.answers == expected.answers
        assert torch.equal(found.features[kept.image], expected.features[expected.image])
    for data in (stage.data for stage in NANO_GRPO.stages):
        assert sorted([*data["kept"], *data["kinds"]]) == sorted(KINDS)


def test_the_card_tells_twins_apart_and_what_nobody_rewarded(speaker, monkeypatch):
    """A model that always says the same of a scene and its twin is never right about both."""
    monkeypatch.setattr(rewarded.nano, "measure", lambda model, count: dict(answers=count / 100))
    told = rewarded.measure(speaker.model, 40)
    kinds = [f"twins of {kind}, both right" for kind in ("comparison", "count")]
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


def test_the_reference_is_nano_vlm_in_every_round(speaker, monkeypatch):
    seen = []

    def watch(speaker, groups, clip, beta):
        assert groups.before is None  # each answer serves one step
        assert clip == rewarded.RATIO_CLIP and beta == NANO_GRPO.stages[0].data["beta"]
        loss, metrics = plain(speaker, groups, clip, beta)
        seen.append(metrics["divergence"].item())
        return loss, metrics

    plain = rewarded.group_loss
    monkeypatch.setattr(rewarded, "group_loss", watch)
    high = dict(muon=0.02, adamw=2e-3)
    stages = [replace(few(number), rates=high) for number in (0, 1)]
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

    for name in ("drill_of_twins", "drill_about"):
        monkeypatch.setattr(rewarded, name, ask)
    monkeypatch.setattr(rewarded, "hard_questions", lambda speaker, drill: drill)
    for options in (dict(), dict(seed=6)):
        rewarded.questions(speaker, few(2), **options)
    assert drawn == [2, 2, 8, 8]


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
        assert type(model) is type(reference) is nano.Llava
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
    assert names == ["nano-aligned"] * 2 and given == [(made.stored, made.stored)]


def test_the_card_says_which_scenes_are_told_apart_and_counts_what_is_likelier_than_not(speaker, monkeypatch):
    """Of test scenes all is right, just so; of new combinations one of every two twins."""
    counts = [inspect.signature(family.measure).parameters["count"].default for family in (rewarded, nano)]
    assert counts == [300, 300]  # so their cards can be compared
    asked, both, one = [], torch.tensor([0.51] * 4), torch.tensor([0.49, 0.51, 0.51, 0.49])
    monkeypatch.setattr(rewarded.nano, "measure", lambda model, count: dict(scenes=count))

    def ask(speaker, batch, kinds):
        asked.append((batch.split, len(batch)))
        return batch.split

    monkeypatch.setattr(rewarded, "drill_of_twins", ask)
    monkeypatch.setattr(rewarded, "chances_of_truth", lambda speaker, split: both if split == "test" else one)
    told = rewarded.measure(speaker.model, 20)
    assert {*asked} == {("test", 20), ("novel", 20)} and told["scenes"] == 20
    for kind in ("comparison", "count"):
        assert told[f"twins of {kind}, both right"] == 1
        assert told[f"twins of {kind}, both right, new combinations"] == 0
    texts = captions.captions(scenes.sample("test", 20), "full")
    expected = nano.caption_perplexity(speaker.model, texts)
    assert told["caption perplexity"] == pytest.approx(expected, abs=6e-5)


def test_it_is_asked_as_nano_vlm_is(speaker):
    assert making.can_be_asked(NANO_GRPO)
    assert isinstance(rewarded.load_named("nano-vlm")[0], Speaker)
