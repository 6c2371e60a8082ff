"""Ways to teach nano-vlm something new: what learns, what is kept, and what the pictures look like."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vlmcourse.families import efficient
from vlmcourse.families.nano import load_vlm
from vlmcourse.models.lora import lora_state
from vlmcourse.models.quantise import QuantisedLinear
from vlmcourse.training.memory import METHODS, Setting, ledger, parts_of
from vlmcourse.training.optimizers import warmup_linear
from vlmcourse.world import captions, questions, scenes
from vlmcourse.world.render import render


def test_fog_takes_seven_tenths_of_the_contrast():
    picture = np.array([[[0, 100, 255]]], np.uint8)
    assert efficient.in_fog(picture).tolist() == [[[175, 205, 251]]]


def test_lessons_are_pictures_in_fog_with_the_answers_of_their_scenes():
    images, about = efficient.new_lessons(5, seed=1)
    batch = scenes.sample("train", 5, start=60_000)
    assert np.array_equal(images, efficient.in_fog(render(batch)))
    asked = questions.ask(batch, "colour", seed=1)
    assert about[0][0] == (asked[0].text, asked[0].answer) and 1 <= len(about[0]) <= 3


def test_a_lesson_asks_for_colour_shape_and_size_and_is_none_where_nothing_can_be_asked():
    images, about = efficient.new_lessons(40, seed=1)
    batch = scenes.sample("train", 40, start=60_000)
    asked = [questions.ask(batch, kind, seed=1) for kind in ("colour", "shape", "size")]
    rows = [[(one.text, one.answer) for one in row if one] for row in zip(*asked, strict=True)]
    kept = [number for number, row in enumerate(rows) if row]
    assert about == [rows[number] for number in kept]
    assert np.array_equal(images, efficient.in_fog(render(batch))[kept])


def test_an_arm_learns_at_its_own_rate_unless_another_is_asked_for(monkeypatch):
    given = []
    monkeypatch.setattr(efficient, "train", lambda model, batches, loss, **options: given.append(options))
    for rate in (None, 1e-2):
        speaker, _ = efficient.teach("projector only", 3, rate=rate, precision="bf16")
        assert not speaker.model.training
    groups = [options["optimizer"].param_groups[0] for options in given]
    assert [group["lr"] for group in groups] == [efficient.ARMS["projector only"], 1e-2]
    assert [group["weight_decay"] for group in groups] == [0, 0]
    for options in given:
        assert (options["steps"], options["precision"], options["name"]) == (3, "bf16", "projector only")
        assert [options["schedule"](step) for step in range(4)] == [
            warmup_linear(3)(step) for step in range(4)
        ]


def test_grades_are_means_over_new_kinds_in_fog_and_over_the_old_ones(monkeypatch):
    batch, asked = scenes.sample("test", 7), []
    right = iter([[True, True], [True, False], [False, False]])

    def graded(speaker, some, questions, look):
        assert np.array_equal(look(some), efficient.in_fog(render(some)))
        asked.append([question.text for question in questions])
        return torch.tensor(next(right))

    monkeypatch.setattr(efficient, "grade_questions", graded)
    monkeypatch.setattr(efficient, "accuracy", lambda speaker, some: dict(count=0.25, relation=0.95))
    perplexity = dict(captions=None)
    monkeypatch.setattr(
        efficient, "caption_perplexity", lambda model, texts: perplexity.update(captions=texts)
    )
    grades = efficient.grades_of(SimpleNamespace(model=None), count=7)
    assert grades == (0.5, pytest.approx(0.6), None)
    assert asked == [
        [one.text for one in questions.ask(batch, kind) if one] for kind in ("colour", "shape", "size")
    ]
    assert perplexity["captions"] == captions.captions(batch, "full")


@pytest.mark.parametrize("arm", efficient.ARMS)
def test_only_the_arm_s_part_learns(arm):
    before = load_vlm("nano-vlm")[0].state_dict()
    speaker, history = efficient.teach(arm, 2, rate=1e-3)
    model = speaker.model
    now = model.state_dict()
    moved = {
        name.split(".")[0] for name in before if name in now and not torch.equal(before[name], now[name])
    }
    wanted = {"full": {"vision", "projector", "language"}, "frozen encoder": {"projector", "language"}}
    assert moved == wanted.get(arm, {"projector"}) and history.steps == 2
    assert bool(lora_state(model)) is (arm in ("LoRA", "QLoRA"))
    assert any(isinstance(layer, QuantisedLinear) for layer in model.modules()) is (arm == "QLoRA")
    learned = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    assert efficient.stored_for(model) == learned


@pytest.mark.parametrize("arm", ["full", "LoRA"])
def test_the_ledger_counts_what_autograd_keeps(arm):
    counted, measured = efficient.measured_by(arm)
    assert counted == pytest.approx(measured, rel=0.1) and METHODS[arm]
    assert efficient.held_by("full").peak > efficient.held_by("projector only").peak


def test_a_row_of_a_lesson_has_150_tokens_of_which_30_are_answers():
    config = load_vlm("nano-vlm")[0].config
    counted = ledger(parts_of(config, 150, 30), METHODS["LoRA"], Setting(16))
    assert efficient.held_by("LoRA").peak == counted.peak
    one = ledger(parts_of(config, 20, 5), METHODS["LoRA"], Setting(1))
    assert efficient.held_by("LoRA", 20, 5, Setting(1)).peak == one.peak < counted.peak


@pytest.mark.slow
def test_nano_vlm_sees_worse_in_fog():
    grades = efficient.grades_of(efficient.Speaker(load_vlm("nano-vlm")[0]), count=60)
    assert 0.5 < grades.new < 0.9 < grades.old and 3 < grades.words < 8
