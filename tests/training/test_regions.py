"""The eye of the nano VLM: what its patches are taught, and that it learns."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vlmcourse.families.nano import CONFIG
from vlmcourse.models.llava import Llava
from vlmcourse.models.vit import ViTConfig
from vlmcourse.training.optimizers import MuonAdamW, warmup_linear
from vlmcourse.training.regions import (
    EYE,
    SPLIT,
    RegionReader,
    new_eye,
    region_loss,
    region_targets,
    sine_positions,
    train_eye,
)
from vlmcourse.world import scenes
from vlmcourse.world.render import render, to_tensor


def test_positions_are_all_different_and_as_large_as_what_patches_say():
    positions = sine_positions((8, 8), 96)
    assert positions.shape == (64, 96) and positions.abs().max() <= 1
    assert torch.pdist(positions).min() > 1
    assert 0.6 < positions.square().mean().sqrt() < 0.8


@pytest.mark.parametrize("config", [EYE, ViTConfig(64, 16, width=32, depth=1, heads=2)])
def test_targets_are_the_truth_about_each_patch(config):
    batch = scenes.sample("train", 50)
    regions, cover = region_targets(batch, config), batch.cover(config.grid[0]).reshape(50, -1)
    assert ((regions.there > 0).numpy() == (cover >= 0)).all()
    for scene, patch in zip(*np.nonzero(cover >= 0), strict=True):
        thing = cover[scene, patch]
        assert regions.words[scene, patch].tolist() == [
            batch.shape[scene, thing], batch.colour[scene, thing], batch.size[scene, thing]]  # fmt: skip
        x = regions.middle[scene, patch, 0] * config.patch_size + scenes.SIDE / 2
        assert x == batch.x[scene, thing]
    assert (regions.words[regions.there == 0] == -100).all()


def test_patch_features_are_what_llava_reads():
    model = Llava(CONFIG).eval()
    images = to_tensor(render(scenes.sample("test", 2)))
    torch.testing.assert_close(model.vision.patches(images), model.image_features(images))


def test_it_learns_and_an_image_in_grey_is_not_asked_for_colours():
    torch.manual_seed(0)
    reader = RegionReader(new_eye())
    batch = scenes.sample("train", 64, objects=(1, 1))
    optimizer, schedule = MuonAdamW(reader), warmup_linear(60)
    options = dict(steps=60, optimizer=optimizer, schedule=schedule, precision="no")
    history = train_eye(reader, batch, size=32, grey=1.0, **options)
    regions, (_, colour, _, there, _) = region_targets(batch), reader(to_tensor(render(batch)))
    shown = regions.there > 0
    assert history.losses[-1] < 0.5 * history.losses[0]
    assert ((there[..., 0] > 0) == shown).float().mean() > 0.9
    assert (colour.argmax(-1) == regions.words[..., 1])[shown].float().mean() < 0.6


def test_positions_are_waves_of_the_column_and_of_the_row():
    positions = sine_positions((8, 8), 16)
    slow, fast = torch.pi / 32, torch.pi / 2
    across, down = positions[1], positions[8]
    waves = [across[0], across[3], across[11], down[4], down[7], down[15]]
    angles = [np.sin(fast), np.sin(slow), np.cos(slow), np.sin(fast), np.sin(slow), np.cos(slow)]
    torch.testing.assert_close(torch.stack(waves), torch.tensor(angles, dtype=torch.float32))
    assert torch.equal(across[4:8], torch.zeros(4)) and torch.equal(down[:4], torch.zeros(4))


class Says(RegionReader):
    """A reader that says the truth of scenes, its middles ``off`` by so many patches."""

    def __init__(self, batch, config, off=0.0):
        torch.nn.Module.__init__(self)
        self.eye = SimpleNamespace(config=config)
        self.truth, self.off = region_targets(batch, config), off

    def forward(self, images):
        words = self.truth.words.clamp(min=0).unbind(-1)
        scores = [
            20.0 * torch.nn.functional.one_hot(word, count) for word, count in zip(words, SPLIT, strict=False)
        ]
        return *scores, 40 * self.truth.there[..., None] - 20, self.truth.middle + self.off


def test_the_loss_adds_three_times_the_middle_to_words_and_objectness():
    batch = scenes.sample("train", 20)
    truth, images = region_targets(batch), torch.zeros(0)
    assert region_loss(Says(batch, EYE), images, truth) < 1e-6
    far = region_loss(Says(batch, EYE, off=1.0), images, truth)
    assert far.item() == pytest.approx(3 * (1.0 - 0.05), rel=1e-3)  # Huber: |error| - beta / 2
    silent = Says(batch, EYE)
    silent.truth = silent.truth._replace(there=torch.zeros_like(truth.there))
    missed = 20 * truth.there.mean().item()
    assert region_loss(silent, images, truth).item() == pytest.approx(missed, rel=1e-3)


def test_a_new_eye_knows_rows_and_columns_and_nothing_else():
    eye = new_eye()
    assert torch.equal(eye.positions[1:], sine_positions(EYE.grid, EYE.width))
    assert not eye.positions[0].any()
