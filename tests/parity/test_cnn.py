"""Our ResNet and EfficientNet equal transformers': outputs, gradients and running statistics, evaluating
and training.

Weights, biases, batch norm's scales, shifts and running statistics are all randomised first; they would hide
mistakes.
"""

import pytest
import torch
import transformers
from torch import nn

from vlmcourse.interop.cnn import from_transformers

RESNETS = {
    "basic": dict(layer_type="basic", hidden_sizes=[16, 24], depths=[1, 2]),
    "bottleneck": dict(layer_type="bottleneck", hidden_sizes=[16, 32, 24], depths=[2, 1, 1]),
}
EFFICIENTNETS = {
    "even sizes": dict(image=(64, 96), depthwise_padding=[]),
    "odd sizes": dict(image=(62, 94), depthwise_padding=[2]),  # block 2 strides over a map of 31×47
}


def randomised(model: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.3)
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


def library_resnet(**options) -> transformers.ResNetModel:
    return randomised(transformers.ResNetModel(transformers.ResNetConfig(embedding_size=16, **options)))


def library_efficientnet(drop=0.0, image=None, **options) -> transformers.EfficientNetModel:
    config = transformers.EfficientNetConfig(
        width_coefficient=0.25, depth_coefficient=1.2, kernel_sizes=[3, 5, 3], in_channels=[32, 16, 24],
        out_channels=[16, 24, 40], strides=[1, 2, 2], num_block_repeats=[1, 2, 1], expand_ratios=[1, 6, 4],
        hidden_dim=320, drop_connect_rate=drop, **options,
    )  # fmt: skip
    return randomised(transformers.EfficientNetModel(config))


def assert_equal(mine: torch.Tensor, theirs: torch.Tensor) -> None:
    assert mine.shape == theirs.shape
    assert (mine - theirs).abs().max() <= 1e-5 * max(1.0, theirs.abs().max().item())


def assert_same_model(theirs: nn.Module, height: int, width: int, training: bool) -> None:
    """Outputs, gradients of pixels and of every parameter, and every buffer after the pass."""
    mine, theirs = from_transformers(theirs).train(training), theirs.train(training)
    x = torch.randn(3, 3, height, width, generator=torch.Generator().manual_seed(2)).requires_grad_()
    y = x.detach().clone().requires_grad_()
    torch.manual_seed(3)  # for dropout
    features = mine(x)
    torch.manual_seed(3)
    others = theirs(y)
    assert_equal(features, others.last_hidden_state)
    assert_equal(features.mean((2, 3)), others.pooler_output.flatten(1))
    direction = torch.randn_like(features)
    (features * direction).mean().backward()
    (others.last_hidden_state * direction).mean().backward()
    assert_equal(x.grad, y.grad)
    assert_equal_state(mine, theirs)


def assert_equal_state(mine: nn.Module, theirs: nn.Module) -> None:
    """Gradients and buffers, matched by converting the other model once more, with its gradients as
    weights."""
    with torch.no_grad():
        for name, value in from_transformers(theirs).state_dict().items():
            assert_equal(mine.state_dict()[name], value)
        for parameter in theirs.parameters():
            parameter.copy_(parameter.grad)
    gradients = dict(from_transformers(theirs).named_parameters())
    for name, parameter in mine.named_parameters():
        assert_equal(parameter.grad, gradients[name])
    assert max(value.abs().max() for value in gradients.values()) > 1e-4  # not all vanished


@pytest.mark.parametrize("training", [False, True], ids=["evaluating", "training"])
@pytest.mark.parametrize("kind", RESNETS)
def test_resnet_equals_transformers(kind, training):
    assert_same_model(library_resnet(**RESNETS[kind]), 64, 80, training)


@pytest.mark.parametrize("training", [False, True], ids=["evaluating", "training"])
@pytest.mark.parametrize("kind", EFFICIENTNETS)
def test_efficientnet_equals_transformers(kind, training):
    options = EFFICIENTNETS[kind]
    assert_same_model(library_efficientnet(**options), *options["image"], training)


def test_dropout_falls_on_the_same_numbers_as_in_transformers():
    theirs = library_efficientnet(drop=0.5)
    assert_same_model(theirs, 64, 96, training=True)
    assert (
        sum(module.p > 0 for module in from_transformers(theirs).modules() if isinstance(module, nn.Dropout))
        == 4
    )


def test_running_statistics_move_in_training_and_rest_in_evaluation():
    mine = from_transformers(library_resnet(**RESNETS["basic"]))
    before = mine.stem.norm.running_mean.clone()
    images = torch.randn(2, 3, 64, 64)
    mine(images)
    assert torch.equal(mine.stem.norm.running_mean, before)
    mine.train()(images)
    assert not torch.equal(mine.stem.norm.running_mean, before)
