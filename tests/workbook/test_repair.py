"""The one wrong step of an answer is found by trying, and nothing is said that was not tried."""

import copy

import pytest
import torch

from tests.workbook.learner import cell
from vlmcourse.data import chat, quality
from vlmcourse.diagnostics import audit, gap
from vlmcourse.evaluation import claims
from vlmcourse.exercises.base import exercise_of
from vlmcourse.models import attention, bert, clip, language, qformer
from vlmcourse.workbook import check, search
from vlmcourse.workbook.outcomes import Trial, equal
from vlmcourse.workbook.repair import wrong_step
from vlmcourse.workbook.search import other_calls


def test_a_wrong_setting_is_named_with_its_line_and_the_right_one():
    answer = cell(
        "def scaled_dot_product(query, key, value, mask=None, bias=None):\n"
        "    scores = query / query.shape[-1] ** 0.5 @ key.transpose(-2, -1)\n"
        "    if bias is not None:\n        scores = scores + bias\n"
        "    if mask is not None:\n        scores = scores.masked_fill(~mask, -torch.inf)\n"
        "    weights = scores.softmax(dim=1)\n    return weights @ value, weights\n"
    )
    verdict = check.judge(exercise_of(attention.scaled_dot_product), answer)
    assert "In line 7, `scores.softmax(dim=1)`: with `scores.softmax(dim=-1)` in its place" in verdict.says.en
    assert verdict.line[1] == 7


def test_what_a_function_among_the_arguments_reads_is_compared():
    trial = Trial(exercise_of(language.swiglu))
    twice = cell("def swiglu(tokens, gate, up, down):\n    return down(gate(up(tokens)[..., :4]))\n")
    assert other_calls(twice, trial, 0).en == (
        "the calls come in the order up, gate, down; expected gate, up, down."
    )
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
    for module, name in ((search.repair, "wrong_step"), (search, "right_for_others")):
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
    assert "mlp(norm_before_mlp(tokens + attend(norm_before_attention(tokens))))`" in says


def test_the_wrong_step_of_a_helper_is_found_with_its_line():
    source = (
        "def latest(ids, token):\n    place = torch.arange(ids.shape[1])\n"
        "    return torch.where(ids == token, place, -1).cummax(0).values\n\n\n"
        "def label_mask(ids, start, end):\n"
        "    return F.pad((latest(ids, start) > latest(ids, end))[:, :-1], (1, 0))\n"
    )
    verdict = check.judge(exercise_of(chat.label_mask), cell(source))
    assert "In line 3, `torch.where(ids == token, place, -1).cummax(0)" in verdict.says.en
    assert verdict.line[1] == 3


def test_a_slip_that_is_only_equal_by_accident_is_not_told():
    """An added scale cancels in the softmax, as if there were none; the code shows what was meant."""
    source = (
        "def info_nce(image, text, scale):\n    logits = scale + image @ text.T\n"
        "    partner = torch.arange(len(image))\n    loss = F.cross_entropy\n"
        "    return (loss(logits, partner) + loss(logits.T, partner)) / 2\n"
    )
    says = check.judge(exercise_of(clip.info_nce), cell(source)).says.en
    assert "`scale + image @ text.T`: with `scale * (image @ text.T)`" in says and "missing" not in says


def test_two_places_in_one_expression_are_told_once():
    source = (
        "def modality_gap(image, text):\n"
        "    image, text = F.normalize(image, dim=-1), F.normalize(text, dim=-1)\n"
        "    gap = image.mean(1) - text.mean(1)\n    return gap, gap.norm()\n"
    )
    trial = Trial(exercise_of(gap.modality_gap))
    says, _ = wrong_step(cell(source), trial, list(range(len(trial.cases))))
    got, right = "image.mean(1) - text.mean(1)", "image.mean(0) - text.mean(0)"
    assert says.en == f"in line 3, `{got}`: with `{right}` in its place the output would be right."


