"""Slips as edits of the reference: what an edit changes, and what it refuses."""

import ast
import inspect

import pytest
import torch

from vlmcourse.exercises.base import all_exercises
from vlmcourse.exercises.edits import Edit, edits, pasted_source, plain_source
from vlmcourse.models import attention
from vlmcourse.slots import Slot


def test_an_edit_changes_one_place_of_the_source_and_nothing_else():
    (edit,) = edits(attention.pre_norm_block, ("= tokens + ", "= ", "no residual."))
    reference = plain_source(attention.pre_norm_block.reference)
    assert edit.source == reference.replace("tokens = tokens + attend", "tokens = attend")
    assert edit.says == "no residual."
    same = [torch.nn.Identity()] * 4
    assert edit.wrong(torch.ones(1), *same) == 2  # the reference: (1 + 1) + (1 + 1)
    assert inspect.getsource(edit.wrong) == edit.source
    assert edit.wrong is edit.wrong


def test_an_edit_may_change_several_places_one_after_the_other():
    (edit,) = edits(
        attention.pre_norm_block,
        (("tokens + attend", "attend"), ("tokens + mlp", "mlp"), "no residual at all."),
    )
    assert edit.wrong(torch.ones(1), *[torch.nn.Identity()] * 4) == 1


def test_the_edited_source_finds_the_helpers_of_the_references_module():
    (edit,) = edits(attention.scaled_dot_product, ("/ math.sqrt(query.shape[-1])", "/ 1", "not divided."))
    reference = inspect.unwrap(attention.scaled_dot_product.reference)  # the check of annotations may wrap it
    assert edit.wrong.__globals__ is reference.__globals__
    assert "scaled_dot_product" in vars(attention)
    assert isinstance(attention.scaled_dot_product, Slot)  # the module's own name still means the slot


@pytest.mark.parametrize(("old", "count"), [("values + ", 0), ("tokens + ", 2)])
def test_a_text_that_is_missing_or_ambiguous_is_named_with_its_exercise(old, count):
    with pytest.raises(ValueError, match=rf"attention\.pre_norm_block changes '{old[:6]}.*once, not {count}"):
        edits(attention.pre_norm_block, (old, "", "no residual."))


def test_the_docstring_and_the_annotations_are_no_part_of_the_source():
    for words in ("Dosovitskiy", "Float[Tensor", "@slot"):
        with pytest.raises(ValueError, match="not 0"):
            edits(attention.pre_norm_block, (words, "", "nothing."))


@pytest.mark.parametrize("task", all_exercises().values(), ids=lambda task: task.slot.name)
def test_every_edit_of_the_course_is_other_code_than_the_reference(task):
    reference = ast.dump(ast.parse(plain_source(task.slot.reference)))
    for edit in task.slips:
        assert not isinstance(edit, Edit) or ast.dump(ast.parse(edit.source)) != reference


def test_nothing_is_compiled_before_it_is_needed():
    (edit,) = edits(attention.merge_heads, ("transpose(1, 2)", "no such ( thing", "broken."))
    with pytest.raises(SyntaxError):
        _ = edit.wrong


def test_a_solution_imports_what_it_uses_of_its_module_and_nothing_that_is_its_own():
    source = pasted_source(all_exercises()["answers.answer_loss"].slot.reference)
    signature, module, taken, *_ = source.split("\n")
    assert signature == "def answer_loss(hidden, labels, head):"
    assert taken == "    from vlmcourse.training.losses import IGNORED, following"
    assert module == "    from torch.nn import functional as F"  # not every notebook imports it
    assert "import torch" not in pasted_source(all_exercises()["bert.mask_tokens"].slot.reference)
    assert "    import math\n" in pasted_source(all_exercises()["comparing.square_and_add"].slot.reference)
    clash = pasted_source(all_exercises()["generation.top_p"].slot.reference)
    assert "import top_p" not in clash and "top_p" in clash  # a parameter, and a slot of that module
