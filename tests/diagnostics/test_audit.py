"""Every mistake in labels and token budget is counted, and right rows are found right."""

import pytest
import torch

from vlmcourse.data.packing import Packs, pack
from vlmcourse.data.text import END, IMAGE
from vlmcourse.diagnostics.audit import (
    audit_rows,
    cut_images,
    cut_rows,
    label_offset,
    membership,
    silent_answers,
    trained_images,
    trained_padding,
    trained_prompts,
    trained_share,
    unended_answers,
)
from vlmcourse.families.nano import new_vlm
from vlmcourse.speak import Speaker

N = -100
IM, EN = 4, 9
# <user> image image | 20 21 ? 30 end | 22 ? 31 32 end ; and a shorter row
ROWS = pack([[([20, 21, 8], [30, EN]), ([22, 8], [31, 32, EN])], [([23, 8], [33, EN])]], [7, IM, IM], 0)
IDS, LABELS, PACKS = ROWS


def changed(tensor, *places):
    copy = tensor.clone()
    for row, token, value in places:
        copy[row, token] = value
    return copy


def numbers(rows, per_image=2):
    return {one.name: one.number for one in audit_rows(rows, IM, EN, per_image)}


def wrong(rows, per_image=2):
    return [one.name for one in audit_rows(rows, IM, EN, per_image) if not one.ok]


def test_the_rows_stand_as_the_comment_says():
    assert IDS.tolist() == [[7, 4, 4, 20, 21, 8, 30, 9, 22, 8, 31, 32, 9], [7, 4, 4, 23, 8, 33, 9] + [0] * 6]
    assert LABELS.tolist() == [[N] * 6 + [30, 9, N, N, 31, 32, 9], [N] * 5 + [33, 9] + [N] * 6]


def test_right_rows_are_right():
    assert wrong(ROWS) == [] and {one.verdict for one in audit_rows(ROWS, IM, EN, 2)} == {"ok"}
    assert list(numbers(ROWS).values()) == pytest.approx([7 / 20, 0, 0, 0, 0, 0, 0, 0, 0])


def test_the_share_is_of_real_tokens():
    assert trained_share(LABELS, PACKS) == pytest.approx(7 / 20)
    assert trained_share(changed(LABELS, (1, 12, 5)), PACKS) == pytest.approx(7 / 20)
    assert trained_share(changed(LABELS, (1, 0, 7)), PACKS) == pytest.approx(8 / 20)
    assert "labels: share of tokens trained" in wrong(ROWS._replace(labels=torch.full_like(IDS, N)))
    assert "labels: share of tokens trained" in wrong(ROWS._replace(labels=IDS))
    assert audit_rows(ROWS._replace(labels=IDS), IM, EN, 2)[0].verdict == "suspicious"
    nine = Packs(
        torch.arange(10)[None], torch.tensor([[N, *range(1, 10)]]), torch.ones(1, 10, dtype=torch.long)
    )
    assert "labels: share of tokens trained" not in wrong(nine)


@pytest.mark.parametrize("offset", [-2, -1, 0, 1, 2])
def test_shifted_labels_are_found_with_their_direction(offset):
    shifted = LABELS.roll(offset, dims=1)
    assert label_offset(IDS, shifted) == offset
    assert ("labels: places off" in wrong(ROWS._replace(labels=shifted))) == (offset != 0)


def test_where_two_offsets_fit_the_smaller_counts():
    assert label_offset(torch.full((1, 8), 5), torch.full((1, 8), 5)) == 0
    assert label_offset(torch.tensor([[5, 6, 5, 6, 5, 6]]), torch.tensor([[N, N, 6, 5, N, N]])) == -1
    assert label_offset(IDS, torch.full_like(IDS, N)) == 0


def test_what_falls_off_a_row_fits_nowhere():
    assert (
        label_offset(torch.tensor([[9, 1, 1, 8], [7, 1, 1, 1]]), torch.tensor([[N, N, N, 9], [N, N, N, N]]))
        == 0
    )
    assert (
        label_offset(torch.tensor([[9, 1, 1, 8], [7, 1, 1, 1]]), torch.tensor([[N, N, N, 7], [N, N, N, N]]))
        == 0
    )


def test_one_wrong_label_does_not_move_the_offset():
    assert label_offset(IDS, changed(LABELS, (0, 6, 31))) == 0


def test_questions_that_are_trained_are_counted_by_text():
    assert trained_prompts(LABELS, PACKS) == 0
    assert trained_prompts(changed(LABELS, (0, 3, 20), (1, 3, 23)), PACKS) == 2
    assert trained_prompts(changed(LABELS, (0, 4, 21), (1, 0, 7), (1, 7, 0)), PACKS) == 0
    assert trained_prompts(changed(LABELS, (0, 8, 22)), PACKS) == 1
    assert trained_prompts(torch.tensor([[5, 6, 7]]), torch.tensor([[1, 1, 2]])) == 2  # nothing stands before
    assert trained_prompts(torch.tensor([[N, 6, 7, N]]), torch.tensor([[-1, 0, 0, 1]])) == 0
    assert wrong(ROWS._replace(labels=changed(LABELS, (0, 8, 22)))) == ["labels: questions trained"]


