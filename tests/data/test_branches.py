"""Several answers behind one beginning get the numbers that each would get alone."""

import pytest
import torch

from vlmcourse.data.branches import branch
from vlmcourse.models.language import Llama, LlamaConfig
from vlmcourse.models.look import packed

PROMPTS = [[5, 6, 7], [8, 9]]
ANSWERS = [[[1, 2], [3, 2]], [[4, 3, 2], [2]]]


def test_a_row_holds_the_question_once_and_all_its_answers():
    rows = branch(PROMPTS, ANSWERS, pad=0)
    assert rows.ids.tolist() == [[5, 6, 7, 1, 2, 3, 2], [8, 9, 4, 3, 2, 2, 0]]
    assert rows.packs.tolist() == [[0, 0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 1, 2, -1]]
    assert rows.places[0].tolist() == [[2, 3, 4, 0], [2, 5, 6, 0]]
    assert rows.places[1].tolist() == [[1, 2, 3, 4], [1, 5, 0, 0]]
    assert rows.labels[0].tolist() == [[-100, 1, 2, -100], [-100, 3, 2, -100]]
    assert rows.labels[1].tolist() == [[-100, 4, 3, 2], [-100, 2, -100, -100]]
    assert branch(PROMPTS, ANSWERS, pad=11).ids[1].tolist() == [8, 9, 4, 3, 2, 2, 11]


def test_every_answer_is_read_as_if_it_stood_there_alone():
    torch.manual_seed(0)
    model = Llama(LlamaConfig(12, width=16, depth=2, heads=2, groups=1)).double()
    rows = branch(PROMPTS, ANSWERS, pad=0)
    hidden = rows.read(model.hidden(rows.ids, packed(rows.packs)))
    for row, (prompt, group) in enumerate(zip(PROMPTS, ANSWERS, strict=True)):
        for number, answer in enumerate(group):
            alone = model.hidden(torch.tensor([prompt + answer]))[0, len(prompt) - 1 :]
            assert torch.allclose(hidden[row, number, : len(answer) + 1], alone, atol=1e-12)


def test_behind_an_answer_nothing_is_to_be_predicted():
    rows = branch(PROMPTS, ANSWERS, pad=0)
    assert (rows.labels[..., 1:] != -100).sum(dim=-1).tolist() == [[2, 2], [3, 1]]


@pytest.mark.parametrize(
    ("prompts", "answers", "said"),
    [
        (PROMPTS, ANSWERS[:1], "2 questions and answers to 1"),
        (PROMPTS, [ANSWERS[0], ANSWERS[1][:1]], r"\[1, 2\] answers"),
        (PROMPTS, [[], []], r"\[0\] answers"),
        (PROMPTS[:1], [[[1], []]], "has no token"),
    ],
)
def test_what_does_not_fit_is_named(prompts, answers, said):
    with pytest.raises(ValueError, match=said):
        branch(prompts, answers, pad=0)
