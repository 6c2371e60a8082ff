"""Wrong answers in other forms than the reference's are told their actual mistake."""

import pytest

# each chapter fills WRONG
from tests.workbook.wrong import WRONG, ch02, ch04, ch05, ch08, ch09, ch10, ch11, ch19, others  # noqa: F401
from vlmcourse.exercises.base import all_exercises
from vlmcourse.workbook.check import judge

CASES = [pytest.param(*each, id=f"{each.slot}: {each.answer.__name__}") for each in WRONG]


@pytest.mark.parametrize(("slot", "answer", "says"), CASES)
def test_the_sentence_names_the_mistake_of_an_answer_in_its_own_form(slot, answer, says):
    verdict = judge(all_exercises()[slot], answer)
    assert verdict.status == "wrong"
    assert says is None or says in verdict.says.en, verdict.says.en


def test_at_least_four_of_five_are_told():
    assert sum(each.says is not None for each in WRONG) >= 0.8 * len(WRONG) and len(WRONG) >= 110