def test_placeholders_that_are_trained_are_counted_once():
    assert trained_images(IDS, changed(LABELS, (0, 1, IM), (1, 2, IM)), IM) == 2
    assert trained_images(IDS, changed(LABELS, (0, 1, 5), (1, 0, IM)), IM) == 2
    assert wrong(ROWS._replace(labels=changed(LABELS, (0, 1, IM)))) == ["labels: placeholders trained"]


def test_padding_that_is_trained_is_counted():
    assert trained_padding(changed(LABELS, (1, 7, 0), (1, 12, 9), (1, 2, 4)), PACKS) == 2
    assert "labels: padding trained" in wrong(ROWS._replace(labels=changed(LABELS, (1, 7, 0))))


def test_answers_whose_end_is_not_learned_are_counted():
    assert unended_answers(LABELS, PACKS, EN) == 0
    assert unended_answers(changed(LABELS, (0, 7, N)), PACKS, EN) == 1
    assert unended_answers(changed(LABELS, (0, 7, N), (0, 12, N), (1, 6, N)), PACKS, EN) == 3
    assert unended_answers(changed(LABELS, (1, 5, N), (1, 6, N)), PACKS, EN) == 0  # no answer at all
    assert (
        unended_answers(changed(LABELS, (0, 6, EN), (0, 7, 30)), PACKS, EN) == 1
    )  # an end, but not the last
    assert wrong(ROWS._replace(labels=changed(LABELS, (0, 7, N)))) == ["labels: answers without end"]


def test_answers_of_no_label_are_counted_and_texts_that_are_not_there_are_not():
    assert silent_answers(LABELS, PACKS) == 0
    assert silent_answers(changed(LABELS, (1, 5, N), (1, 6, N)), PACKS) == 1
    assert silent_answers(changed(LABELS, (0, 6, N), (0, 7, N), (1, 6, N)), PACKS) == 1
    assert silent_answers(torch.full_like(LABELS, N), PACKS) == 3
    silent = ROWS._replace(labels=changed(LABELS, (1, 5, N), (1, 6, N)))
    assert wrong(silent) == ["labels: answers not trained"]


@pytest.mark.parametrize("length, rows, answers", [(12, 1, 1), (9, 1, 0), (5, 2, 0)])
def test_a_limit_of_length_leaves_its_marks(length, rows, answers):
    cut = Packs(*(column[:, :length] for column in ROWS))
    assert cut_rows(cut.ids, cut.packs, EN) == rows
    assert unended_answers(cut.labels, cut.packs, EN) == answers
    assert "tokens: rows cut" in wrong(cut)


def test_padding_is_no_end():
    assert cut_rows(changed(IDS, (1, 6, 33)), PACKS, EN) == 1
    assert cut_rows(changed(IDS, (1, 12, EN)), PACKS, EN) == 0
    assert cut_rows(changed(IDS, (1, 6, 33), (1, 12, EN)), PACKS, EN) == 1
    assert cut_rows(torch.tensor([[EN, 0]]), torch.tensor([[1, -1]]), EN) == 0


def test_images_are_whole_or_counted():
    assert cut_images(IDS, IM, 2) == 0 and cut_images(IDS, IM, 1) == 0 and cut_images(IDS, IM, 4) == 2
    assert cut_images(changed(IDS, (0, 1, 20)), IM, 2) == 1
    assert cut_images(changed(IDS, (1, 1, 20), (1, 2, 20)), IM, 2) == 1  # no image at all
    assert "tokens: rows with cut images" in wrong(ROWS, per_image=3)
    assert "tokens: rows with cut images" not in numbers(ROWS, per_image=0)


def test_membership_is_of_texts_not_of_what_a_row_begins_with():
    member = membership(PACKS)
    assert member.shape == (2, 13, 2) and member.sum(dim=(1, 2)).tolist() == [10, 4]
    assert member[0, :, 1].nonzero().flatten().tolist() == [8, 9, 10, 11, 12]
    assert membership(torch.tensor([[0, 0, -1]])).sum() == 0


def test_rows_of_the_course_pass():
    speaker = Speaker(new_vlm())
    rows = speaker.encode(
        [[("How many things are there?", "2"), ("Is there a star?", "no")], [("What?", "red")]]
    )
    checked = audit_rows(rows, IMAGE, END, speaker.model.tokens_per_image)
    assert all(one.ok for one in checked) and len(checked) == 9
    assert all(one.remedy for one in checked)


def test_a_verdict_is_plain_data():
    """Such as json writes: no tensors."""
    found = audit_rows(ROWS, IM, EN, 2)
    assert all(type(line.ok) is bool and isinstance(line.number, int | float) for line in found)
