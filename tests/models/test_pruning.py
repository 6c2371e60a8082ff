"""Every rule of models/pruning.py, by small numbers and by a model that reads the same with and without."""

import pytest
import torch

from vlmcourse.models.attention import Cache, record_attention
from vlmcourse.models.generation import write_greedily
from vlmcourse.models.language import Llama, LlamaConfig
from vlmcourse.models.look import Look, causal
from vlmcourse.models.pruning import (
    PrunedReader,
    attention_received,
    keep_tokens,
    kept_places,
    pruned_look,
    random_scores,
    spread_scores,
)

SPAN, LENGTH = (2, 8), 11


@pytest.fixture
def model() -> Llama:
    torch.manual_seed(0)
    model = Llama(LlamaConfig(31, width=32, depth=3, heads=4, groups=2))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(31, (2, LENGTH), generator=torch.Generator().manual_seed(3))


def test_the_best_stay_in_their_order():
    scores = torch.tensor([[0.1, 0.9, 0.3, 0.8], [0.5, 0.5, 0.5, 0.4]])
    assert keep_tokens(scores, 2).tolist() == [[1, 3], [0, 1]]
    assert keep_tokens(scores, 3).tolist() == [[1, 2, 3], [0, 1, 2]]
    assert keep_tokens(scores, 4).tolist() == [[0, 1, 2, 3]] * 2
    assert keep_tokens(torch.zeros(1, 1000), 5).tolist() == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize("k", [0, -1, 5])
def test_more_than_there_are_cannot_be_kept(k):
    with pytest.raises(ValueError, match=f"{k} of 4 tokens cannot be kept"):
        keep_tokens(torch.zeros(1, 4), k)


def test_attention_received_is_the_mean_over_heads_and_queries():
    weights = torch.zeros(1, 2, 3, 4)
    weights[0, 0, 0, 1], weights[0, 1, 2, 1], weights[0, 1, 1, 3] = 0.6, 0.3, 0.12
    assert torch.allclose(attention_received(weights, 1, 4), torch.tensor([[0.15, 0, 0.02]]))
    assert torch.allclose(attention_received(weights[:, :, -1:], 0, 2), torch.tensor([[0, 0.15]]))


