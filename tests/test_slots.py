"""A slot runs whoever's function is installed, everywhere a model can go."""

import copy
import pickle

import pytest
import torch
from torch import nn

from tests import in_a_process_of_its_own
from vlmcourse.models import attention, vit
from vlmcourse.models.vit import Classifier, ViTConfig
from vlmcourse.slots import REGISTRY, Slot, slot


@pytest.fixture(autouse=True)
def references_after():
    yield
    for known in REGISTRY.values():
        known.reset()


def tiny():
    torch.manual_seed(0)
    return Classifier(ViTConfig(image_size=16, patch_size=4, width=16, depth=2, heads=2), classes=3)


class Counted:
    """The reference, counting its calls."""

    def __init__(self, slot):
        self.slot, self.calls = slot, 0

    def __call__(self, *args):
        self.calls += 1
        return self.slot.reference(*args)


def test_installing_changes_what_training_runs():
    model, images = tiny(), torch.randn(2, 3, 16, 16)
    mine = {
        slot: Counted(slot) for slot in (vit.patchify, attention.scaled_dot_product, attention.pre_norm_block)
    }
    for replaced, counted in mine.items():
        replaced.install(counted)
    for _ in range(3):
        model(images).sum().backward()
    assert [counted.calls for counted in mine.values()] == [3, 6, 6]
    vit.patchify.reset()
    model(images)
    assert mine[vit.patchify].calls == 3


def test_an_installed_function_changes_the_result():
    model, images = tiny(), torch.randn(2, 3, 16, 16)
    before = model(images)
    vit.patchify.install(lambda images, size: vit.patchify.reference(images.flip(-1), size))
    assert not torch.allclose(model(images), before)
    assert torch.equal(model(images.flip(-1)), before)


def test_a_state_dict_does_not_depend_on_who_wrote_the_function():
    keys = list(tiny().state_dict())
    vit.patchify.install(lambda images, size: vit.patchify.reference(images, size))
    model = tiny()
    assert list(model.state_dict()) == keys
    model.load_state_dict(tiny().state_dict(), strict=True)


def test_a_slot_survives_deepcopy_and_pickle_as_itself():
    assert copy.deepcopy(vit.patchify) is vit.patchify
    assert copy.copy(vit.patchify) is vit.patchify
    assert pickle.loads(pickle.dumps(vit.patchify)) is vit.patchify
    model, images = tiny(), torch.randn(2, 3, 16, 16)
    assert torch.equal(copy.deepcopy(model)(images), model(images))


def test_a_slot_works_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        logits = tiny()(torch.randn(2, 3, 16, 16))
    assert logits.dtype == torch.bfloat16


@pytest.mark.slow
def compiles_whole_and_recompiles_for_the_learners_version():
    model, images = tiny().eval(), torch.randn(2, 3, 16, 16)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(images), model(images), atol=1e-5)
    before = compiled(images)
    vit.patchify.install(lambda images, size: vit.patchify.reference(images.flip(-1), size))
    assert torch.allclose(compiled(images), model(images), atol=1e-5)
    assert not torch.allclose(compiled(images), before, atol=1e-5)


def recording_attention_costs_no_graph_break_when_off():
    explained = torch._dynamo.explain(tiny().eval())(torch.randn(1, 3, 16, 16))
    assert explained.graph_break_count == 0, explained.break_reasons


@pytest.mark.parametrize(
    "check",
    [
        compiles_whole_and_recompiles_for_the_learners_version,
        recording_attention_costs_no_graph_break_when_off,
    ],
)
def test_a_slot_compiles_whole(check):
    in_a_process_of_its_own(check)


def test_only_functions_can_be_installed():
    with pytest.raises(TypeError, match=r"vit\.patchify can only be replaced by a function, not by int"):
        vit.patchify.install(3)


def test_two_slots_of_one_name_are_refused():
    def patchify():
        pass

    patchify.__module__ = "elsewhere.vit"
    with pytest.raises(ValueError, match=r"two slots are called vit\.patchify"):
        Slot(patchify)


def test_a_slot_says_whose_code_runs():
    assert "the course's reference" in repr(vit.patchify)
    vit.patchify.install(nn.Identity())
    assert "your code" in repr(vit.patchify)
    assert "Cut images" in vit.patchify.__doc__


def test_every_exchange_of_a_function_is_counted():
    before = Slot.changes
    vit.patchify.install(nn.Identity())
    assert Slot.changes == before + 1
    vit.patchify.reset()
    assert Slot.changes == before + 2


def test_a_slot_is_named_after_its_module_and_function_and_may_be_declared_again():
    def answer():
        return 42

    answer.__module__ = "vlmcourse.somewhere.deep"
    try:
        first, again = Slot(answer), Slot(answer)
        assert first.name == "deep.answer"
        assert REGISTRY["deep.answer"] is again
        assert (again.mine, again()) == (None, 42)
    finally:
        REGISTRY.pop("deep.answer", None)


def test_a_slot_that_moved_keeps_its_former_name():
    try:
        moved = slot(name="former.answer")(lambda: 42)
        assert (moved.name, moved(), REGISTRY["former.answer"]) == ("former.answer", 42, moved)
    finally:
        REGISTRY.pop("former.answer", None)
