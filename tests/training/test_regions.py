"""The eye of the nano VLM: what its patches are taught, and that it learns."""

import numpy as np
import torch

from vlmcourse.models.llava import Llava
from vlmcourse.nano import CONFIG
from vlmcourse.training.regions import (
    EYE,
    RegionReader,
    measure_eye,
    new_eye,
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


def test_targets_are_the_truth_about_each_patch():
    batch = scenes.sample("train", 50)
    regions, cover = region_targets(batch), batch.cover(8).reshape(50, 64)
    assert ((regions.there > 0).numpy() == (cover >= 0)).all()
    for scene, patch in zip(*np.nonzero(cover >= 0), strict=True):
        thing = cover[scene, patch]
        assert regions.words[scene, patch].tolist() == [
            batch.shape[scene, thing], batch.colour[scene, thing], batch.size[scene, thing]]  # fmt: skip
        x = regions.middle[scene, patch, 0] * EYE.patch_size + scenes.SIDE / 2
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
    history = train_eye(reader, batch, steps=60, size=32, grey=1.0, precision="no")
    found = measure_eye(reader, batch)
    assert history.losses[-1] < 0.5 * history.losses[0]
    assert found["objectness"] > 0.9 and found["colour"] < 0.6
