"""What the attention core promises to every model built on it; that each equals its library is in
tests/parity."""

import pytest
import torch

from vlmcourse.models.attention import (
    Attention,
    Block,
    Cache,
    extend_cache,
    record_attention,
    scaled_dot_product,
)
from vlmcourse.models.attention import share_heads as share

CAUSAL = torch.ones(6, 6, dtype=torch.bool).tril()


def tokens(count=6, width=16):
    torch.manual_seed(0)
    return torch.randn(2, count, width, dtype=torch.float64)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_cached_attention_gives_the_same_tokens_in_any_pieces(groups):
    attention, whole = Attention(16, 4, groups=groups, bias=False).double(), tokens()
    expected = attention(whole, CAUSAL)
    for cuts in ([1] * 6, [4, 1, 1], [2, 3, 1]):
        cache, pieces = Cache(), []
        for piece in whole.split(cuts, dim=1):
            rows = slice(cache.length, cache.length + piece.shape[1])
            pieces.append(attention(piece, CAUSAL[rows, : rows.stop], cache=cache))
        assert cache.length == 6 and cache.past[0].shape == (2, groups, 6, 4)
        assert torch.allclose(torch.cat(pieces, dim=1), expected, atol=1e-12)


def test_a_cached_context_is_projected_once():
    attention, context = Attention(16, 4, context_width=12).double(), tokens(5, 12)
    cache, expected = Cache(), attention(tokens(), context=context)
    first = attention(tokens()[:, :2], context=context, cache=cache)
    rest = attention(tokens()[:, 2:], context=torch.full_like(context, torch.nan), cache=cache)
    assert torch.allclose(torch.cat([first, rest], dim=1), expected, atol=1e-12)


def test_context_may_also_be_read_with_the_fused_matrix():
    attention = Attention(16, 4, groups=2, bias=False).double()
    assert torch.allclose(
        attention(tokens()[:, :1], context=tokens()), attention(tokens())[:, :1], atol=1e-12
    )


def test_a_bias_of_minus_a_thousand_hides_like_a_mask():
    query, key, value = torch.randn(3, 2, 3, 6, 4, dtype=torch.float64)
    masked, weights = scaled_dot_product(query, key, value, CAUSAL)
    biased, _ = scaled_dot_product(query, key, value, None, torch.where(CAUSAL, 0.0, -1000.0))
    assert torch.allclose(masked, biased, atol=1e-12) and not torch.allclose(masked, weights.new_zeros(()))


def test_unscaled_attention_equals_scores_without_the_division():
    plain, unscaled = Attention(16, 2).double(), Attention(16, 2, scaled=False).double()
    unscaled.load_state_dict(plain.state_dict())
    with torch.no_grad():
        plain.project_in.weight[:16] *= 8**0.5  # queries √part times larger
        plain.project_in.bias[:16] *= 8**0.5
    assert torch.allclose(plain(tokens()), unscaled(tokens()), atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"groups": 2}, {"part": 3}, {"context_width": 16}])
def test_the_weights_that_make_queries_make_them_all_and_nothing_else(options):
    attention = Attention(16, 4, bias=False, **options).double()
    _, *before = attention.project(tokens(), tokens(), None, None)
    with torch.no_grad():
        attention.queries.zero_()
    query, *after = attention.project(tokens(), tokens(), None, None)
    assert not query.any() and all(map(torch.equal, before, after))


def test_neighbouring_query_heads_share_a_key_head():
    parts = torch.arange(2.0).reshape(1, 2, 1, 1)
    assert share(parts, 6).flatten().tolist() == [0, 0, 0, 1, 1, 1]
    with pytest.raises(ValueError, match="5 query heads cannot share 2 key heads"):
        share(parts, 5)
    with pytest.raises(ValueError, match="4 query heads cannot share 3 key heads"):
        Attention(16, 4, groups=3)


def test_the_cache_never_touches_what_it_was_given():
    key, value = torch.randn(2, 1, 2, 3, 4)
    old = extend_cache(None, key, value)
    longer = extend_cache(old, key, value)
    assert longer[0].shape == (1, 2, 6, 4) and old[0].shape == (1, 2, 3, 4)


def test_a_block_hands_mask_and_cache_to_its_attention():
    block, whole = Block(16, 4, 32).double(), tokens()
    expected, cache = block(whole, mask=CAUSAL), Cache()
    pieces = [block(piece, cache=cache) for piece in whole.split(1, dim=1)]
    assert torch.allclose(torch.cat(pieces, dim=1), expected, atol=1e-12)
    with record_attention(block) as record:
        block(whole, mask=CAUSAL)
    assert (record[0][..., ~CAUSAL] == 0).all()


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_single_token_looks_where_it_would_look_among_the_others(groups):
    attention, whole = Attention(16, 4, groups=groups, bias=False).double(), tokens()
    hidden = torch.tensor([[True] * 6, [False, False] + [True] * 4])[
        :, None, None
    ]  # the second text is padded
    with record_attention(attention) as all_at_once:
        expected = attention(whole, hidden.expand(-1, -1, 6, -1))[:, -1:]
    cache = Cache()
    attention(whole[:, :5], cache=cache)
    with record_attention(attention) as alone:
        torch.testing.assert_close(attention(whole[:, 5:], hidden, cache=cache), expected)
    torch.testing.assert_close(alone[0], all_at_once[0][:, :, -1:])


def test_what_is_kept_of_chosen_texts_is_theirs_in_their_order():
    attention, cache, empty = Attention(16, 2).double(), Cache(), Cache()
    attention(tokens(), cache=cache)
    kept = cache.past
    cache.select([1, 0, 1])
    for part, before in zip(cache.past, kept, strict=True):
        assert torch.equal(part, torch.stack([before[1], before[0], before[1]]))
    empty.select([0])
    assert empty.past is None and empty.length == 0
