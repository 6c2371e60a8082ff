"""Batches come in an order that depends on the seed alone and can be taken up anywhere."""

import numpy as np
import pytest
import torch

from vlmcourse.data.batches import Batches

NUMBERS = torch.arange(10)


def take(stream, count):
    return [next(stream).tolist() for _ in range(count)]


def test_an_epoch_shows_each_item_at_most_once_and_the_next_one_another_order():
    batches = Batches(NUMBERS, 5)
    first, second = (torch.tensor(take(stream, 2)).flatten().tolist() for stream in [batches.stream()] * 2)
    assert len(batches) == 2 == len(list(batches))
    assert sorted(first) == sorted(second) == NUMBERS.tolist() and first != second


def test_the_order_depends_on_the_seed_and_not_on_the_global_random_state():
    torch.manual_seed(1), np.random.seed(1)
    first = take(Batches(NUMBERS, 3, seed=4).stream(), 7)
    torch.manual_seed(2), np.random.seed(2)
    assert take(Batches(NUMBERS, 3, seed=4).stream(), 7) == first
    assert take(Batches(NUMBERS, 3, seed=5).stream(), 7) != first
    assert Batches(torch.arange(6), 3).order(1).tolist() == [1, 4, 3, 0, 2, 5]  # the same on every machine


def test_all_items_may_make_one_batch():
    assert sorted(take(Batches(NUMBERS, 10).stream(), 1)[0]) == NUMBERS.tolist()


@pytest.mark.parametrize("done", range(8))
def test_a_stream_goes_on_where_it_was_saved(done):
    whole = take(Batches(NUMBERS, 3).stream(), 8)
    first, second = Batches(NUMBERS, 3).stream(), Batches(NUMBERS, 3).stream()
    take(first, done)
    second.load_state_dict(first.state_dict())
    assert take(second, 8 - done) == whole[done:]


def test_a_position_in_other_data_is_refused():
    state = Batches(NUMBERS, 3).stream().state_dict()
    with pytest.raises(ValueError, match="length 10, but length is now 9"):
        Batches(NUMBERS[:9], 3).stream().load_state_dict(state)


def test_a_position_with_another_seed_is_refused():
    state = Batches(NUMBERS, 3, seed=1).stream().state_dict()
    with pytest.raises(ValueError, match="seed 1, but seed is now 0"):
        Batches(NUMBERS, 3).stream().load_state_dict(state)


def test_dicts_and_tuples_of_tensors_and_arrays_stay_aligned():
    source = {"pair": (NUMBERS, NUMBERS.numpy() * 2.0), "image": NUMBERS.reshape(10, 1, 1).to(torch.uint8)}
    for batch in Batches(source, 4):
        number, double = batch["pair"]
        assert torch.equal(number * 2.0, double) and torch.equal(
            batch["image"].flatten(), number.to(torch.uint8)
        )
        assert batch["image"].shape == (4, 1, 1)


def test_a_function_makes_the_batch_from_item_numbers():
    made = take(Batches(lambda numbers: numbers * 10, 5, seed=3, length=10).stream(), 4)
    assert made == [
        [number * 10 for number in batch] for batch in take(Batches(NUMBERS, 5, seed=3).stream(), 4)
    ]


def test_processes_share_each_batch():
    streams = [Batches(NUMBERS, 4).stream(rank, 2) for rank in range(2)]
    assert [
        left + right for left, right in zip(*(take(stream, 5) for stream in streams), strict=True)
    ] == take(Batches(NUMBERS, 4).stream(), 5)


@pytest.mark.parametrize(("size", "world"), [(1, 2), (3, 2), (3, 4), (5, 3), (4, 2)])
def test_processes_share_what_cannot_be_shared_equally(size, world):
    source = {"item": NUMBERS, "label": NUMBERS + 100}
    batches = Batches(source, size, unasked=lambda batch: batch | {"label": -batch["label"]})
    streams = [batches.stream(rank, world) for rank in range(world)]
    for whole in list(batches):
        parts = [next(stream) for stream in streams]
        asked = [part["item"] for part in parts if (part["label"] > 0).all()]
        assert torch.cat(asked).tolist() == whole["item"].tolist()
        assert max(map(len, asked)) - min(map(len, asked)) <= 1 and len(asked) == min(size, world)
        idle = [part for part in parts if (part["label"] < 0).any()]
        assert all(part["item"].tolist() == whole["item"][:1].tolist() for part in idle)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Batches(NUMBERS, 11), "batch size 11 does not fit 10 items"),
        (lambda: Batches(NUMBERS, 0), "batch size 0 does not fit"),
        (lambda: Batches({"x": NUMBERS, "y": NUMBERS[:9]}, 2), r"\[10, 9\]"),
        (lambda: Batches(lambda numbers: numbers, 2), "needs length="),
        (lambda: Batches(NUMBERS, 3).stream(0, 2), "batch size 3 cannot be shared equally by 2"),
        (lambda: Batches({"caption": ["a red square", "a dog"]}, 2), "not from a list; stack it first"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
