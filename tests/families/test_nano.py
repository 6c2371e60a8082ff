"""The nano VLM: its stages train what they should, and what is measured is what is said."""

import dataclasses

import numpy as np
import pytest
import torch

from vlmcourse import speak
from vlmcourse.data.text import IMAGE, load_tokenizer
from vlmcourse.families import nano
from vlmcourse.models.llava import LlavaConfig
from vlmcourse.models.vit import ViTConfig
from vlmcourse.recipes.nano_vlm import NANO_VLM
from vlmcourse.speak import Speaker
from vlmcourse.training import losses, regions, stages
from vlmcourse.training.history import History
from vlmcourse.world import captions, questions, scenes
from vlmcourse.world.instructions import COLOURFUL, FULL, PALE, paired_talks, talks
from vlmcourse.world.render import render

EYE = ViTConfig(64, 16, width=24, depth=1, heads=2, patch_bias=False, norm_before_blocks=True)
LANGUAGE = dataclasses.replace(nano.CONFIG.language, width=32, depth=1, heads=2, groups=1)
SMALL = LlavaConfig(EYE, LANGUAGE, IMAGE, layer=-1)
STAGES = {
    stage.name: dataclasses.replace(stage, steps=2, size=4, data=dict(stage.data) | dict(scenes=20))
    for stage in NANO_VLM.stages
}
LEARNS = {
    "eye": {"vision"},
    "words": {"language"},
    "aligned": {"projector"},
    "vlm": {"projector", "language"},
    "last": {"projector", "language"},
    "sharp": {"projector", "language"},
    "whole": {"projector", "language"},
}


@pytest.fixture
def small():
    return nano.new_vlm(SMALL)


def parts(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: torch.cat([p.detach().flatten() for p in part.parameters()])
        for name, part in model.named_children()
    }


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_trains_its_own_parts_and_leaves_the_others_bit_for_bit(small, stage):
    before = parts(small)
    if stage == "aligned":  # calibration sets the projector's scale; only training counts here
        small.projector.calibrate = lambda *_: None
    history = nano.make(STAGES[stage], small, precision="no")
    learned = {name for name, values in parts(small).items() if not torch.equal(before[name], values)}
    assert history.steps == 2 and learned == LEARNS[stage]
    assert all(parameter.requires_grad for parameter in small.parameters())


def test_a_finished_stage_is_only_loaded(small, tmp_path):
    nano.make(STAGES["words"], small, checkpoint=tmp_path, resume=True, precision="no")
    other = nano.new_vlm(SMALL, seed=1)
    other.load_state_dict(nano.new_vlm(SMALL).state_dict())
    history = nano.make(STAGES["words"], other, checkpoint=tmp_path, resume=True, precision="no")
    assert history.steps == 2 and torch.equal(parts(small)["language"], parts(other)["language"])


def test_a_seed_decides_how_the_reader_of_patches_starts(small):
    torch.manual_seed(5)
    nano.make(STAGES["eye"], small, precision="no")
    other = nano.new_vlm(SMALL)
    torch.manual_seed(6)
    nano.make(STAGES["eye"], other, precision="no")
    assert torch.equal(parts(small)["vision"], parts(other)["vision"])


def test_captions_are_measured_against_their_own_scenes(small, monkeypatch):
    truth = captions.captions(scenes.sample("test", 300), "full")
    monkeypatch.setattr(Speaker, "answer", lambda speaker, images, texts: truth[: len(texts)])
    assert nano._measure_captions(small) == {"captions, true statements": 1.0}
    monkeypatch.setattr(Speaker, "answer", lambda speaker, images, texts: truth[::-1])
    assert nano._measure_captions(small)["captions, true statements"] < 0.9


def test_exact_counts_what_greedy_decoding_writes():
    model, _ = nano.load_vlm()
    batch = scenes.sample("validation", 12)
    rows = talks(batch, sentences=0, captioned=False)
    speaker = Speaker(model)
    given = nano.features(model, render(batch)).float(), speaker.encode(rows)
    graded = speaker.grade(*given, batch=5)
    images = np.repeat(render(batch), len(rows[0]), axis=0)
    said = speaker.answer(images, [text for row in rows for text, _ in row])
    right = [a == b for a, b in zip(said, (answer for row in rows for _, answer in row), strict=True)]
    assert torch.equal(graded, speaker.grade(*given))  # whatever the batch
    assert graded.float().mean().item() == pytest.approx(
        np.mean(right), abs=0.02
    )  # features are kept in bf16
    assert (graded.numpy() == right).mean() > 0.98


