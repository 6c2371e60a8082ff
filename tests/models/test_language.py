"""What GPT and LLaMA promise beside being equal to transformers' (that is in tests/parity)."""

import pytest
import torch

from vlmcourse.models.attention import Cache
from vlmcourse.models.gpt import GPT, GPTConfig
from vlmcourse.models.language import (
    Llama,
    LlamaConfig,
    causal_mask,
    next_token_loss,
    prefix_mask,
    rms_norm,
    rope,
    rope_angles,
    swiglu,
)
from vlmcourse.models.look import prefixed

LLAMA = LlamaConfig(vocabulary=23, width=24, depth=2, heads=6, groups=2)
MODELS = {"gpt": lambda: GPT(GPTConfig(23, 24, 2, 3, positions=16)), "llama": lambda: Llama(LLAMA)}


@pytest.fixture(params=MODELS)
def model(request):
    torch.manual_seed(0)
    made = MODELS[request.param]().eval()
    for parameter in made.parameters():  # far from the tiny initial weights, so that every part has its say
        torch.nn.init.normal_(parameter, 1.0 if parameter.dim() == 1 else 0.0, 0.3)
    return made


def ids(*shape):
    return torch.randint(23, shape, generator=torch.Generator().manual_seed(1))


def test_the_last_queries_see_all_keys_before_them():
    assert causal_mask(3, 3).tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert torch.equal(causal_mask(2, 5), causal_mask(5, 5)[3:])


def test_rms_norm_gives_every_vector_the_same_length():
    tokens = torch.randn(3, 4, 10) * torch.tensor([0.1, 1.0, 100.0])[:, None, None]
    normal = rms_norm(tokens, torch.ones(10), 1e-9)
    assert torch.allclose(normal.square().mean(-1), torch.ones(3, 4), atol=1e-5)
    assert torch.allclose(rms_norm(tokens, torch.full((10,), 3.0), 1e-9), 3 * normal)


def test_rms_norm_does_not_overflow_in_half_precision():
    tokens = torch.full((2, 8), 1000.0, dtype=torch.float16)  # the square, a million, is beyond fp16
    normal = rms_norm(tokens, torch.ones(8, dtype=torch.float16), 1e-5)
    assert normal.dtype == torch.float16 and torch.equal(normal, torch.ones_like(normal))


def test_rotated_products_depend_only_on_the_distance():
    query, key = torch.randn(2, 1, 3, 1, 8, dtype=torch.float64)

    def product(place, other):
        turned = [
            rope(x, rope_angles(torch.tensor([[at]]), 8, 100.0)) for x, at in ((query, place), (key, other))
        ]
        return (turned[0] * turned[1]).sum(-1)

    assert torch.allclose(product(7, 4), product(3, 0), atol=1e-5)
    assert not torch.allclose(product(7, 4), product(7, 5), atol=1e-2)


def test_rotation_keeps_lengths_and_leaves_position_zero_alone():
    parts = torch.randn(2, 3, 5, 8)
    turned = rope(parts, rope_angles(torch.arange(5)[None], 8, 10_000.0))
    assert torch.allclose(turned.norm(dim=-1), parts.norm(dim=-1), atol=1e-5)
    assert torch.equal(turned[:, :, 0], parts[:, :, 0]) and not torch.allclose(
        turned[:, :, 1], parts[:, :, 1]
    )
    assert rope(parts.bfloat16(), rope_angles(torch.arange(5)[None], 8, 10_000.0)).dtype == torch.bfloat16


def test_a_closed_gate_lets_nothing_through():
    tokens = torch.randn(2, 3, 4)
    closed = swiglu(tokens, lambda x: torch.full_like(x, -100.0), lambda x: x, lambda x: x)
    opened = swiglu(tokens, lambda x: torch.full_like(x, 100.0), lambda x: x, lambda x: x)
    assert closed.abs().max() < 1e-30 and torch.allclose(opened, 100 * tokens)


def test_no_token_sees_the_future(model):
    text = ids(2, 9)
    other = text.clone()
    other[:, 5:] = (other[:, 5:] + 1) % 23
    assert torch.allclose(model(text)[:, :5], model(other)[:, :5], atol=1e-6)
    assert not torch.allclose(model(text)[:, 5], model(other)[:, 5], atol=1e-2)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_changes_nothing(model, side):
    text, padding = ids(2, 6), torch.zeros(2, 3, dtype=torch.long)
    parts = (padding, text) if side == "left" else (text, padding)
    real = torch.cat([torch.full(part.shape, part is text) for part in parts], dim=1)
    padded = model(torch.cat(parts, dim=1), mask=real)
    assert padded.isfinite().all()
    assert torch.allclose(padded[real], model(text).flatten(0, 1), atol=1e-5)


