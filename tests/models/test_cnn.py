"""CNN parts are right by definition and by torch's own convolution, and whole nets have the papers' sizes."""

import copy
import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vlmcourse.models import cnn
from vlmcourse.models.cnn import ConvNorm, ResidualBlock, ResNet, ResNetConfig, conv2d, residual_block
from vlmcourse.models.efficientnet import EfficientNet, EfficientNetConfig, SqueezeExcite, StageConfig, mbconv


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("stride", "padding", "groups"), list(itertools.product((1, 2, 3), (0, 1, 2), (1, 2, 6)))
)
def test_conv2d_is_torchs_convolution_with_its_gradients(stride, padding, groups):
    torch.manual_seed(0)
    images = torch.randn(2, 6, 9, 12, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(12, 6 // groups, 3, 5, dtype=torch.float64, requires_grad=True)
    mine = conv2d(images, weight, stride, padding, groups)
    theirs = F.conv2d(images, weight, stride=stride, padding=padding, groups=groups)
    assert torch.allclose(mine, theirs)
    direction = torch.randn_like(mine)
    for got, right in zip(
        torch.autograd.grad((mine * direction).sum(), (images, weight)),
        torch.autograd.grad((theirs * direction).sum(), (images, weight)),
        strict=True,
    ):
        assert torch.allclose(got, right)


def test_conv2d_names_groups_that_do_not_fit():
    with pytest.raises(ValueError, match="6 channels and 4 filters do not go into 2 groups of 2 channels"):
        conv2d(torch.zeros(1, 6, 5, 5), torch.zeros(4, 2, 3, 3), groups=2)


def test_a_depthwise_filter_sees_only_its_own_channel():
    torch.manual_seed(0)
    images, weight = torch.randn(1, 4, 6, 6), torch.randn(4, 1, 3, 3)
    before = conv2d(images, weight, groups=4)
    images[:, 2] += 1
    moved = (conv2d(images, weight, groups=4) - before).abs().amax((0, 2, 3)) > 1e-6
    assert moved.tolist() == [False, False, True, False]


def test_a_silent_body_leaves_what_the_shortcut_brings():
    images = torch.rand(2, 3, 4, 4)
    assert torch.equal(residual_block(images, torch.zeros_like, nn.Identity()), images)


def test_a_block_whose_shape_changes_has_a_filter_on_its_shortcut():
    assert isinstance(ResidualBlock((8, 8)).shortcut, nn.Identity)
    assert isinstance(ResidualBlock((8, 8), stride=2).shortcut, ConvNorm)
    assert isinstance(ResidualBlock((8, 16), bottleneck=True).shortcut, ConvNorm)


def test_late_padding_shifts_the_windows_by_one_pixel():
    layer = ConvNorm((1, 1), 3, 2, activation="none", late=True).eval()
    nn.init.ones_(layer.weight)
    images = torch.zeros(1, 1, 6, 6)
    images[..., 5, 5] = 1  # the last pixel lies in the last window only if zeros are added behind it
    assert layer(images)[0, 0].nonzero().tolist() == [[2, 2]]


def test_squeeze_and_excite_only_turns_channels_down():
    torch.manual_seed(0)
    features = torch.randn(2, 6, 5, 4)
    ratio = SqueezeExcite(6, 2)(features) / features
    assert torch.allclose(ratio, ratio[:, :, :1, :1].expand_as(ratio), atol=1e-5)  # one number per channel
    assert 0 < ratio.min() < ratio.max() < 1


def test_mbconv_adds_its_input_only_if_asked():
    features, same = torch.rand(2, 3, 4, 4), nn.Identity()
    assert torch.equal(mbconv(features, same, same, same, same, skip=True), 2 * features)
    assert torch.equal(mbconv(features, same, same, same, same, skip=False), features)


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        (
            ResNetConfig((64, 128, 256, 512), (2, 2, 2, 2)),
            11.2,
        ),  # ResNet-18 has 11.7 with its classifier of 0.5
        (
            ResNetConfig((256, 512, 1024, 2048), (3, 4, 6, 3), bottleneck=True),
            23.5,
        ),  # ResNet-50: 25.6 less 2.0
    ],
)
def test_resnets_have_the_published_number_of_parameters(config, millions):
    with torch.device("meta"):
        assert round(parameters(ResNet(config)) / 1e6, 1) == millions


def test_efficientnet_b0_has_the_published_number_of_parameters():
    with torch.device("meta"):
        assert (
            round(parameters(EfficientNet(EfficientNetConfig())) / 1e6, 1) == 4.0
        )  # 5.3 with its classifier of 1.3


def test_maps_shrink_as_the_papers_say():
    resnet = ResNet(ResNetConfig((8, 16, 16, 24), (1, 1, 1, 1), stem=8)).eval()
    efficientnet = EfficientNet(
        EfficientNetConfig((StageConfig(1, 3, 1, 8, 1), StageConfig(6, 3, 2, 8, 2)), 8, 12)
    ).eval()
    images = torch.randn(2, 3, 64, 96)
    assert resnet(images).shape == (2, 24, 2, 3)
    assert efficientnet(images).shape == (2, 12, 16, 24)
    assert torch.equal(resnet.pooled(images), resnet(images).mean((2, 3)))


def test_a_config_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="2 widths, but 1 depths"):
        ResNetConfig((8, 16), (1,))
    with pytest.raises(ValueError, match="multiples of 4"):
        ResNetConfig((10,), (1,), bottleneck=True)
    with pytest.raises(ValueError, match="no activation 'gelu'"):
        ConvNorm((3, 4), 3, activation="gelu")


def test_the_learners_convolution_is_what_runs():
    net, images = ResNet(ResNetConfig((8,), (1,), stem=8)).eval(), torch.randn(2, 3, 32, 32)
    twin, right = copy.deepcopy(net), net(images)
    try:
        cnn.conv2d.install(lambda x, w, s=1, p=0, g=1: 2 * F.conv2d(x, w, stride=s, padding=p, groups=g))
        assert not torch.allclose(twin(images), right)
    finally:
        cnn.conv2d.reset()
    assert torch.equal(twin(images), right)
