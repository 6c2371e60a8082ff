"""Stages: the right parts learn, from captions alone; stage 1 leaves eye and language model as they were."""

import copy

import pytest
import torch

from vlmcourse.data.text import ASSISTANT, END, IMAGE
from vlmcourse.models.language import LlamaConfig, next_token_loss
from vlmcourse.models.llava import Llava, LlavaConfig
from vlmcourse.models.vit import ViTConfig
from vlmcourse.training import stages


@pytest.fixture
def model():
    torch.manual_seed(0)
    vision = ViTConfig(16, 4, width=12, depth=1, heads=2, patch_bias=False, norm_before_blocks=True)
    return Llava(
        LlavaConfig(vision, LlamaConfig(1024, width=16, depth=2, heads=2), IMAGE, layer=-1, shuffle=2)
    )


def learning(model) -> set[str]:
    return {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_a_stage_freezes_the_other_parts(model):
    stages.set_stage(model, 1)
    assert learning(model) == {"projector"}
    stages.set_stage(model, 2)
    assert learning(model) == {"projector", "language"}
    assert all(parameter.requires_grad for parameter in model.projector.parameters())
    with pytest.raises(ValueError, match=r"the stages are 1 .* and 2 .*, not 3"):
        stages.set_stage(model, 3)


def test_captions_are_encoded_behind_image_and_prompt():
    ids, given, mask = stages.encode_captions(["a red circle", "a small red circle at the top left"], 4)
    assert (ids == IMAGE).sum(1).tolist() == [4, 4]
    assert (ids[torch.arange(2), given - 1] == ASSISTANT).all()
    assert (ids[torch.arange(2), mask.sum(1) - 1] == END).all() and mask[1].all() and not mask[0].all()


def test_only_caption_tokens_are_learned():
    ids, given, mask = stages.encode_captions(["a red circle", "a blue square and a star"], 3)
    logits = torch.randn(*ids.shape, 1024, requires_grad=True)
    loss = stages.alignment_loss(logits, ids, given, mask)
    labels = torch.where(torch.arange(ids.shape[1]) >= given[:, None], ids, -100)
    assert loss.allclose(next_token_loss(logits, labels, mask))
    loss.backward()
    predicting = logits.grad.abs().sum(-1) > 0
    assert (predicting.sum(1) == mask.sum(1) - given).all() and not predicting[:, : int(given[0]) - 1].any()


def test_stage_1_reads_32_captions_per_step(model):
    read = []
    model.projector.register_forward_hook(lambda module, given, out: read.append(len(out)))
    stages.align(model, torch.randn(70, 16, 12), ["a red circle"] * 70, steps=2)
    assert read == [32, 32]


def test_stage_1_trains_the_projector_and_nothing_else(model):
    before, seen = copy.deepcopy(model.state_dict()), torch.randn(8, 16, 12)
    texts = ["a red circle", "a blue square"] * 4
    history = stages.align(model, seen, texts, steps=30, size=4, seed=1)
    assert history.steps == 30 and history.losses[-1] < history.losses[0]
    for name, now in model.state_dict().items():
        assert torch.equal(now, before[name]) != name.startswith("projector."), name
    assert learning(model) == {"vision", "projector", "language"}  # as it came


def test_the_part_of_a_parameter_is_its_first_word_and_all_else_is_the_connector():
    names = ["vision.a", "language.b", "projector.c", "gated.0.language", "language_norm.d", "qformer.vision"]
    assert (
        stages.trained_parts(names, ["connector"]) == names[2:]
        and stages.trained_parts(names, ["vision"]) == names[:1]
    )
    assert [stages.part_of(name) for name in names] == ["vision", "language", *["connector"] * 4]
