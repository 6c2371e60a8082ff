"""Ways to teach nano-vlm something new: what learns, what is kept, and what the pictures look like."""

import numpy as np
import pytest
import torch

from vlmcourse.families import efficient
from vlmcourse.families.nano import load_vlm
from vlmcourse.models.lora import lora_state
from vlmcourse.models.quantise import QuantisedLinear
from vlmcourse.training.memory import METHODS
from vlmcourse.world import questions, scenes
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


@pytest.mark.slow
def test_nano_vlm_sees_worse_in_fog():
    grades = efficient.grades_of(efficient.Speaker(load_vlm("nano-vlm")[0]), count=60)
    assert 0.5 < grades.new < 0.9 < grades.old and 3 < grades.words < 8
