"""What reach computes agrees with what a network can be seen to do."""

import pytest
import torch

from vlmcourse.diagnostics.reach import attention_distance, effective_field, receptive_field
from vlmcourse.models.cnn import ConvNorm, ResNet, ResNetConfig


def field(*layers) -> list[int]:
    kernels, strides = torch.tensor(layers).T
    return receptive_field(kernels, strides).tolist()


def test_receptive_fields_known_by_hand():
    assert field((3, 1), (3, 1), (3, 1)) == [3, 5, 7]
    assert field((3, 2), (3, 1)) == [3, 7]
    assert field((16, 16), (1, 1)) == [16, 16]  # a patch embedding, and an MLP on its patches
    assert field((7, 2), (3, 2), *[(3, 1)] * 4)[-1] == 43


@pytest.mark.parametrize(("depths", "stem_kernel"), [((1,), 3), ((1, 1), 7)])
def test_gradients_reach_exactly_the_receptive_field(depths, stem_kernel):
    torch.manual_seed(0)
    net = ResNet(ResNetConfig((8, 8)[: len(depths)], depths, stem=8, stem_kernel=stem_kernel)).eval()
    seen = effective_field(net, torch.randn(16, 3, 128, 128)) > 0
    kernels, strides = torch.tensor(net.windows()).T
    side = receptive_field(kernels, strides)[-1].item()
    assert seen.any(0).sum() == seen.any(1).sum() == side


def test_the_middle_of_the_field_counts_most():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        *[ConvNorm((8 if k else 3, 8), 3) for k in range(8)]
    ).eval()  # its field: 17 pixels
    strength = effective_field(net, torch.randn(16, 3, 32, 32))
    assert strength.max() == 1
    assert strength[13:20, 13:20].mean() > 2 * strength[8:25, 8:25].mean()


def uniform(tokens: int) -> torch.Tensor:
    return torch.full((1, 1, tokens, tokens), 1 / tokens)


def test_a_head_that_looks_at_itself_looks_nowhere_far():
    assert attention_distance(torch.eye(7)[None, None], (2, 3), 8).item() == 0


def test_distance_is_measured_in_pixels_between_patch_centres():
    weights = torch.zeros(1, 1, 3, 3)
    weights[0, 0, 1, 2] = weights[0, 0, 2, 1] = 1.0
    assert attention_distance(weights, (1, 2), 16).item() == 16
    assert attention_distance(uniform(3), (1, 2), 16).item() == 8  # half at itself, half at its neighbour


def test_what_goes_to_the_class_token_does_not_count():
    weights = uniform(7)
    far = weights.clone()
    far[..., 0] = 0.9
    far[..., 1:] = 0.1 / 6
    assert torch.allclose(attention_distance(far, (2, 3), 4), attention_distance(weights, (2, 3), 4))


def test_batches_of_images_may_stand_in_front():
    weights = torch.rand(5, 3, 2, 7, 7).softmax(-1)
    assert torch.allclose(
        attention_distance(weights, (2, 3), 4)[1], attention_distance(weights[1], (2, 3), 4)
    )


def test_a_grid_that_does_not_belong_to_the_weights_is_an_error():
    with pytest.raises(ValueError, match="2×4 grid and a class token make 9 tokens, but the weights have 7"):
        attention_distance(uniform(7), (2, 4), 8)
