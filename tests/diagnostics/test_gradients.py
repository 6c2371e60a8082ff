"""The gradient report says what backward() would say, for frozen parts too, and leaves no trace."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vlmcourse.diagnostics.gradients import gradient_report, llava_parts
from vlmcourse.models.language import LlamaConfig
from vlmcourse.models.llava import Llava, LlavaConfig
from vlmcourse.models.vit import ViTConfig

IMAGE = 3
CONFIG = LlavaConfig(ViTConfig((8, 12), patch_size=4, width=8, depth=2, heads=2),
                     LlamaConfig(19, width=16, depth=3, heads=4, groups=2), IMAGE)  # fmt: skip
IMAGES = torch.rand(2, 3, 8, 12)
IDS = torch.tensor([[4, *[IMAGE] * 6, 9, 10, 5], [4, *[IMAGE] * 6, 11, 12, 5]])


def loss(model):
    return F.cross_entropy(model(IDS, IMAGES)[:, 6:-1].flatten(0, 1), IDS[:, 7:].flatten())


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Llava(CONFIG)


def norm(tensors) -> float:
    return torch.cat([tensor.flatten() for tensor in tensors]).norm().item()


def rows_of(model, groups=None):
    return {row.name: row for row in gradient_report(model, loss, groups or llava_parts(model))}


def test_norms_are_those_of_backward(model):
    rows = rows_of(model)
    loss(model).backward()
    for name, path in llava_parts(model).items():
        parameters = [p for p in model.get_submodule(path).parameters() if p.grad is not None]
        weights = list(model.get_submodule(path).parameters())
        assert rows[name].gradient == pytest.approx(norm([p.grad for p in parameters]), rel=1e-4)
        assert rows[name].weight == pytest.approx(norm([p.detach() for p in weights]), rel=1e-5)
        assert rows[name].ratio == pytest.approx(rows[name].gradient / rows[name].weight)
        assert rows[name].parameters == rows[name].trained == sum(p.numel() for p in weights)
    assert list(rows) == ["words", "eye", "projector", "block 0", "block 1", "block 2", "head"]


def test_a_frozen_part_passes_the_gradient_on(model):
    model.requires_grad_(False)
    model.projector.requires_grad_(True)
    rows = rows_of(model)
    for name in ("block 0", "block 1", "block 2", "head"):
        assert rows[name].gradient == rows[name].trained == 0 and rows[name].through > 0
    assert rows["projector"].gradient > 0 and rows["projector"].through > 0
    for name in ("eye", "words"):  # nothing is trained in them or before them
        assert rows[name].gradient == rows[name].through == 0
    assert rows["eye"].weight > 0


def test_what_reaches_an_output_is_its_gradient(model):
    kept = {}

    def keep(module, _, output):
        output.retain_grad()
        kept[module] = output

    for path in ("projector", "language.blocks.1", "vision.blocks.0"):
        model.get_submodule(path).register_forward_hook(keep)
    loss(model).backward()
    truth = [kept[model.get_submodule(path)].grad.norm().item() for path in ("projector", "language.blocks.1",
                                                                             "vision.blocks.0")]  # fmt: skip
    model.zero_grad()
    fresh = Llava(CONFIG)
    fresh.load_state_dict(model.state_dict())
    rows = rows_of(fresh)
    # The eye is read at its last block but one, so that one ran last.
    assert [rows[name].through for name in ("projector", "block 1", "eye")] == pytest.approx(truth, rel=1e-4)


def test_it_leaves_no_trace(model):
    model.language.requires_grad_(False)
    loss(model).backward()
    before = {name: (p.grad if p.grad is None else p.grad.clone(), p.detach().clone(), p.requires_grad)
              for name, p in model.named_parameters()}  # fmt: skip
    with torch.no_grad():
        rows_of(model)
    for name, parameter in model.named_parameters():
        gradient, weight, trained = before[name]
        assert torch.equal(parameter, weight) and parameter.requires_grad == trained
        assert parameter.grad is None if gradient is None else torch.equal(parameter.grad, gradient)
    assert not any(module._forward_hooks for module in model.modules())


def test_hooks_go_even_if_the_loss_fails(model):
    with pytest.raises(ZeroDivisionError):
        gradient_report(model, lambda model: 1 / 0, llava_parts(model))
    assert not any(module._forward_hooks for module in model.modules())


def test_a_part_may_be_several_modules_or_trained_in_part():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 4), nn.Linear(4, 2))
    model[1].weight.requires_grad_(False)
    data = torch.randn(7, 3)
    groups = {"first two": ["0", "1"], "last": "2"}
    first, last = gradient_report(model, lambda model: model(data).square().mean(), groups)
    assert (first.parameters, first.trained) == (3 * 5 + 5 + 5 * 4 + 4, 3 * 5 + 5 + 4)
    model(data).square().mean().backward()
    trained = [model[0].weight.grad, model[0].bias.grad, model[1].bias.grad]
    assert first.gradient == pytest.approx(norm(trained), rel=1e-5)
    outputs = model(data)
    assert last.through == pytest.approx((2 * outputs / outputs.numel()).norm().item(), rel=1e-5)


def test_shared_weights_count_once(model):
    tied = Llava(LlavaConfig(CONFIG.vision, LlamaConfig(19, 16, 3, 4, 2, tied=True), IMAGE))
    rows = rows_of(tied)
    assert rows["words"].parameters == 19 * 16 and rows["head"].parameters == 0
    assert rows["head"].gradient == rows["head"].ratio == 0 and rows["head"].through > 0
    loss(tied).backward()
    assert rows["words"].gradient == pytest.approx(
        tied.language.embedding.weight.grad.norm().item(), rel=1e-4
    )


def test_a_part_that_did_not_run_gets_nothing(model):
    features = model.image_features(IMAGES).detach()

    def behind_the_eye(model):
        return model(IDS, features=model.projector(features)).square().mean()

    row = gradient_report(model, behind_the_eye, {"eye": "vision"})[0]
    assert row.gradient == row.through == 0 and row.trained == row.parameters


def test_bad_input_is_named(model):
    with pytest.raises(
        ValueError, match="part 'eye': 'visoin' is no module of this Llava; its own are vision, p"
    ):
        rows_of(model, {"eye": "visoin"})
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="depends on no parameter that is trained"):
        rows_of(model)
