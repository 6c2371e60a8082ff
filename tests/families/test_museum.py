"""Every exhibit shows its symptom, is repaired by what removes its cause, and by nothing that hides it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vlmcourse.data.chat import collate
from vlmcourse.data.packing import Packs
from vlmcourse.data.text import ASSISTANT, END, IMAGE, PAD, USER
from vlmcourse.diagnostics.audit import audit_rows
from vlmcourse.diagnostics.gradients import gradient_report, llava_parts
from vlmcourse.families import museum_mistakes as mistakes
from vlmcourse.families.museum import Decoy, Exhibit, Findings, Ruling, Setup, beside, repaired, weigh
from vlmcourse.families.museum_exhibits import CAUSES, EXHIBITS, TWO_PATIENTS, diagnosed
from vlmcourse.families.museum_flamingo import (
    Interleaving,
    attend_or_nothing,
    documents,
    last_picture,
    probe_empty_row,
)
from vlmcourse.families.museum_runs import Comparing, fill_in_front, their_file
from vlmcourse.families.museum_tuning import (
    Patient,
    Tuning,
    filled_rightly,
    frozen_eye,
    lessons_about,
    loss_of_rows,
    shorten_rows,
    what_is_taught,
)
from vlmcourse.models.look import packed
from vlmcourse.training.losses import answer_loss

RUN: dict[Setup, Findings] = {}
MUCH_THE_SAME = ("says nothing", "flat line", "barely better than guessing")
DECOYS = [(name, number) for name, each in EXHIBITS.items() for number in range(len(each.decoys))]


def findings_of(setup: Setup) -> Findings:
    """Of one run, which several tests look at: many exhibits are repaired to the same setup."""
    if setup not in RUN:
        RUN[setup] = setup.carry_out()
    return RUN[setup]


def verdict(exhibit: Exhibit, **changes) -> Ruling:
    setup = exhibit.changed(**changes)
    return weigh(exhibit, setup, findings_of(setup))


def right_run(name: str) -> Findings:
    return verdict(EXHIBITS[name], **EXHIBITS[name].repair).findings


@pytest.mark.parametrize("name", EXHIBITS)
def test_exhibit_is_broken_until_its_cause_is_removed(name):
    exhibit = EXHIBITS[name]
    broken, whole = verdict(exhibit), verdict(exhibit, **exhibit.repair)
    assert not broken.right and f"{name}: Still broken." in broken.says
    assert whole.right and f"{name}: Repaired." in whole.says and exhibit.clue in whole.says
    assert repr(broken)[0] == "✗" and repr(whole)[0] == "✓"


@pytest.mark.parametrize("name, number", DECOYS)
def test_decoy_is_told_for_what_it_is(name, number):
    exhibit, decoy = EXHIBITS[name], EXHIBITS[name].decoys[number]
    setup = exhibit.changed(**decoy.changes)
    # a little more of a whole training is no other training: one of them is run, for the others judged
    more = (
        not decoy.hides
        and name in MUCH_THE_SAME
        and all(key in ("steps", "rate", "clip") for key in decoy.changes)
    )
    answer = weigh(exhibit, setup, findings_of(exhibit.broken if more else setup))
    assert not answer.right and decoy.says in answer.says
    assert ("The symptom is gone, the cause is not." in answer.says) == decoy.hides
    assert ("Still broken." in answer.says) != decoy.hides


SYMPTOMS = {  # measure: at most in the broken run, at least in the right one
    "blind from the start": ("loss, another picture - loss, new pictures", 0.05, 0.15),
    "says nothing": ("right, written", 0.0, 0.6),
    "learned to guess": ("right", 0.35, 0.65),
    "barely better than guessing": ("right", 0.45, 0.52),
    "flat line": ("right", 0.05, 0.65),
    "good on paper": ("right, colours", 0.6, 0.7),
    "answers with questions": ("right", 0.0, 0.65),
    "never stops": ("right, written", 0.0, 0.6),
    "does not look": ("right - right, another picture", 0.1, 0.4),
    "yesterday's picture": ("right, last picture", 0.65, 0.8),
    "short questions": ("right, all others", 0.75, 0.95),
    "one good word": ("right, whole captions", 0.1, 0.7),
}


@pytest.mark.parametrize("name", SYMPTOMS)
def test_symptom_has_the_size_that_the_exhibit_tells_of(name):
    measure, most, least = SYMPTOMS[name]
    for findings, fits in ((verdict(EXHIBITS[name]).findings, most.__ge__), (right_run(name), least.__le__)):
        first, _, second = measure.partition(" - ")
        assert fits(findings.seen[first] - (findings.seen[second] if second else 0.0)), findings.seen


def test_empty_answers_and_endless_ones_are_written():
    assert all(words == "" for _, words, _ in verdict(EXHIBITS["says nothing"]).findings.said)
    endless = verdict(EXHIBITS["never stops"]).findings
    assert endless.seen["words of an answer"] == endless.model.setup.stop == 8
    assert np.mean([words.split()[0] == true for _, words, true in endless.said]) > 0.5
    asking = verdict(EXHIBITS["answers with questions"]).findings.said
    assert np.mean(["what" in words or "thing?" in words for _, words, _ in asking]) > 0.8


def test_what_stands_in_the_row_is_copied_without_looking():
    open_packs, right = verdict(EXHIBITS["best in company"]).findings.seen, right_run("best in company").seen
    assert open_packs["right"] > open_packs["right, asked alone"] + 0.05
    assert open_packs["right, another picture"] > right["right, another picture"] + 0.15
    assert right["right"] == pytest.approx(right["right, asked alone"], abs=0.01)


def test_nan_comes_at_one_step_whatever_the_rate_and_at_none_when_repaired():
    exhibit = EXHIBITS["nan in the middle"]
    stopped = [verdict(exhibit, **changes).findings for changes in ({}, dict(rate=1e-5), dict(clip=0.01))]
    assert {len(findings.losses) for findings in stopped} == {len(stopped[0].losses)}
    assert 0 < len(stopped[0].losses) < 20 and all("nan" in findings.stopped for findings in stopped)
    whole = right_run("nan in the middle")
    assert whole.stopped == "" and len(whole.losses) == exhibit.broken.steps == len(whole.gradient_norms)
    assert "step 1: loss nan" in verdict(EXHIBITS["nan at step 1"]).findings.stopped


def test_flat_line_has_gradients_like_a_run_that_works_and_weights_that_stay():
    flat, right = verdict(EXHIBITS["flat line"]).findings, right_run("flat line")
    assert flat.gradient_norms[0] == pytest.approx(right.gradient_norms[0], rel=1e-4)
    assert flat.losses[-1] > 0.8 * flat.losses[0] and right.losses[-1] < 0.1 * right.losses[0]
    assert flat.probes["language moved"] < 1e-3 < 0.1 < right.probes["language moved"]


SUSPICIOUS = {
    "says nothing": {"labels: places off"},
    "nan at step 1": {"labels: share of tokens trained", "labels: answers not trained", "tokens: rows cut"},
    "learned to guess": {"tokens: rows with cut images"},
    "never stops": {"labels: answers without end"},
    "flat line": set(),
    "does not look": set(),
}


@pytest.mark.parametrize("name", SUSPICIOUS)
def test_audit_of_the_rows_finds_what_is_wrong_in_them(name):
    findings = verdict(EXHIBITS[name]).findings
    audit = audit_rows(findings.rows, IMAGE, END, findings.model.tokens_per_image)
    assert {checked.name for checked in audit if not checked.ok} == SUSPICIOUS[name]


def test_gradient_report_shows_the_part_that_gets_no_gradient():
    for findings, reached in (
        (verdict(EXHIBITS["barely better than guessing"]).findings, False),
        (right_run("barely better than guessing"), True),
    ):
        parts = llava_parts(findings.model)
        report = {row.name: row for row in gradient_report(findings.model, loss_of_rows(findings), parts)}
        assert (report["projector"].gradient > 0) == reached and report["block 0"].gradient > 0


def test_loss_of_the_pairs_is_that_of_guessing_until_vectors_have_length_1():
    stuck, right = verdict(EXHIBITS["stuck at ln B"]).findings.seen, right_run("stuck at ln B").seen
    assert stuck["ln of the batch"] == pytest.approx(math.log(64))
    assert stuck["loss, last steps"] > 0.9 * math.log(64) > 0.7 * math.log(64) > right["loss, last steps"]


def loss_at_its_place(hidden: Tensor, labels: Tensor, head) -> Tensor:
    """Labels that stand already where they are to be said."""
    return F.cross_entropy(head(hidden[labels >= 0]), labels[labels >= 0])


OTHER_REPAIRS = [
    ("stuck at ln B", dict(unit=lambda vectors: F.normalize(vectors, dim=-1))),
    ("short questions", dict(fill=lambda rows: collate(rows, PAD, left=True))),
    ("yesterday's picture", dict(media=lambda starts, images: last_picture(starts, images))),
]


@pytest.mark.parametrize("name, changes", OTHER_REPAIRS, ids=[name for name, _ in OTHER_REPAIRS])
def test_any_change_that_removes_the_cause_is_a_repair(name, changes):
    answer = repaired(EXHIBITS[name], **changes)
    assert answer.right, answer


def test_labels_that_are_moved_once_are_right_whoever_moves_them():
    exhibit = EXHIBITS["says nothing"]
    assert exhibit.left(in_two_steps(exhibit.changed(loss=loss_at_its_place))) == ""
    assert "0% are learned" in exhibit.left(in_two_steps(exhibit.changed(labels=mistakes.learned_labels)))


def test_what_is_wrong_beside_the_cause_is_told_as_something_else():
    exhibit = EXHIBITS["says nothing"]
    answer = repaired(exhibit, **exhibit.repair, steps=3)
    assert not answer.right and "The cause is gone; what is wrong now is something else." in answer.says


def test_a_half_repair_is_told_by_what_it_left():
    exhibit = EXHIBITS["best in company"]
    setup = exhibit.changed(look=mistakes.look_of_row_in_place)
    assert "100% of the rows have texts that see other texts" in exhibit.left(in_two_steps(setup))
    cut = EXHIBITS["nan at step 1"].changed(length=40)
    assert "answers' words" in EXHIBITS["nan at step 1"].left(in_two_steps(cut))


def in_two_steps(setup: Tuning) -> Findings:
    """The findings of a training of two steps: its probes are those of the whole one."""
    return replace(setup, steps=2).carry_out()


SMALL = [Tuning(steps=2), Interleaving(steps=2), Comparing(steps=2)]


@pytest.mark.parametrize("setup", SMALL, ids=lambda setup: type(setup).__name__)
def test_the_same_setup_gives_the_same_findings(setup):
    one = setup.carry_out()
    frozen_eye.cache_clear()
    other = setup.carry_out()
    assert one.losses == other.losses and one.seen == other.seen and one.said == other.said


# the parts of a verdict


def findings(ill: bool, left: bool) -> tuple[Exhibit, Findings]:
    decoys = Decoy(dict(steps=60), "Longer."), Decoy(dict(rate=0.1, size=16), "Both.")
    exhibit = Exhibit(
        "name", "symptom", Comparing(), "cause", lambda _: "Ill." * ill, lambda _: "Left." * left,
        {}, decoys, "Clue.", "tool", "source",
    )  # fmt: skip
    return exhibit, Findings()


@pytest.mark.parametrize(
    "ill, left, says",
    [
        (True, True, "name: Still broken. Ill. Longer."),
        (False, True, "name: The symptom is gone, the cause is not. Longer. Left."),
        (True, False, "name: The cause is gone; what is wrong now is something else. Ill. Longer."),
        (False, False, "name: Repaired. What it was: Clue."),
    ],
)
def test_verdict_says_symptom_and_cause_apart(ill, left, says):
    exhibit, found = findings(ill, left)
    answer = weigh(exhibit, exhibit.changed(steps=45), found)
    assert answer == (not ill and not left, says, found)


def test_decoy_is_a_number_moved_the_same_way_or_the_same_function():
    broken, longer = Comparing(), Decoy(dict(steps=60), "")
    assert longer.tried(broken, replace(broken, steps=41)) and not longer.tried(
        broken, replace(broken, steps=39)
    )
    assert not longer.tried(broken, broken)
    both = Decoy(dict(rate=0.1, size=16), "")
    assert both.tried(broken, replace(broken, rate=0.05, size=32))
    assert not both.tried(broken, replace(broken, rate=0.05))
    other = Decoy(dict(unit=mistakes.unit_length), "")
    assert other.tried(broken, replace(broken, unit=mistakes.unit_length)) and not other.tried(broken, broken)


def test_a_field_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match="no 'speed'; what can be changed is steps, size, rate, scale, unit"):
        repaired(EXHIBITS["stuck at ln B"], speed=3)


def test_repr_and_code_show_the_setup_and_its_functions_and_not_the_answer():
    for exhibit in EXHIBITS.values():
        told = repr(exhibit) + exhibit.code()
        assert exhibit.symptom in told and not any(words in told for words in (exhibit.clue, exhibit.cause))
    code = EXHIBITS["says nothing"].code()
    assert code.startswith("labels = next_token_labels\n\ndef next_token_labels(ids") and "F.pad" in code
    assert "rate = 2e-06, " in EXHIBITS["flat line"].code()  # among all settings, so it is still to be found
    assert "def " not in EXHIBITS["flat line"].code()


def test_measures_stand_beside_those_of_a_run_that_works():
    (broken, right), (first, same) = beside(EXHIBITS["yesterday's picture"]).values()
    assert broken < right - 0.15 and first == same == 1.0


# diagnosis


def test_each_cause_is_that_of_one_exhibit_and_each_exhibit_says_where_it_happened():
    assert sorted(exhibit.cause for exhibit in EXHIBITS.values()) == sorted(CAUSES)
    assert len(EXHIBITS) == 16 and all(exhibit.source and exhibit.tool for exhibit in EXHIBITS.values())


def test_diagnosis_is_right_or_says_what_would_be_seen():
    exhibit = EXHIBITS["never stops"]
    assert diagnosed(exhibit, "no end").right and CAUSES["no end"] in diagnosed(exhibit, "no end").says
    wrong = diagnosed(exhibit, "no gradient")
    assert not wrong.right and EXHIBITS["barely better than guessing"].clue in wrong.says
    assert exhibit.tool in wrong.says and exhibit.clue not in wrong.says
    with pytest.raises(ValueError, match="'bad luck' is none of the causes: weights not read, labels moved"):
        diagnosed(exhibit, "bad luck")


# what the probes measure

WORD, RED = 300, 301
IDS = torch.tensor([[USER, IMAGE, IMAGE, WORD, ASSISTANT, RED, END]])
NOTHING = -100


def rows_of(labels) -> Packs:
    return Packs(IDS, labels(IDS), torch.tensor([[0, 0, 0, 1, 1, 1, 1]]))


def test_what_each_position_learns_to_say():
    usual = Tuning()
    said = what_is_taught(usual, rows_of(usual.labels)).tolist()
    assert said == [[NOTHING, NOTHING, NOTHING, NOTHING, RED, END, NOTHING]]
    early = what_is_taught(usual, rows_of(mistakes.next_token_labels)).tolist()
    assert early == [[NOTHING, NOTHING, NOTHING, RED, END, NOTHING, NOTHING]]
    asking = what_is_taught(usual, rows_of(mistakes.learned_labels)).tolist()
    assert asking == [[IMAGE, IMAGE, WORD, ASSISTANT, NOTHING, NOTHING, NOTHING]]
    words = what_is_taught(usual, rows_of(mistakes.word_labels)).tolist()
    assert words == [[NOTHING] * 4 + [RED, NOTHING, NOTHING]]


def test_what_is_learned_is_read_off_the_loss_and_not_off_the_labels():
    none = Tuning(loss=lambda hidden, labels, head: 0 * answer_loss(hidden, labels, head))
    assert what_is_taught(none, rows_of(none.labels)).tolist() == [[NOTHING] * 7]
    moved = Tuning(labels=mistakes.next_token_labels, loss=loss_at_its_place)
    assert what_is_taught(moved, rows_of(moved.labels)).tolist() == [[NOTHING] * 4 + [RED, END, NOTHING]]
    constant = Tuning(loss=lambda hidden, labels, head: hidden.new_zeros((), requires_grad=True))
    assert what_is_taught(constant, rows_of(constant.labels)).tolist() == [[NOTHING] * 7]


def test_rows_are_cut_at_either_end_and_padding_does_not_count():
    rows = Packs(
        torch.tensor([[4, 4, 9, 7, 8], [4, 4, 9, PAD, PAD]]),
        torch.tensor([[-100, -100, -100, 7, 8], [-100, -100, 9, -100, -100]]),
        torch.tensor([[0, 0, 1, 1, 1], [0, 0, 1, -1, -1]]),
    )
    assert shorten_rows(rows, None, "first") is rows
    first, last = shorten_rows(rows, 4, "first"), shorten_rows(rows, 3, "last")
    assert first.ids.tolist() == [[4, 4, 9, 7], [4, 4, 9, PAD]]
    assert first.labels.tolist() == [[-100, -100, -100, 7], [-100, -100, 9, -100]]
    assert last.ids.tolist() == [[9, 7, 8], [4, 4, 9]] and last.packs.tolist() == [[1, 1, 1], [0, 0, 1]]
    with pytest.raises(ValueError, match="'first' or 'last', the end of a long row that stays; not 'middle'"):
        shorten_rows(rows, 4, "middle")
    with pytest.raises(ValueError, match="length is 0"):
        shorten_rows(rows, 0, "first")


def test_placeholders_are_filled_rightly_if_each_gets_its_own_picture():
    setup = Tuning(shuffle=4)  # four image tokens
    model = Patient(setup, frozen_eye())
    whole = torch.tensor([[IMAGE] * 4 + [9], [IMAGE] * 4 + [9]])
    cut = torch.tensor([[IMAGE] * 3 + [9, 9], [IMAGE] * 4 + [9]])
    poured, fitted = Tuning(place=mistakes.put_images), Tuning(place=mistakes.put_images_that_fit)
    assert [filled_rightly(each, model, whole) for each in (setup, poured, fitted)] == [1, 1, 1]
    assert filled_rightly(setup, model, cut) == 0  # it is refused
    assert filled_rightly(poured, model, cut) == pytest.approx(6 / 7)
    assert filled_rightly(fitted, model, cut) == 1


def test_probe_of_a_row_that_sees_nothing():
    names = ("an empty row is a number", "its gradient is a number")
    assert [probe_empty_row(attend_or_nothing)[name] for name in names] == [1, 1]
    assert [probe_empty_row(mistakes.softmax_attention)[name] for name in names] == [0, 0]
    assert [probe_empty_row(mistakes.softmax_without_nan)[name] for name in names] == [1, 0]
    attends = attend_or_nothing, mistakes.softmax_of_large
    leaks = [probe_empty_row(attend)["an empty row sees something"] for attend in attends]
    assert leaks[0] == 0 < 0.01 < leaks[1]


def test_attention_or_nothing_is_torchs_attention_where_something_is_seen():
    parts = [torch.randn(2, 2, 3, 4, generator=torch.Generator().manual_seed(n)) for n in range(3)]
    mask = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    ours, theirs = attend_or_nothing(*parts, mask), F.scaled_dot_product_attention(*parts, attn_mask=mask)
    assert torch.allclose(ours[:, :, ::2], theirs[:, :, ::2], atol=1e-6) and (ours[:, :, 1] == 0).all()


def test_data_of_the_runs():
    lessons, twice = lessons_about("test", 30), lessons_about("test", 30, True)
    assert all(1 <= len(row) <= 4 for row in lessons.talks) and len(lessons.images) == len(lessons.talks)
    assert all(row[: len(row) // 2] == row[len(row) // 2 :] for row in twice.talks)
    ids, mask, seen, worded = documents(400)
    begins = ids[:, 0] != IMAGE
    assert torch.equal(begins, worded) and 0 < worded.sum() < 5 and seen.shape[1] == 65
    assert (ids == IMAGE).sum(dim=1).tolist() == [1] * 400 and torch.equal(mask, ids != PAD)
    assert all("mm_projector" in name for name in their_file() if "projector" in name)


def test_prompts_are_filled_in_front_and_looks_go_to_the_last_picture():
    ids, mask = fill_in_front([[5, 6], [7]])
    assert ids.tolist() == [[5, 6], [PAD, 7]] and mask.tolist() == [[True, True], [False, True]]
    starts = torch.tensor([[False, True, False, True]])
    assert last_picture(starts, 2).int().tolist() == [[[0, 0], [1, 0], [1, 0], [0, 1]]]
    assert mistakes.pictures_before(starts, 2).int().tolist() == [[[0, 0], [1, 0], [1, 0], [1, 1]]]


def test_texts_of_a_row_in_the_right_places_still_see_each_other():
    packs = torch.tensor([[0, 1, 1, 2, -1]])
    right, half = packed(packs), mistakes.look_of_row_in_place(packs)
    assert torch.equal(right.positions, half.positions)
    assert (
        half.mask[0, 0, 3].tolist() == [True] * 4 + [False]
        and right.mask[0, 0, 3].tolist()[1:3] == [False] * 2
    )


def test_the_code_of_an_exhibit_shows_its_settings_too():
    shown = EXHIBITS["learned to guess"].code()
    setup = EXHIBITS["learned to guess"].broken
    assert f"length = {setup.length!r}" in shown and f"keep = {setup.keep!r}" in shown
    assert "def " in EXHIBITS["never stops"].code()
    assert set(TWO_PATIENTS) < EXHIBITS.keys()