def test_a_step_that_nobody_would_write_is_not_told():
    """-(queries < queries) is 0, and -1 in place of a mask is all True: true, and puzzles."""
    answer = cell(
        "def writing_mask(queries, words):\n"
        "    real = F.pad(words, (queries, 0), value=True)\n    both = real.shape[1]\n"
        "    mask = torch.ones(both, both, dtype=torch.bool, device=words.device).tril(-queries)\n"
        "    mask[:, :queries] = True\n    return mask & real[:, None]\n"
    )
    says = check.judge(exercise_of(qformer.writing_mask), answer).says.en
    assert says.startswith("Right: both 0, 1, 2; wrong: both 3, 4, 5, 6.") and "queries < queries" not in says
    answer = cell(
        "def together_mask(queries, words):\n    both = queries + words.shape[1]\n"
        "    mask = words.new_ones(len(words), both, both)\n"
        "    mask[:, :queries, :queries] = torch.ones(queries, queries, device=words.device).tril().bool()\n"
        "    mask[:, :, queries:] &= words[:, None]\n    return mask\n"
    )
    assert "with `-1`" not in check.judge(exercise_of(qformer.together_mask), answer).says.en


def test_a_term_that_mends_only_some_cases_is_not_told():
    """pair * row is unlike for every row, so that nothing repeats: true of two cases, and no advice."""
    answer = cell(
        "def balanced_rows(asked, answers):\n    seen, kept = set(), []\n"
        "    for row, pair in enumerate(zip(asked, answers)):\n"
        "        if pair not in seen:\n            kept.append(row)\n        seen.add(pair)\n"
        "    return kept\n"
    )
    says = check.judge(exercise_of(quality.balanced_rows), answer).says.en
    assert "Missing: [1]" in says and "pair * row" not in says


def test_a_list_that_grows_later_is_no_value():
    """out[[].append] mends it, as an unlike key would, and nobody would write it."""
    answer = cell(
        "def unproved(claims, lines):\n    out = {}\n    for name, rel, num in claims:\n"
        "        value, low, high = lines.get(name, (math.nan,) * 3)\n"
        "        low, high = (value, value) if low is None else (low, high)\n"
        '        held = {"is": abs(value - num) <= 0.0005, "at least": low >= num, "at most": high <= num}\n'
        "        if not held[rel]:\n            out[name] = (name, rel, num)\n    return list(out.values())\n"
    )
    says = check.judge(exercise_of(claims.unproved), answer).says.en
    assert (
        "7 items, expected 17 items. Missing: [('all kinds', 'is', 0.954)" in says and "[].append" not in says
    )


def test_two_steps_too_many_are_left_out_at_once():
    answer = cell(
        "def image_dependence(seen, unseen, wrong):\n    saved = torch.minimum(unseen, wrong) - seen\n"
        "    return (saved - saved.mean()) / saved.std()\n"
    )
    says = check.judge(exercise_of(quality.image_dependence), answer).says.en
    assert "`(saved - saved.mean()) / saved.std()`: with `saved` in its place" in says


def test_a_line_is_rather_left_out_than_moved_behind_the_return():
    answer = cell(
        "def trained_images(ids, labels, image):\n    ids, labels = ids[:, :-1], labels[:, 1:]\n"
        "    return ((labels == image) | ((ids == image) & (labels != -100))).sum()\n"
    )
    says = check.judge(exercise_of(audit.trained_images), answer).says.en
    assert "`ids, labels = (ids[:, :-1], labels[:, 1:])`: with `pass` in its place" in says


@pytest.mark.parametrize(
    ("opname", "argval", "names"),
    [
        ("LOAD_FAST", "pad", {"pad"}),
        ("STORE_FAST", "pad", set()),
        ("LOAD_CONST", (1, 2), {(1, 2)}),
        ("LOAD_FAST_LOAD_FAST", ("ids", "pad"), {"ids", "pad"}),  # Python 3.13
        ("STORE_FAST_LOAD_FAST", ("ids", "pad"), {"pad"}),
        ("STORE_FAST_STORE_FAST", ("ids", "pad"), set()),
        ("LOAD_FAST_BORROW_LOAD_FAST_BORROW", ("ids", "pad"), {"ids", "pad"}),  # Python 3.14
    ],
)
def test_an_instruction_of_any_python_tells_what_it_looks_up(opname, argval, names):
    assert search._looked_up(opname, argval) == names


def test_arguments_read_side_by_side_are_read_and_one_that_is_never_is_not():
    def last(ids, pad, model, end, left):
        return [max(part, end) for part in zip(ids, pad, strict=True)], model

    assert {"ids", "pad", "model", "end", "max"} <= search.reads(last) and "left" not in search.reads(last)