def test_an_older_notebook_still_asks_and_grades(small):
    with pytest.raises(ValueError, match="2 images and 1 instructions"):
        nano.answer(small, np.zeros((2, 64, 64, 3), np.uint8), ["Is there a star?"])
    batch = scenes.sample("test", 3)
    given = nano.features(small, render(batch)), nano.encode_talks(small, talks(batch))
    assert torch.equal(nano.answered_right(small, *given), Speaker(small).grade(*given))


def test_an_unknown_model_is_named():
    with pytest.raises(FileNotFoundError, match="nano-vlm"):
        nano.load_vlm("nano-ears")


# ---- what the recipe says is what is done -------------------------------------------------------------


@pytest.fixture
def trained(monkeypatch):
    """Trainings that are only noted: (model, batches, loss, options)."""
    noted = []

    def note(model, batches, loss, **options):
        noted.append((model, batches, loss, options))
        return History()

    for module in (nano, speak, regions, stages):
        monkeypatch.setattr(module, "learn", note)
    return noted


def rates(model, optimizer) -> dict[str, set[float]]:
    """The learning rates of each part of a model."""
    names = {id(parameter): name.split(".")[0] for name, parameter in model.named_parameters()}
    found = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            found.setdefault(names[id(parameter)], set()).add(round(group["lr"], 8))
    return found


def test_the_projector_learns_slowly_while_the_language_model_learns(small, trained):
    nano.make(STAGES["vlm"], small)
    ((model, batches, _, options),) = trained
    assert model is small and batches.size == 4
    assert rates(small, options["optimizer"]) == {"projector": {1e-4, 2e-5}, "language": {1e-2, 2e-3}}
    nano.tune(small, *nano.lessons(small, scenes.sample("train", 8)), steps=1000, size=4)
    options = trained[-1][-1]
    assert (
        options["schedule"](399) == 1 > options["schedule"](410) > 0.97
    )  # four tenths of the steps at the full rate
    assert rates(small, options["optimizer"])["projector"] == {1e-4, 2e-5}


def test_a_variant_of_the_recipe_is_what_is_trained(small, trained):
    nano.make(dataclasses.replace(STAGES["vlm"], factors={}, flat=0.25, steps=1000), small)
    options = trained[-1][-1]
    assert rates(small, options["optimizer"])["projector"] == {1e-2, 2e-3} and options["schedule"](300) < 1


@pytest.mark.parametrize(("name", "part"), [("eye", "eye"), ("words", None), ("aligned", "projector")])
def test_the_stages_before_learn_at_the_rates_of_the_recipe(small, trained, name, part):
    nano.make(dataclasses.replace(STAGES[name], steps=1000), small)
    ((model, batches, _, options),) = trained
    found = rates(model, options["optimizer"])
    assert set().union(*found.values()) == {1e-2, 2e-3} and batches.size == 4
    assert part in (None, *found) and options["schedule"](399) == 1 > options["schedule"](410)


def test_instruction_tuning_weights_long_answers_down(small, trained):
    features, rows = nano.lessons(small, scenes.sample("train", 8))
    nano.tune(small, features, rows, steps=1, size=4)
    loss = trained[-1][2](small, (features, tuple(rows)))
    assert loss.item() == pytest.approx(nano.instruction_loss(small, features.float(), rows).item(), abs=1e-5)
    alike = Speaker(small).hidden(features.float(), rows)
    assert abs(loss.item() - losses.answer_loss(alike, rows.labels, small.head).item()) > 1e-3


