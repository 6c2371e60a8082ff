"""Pictures unlike those a model learned from are told apart, and nothing is said on another eye's word."""

import pytest
import torch
from torch import nn

from vlmcourse.diagnostics.familiar import INSIDE, Familiar, fit_familiar, read_familiar, save_familiar
from vlmcourse.training.reading import CheckpointError


def features(count, seed, scale=1.0):
    """(count, 5, 8), with another spread along each axis, correlated."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(count, 8, generator=generator) * torch.linspace(0.1, 3, 8) * scale
    points[:, 0] += points[:, 7]
    patches = torch.randn(count, 5, 8, generator=generator)
    return points[:, None] + patches - patches.mean(dim=1, keepdim=True) + 4


def test_the_share_of_training_pictures_called_foreign_is_as_said():
    familiar = fit_familiar(features(4000, seed=0))
    assert familiar.foreign(features(4000, seed=1)).float().mean() == pytest.approx(1 - INSIDE, abs=0.005)
    assert familiar.foreign(features(1000, seed=1, scale=4)).float().mean() > 0.8


def test_distance_counts_in_deviations_of_each_direction():
    familiar = Familiar(torch.tensor([1.0, 2.0]), torch.tensor([[4.0, 0], [0, 1]]), torch.tensor(2.5))
    picture = torch.tensor([[[0.0, 0], [5, 6]], [[2, 2], [2, 2]]])  # means (2.5, 3) and (2, 2)
    torch.testing.assert_close(familiar.distance(picture), torch.tensor([10**0.5, 2]))
    assert familiar.foreign(picture).tolist() == [True, False]


def test_what_lies_beside_the_weights_is_of_use_with_their_eye_alone(tmp_path):
    eye, path = nn.Linear(3, 3), tmp_path / "model.familiar.safetensors"
    familiar = fit_familiar(features(40, seed=0))
    save_familiar(familiar, eye, path)
    assert all(map(torch.equal, familiar, read_familiar(path, eye)))
    nn.init.zeros_(eye.bias)
    with pytest.raises(
        CheckpointError, match=r"model\.familiar\.safetensors was fitted to another vision enc"
    ):
        read_familiar(path, eye)
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="is empty"):
        read_familiar(path, eye)
