"""Recording attention and rolling it out."""

import pytest
import torch
from torch import nn

from vlmcourse.diagnostics.attention import attention_maps, rollout
from vlmcourse.models.attention import Attention, record_attention
from vlmcourse.models.vit import ViT, ViTConfig

CONFIG = ViTConfig(image_size=(8, 12), patch_size=4, width=16, depth=3, heads=2)


def test_maps_have_one_distribution_per_image_layer_head_and_query():
    maps = attention_maps(ViT(CONFIG), torch.randn(5, 3, 8, 12))
    assert maps.shape == (5, 3, 2, 7, 7)
    assert torch.allclose(maps.sum(-1), torch.ones(5, 3, 2, 7), atol=1e-5)


def test_recording_changes_nothing_and_stops():
    model, images = ViT(CONFIG), torch.randn(2, 3, 8, 12)
    before = model(images)
    with record_attention(model) as record:
        assert torch.equal(model(images), before)
        model(images)
    assert len(record) == 6
    model(images)
    assert len(record) == 6
    assert all(layer.record is None for layer in model.modules() if isinstance(layer, Attention))


def test_recording_stops_after_an_error_too():
    model = ViT(CONFIG)
    with pytest.raises(ZeroDivisionError), record_attention(model):
        1 / 0  # noqa: B018
    assert all(layer.record is None for layer in model.modules() if isinstance(layer, Attention))


def test_a_model_without_attention_and_double_recording_are_errors():
    with pytest.raises(ValueError, match="Linear holds no Attention"), record_attention(nn.Linear(2, 2)):
        pass
    model = ViT(CONFIG)
    with (
        record_attention(model),
        pytest.raises(ValueError, match="being recorded already"),
        record_attention(model),
    ):
        pass


def test_rollout_rows_are_distributions_and_identity_stays_identity():
    weights = torch.randn(4, 3, 6, 6).softmax(-1)
    assert torch.allclose(rollout(weights).sum(-1), torch.ones(6), atol=1e-5)
    assert torch.allclose(rollout(torch.eye(6).expand(4, 3, 6, 6)), torch.eye(6))