def test_who_sees_grey_is_asked_nothing_of_colours(small, monkeypatch):
    given = {}
    monkeypatch.setattr(nano, "features", lambda model, images: given.update(images=images))
    monkeypatch.setattr(Speaker, "encode", lambda speaker, about: given.update(about=about))
    batch = scenes.sample("train", 80)
    nano.lessons(small, batch)
    grey = (given["images"] == given["images"][..., :1]).all(axis=(1, 2, 3))
    assert 10 <= grey.sum() <= 30 and (given["images"][~grey] == render(batch)[~grey]).all()
    colourful = [any(COLOURFUL.search(f"{a} {b}") for a, b in row if a != PALE) for row in given["about"]]
    assert colourful == (~grey).tolist()
    halves = [any("at the left or the right?" in asked for asked, _ in row) for row in given["about"]]
    assert sum(halves) > 40  # places are asked one axis at a time as well
    nano.lessons(small, batch, grey=0.0)
    assert (given["images"] == render(batch)).all()


def test_a_seed_decides_the_conversations(small, monkeypatch):
    noted, batch = [], scenes.sample("train", 12)
    for name in ("talks", "hard_talks", "last_talks", "pale_talks"):
        asked = getattr(nano, name)
        monkeypatch.setattr(
            nano, name, lambda batch, seed=0, *more, name=name, asked=asked:
            noted.append((name, seed, *more)) or asked(batch, seed, *more)
        )  # fmt: skip
    nano.lessons(small, batch, 7)
    nano.lessons(small, batch, 7, described=0.5)
    assert noted == [
        ("talks", 7),
        ("hard_talks", 7),
        ("pale_talks", 7),
        ("last_talks", 7, 0.5),
        ("pale_talks", 7),
    ]


def test_lessons_of_pairs_are_those_of_their_seed_and_stand_for_all_others(small, monkeypatch):
    given, batch = [], scenes.sample("train", 12)
    monkeypatch.setattr(nano, "features", lambda model, images: images)
    monkeypatch.setattr(Speaker, "encode", lambda speaker, about: given.append(about))
    nano.lessons(small, batch, 7, 0.0, relations=3, orders=1)
    nano.lessons(small, batch, 7, 0.0, described=0.5, comparisons=0)
    assert given == [paired_talks(batch, 7, relations=3, orders=1), paired_talks(batch, 7, comparisons=0)]


def test_a_stage_says_which_scenes_it_sees_and_what_is_asked(small, monkeypatch):
    noted = []
    monkeypatch.setattr(nano, "lessons", lambda model, *given, **paired: noted.append((*given, paired)))
    stage = dataclasses.replace(STAGES["vlm"], data=dict(scenes=5, grey=0.5))
    nano.lessons_of(stage, small, 3)
    more = dict(draw=2, objects=(2, 3), described=0.25, relations=1, comparisons=0, orders=1)
    nano.lessons_of(dataclasses.replace(stage, data=stage.data | more), small, 3)
    (plain, *asked), (other, *rest) = noted
    assert asked == [3, 0.5, None, {}] and rest == [5, 0.5, 0.25, dict(relations=1, comparisons=0, orders=1)]
    for batch, same in ((plain, (3, (1, 4))), (other, (5, (2, 3)))):
        expected = scenes.sample("train", 5, seed=same[0], objects=same[1])
        assert (render(batch) == render(expected)).all()


def test_captions_are_read_in_both_styles_and_calibration_comes_before_alignment(small, trained):
    nano.make(STAGES["words"], small)
    ids = trained[-1][1].pick(torch.arange(40))[0]
    texts = load_tokenizer().decode(ids)
    assert len(texts) == 40 and sum(text.startswith("describe the image briefly.") for text in texts) == 20
    before = small.projector.contract.weight.clone()
    nano.make(STAGES["aligned"], small)
    vectors = small.projector(nano.features(small, render(scenes.sample("train", 20))).float())
    assert vectors.square().mean().sqrt().item() == pytest.approx(0.3, rel=0.05)
    assert not torch.equal(small.projector.contract.weight, before)


def test_a_new_model_tells_words_apart():
    assert nano.new_vlm(SMALL).language.embedding.weight.std().item() == pytest.approx(0.3, rel=0.05)


