"""Who may see whom, and where each token stands: every rule of models/look.py by small numbers."""

import pytest
import torch

from vlmcourse.models.look import Look, bidirectional, causal, packed, prefixed
from vlmcourse.slots import REGISTRY


def seen(look: Look) -> list:
    return look.mask.int().tolist()


def test_a_text_sees_what_came_before_and_stands_in_order():
    look = causal(3)
    assert seen(look) == [[1, 0, 0], [1, 1, 0], [1, 1, 1]] and look.positions.tolist() == [[0, 1, 2]]
    later = causal(2, past=3)
    assert seen(later) == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]] and later.positions.tolist() == [[3, 4]]
    assert causal(1, past=3).mask is None and causal(1, past=3).positions.tolist() == [[3]]


def test_padding_is_never_looked_at_and_takes_up_no_position():
    real = torch.tensor([[False, True, True], [True, True, False]])
    look = causal(3, real=real)
    assert seen(look) == [[[[1, 0, 0], [0, 1, 0], [0, 1, 1]]], [[[1, 0, 0], [1, 1, 0], [1, 1, 1]]]]
    assert look.positions.tolist() == [[0, 0, 1], [0, 1, 1]]


@pytest.mark.parametrize("past", [1, 2, 3])
def test_behind_a_cache_the_look_is_the_rest_of_the_whole(past):
    real = torch.tensor([[False, True, True, True], [True, True, True, False], [True] * 4])
    whole, rest = causal(4, real=real), causal(4 - past, past, real)
    assert torch.equal(rest.mask, whole.mask[:, :, past:])
    assert torch.equal(rest.positions, whole.positions[:, past:])
    prefix = torch.tensor([[True, True, True, False]] * 3)
    whole, rest = prefixed(prefix, real=real), prefixed(prefix, past, real)
    assert torch.equal(rest.mask, whole.mask[:, :, past:])
    assert torch.equal(rest.positions, whole.positions[:, past:])
    assert prefixed(prefix, past).positions.tolist() == [list(range(past, 4))]


def test_a_prefix_sees_itself_whole_but_no_padding():
    prefix = torch.tensor([[True, True, True, False]])
    assert seen(prefixed(prefix)) == [[[[1, 1, 1, 0]] * 3 + [[1] * 4]]]
    look = prefixed(prefix, real=torch.tensor([[False, True, True, True]]))
    assert seen(look) == [[[[1, 1, 1, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 1, 1, 1]]]]
    assert look.positions.tolist() == [[0, 0, 1, 2]]


def test_packed_texts_see_the_beginning_and_themselves_and_stand_right_behind_it():
    look = packed(torch.tensor([[0, 0, 1, 1, 2, -1]]))
    assert seen(look)[0][0] == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [1, 1, 0, 0, 0, 1],
    ]
    assert look.positions.tolist() == [[0, 1, 2, 3, 2, 0]]


def test_cached_tokens_belong_to_the_beginning_of_every_packed_row():
    look = packed(torch.tensor([[0, 1, 2]]), past=2)
    assert seen(look) == [[[[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 0, 1]]]]
    assert look.positions.tolist() == [[2, 3, 3]]


def test_in_both_directions_only_padding_is_hidden():
    assert bidirectional(3).mask is None and bidirectional(3).positions.tolist() == [[0, 1, 2]]
    assert seen(bidirectional(2, torch.tensor([[True, False]]))) == [[[[1, 0]]]]


def test_a_look_of_other_tokens_is_named():
    causal(3, 2).check(3, 2)
    for count, past in ((2, 2), (3, 1), (3, 3)):
        with pytest.raises(ValueError, match=f"there are {past} cached tokens and {count} new"):
            causal(3, 2).check(count, past)
    with pytest.raises(ValueError, match="covers 3 tokens; it must cover the 2 cached and 2 new"):
        causal(2, 2, torch.ones(1, 3, dtype=torch.bool))
    Look(None, torch.zeros(3, 1, 5, dtype=torch.long)).check(5, 0)  # axes before batch are the model's own


def test_masks_keep_the_names_under_which_learners_saved_them():
    for name in ("causal_mask", "prefix_mask"):
        assert REGISTRY[f"language.{name}"].__module__ == "vlmcourse.models.look"
