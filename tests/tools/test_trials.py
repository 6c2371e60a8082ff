"""Tests of the scripts whose long runs notebooks 10 and 11 read: an arm does what its name says, no more."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from vlmcourse.families.naming import ALL_NAMES, NamedPairs, spell_names
from vlmcourse.training.history import History

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


queries, blip = load("qformer_trials"), load("blip_trials")


@pytest.fixture(scope="module")
def bench():
    """Everything small: two steps of each stage."""
    small = dict(scenes=40, new_scenes=30, steps=(2, 2), size=(8, 6), every=1, width=16, depth=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queries, "SETTING", queries.SETTING | small)
        yield queries.Bench(queries.SETTING["objects"])


def values(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in module.state_dict().items()}


def test_an_arm_of_queries_differs_in_what_its_name_says():
    usual = queries.Arm()
    assert usual == queries.ARMS["16 queries"] and usual.losses == ("contrast", "match", "write")
    assert usual.queries == 16 and not usual.frozen
    assert queries.ARMS["4 queries"] == replace(usual, queries=4)
    assert queries.ARMS["without match"] == replace(usual, losses=("contrast", "write"))
    assert queries.ARMS["new"] == replace(usual, losses=())
    assert queries.ARMS["frozen"] == replace(usual, frozen=True)
    assert queries.ARMS["new and frozen"] == replace(usual, losses=(), frozen=True)
    assert usual.words == "nano-chat" and usual.objects == (1, 2) and usual.seed == 0
    seen = replace(usual, words="nano-vlm")
    assert queries.ARMS["seen"] == seen and queries.ARMS["seen and frozen"] == replace(seen, frozen=True)
    assert queries.ARMS["crowded, 4 queries"] == replace(seen, queries=4, objects=(1, 4))


def test_every_scene_of_the_bench_can_be_asked_about_and_new_ones_are_new(bench):
    for batch in (bench.known, bench.new):
        assert all(queries.lessons(batch)) and batch.count.max() <= 2
    assert bench.known.split == "train" and bench.new.split == "validation"
    for kind in ("colour", "shape", "position"):
        asked = queries.questions.ask(bench.new, kind)
        for question, row in zip(asked, queries.lessons(bench.new), strict=True):
            assert question is None or (question.text, question.answer) in row
    assert len(bench.seen) == len(bench.known) and len(bench.new_seen) == len(bench.new)


def test_both_stages_are_as_long_and_as_wide_as_the_setting_says(bench, monkeypatch):
    noted = []
    learn, tune = queries.learn_to_match, queries.Speaker.tune

    def note(what, *data, **options):
        noted.append(options)
        return what(*data, **options)

    monkeypatch.setattr(queries, "learn_to_match", lambda *a, **b: note(learn, *a, **b))
    monkeypatch.setattr(queries.Speaker, "tune", lambda *a, **b: note(tune, *a, **b))
    bench.run(queries.Arm(queries=3, losses=("contrast",)))
    first, second = noted
    assert (first["steps"], first["size"], second["steps"], second["size"]) == (2, 8, 2, 6)
    assert first["loss"].keywords == {"kinds": ("contrast",)}
    for options in noted:
        assert {group["initial_lr"] for group in options["optimizer"].param_groups} == {0.02, 2e-3}
        assert options["schedule"](0) == 1 / 20


@pytest.mark.parametrize("name", ["16 queries", "frozen", "new", "new and frozen", "seen"])
def test_stage_2_begins_with_what_met_texts_and_trains_what_the_arm_says(bench, monkeypatch, name):
    begun = []
    monkeypatch.setattr(bench, "tuned", lambda model, seed: begun.append(model) or {})
    arm = queries.ARMS[name]
    numbers = bench.run(arm)
    (model,) = begun
    assert numbers["seconds"] >= 0 and not model.config.qformer.reads
    learns = {part for part, child in model.named_children() if next(child.parameters()).requires_grad}
    assert learns == ({"projector"} if arm.frozen else {"projector", "qformer"})
    new = bench.matcher(arm).qformer.state_dict()
    if arm.losses:
        matcher, found = bench.stage_1(replace(arm, frozen=False, words="nano-chat"))
        known = matcher.qformer.state_dict()
        assert found.items() <= numbers.items() and 0 <= found["text found first"] <= 1
    assert bool(arm.losses) == ("text found first" in numbers)
    mine = values(model.qformer)
    if arm.losses:
        assert all(torch.equal(mine[key], known[key]) for key in mine)
        assert any(not torch.equal(mine[key], new[key]) for key in mine)
    own, theirs = values(model.language), values(bench.words[arm.words])
    assert own and all(torch.equal(own[name], theirs[name]) for name in theirs)


def test_right_answers_are_noted_over_the_steps_and_in_the_end_of_empty_pictures(bench):
    numbers = bench.stage_2(queries.Arm(queries=2), None)
    assert [step for step, _ in numbers["right"]] == [0, 1, 2]
    assert numbers["questions"] == sum(map(len, queries.lessons(bench.new)))
    assert all(0 <= share <= 1 for share in (numbers["right blind"], *(s for _, s in numbers["right"])))


def test_every_seed_has_its_own_weights_and_batches(bench, monkeypatch):
    seeds, tune = [], queries.Speaker.tune
    monkeypatch.setattr(
        queries.Speaker, "tune", lambda *a, seed, **b: seeds.append(seed) or tune(*a, seed=seed, **b)
    )
    one, other = queries.Arm(losses=("contrast",)), queries.Arm(losses=("contrast",), seed=1)
    assert not torch.equal(bench.matcher(one).qformer.queries, bench.matcher(other).qformer.queries)
    bench.run(other)
    assert seeds == [1]


def test_an_arm_has_the_means_of_its_seeds_and_where_each_ended():
    runs = [{"right": [[0, 0.1], [40, 0.4]], "seconds": 3}, {"right": [[0, 0.3], [40, 0.5]], "seconds": 4}]
    expected = {"seconds": 3.5, "right": [[0, 0.2], [40, 0.45]], "ends": [0.4, 0.5]}
    assert queries.mean_of(runs) == expected


def test_of_equal_captions_each_is_found(bench, monkeypatch):
    said = ["a", "b", "a", "c"]
    monkeypatch.setattr(queries.captions, "captions", lambda batch, style: said)
    model = bench.matcher(queries.Arm()).eval()
    likeness = torch.tensor([[0, 1, 2, 0], [0, 3, 0, 0], [0, 5, 0, 0], [0, 1, 0, 2]]).float()
    monkeypatch.setattr(model, "alike", lambda images, texts: likeness)
    # texts: 3rd for the 1st, own, 2nd for the 3rd, own; images: the 1st text has none, 3rd for the 2nd
    assert bench.found(model) == {"text found first": 0.75, "image found first": 0.75}


# ---- BLIP -------------------------------------------------------------------------------------------------


def pairs(said: list[int]) -> NamedPairs:
    said = torch.tensor(said)
    shown = torch.stack([said, (said + 7) % len(ALL_NAMES)], dim=1)
    return NamedPairs(torch.arange(len(said)).bfloat16()[:, None, None], *spell_names(said), said, shown)


def test_the_filter_passes_captions_of_both_sources_with_their_images(monkeypatch):
    noisy, judged = pairs([3, 4, 5]), []
    monkeypatch.setattr(blip.naming, "write_names", lambda *_: [ALL_NAMES[8], "a a circle", ALL_NAMES[9]])

    def judge(model, features, sources):
        judged.extend(ids for ids, _ in sources)
        yes = torch.tensor([[0.1, 1.0], [-0.1, -1.0], [2.0, 2.0]])
        return torch.stack([torch.zeros(3, 2), yes], dim=2)

    monkeypatch.setattr(blip, "judge_captions", judge)
    passed, share = blip.bootstrap(None, noisy)
    assert torch.equal(judged[0], noisy.ids) and torch.equal(
        judged[1], spell_names(torch.tensor([8, 4, 9]))[0]
    )
    assert passed.said.tolist() == [3, 8, 5, 9] and passed.features.flatten().tolist() == [0, 0, 2, 2]
    assert torch.equal(passed.ids, spell_names(passed.said)[0]) and share == pytest.approx(2 / 3)
    assert blip.true_share(passed) == 0.5


def test_twins_of_both_kinds_count_alike(monkeypatch):
    monkeypatch.setattr(blip, "scenes_tested", lambda: None)
    monkeypatch.setattr(blip, "tested", lambda: None)
    monkeypatch.setattr(blip.naming, "trade_names", lambda batch, what: what)
    shares = dict(colour=dict(ITM=0.9, ITC=0.1), shape=dict(ITM=0.5, ITC=0.2))
    monkeypatch.setattr(blip.naming, "twins_told", lambda model, pairs, twin: shares[twin])
    assert blip.told(None) == 0.7


def test_pictures_that_are_tested_were_never_learned_from(monkeypatch):
    monkeypatch.setattr(blip, "SETTING", blip.SETTING | {"images": 6, "tested": 5})
    assert len(blip.training().said) == 6 and len(blip.tested().said) == 5
    assert blip.scenes_tested().split == "test"
    assert torch.equal(blip.tested().said, blip.naming.name_things(blip.scenes_tested()))


class Noted:
    """A model that holds what it was taught."""

    def __init__(self, **given):
        self.lessons = [given]


@pytest.fixture
def taught(monkeypatch):
    """Trainings that are only noted."""

    def note(model, data, **options):
        model.lessons = [*model.lessons, (data, options)]
        return History()

    monkeypatch.setattr(blip, "learn_names", note)
    monkeypatch.setattr(blip, "new_blip", Noted)
    monkeypatch.setattr(blip, "training", lambda: "train")
    monkeypatch.setattr(blip, "SEEDS", (0, 1))


def test_hard_and_random_negatives_go_on_from_one_start(monkeypatch, taught):
    models = []
    monkeypatch.setattr(blip, "told", lambda model: models.append(model) or float(len(models)))
    assert blip.negatives() == {"start": [1.0, 4.0], "hard": [2.0, 5.0], "random": [3.0, 6.0]}
    for start, hard, random in (models[:3], models[3:]):
        assert hard.lessons[:2] == random.lessons[:2] == start.lessons and len(start.lessons) == 2
        (_, first), (_, one), (_, other) = start.lessons[1], hard.lessons[2], random.lessons[2]
        assert one.pop("hard") is True and other.pop("hard") is False and one == other
        assert first["hard"] is False and first["seed"] != one["seed"]
        assert first["kinds"] == one["kinds"] == ("contrast", "match") and first["steps"] > one["steps"]
    assert models[0].lessons[0] != models[3].lessons[0]


def test_noisy_filtered_and_clean_captions_teach_equal_models_equally_long(monkeypatch, taught):
    clean, models = pairs(list(range(20))), []
    monkeypatch.setattr(blip, "tested", lambda: "test")
    monkeypatch.setattr(blip.naming, "two_things", lambda split, count, seed: (split, count, seed))
    monkeypatch.setattr(blip, "show_pairs", lambda model, batch: clean)
    monkeypatch.setattr(
        blip, "bootstrap", lambda model, noisy: (noisy.take(slice(5)), len(model.lessons) / 4)
    )
    monkeypatch.setattr(blip.naming, "names_found", lambda model, data: models.append(model) or 0.5)
    rows = blip.capfilt()
    assert rows["web kept"] == [0.5, 0.5] and rows["clean"] == rows["noisy"] == rows["filtered"] == [0.5, 0.5]
    for noisy, passed, whole in (models[:3], models[3:]):
        assert noisy.lessons[0] == passed.lessons[0] == whole.lessons[0]
        assert noisy.lessons[1][1] == passed.lessons[1][1] == whole.lessons[1][1]
        assert whole.lessons[1][0] is clean and len(passed.lessons[1][0].said) == 5
        assert (noisy.lessons[1][0].said != clean.said).sum() == 8  # two fifths
        given = noisy.lessons[1][1]
        assert given["kinds"] == ("contrast",) and given["known"] is False and given["steps"] == 80
    assert [models[0].lessons[1][1]["seed"], models[3].lessons[1][1]["seed"]] == [0, 1]


def test_relations_are_learned_alike_by_a_new_blip_and_by_one_that_answered(monkeypatch):
    monkeypatch.setattr(blip, "SEEDS", (0, 1))
    monkeypatch.setattr(blip, "SETTING", blip.SETTING | {"related": 40, "related steps": 7, "tested": 30})
    monkeypatch.setattr(blip, "new_model", lambda recipe: ("new", recipe.name, recipe.seed))
    monkeypatch.setattr(blip, "load_connected", lambda name: (("shipped", name), {}))
    shown, lessons, told = [], [], iter([0.5, 0.98, 0.52, 0.96])
    monkeypatch.setattr(blip.relating, "show_relations", lambda *given: shown.append(given) or given[1:])
    monkeypatch.setattr(
        blip.relating, "learn_relations", lambda model, pairs, **more: lessons.append((model, pairs, more))
    )
    monkeypatch.setattr(blip.relating, "relations_told", lambda model, pairs: next(told))
    rows = blip.relations()
    assert rows["new"] == [0.5, 0.52] and rows["nano-blip"] == [0.98, 0.96]
    assert len(rows["CLIP"]) == 2 and 0.2 < rows["CLIP"][0] < 0.8
    models = [("new", "nano-blip", 0), ("shipped", "nano-blip"), ("new", "nano-blip", 1)]
    assert [model for model, *_ in lessons] == [*models, models[1]]
    assert [more["seed"] for *_, more in lessons] == [0, 0, 1, 1]
    assert all(pairs == ("train", 40) and more["steps"] == 7 for _, pairs, more in lessons)
    assert shown[1][1:] == ("test", 30)
