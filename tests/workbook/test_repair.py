"""The one wrong step of an answer is found by trying, and nothing is said that was not tried."""

import copy

import torch

from tests.workbook.learner import cell
from vlmcourse.exercises.base import exercise_of
from vlmcourse.models import attention, bert, language
from vlmcourse.workbook import check, search
from vlmcourse.workbook.outcomes import Trial, equal
from vlmcourse.workbook.repair import other_calls, wrong_step


def test_a_wrong_setting_is_named_with_its_line_and_the_right_one():
    answer = cell(
        "def scaled_dot_product(query, key, value, mask=None, bias=None):\n"
        "    scores = query / query.shape[-1] ** 0.5 @ key.transpose(-2, -1)\n"
        "    if bias is not None:\n        scores = scores + bias\n"
        "    if mask is not None:\n        scores = scores.masked_fill(~mask, -torch.inf)\n"
        "    weights = scores.softmax(dim=1)\n    return weights @ value, weights\n"
    )
    verdict = check.judge(exercise_of(attention.scaled_dot_product), answer)
    assert "In line 7, `softmax(" in verdict.says.en and "dim=-1)` in its place" in verdict.says.en
    assert verdict.line[1] == 7


def test_what_a_function_among_the_arguments_reads_is_compared():
    trial = Trial(exercise_of(language.swiglu))
    twice = cell("def swiglu(tokens, gate, up, down):\n    return down(gate(up(tokens)[..., :4]))\n")
    assert "`gate(" in other_calls(twice, trial, 0).en or "order" in other_calls(twice, trial, 0).en
    never = cell("def swiglu(tokens, gate, up, down):\n    return down(F.silu(gate(tokens)) ** 2)\n")
    assert other_calls(never, trial, 0).en == "`up` is never called; it must be called 1 ×."


def test_an_answer_with_no_single_wrong_step_gets_no_step():
    trial = Trial(exercise_of(language.swiglu))
    assert wrong_step(lambda tokens, gate, up, down: torch.zeros_like(tokens), trial, [0, 1]) is None


def test_an_answer_that_works_in_place_leaves_the_cases_as_they_are():
    answer = cell(
        "def mask_tokens(ids, chosen, dice, random_ids, mask_id, special):\n"
        "    asked = (chosen <= 0.15) & ~special\n    inputs = ids.clone()\n"
        "    inputs[asked & (dice < 0.8)] = mask_id\n    return inputs, ids.masked_fill(~asked, -100)\n"
    )
    trial = Trial(exercise_of(bert.mask_tokens))
    before = copy.deepcopy(trial.cases)
    wrong_step(answer, trial, [0, 1])
    assert equal(trial.cases, before)


def test_a_search_ends_in_time_and_leaves_nothing(monkeypatch):
    def endless(*_):
        while True:
            pass

    monkeypatch.setattr(search, "SEARCH", 0.1)
    for module, name in ((search.repair, "wrong_step"), (search.likeness, "without_effect")):
        monkeypatch.setattr(module, name, endless)
    answer = cell("def swiglu(tokens, gate, up, down):\n    return down(gate(tokens) * 3)\n")
    assert "`up` is never called" in check.judge(exercise_of(language.swiglu), answer).says.en


def test_a_step_that_cannot_be_written_down_is_not_told():
    source = (
        "def pre_norm_block(tokens, norm_before_attention, attend, norm_before_mlp, mlp):\n"
        "    normed = norm_before_attention(tokens)\n"
        "    return tokens + attend(normed) + mlp(norm_before_mlp(normed))\n"
    )
    says = check.judge(exercise_of(attention.pre_norm_block), cell(source)).says.en
    assert "return …" not in says
    assert "`norm_before_mlp(norm_before_attention(tokens))`" in says
