"""The nano VLM: its stages train what they should, and what is measured is what is said."""

import dataclasses

import numpy as np
import pytest
import torch

from vlmcourse import nano
from vlmcourse.data.text import IMAGE
from vlmcourse.models.llava import LlavaConfig
from vlmcourse.models.vit import ViTConfig
from vlmcourse.recipes.nano_vlm import NANO_VLM
from vlmcourse.world import scenes
from vlmcourse.world.instructions import talks
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


def test_exact_counts_what_greedy_decoding_writes():
    model, _ = nano.load_vlm()
    batch = scenes.sample("validation", 12)
    rows = talks(batch, sentences=0, captioned=False)
    given = nano.features(model, render(batch)).float(), nano.encode_talks(model, rows)
    graded = nano.answered_right(model, *given, batch=5)
    images = np.repeat(render(batch), len(rows[0]), axis=0)
    said = nano.answer(model, images, [text for row in rows for text, _ in row])
    right = [a == b for a, b in zip(said, (answer for row in rows for _, answer in row), strict=True)]
    assert torch.equal(graded, nano.answered_right(model, *given))  # whatever the batch
    assert graded.float().mean().item() == pytest.approx(
        np.mean(right), abs=0.02
    )  # features are kept in bf16
    assert (graded.numpy() == right).mean() > 0.98


def test_an_answer_needs_one_image():
    with pytest.raises(ValueError, match="2 images and 1 instructions"):
        nano.answer(nano.new_vlm(SMALL), np.zeros((2, 64, 64, 3), np.uint8), ["Is there a star?"])


def test_the_prior_is_the_score_of_habit():
    assert 0.25 < nano.prior_accuracy(200) < 0.5


def test_an_unknown_stage_and_an_unknown_model_are_named(small):
    with pytest.raises(ValueError, match="nano-vlm has the stages eye, words, aligned, vlm, not 'ears'"):
        nano.make("ears", small)
    with pytest.raises(FileNotFoundError, match="nano-vlm"):
        nano.load_vlm("nano-ears")


def test_scenes_that_allow_no_question_are_left_out():
    batch, asked = nano.asked_of(scenes.sample("test", 40), "relation")
    assert len(batch) == len(asked) < 40 and all(question.kind == "relation" for question in asked)