def test_spread_tokens_are_spread_for_every_number():
    scores = spread_scores(8, 8)
    assert len(scores.unique()) == 64
    for k in (4, 8, 16, 32):
        kept = keep_tokens(scores[None], k)[0]
        for axis in (kept // 8, kept % 8):  # every part of the picture has its share
            counts = torch.bincount(axis // 4, minlength=2)
            assert counts.tolist() == [k // 2, k // 2]
        quarters = torch.bincount(2 * (kept // 32) + (kept % 8) // 4, minlength=4)
        assert quarters.tolist() == [k // 4] * 4
    assert keep_tokens(spread_scores(2, 2)[None], 2)[0].tolist() == [0, 3]  # the diagonal
    assert spread_scores(3, 5).shape == (15,)
    assert (-spread_scores(2, 3)).tolist() == [0, 8, 2, 12, 4, 14]  # of Bayer's matrix, the upper left corner
    assert spread_scores(4, 16).reshape(4, 16)[:, :4].flatten().argmax() == 0


def test_chance_is_each_rows_own_and_comes_again():
    scores = random_scores(3, 50, seed=4)
    assert torch.equal(scores, random_scores(3, 50, seed=4))
    assert not torch.equal(scores, random_scores(3, 50, seed=5))
    assert len(scores.unique()) == 150


def test_words_stay_and_of_the_picture_what_is_kept():
    places = kept_places(LENGTH, SPAN, torch.tensor([[0, 5], [2, 3]]))
    assert places.tolist() == [[0, 1, 2, 7, 8, 9, 10], [0, 1, 4, 5, 8, 9, 10]]
    assert kept_places(4, (0, 3), torch.tensor([[1]])).tolist() == [[1, 3]]
    assert kept_places(4, (1, 4), torch.tensor([[1]])).tolist() == [[0, 2]]


def test_what_is_left_keeps_its_positions_and_sees_what_it_saw():
    places = torch.tensor([[0, 2, 3], [1, 2, 3]])
    look = pruned_look(causal(4), places)
    assert look.positions.tolist() == [[0, 2, 3], [1, 2, 3]]
    assert look.mask.shape == (2, 1, 3, 3) and torch.equal(look.mask[1, 0], torch.ones(3, 3).tril().bool())
    own = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0)) > 0.5
    pruned = pruned_look(Look(own, causal(4).positions), places).mask
    for row in range(2):
        assert torch.equal(pruned[row, 0], own[row, 0][places[row]][:, places[row]])
    assert pruned_look(Look(None, causal(4).positions), places).mask is None
    three = torch.stack([torch.arange(4), torch.arange(4) * 2, torch.arange(4) * 3])[:, None]  # M-RoPE
    assert pruned_look(Look(None, three), places).positions[2].tolist() == [[0, 6, 9], [3, 6, 9]]


@torch.no_grad()
def test_keeping_all_changes_nothing(model, ids):
    for layer in (1, 2):
        assert torch.allclose(PrunedReader(model, layer, SPAN, 6).hidden(ids), model.hidden(ids), atol=1e-5)


@torch.no_grad()
def test_late_layers_read_what_is_left_as_if_the_rest_were_masked(model, ids):
    """Dropping a token is the same as forbidding everyone to look at it, from that layer on."""
    kept = torch.tensor([[0, 4], [1, 5]])
    scores = torch.zeros(2, 6).scatter(1, kept, 1.0)
    places = kept_places(LENGTH, SPAN, kept)
    look = causal(LENGTH)
    tokens, rotate = model.place(model.embed(ids), look.positions)
    tokens = model.blocks[0](tokens, mask=look.mask, rotate=rotate)
    seen = torch.zeros(2, LENGTH, dtype=torch.bool).scatter(1, places, True)
    mask = (look.mask & seen[:, None, None]) | torch.eye(LENGTH, dtype=torch.bool)
    for block in model.blocks[1:]:
        tokens = block(tokens, mask=mask, rotate=rotate)
    expected = model.norm(tokens).gather(1, places[:, :, None].expand(-1, -1, 32))
    mine = PrunedReader(model, 1, SPAN, 2, scores).hidden(ids)
    assert mine.shape == (2, 7, 32) and torch.allclose(mine, expected, atol=1e-5)
    assert (mine[:, -1] - model.hidden(ids)[:, -1]).abs().max() > 0.1


@torch.no_grad()
def test_the_last_early_layer_says_what_is_looked_at(model, ids):
    with record_attention(model) as record:
        model.hidden(ids)
    scores = attention_received(record[1][:, :, -1:], *SPAN)
    mine = PrunedReader(model, 2, SPAN, 3).hidden(ids)
    assert torch.allclose(mine, PrunedReader(model, 2, SPAN, 3, scores).hidden(ids), atol=1e-5)
    for other in (record[0][:, :, -1:], record[1], record[1][:, :, -2:-1]):
        assert keep_tokens(scores, 3).tolist() != keep_tokens(attention_received(other, *SPAN), 3).tolist()


@torch.no_grad()
def test_writing_with_a_cache_is_reading_the_longer_text(model, ids):
    scores = random_scores(2, 6, seed=1)
    reader, caches = PrunedReader(model, 1, SPAN, 2, scores), [Cache() for _ in model.blocks]
    reader.hidden(ids, caches=caches)
    assert [cache.length for cache in caches] == [LENGTH, LENGTH - 4, LENGTH - 4]
    more = torch.tensor([[5, 6], [7, 8]])
    for step in range(2):
        last = reader.hidden(more[:, step : step + 1], caches=caches)[:, -1]
    whole = PrunedReader(model, 1, SPAN, 2, scores).hidden(torch.cat([ids, more], dim=1))[:, -1]
    assert torch.allclose(last, whole, atol=1e-5)


@torch.no_grad()
def test_the_greedy_loop_writes_with_it(model, ids):
    prompt, mask = model.embed(ids), torch.ones(2, LENGTH, dtype=torch.bool)
    written = write_greedily(PrunedReader(model, 1, SPAN, 6), prompt, mask, 4, end=-1)
    assert torch.equal(written, write_greedily(model, prompt, mask, 4, end=-1))
    assert write_greedily(PrunedReader(model, 1, SPAN, 1), prompt, mask, 4, end=-1).shape == (2, 4)


def test_what_cannot_be_pruned_is_named(model, ids):
    for layer in (0, 3):
        with pytest.raises(
            ValueError, match=f"behind block {layer} of 3 is not possible; choose one from 1 to 2"
        ):
            PrunedReader(model, layer, SPAN, 2)
    with pytest.raises(ValueError, match="read rows of one length together"):
        PrunedReader(model, 1, SPAN, 2).hidden(ids, mask=torch.arange(LENGTH)[None].expand(2, -1) > 0)
