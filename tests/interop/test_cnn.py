"""Weights travel strictly: from folders in the hub's format, with every key accounted for."""

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from vlmcourse.interop import hub
from vlmcourse.interop.cnn import from_transformers
from vlmcourse.training.checkpoints import CheckpointError

RESNET = dict(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3)
EFFICIENTNET = dict(width_coefficient=0.25, depth_coefficient=1.0, hidden_dim=320, num_labels=3)
CLASSIFIERS = {
    "resnet": lambda: transformers.ResNetForImageClassification(transformers.ResNetConfig(**RESNET)),
    "efficientnet": lambda: transformers.EfficientNetForImageClassification(
        transformers.EfficientNetConfig(**EFFICIENTNET)
    ),
}


def from_folder(folder, kind=transformers.ResNetModel):
    return from_transformers(hub.resolve(folder).open(kind))


@pytest.mark.parametrize("kind", CLASSIFIERS)
@pytest.mark.parametrize("head", [False, True], ids=["bare", "with its classifier"])
def test_a_saved_folder_gives_the_model_it_was_saved_from(kind, head, tmp_path):
    torch.manual_seed(0)
    classifier = CLASSIFIERS[kind]().eval()
    bare = getattr(classifier, kind)
    for parameter in bare.parameters():  # EfficientNet's own start is so small that the output would be 0
        torch.nn.init.normal_(parameter, std=0.3)
    saved = classifier if head else bare
    saved.save_pretrained(tmp_path)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        mine, theirs = from_folder(tmp_path, type(saved))(images), bare(images).last_hidden_state
    assert theirs.std() > 0
    assert torch.allclose(mine, theirs, atol=1e-5 * theirs.abs().max().item())


def tampered(folder, change) -> None:
    CLASSIFIERS["resnet"]().resnet.save_pretrained(folder)
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", {"format": "pt"})


def test_an_unknown_key_is_an_error(tmp_path):
    tampered(tmp_path, lambda state: state.update({"encoder.attention.weight": torch.ones(2)}))
    with pytest.raises(
        CheckpointError, match=rf"(?s){tmp_path} does not hold .*unexpected: encoder\.attention\.weight"
    ):
        from_folder(tmp_path)


def test_a_missing_key_is_an_error(tmp_path):
    tampered(tmp_path, lambda state: state.pop("embedder.embedder.convolution.weight"))
    with pytest.raises(CheckpointError, match=r"missing: embedder\.embedder\.convolution\.weight"):
        from_folder(tmp_path)


def test_a_folder_without_weights_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="save_pretrained"):
        from_folder(tmp_path)


@pytest.mark.parametrize("option", [dict(downsample_in_bottleneck=True), dict(hidden_act="gelu")])
def test_an_option_the_course_does_not_have_is_refused(option):
    with pytest.raises(ValueError, match=f"our resnet needs {next(iter(option))}"):
        from_transformers(transformers.ResNetModel(transformers.ResNetConfig(**RESNET | option)))


def test_another_architecture_is_refused():
    vit = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    with pytest.raises(ValueError, match="'vit', not 'resnet' or 'efficientnet'"):
        from_transformers(transformers.ViTModel(vit))