@pytest.mark.parametrize("pieces", [[1] * 9, [4, 5], [6, 1, 2]])
@pytest.mark.parametrize("padded", [False, True])
def test_a_cache_gives_the_same_scores_in_any_pieces(model, pieces, padded):
    text, real = ids(2, 9), torch.ones(2, 9, dtype=torch.bool)
    real[0, :3] = False
    caches, parts = [Cache() for _ in model.blocks], []
    for piece in text.split(pieces, dim=1):
        seen = caches[0].length + piece.shape[1]
        parts.append(model(piece, mask=real[:, :seen] if padded else None, caches=caches))
    whole = model(text, mask=real if padded else None)
    keep = real if padded else torch.ones_like(real)
    assert torch.allclose(torch.cat(parts, dim=1)[keep], whole[keep], atol=1e-5)
    assert caches[0].length == 9


def test_vectors_may_stand_in_for_ids(model):
    text = ids(2, 5)
    assert torch.equal(model(embeddings=model.embed(text)), model(text))
    with pytest.raises(ValueError, match="either ids or embeddings"):
        model(text, embeddings=model.embed(text))
    with pytest.raises(ValueError, match="either ids or embeddings"):
        model()


def test_a_mask_of_another_length_is_refused(model):
    caches = [Cache() for _ in model.blocks]
    model(ids(2, 5), caches=caches)
    with pytest.raises(ValueError, match="covers 2 tokens; it must cover the 5 cached and 2 new"):
        model(ids(2, 2), mask=torch.ones(2, 2, dtype=torch.bool), caches=caches)


def test_a_gpt_refuses_texts_beyond_its_positions():
    with pytest.raises(ValueError, match="17 tokens is too long for this GPT: 16 at most"):
        MODELS["gpt"]()(ids(1, 17))


def test_the_loss_asks_for_the_next_real_token():
    text = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 0, 0]])
    sure = torch.zeros(2, 5, 23).scatter(
        2, text.roll(-1, 1)[..., None], 50.0
    )  # each position knows what follows
    real = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    assert next_token_loss(sure, text, real) < 1e-6
    assert next_token_loss(torch.zeros(2, 5, 23), text, real).item() == pytest.approx(
        torch.tensor(23.0).log().item()
    )
    sure[1, 2:] = 7 * torch.randn(3, 23)  # what is said before and on padding does not count
    assert next_token_loss(sure, text, real) < 1e-6
    assert next_token_loss(sure, text) > 0.1
    assert torch.equal(next_token_loss(sure, text, real), next_token_loss(sure, text.where(real, -100)))


def test_a_new_model_knows_nothing():
    for name in MODELS:
        loss = next_token_loss(MODELS[name]()(ids(4, 9)), ids(4, 9))
        assert loss.item() == pytest.approx(torch.tensor(23.0).log().item(), abs=0.05)


def test_a_tied_head_is_the_embedding_matrix():
    tied = Llama(LlamaConfig(23, 24, 1, 3, 3, tied=True))
    assert tied.head.weight is tied.embedding.weight
    untied = Llama(LlamaConfig(23, 24, 1, 3, 3))
    assert sum(p.numel() for p in untied.parameters()) - sum(p.numel() for p in tied.parameters()) == 23 * 24


def test_a_prefix_sees_itself_whole_and_the_rest_what_came_before():
    prefix = torch.tensor([[True, True, True, False, False], [False, True, True, False, False]])
    seen = prefix_mask(prefix).int().tolist()
    assert seen[0] == [[1, 1, 1, 0, 0]] * 3 + [[1, 1, 1, 1, 0], [1] * 5]
    assert seen[1] == [[1, 0, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1] * 5]


def test_a_model_with_a_prefix_looks_ahead_there_and_nowhere_else(model):
    ids, prefix = torch.randint(23, (1, 9)), torch.arange(9)[None] < 5
    vectors = model.embed(ids).detach().requires_grad_()
    for query, farthest in ((0, 4), (3, 4), (4, 4), (5, 5), (8, 8)):
        vectors.grad = None
        model(embeddings=vectors, look=prefixed(prefix))[0, query].square().sum().backward()
        assert vectors.grad[0].abs().sum(1).nonzero().flatten().tolist() == list(range(farthest + 1))


def test_a_prefix_in_the_cache_gives_the_same(model):
    ids, prefix, caches = (
        torch.randint(23, (2, 9)),
        (torch.arange(9) < 5).expand(2, 9),
        [Cache() for _ in model.blocks],
    )
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[1, 0] = False
    first = model(ids[:, :6], prefixed(prefix[:, :6], real=mask[:, :6]), caches)
    rest = model(ids[:, 6:], mask=mask, caches=caches)
    whole = model(ids, prefixed(prefix, real=mask))
    torch.testing.assert_close(torch.cat([first, rest], 1)[mask], whole[mask], atol=1e-5, rtol=0)
    with pytest.raises(
        ValueError, match="the look is of 8 tokens among 8; there are 0 cached tokens and 9 new"
    ):
        model(ids, prefixed(prefix[:, :8]))
