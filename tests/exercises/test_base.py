"""What exercises are built from: axis names out of annotations, chapters, and sentences in both languages."""

from collections.abc import Callable

import pytest
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vlmcourse.exercises import base
from vlmcourse.exercises.base import Slip, annotated_axes, chapter, in_both
from vlmcourse.models import vit
from vlmcourse.slots import REGISTRY, Slot


def attend(
    query: Float[Tensor, "batch query width"],
    head: Callable[[Float[Tensor, "token width"]], Tensor],
    size: int,
    mask: Bool[Tensor, "... query key"] | None = None,
    old: tuple[Float[Tensor, "past width"], int] | None = None,
    scale: Float[Tensor, ""] | None = None,
) -> tuple[Float[Tensor, "batch query width"], Float[Tensor, ""], int]:
    """Annotations of every kind."""


@pytest.fixture
def registries(monkeypatch):
    """Copies of the tables of exercises, quizzes and slots, so that a test may add to them."""
    for module, name in ((base, "EXERCISES"), (base, "QUIZZES")):
        monkeypatch.setattr(module, name, dict(getattr(module, name)))
    yield
    REGISTRY.pop("test_base.attend", None)


def test_axis_names_come_from_the_annotations():
    assert annotated_axes(attend) == {
        "query": "batch query width",
        "mask": "... query key",
        "old": ("past width", ""),
        "scale": "",
        "return": ("batch query width", "", ""),
    }


def test_an_exercise_names_only_the_axes_that_annotations_leave_open(registries):
    exercise, _ = chapter("02_vit")
    task = exercise(Slot(attend), cases=list, slips=[], hints=[], axes={"mask": "batch query key"})
    assert task.axes == {**annotated_axes(attend), "mask": "batch query key"}
    assert task.chapter == "02_vit"
    assert base.EXERCISES["test_base.attend"] is task


def test_an_output_without_axes_has_an_empty_name(registries):
    def bare(x):
        return x

    exercise, _ = chapter("02_vit")
    slot = Slot(attend)
    slot.reference = bare
    assert exercise(slot, cases=list, slips=[], hints=[]).axes == {"return": ""}


def test_slips_are_edits_in_the_order_written_and_functions_stay(registries):
    def twice(x):
        return 2 * x

    exercise, _ = chapter("02_vit")
    slot = Slot(twice)
    other = Slip(torch.sum, "sums.")
    slips = [("2 *", "3 *", "threefold."), other, (("2", "3"), ("*", "+"), "plus three.")]
    task = exercise(slot, cases=list, slips=slips, hints=[])
    REGISTRY.pop("test_base.twice", None)
    assert [slip.says for slip in task.slips] == ["threefold.", "sums.", "plus three."]
    assert task.slips[1] is other
    assert [slip.wrong(torch.ones(1)).item() for slip in task.slips] == [3, 1, 4]


def test_a_question_is_named_by_chapter_and_number(registries):
    _, quiz = chapter("02_vit")
    asked = quiz(7, "Which?", [("This.", True, "Because.")])
    assert asked.name == "02_vit/7"
    assert base.QUIZZES["02_vit/7"] is asked


def test_a_sentence_comes_with_its_japanese_or_stays_english():
    sentence = base.exercise_of(vit.patchify).hints[0]
    assert in_both(sentence).en == sentence
    assert in_both(sentence).ja == base.japanese()[sentence] != sentence
    assert in_both("never written.") == ("never written.", "never written.")


def test_a_slip_that_is_no_edit_is_a_function_with_a_sentence():
    slip = Slip(torch.sum, "sums.")
    assert slip.wrong(torch.ones(3)) == 3


def test_a_tuple_has_axis_names_if_one_of_its_parts_has():
    def fold(
        both: tuple[Float[Tensor, "token width"], Float[Tensor, "token"]], sizes: tuple[int, str]
    ) -> tuple[int, Float[Tensor, "width"]]:
        pass

    assert annotated_axes(fold) == {"both": ("token width", "token"), "return": ("", "width")}


def test_of_several_annotations_the_longest_names_all_axes():
    def mean(x: Float[Tensor, "token width"] | Float[Tensor, "batch token width"]) -> Float[Tensor, ""]:
        pass

    assert annotated_axes(mean) == {"x": "batch token width", "return": ""}


def test_quizzes_come_with_their_chapters(monkeypatch):
    asked = []
    monkeypatch.setattr(base, "all_exercises", lambda: asked.append("chapters"))
    assert base.all_quizzes() is base.QUIZZES
    assert asked == ["chapters"]


def test_only_slots_have_exercises():
    with pytest.raises(TypeError, match=r"belong to slots such as vit\.patchify, not to 3"):
        base.exercise_of(3)
