"""What a ViT promises beside being equal to the libraries (that is in tests/parity)."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vlmcourse.models.attention import (
    Attention,
    Block,
    merge_heads,
    record_attention,
    scaled_dot_product,
    split_heads,
)
from vlmcourse.models.vit import Classifier, ViT, ViTConfig, interpolate_positions, patchify

SMALL = ViTConfig(image_size=(8, 12), patch_size=4, width=16, depth=2, heads=4)


@given(rows=st.integers(1, 4), columns=st.integers(1, 4), size=st.integers(1, 5), channel=st.integers(1, 4))
def test_every_patch_holds_its_square(rows, columns, size, channel):
    images = torch.randn(2, channel, rows * size, columns * size)
    patches = patchify(images, size)
    for row in range(rows):
        for column in range(columns):
            square = images[:, :, row * size : (row + 1) * size, column * size : (column + 1) * size]
            patch = patches[:, row * columns + column].reshape(2, size, size, channel)
            assert torch.equal(patch.permute(0, 3, 1, 2), square)


@given(heads=st.integers(1, 4), part=st.integers(1, 5), token=st.integers(1, 6))
def test_merge_undoes_split(heads, part, token):
    tokens = torch.randn(2, token, heads * part)
    assert torch.equal(merge_heads(split_heads(tokens, heads)), tokens)


def test_masked_keys_have_no_influence():
    query, key, value = torch.randn(3, 2, 2, 5, 4)
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    output, weights = scaled_dot_product(query, key, value, mask)
    key[:, :, 3:], value[:, :, 3:] = 100, 100
    again, _ = scaled_dot_product(query, key, value, mask)
    assert torch.allclose(output[:, :, :3], again[:, :, :3])
    assert torch.allclose(weights.sum(-1), torch.ones(2, 2, 5))
    assert (weights[:, :, ~mask] == 0).all()


def test_an_image_becomes_one_vector_per_patch_and_one_for_the_class():
    assert ViT(SMALL)(torch.randn(3, 3, 8, 12)).shape == (3, 1 + 6, 16)
    assert Classifier(SMALL, 5)(torch.randn(3, 3, 8, 12)).shape == (3, 5)


def test_the_class_vector_alone_equals_token_0_with_all_gradients():
    torch.manual_seed(0)
    model, images = ViT(SMALL).double(), torch.randn(3, 3, 8, 12).double()
    direction = torch.randn(3, 16).double()
    whole, alone = model(images)[:, 0], model.class_vector(images)
    assert torch.allclose(whole, alone, atol=1e-12)
    parameters = list(model.parameters())
    for output in (whole, alone):
        assert output.shape == (3, 16)
    first, second = (torch.autograd.grad((output * direction).sum(), parameters) for output in (whole, alone))
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(first, second, strict=True))


def test_a_classifier_shows_all_its_attention_when_recorded():
    model, images = Classifier(SMALL, 5), torch.randn(2, 3, 8, 12)
    with record_attention(model) as record:
        recorded = model(images)
    assert [weights.shape for weights in record] == [(2, 4, 7, 7)] * 2
    assert torch.allclose(recorded, model(images), atol=1e-5)


def test_layers_are_the_residual_stream_from_embedding_to_last_block():
    model, images = ViT(SMALL), torch.randn(2, 3, 8, 12)
    stream = model.layers(images)
    assert len(stream) == SMALL.depth + 1
    assert torch.equal(stream[0], model.embed(images))
    assert torch.equal(model.norm(stream[-1]), model(images))


def test_interpolating_to_the_same_grid_changes_nothing():
    positions = torch.randn(1 + 6, 16)
    assert torch.allclose(interpolate_positions(positions, (2, 3), (2, 3)), positions, atol=1e-6)


def test_a_larger_image_just_works():
    assert ViT(SMALL)(torch.randn(1, 3, 16, 16)).shape == (1, 1 + 16, 16)


BAD = [
    (lambda: ViTConfig(image_size=30, patch_size=8), "patches of 8 pixels do not tile an image of 30×30"),
    (lambda: patchify(torch.randn(1, 3, 30, 32), 8), "30×32 pixels cannot be cut into 8×8 patches"),
    (lambda: ViT(SMALL)(torch.randn(1, 1, 8, 12)), "reads 3 channels, the images have 1"),
    (lambda: split_heads(torch.randn(1, 2, 10), 4), "width 10 cannot be divided among 4 heads"),
    (lambda: Attention(10, 4), "width 10 cannot be divided among 4 heads"),
    (
        lambda: Block(16, 4, 32, activation="swish"),
        "no activation 'swish'; choose one of gelu, quick_gelu, gelu_new",
    ),
    (lambda: interpolate_positions(torch.randn(6, 4), (2, 3), (4, 4)), "need 7 positions, but there are 6"),
]


@pytest.mark.parametrize(("make", "says"), BAD)
def test_bad_sizes_are_named(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_calibrated_patches_have_mean_0_and_deviation_1():
    model, images = ViT(SMALL), 0.9 + 0.1 * torch.randn(50, 3, 8, 12)
    model.calibrate(images)
    deviation, mean = torch.std_mean(model.embed_patch(patchify(images, 4)).flatten(0, 1), dim=0)
    assert mean.abs().max() < 1e-4 and (deviation - 1).abs().max() < 1e-4


def test_a_layer_without_its_class_token_runs_no_block_behind_it():
    torch.manual_seed(0)
    model = ViT(ViTConfig((16, 24), 8, width=16, depth=3, heads=2)).eval()
    images = torch.randn(2, 3, 16, 24)
    stream = model.layers(images)
    for layer in (-4, -3, -2, -1, 0, 1):
        assert torch.equal(model.patches(images, layer), stream[layer][:, 1:])
    assert torch.equal(model.read(images), stream[-1]) and torch.equal(model.read(images, 0), stream[0])
    assert torch.equal(model(images), model.norm(stream[-1]))
    model.blocks[-1].forward = None  # the last block cannot run any more
    assert torch.equal(model.patches(images, -2), stream[-2][:, 1:])