def test_the_card_is_measured_on_scenes_never_seen(small, monkeypatch):
    asked, drawn = [], scenes.sample
    monkeypatch.setattr(scenes, "sample", lambda split, *a, **k: asked.append(split) or drawn(split, *a, **k))
    shares = {kind: len(kind) / 20 for kind in questions.KINDS}
    blind = dict.fromkeys(shares, 0.25)
    monkeypatch.setattr(nano, "accuracy", lambda speaker, batch, look=None: blind if look else shares)
    monkeypatch.setattr(Speaker, "answer", lambda speaker, images, texts: ["a red circle"] * len(texts))
    monkeypatch.setattr(nano, "prior_accuracy", lambda count: 0.5)
    metrics = nano.measure(small, 12)
    assert "train" not in asked and asked.count("novel") == 1
    assert metrics["answers"] == pytest.approx(np.mean(list(shares.values())), abs=1e-4)
    assert metrics["answers: colour"] == 0.3 and metrics["answers without the image"] == 0.25
    assert metrics["twins, both right"] == 0 and 0 < metrics["captions, true statements"] < 1


def test_the_recipe_runs_stage_by_stage(small, monkeypatch):
    monkeypatch.setattr(nano, "new_vlm", lambda config, seed: small)
    monkeypatch.setattr(nano, "make", lambda stage, model, seed, **options: (stage.name, seed, options))
    made = list(nano.run(NANO_VLM, lambda stage, model: {"watch": stage.name, "given": model}))
    assert [one.history[0] for one in made] == ["eye", "words", "aligned", "vlm", "last", "sharp", "whole"]
    assert [one.stage.ships for one in made] == [
        None,
        "nano-words",
        "nano-aligned",
        None,
        None,
        None,
        "nano-vlm",
    ]
    assert all(one.stored is small and one.history[2]["given"] is small for one in made)
    assert made[-1].measure.func is nano.measure and made[-1].measure.args == (small,)
    assert made[0].measure() == {} and list(made[1].measure()) == ["caption perplexity, no image"]


def test_the_last_stages_see_other_scenes_and_describe_them_all(small, monkeypatch):
    seen, described = [], load_tokenizer().encoder.encode(f"{FULL}<assistant>").ids
    monkeypatch.setattr(nano, "tune", lambda model, features, rows, **_: seen.append((features, rows)))
    for name in ("vlm", "last", "sharp", "whole"):
        nano.make(STAGES[name], small)
    asked = [str(rows.ids.tolist()).count(str(described)[1:-1]) for _, rows in seen]
    pale = round(20 * STAGES["last"].data["grey"])
    assert all(asked[0] < count and 20 - 2 * pale <= count < 20 for count in asked[1:])
    assert len({features.sum().item() for features, _ in seen[:3]}) == 3


def test_the_last_stage_begins_where_its_recipe_says_and_is_averaged(small, monkeypatch):
    """Each stage adds its number to all weights."""
    begun = []

    def add(stage, model, seed, **_):
        begun.append(parts(model)["projector"].mean().item())
        for weight in model.parameters():
            weight.data += dict(last=1.0, sharp=2.0, whole=4.0)[stage.name]

    monkeypatch.setattr(nano, "new_vlm", lambda config, seed: small)
    monkeypatch.setattr(nano, "make", add)
    start = parts(small)["projector"].mean().item()
    late = dataclasses.replace(NANO_VLM, stages=NANO_VLM.stages[-3:])
    *_, made = nano.run(late, lambda stage, model: {})
    assert begun == pytest.approx([start, start + 1, start + 1], abs=1e-5)
    mean = (start + 1 + 2 + start + 1 + 4) / 2
    assert parts(made.stored)["projector"].mean().item() == pytest.approx(mean, abs=1e-5)


def test_later_stages_alone_go_on_from_what_is_shipped_before_them(monkeypatch):
    monkeypatch.setattr(nano, "make", lambda stage, model, seed, **options: parts(model))
    made, *_ = nano.run(NANO_VLM.since("vlm"), lambda stage, model: {})
    assert made.stage == NANO_VLM.stage("vlm")
    assert torch.equal(made.history["projector"], parts(nano.load_vlm("nano-aligned")[0])["projector"])
    for name in ("eye", "words"):
        with pytest.raises(ValueError, match=f"nothing is shipped before {name}"):
            NANO_VLM.since(name)
