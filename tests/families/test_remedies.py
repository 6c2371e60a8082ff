"""Remedies for learning from language alone: their arithmetic by hand, and where they must change nothing."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from vlmcourse.data.text import EOS, PAD, UNK, load_tokenizer
from vlmcourse.families import remedies as rm
from vlmcourse.families import spoiling as sp
from vlmcourse.families.remedies import REMEDIES, Remedy


def row(question, answer, kind="colour", picture=0):
    return sp.AskedRow(picture, question, answer, kind)


def with_rows(rows):
    return replace(sp.clean(1), rows=rows)


HABIT = [row("What colour is the star?", "red")] * 3 + [row("What colour is the star?", "blue")]
HABIT += [row("What size is the star?", "small", "size")]


def test_guess_is_the_share_of_the_other_rows():
    found = rm.text_guess([r.question for r in HABIT], [r.answer for r in HABIT])
    assert found.tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 0, 0])


def test_rows_in_need_are_those_that_the_question_does_not_tell():
    found = with_rows(HABIT)
    assert rm.needs_image(found).rows == HABIT[3:]
    assert rm.needs_image(found, most=0.67).rows == HABIT
    even = with_rows([row("q", "red"), row("q", "red"), row("q", "blue")])  # one of the two others
    assert [r.answer for r in rm.needs_image(even).rows] == ["red", "red", "blue"]  # 0.5 is not above 0.5
    assert rm.needs_image(found).images is found.images


def test_rows_are_drawn_as_often_as_they_need_the_image():
    found = with_rows([row("q", "red") if n % 10 else row("q", "blue") for n in range(2000)])
    drawn = rm.drawn_by_need(found, seed=1)
    assert len(drawn.rows) == 2000
    # 200 rows of need 0.9, 1800 of need 0.1: one half of what is drawn
    assert sum(r.answer == "blue" for r in drawn.rows) / 2000 == pytest.approx(0.5, abs=0.05)
    assert drawn.rows == rm.drawn_by_need(found, seed=1).rows != rm.drawn_by_need(found, seed=2).rows


def test_dropped_words_are_unknown_and_the_end_stays():
    ids, mask = load_tokenizer().encode(["What colour is the star?", "What size is the small red star?"])
    dice = torch.Generator().manual_seed(0)
    assert torch.equal(rm.drop_words(ids, mask, 0.0, dice), ids)
    none = rm.drop_words(ids, mask, 1.0, dice)
    assert torch.equal(none == UNK, mask & (ids != EOS)) and torch.equal(none == EOS, ids == EOS)
    assert torch.equal(none == PAD, ~mask)
    many = ids[:1].expand(4000, -1)
    some = rm.drop_words(many, mask[:1].expand(4000, -1), 0.25, dice) == UNK
    words = (mask & (ids != EOS))[0]
    assert some[:, words].float().mean(dim=0).tolist() == pytest.approx([0.25] * int(words.sum()), abs=0.03)


def test_swap_loss_by_hand():
    scores = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]])  # p = 1/4 and 3/4
    found = rm.swap_loss(scores, torch.tensor([0, 1]))
    assert found.item() == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)
    certain = rm.swap_loss(torch.tensor([[100.0, 0.0]], requires_grad=True), torch.tensor([0]))
    assert certain.isfinite() and certain > 10
    assert rm.swap_loss(torch.tensor([[-100.0, 0.0]]), torch.tensor([0])) < 1e-30


def test_contrast_by_hand():
    seen = torch.tensor([[2.0, 1.5, -3.0]])  # habit says the first word, with or without the image
    unseen = torch.tensor([[2.0, 0.0, -9.0]])
    found = rm.contrast_scores(seen, unseen, alpha=1.0)  # exp(-5) is less than 0.1
    assert found.tolist() == [[2.0, 3.0, -math.inf]]
    assert rm.contrast_scores(seen, unseen, 1.0, beta=0.001).tolist() == [[2.0, 3.0, 3.0]]
    assert rm.contrast_scores(seen, unseen, 9.0, beta=1.0).argmax().item() == 0  # none but the likeliest
    random = torch.randn(50, 9)
    usual = rm.contrast_scores(random, torch.randn(50, 9), alpha=0.0)
    assert torch.equal(usual.argmax(dim=-1), random.argmax(dim=-1))
    kept = usual > -torch.inf
    chance = random.softmax(dim=-1)
    assert torch.equal(usual[kept], random[kept])
    assert torch.equal(kept, chance >= 0.1 * chance.max(dim=-1, keepdim=True).values)


def test_habits_are_those_of_biased_rows():
    assert rm.habitual(row("What colour is the circle?", "blue")) == "red"
    assert rm.habitual(row("What colour is the large square?", "red")) == "yellow"
    assert rm.habitual(row("What shape is the red thing?", "star", "shape")) == "circle"
    assert rm.habitual(row("What shape is the pink thing?", "star", "shape")) == ""  # nobody's habit
    assert rm.habitual(row("What size is the red circle?", "small", "size")) == ""
    rows = [r for r in sp.biased(200).rows if rm.habitual(r)]
    assert np.mean([rm.habitual(r) == r.answer for r in rows]) > 0.93


@pytest.fixture(scope="module")
def found():
    return sp.biased(60)


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_no_remedy_is_the_control_bit_by_bit(found):
    control, history = sp.learn_from(found, steps=4, size=16, seed=3)
    model, losses = rm.learn_with(Remedy(), found, steps=4, size=16, seed=3)
    assert torch.equal(weights(model), weights(control)) and losses.losses == history.losses


@pytest.mark.parametrize("changed", [Remedy(dropped=0.3), Remedy(swapped=1.0), Remedy(rows=rm.needs_image)])
def test_each_remedy_of_learning_learns_something_else(found, changed):
    # At the start no answer is likely beside any picture, so the swap loss needs some steps to count
    given = dict(found=found, steps=20, size=8)
    model, history = rm.learn_with(changed, **given)
    assert not torch.equal(weights(model), weights(rm.learn_with(Remedy(), **given)[0]))
    again, _ = rm.learn_with(changed, **given)
    assert torch.equal(weights(model), weights(again)) and all(map(math.isfinite, history.losses))


def test_the_swap_loss_is_that_of_the_neighbours_picture(found):
    some = replace(found, rows=found.rows[:8])  # one batch is all of them, in the order of the shuffle
    _, history = rm.learn_with(Remedy(swapped=2.0), some, steps=1, size=8, seed=5)
    seen, rows = sp.as_tensors(some)
    order = torch.from_numpy(np.random.default_rng((5, 0)).permutation(8))
    batch = sp.Shown(*(column[order] for column in rows))
    model = sp.new_student(seen, 5)
    own = torch.nn.functional.cross_entropy(sp.answer_scores(model, seen, batch), batch.answer)
    strangers = batch._replace(picture=batch.picture[torch.tensor([7, 0, 1, 2, 3, 4, 5, 6])])
    unlike = rm.swap_loss(sp.answer_scores(model, seen, strangers), batch.answer)
    assert history.losses[0] == pytest.approx((own + 2 * unlike).item(), rel=1e-5)


def test_contrast_is_neutral_at_zero_and_sees_blank_paper(found):
    model, _ = rm.learn_with(Remedy(), found, steps=60, size=48)
    usual = sp.graded(model, found)
    assert torch.equal(rm.graded_with(Remedy(), model, found), usual)
    assert torch.equal(rm.graded_with(Remedy(alpha=1e-9), model, found), usual)
    bare = rm.without_images(found)
    assert (bare.images == bare.images[:, :1, :1]).all() and bare.rows == found.rows
    # beside blank paper both passes see the same, so that nothing changes
    assert torch.equal(rm.graded_with(Remedy(alpha=4.0), model, bare), sp.graded(model, bare))
    (seen, rows), (unseen, _) = sp.as_tensors(found), sp.as_tensors(bare)
    with torch.no_grad():
        pair = [sp.answer_scores(model, images, rows) for images in (seen, unseen)]
    wanted = rm.contrast_scores(*pair, 4.0).argmax(dim=-1) == rows.answer
    assert torch.equal(rm.graded_with(Remedy(alpha=4.0), model, found), wanted)
    assert not torch.equal(wanted, usual)


def test_a_short_run_learns_the_habit_and_twins_undo_it():
    found = sp.biased(150, seed=1)
    test = sp.clean(120, seed=9)
    control, _ = rm.learn_with(REMEDIES["nothing"], found, steps=80)
    told = rm.habit_scores(REMEDIES["nothing"], control, test)
    assert told.along > told.against + 0.4 and told.gap == told.right - told.blank
    right = sp.graded(control, test).float()
    assert told.right == pytest.approx(right.mean().item())
    against = torch.tensor([rm.habitual(r) not in ("", r.answer) for r in test.rows])
    assert told.against == pytest.approx(right[against].mean().item())
    assert told.blank == pytest.approx(sp.graded(control, rm.without_images(test)).float().mean().item())
    mended, _ = rm.learn_with(REMEDIES["twins"], found, steps=80)
    assert rm.habit_scores(REMEDIES["twins"], mended, test).against > told.against


def test_a_test_set_without_habits_is_refused(found):
    sizes = replace(found, rows=[r for r in found.rows if r.kind == "size"])
    with pytest.raises(ValueError, match="0 rows go against a habit and 0 along"):
        rm.habit_scores(Remedy(), sp.new_student(torch.zeros(1, 16, 384)), sizes)


def test_remedies_change_one_thing_each():
    for name, remedy in REMEDIES.items():
        changed = [remedy.rows, remedy.dropped, remedy.swapped, remedy.alpha]
        assert sum(map(bool, changed)) == (name != "nothing")
