"""What generation promises; that greedy text equals transformers' token for token is in tests/parity."""

import pytest
import torch
from transformers.generation import TopPLogitsWarper

from vlmcourse.models.generation import generate, top_p
from vlmcourse.models.gpt import GPT, GPTConfig
from vlmcourse.models.language import Llama, LlamaConfig


@pytest.fixture(params=["gpt", "llama"])
def model(request):
    torch.manual_seed(0)
    made = (
        GPT(GPTConfig(31, 24, 2, 3, positions=40))
        if request.param == "gpt"
        else Llama(LlamaConfig(31, 24, 2, 6))
    )
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, 1.0 if parameter.dim() == 1 else 0.0, 0.4)
    return made.eval()


PROMPTS = torch.tensor([[0, 0, 5, 7], [3, 8, 9, 2], [0, 4, 4, 1]])
REAL = PROMPTS != 0


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("nucleus", [0.1, 0.5, 0.9, 1.0])
def test_top_p_equals_transformers(temperature, nucleus):
    logits = 3 * torch.randn(5, 40, generator=torch.Generator().manual_seed(2))
    theirs = TopPLogitsWarper(nucleus)(None, logits / temperature).softmax(-1)
    mine = top_p(logits, temperature, nucleus)
    assert torch.allclose(mine, theirs, atol=1e-6)
    assert torch.equal(mine > 0, theirs > 0)


def test_the_token_that_crosses_the_line_is_in_the_nucleus():
    logits = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log()
    assert torch.allclose(top_p(logits, 1.0, 0.6), torch.tensor([[2 / 3, 1 / 3, 0.0, 0.0]]))
    assert torch.allclose(top_p(logits, 1.0, 0.01), torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    assert top_p(logits, 0.0, 1.0).tolist() == [[1.0, 0.0, 0.0, 0.0]]


def test_the_cache_changes_nothing(model):
    for choice in ({}, {"temperature": 1.0, "top_p": 0.9, "seed": 3}):
        with_cache = generate(model, PROMPTS, mask=REAL, steps=12, **choice)
        assert torch.equal(with_cache, generate(model, PROMPTS, mask=REAL, steps=12, cached=False, **choice))
        assert with_cache.shape == (3, 16) and torch.equal(with_cache[:, :4], PROMPTS)


def test_a_prompt_is_continued_the_same_alone_and_padded_among_others(model):
    together = generate(model, PROMPTS, mask=REAL, steps=10)
    for row, prompt in enumerate(PROMPTS):
        alone = generate(model, prompt[REAL[row]][None], steps=10)
        assert torch.equal(together[row, -10:], alone[0, -10:])


def test_greedy_takes_the_best_token_at_every_step(model):
    text = generate(model, PROMPTS, mask=REAL, steps=8)
    real = torch.nn.functional.pad(REAL, (0, 8), value=True)
    with torch.no_grad():
        assert torch.equal(model(text, mask=real)[:, 3:-1].argmax(-1), text[:, 4:])


def test_after_the_end_comes_padding_and_writing_stops_when_all_have_ended(model):
    endless = generate(model, PROMPTS, mask=REAL, steps=12)[:, 4:]
    eos = int(endless[0, 2])
    ended = generate(model, PROMPTS, mask=REAL, steps=12, eos=eos, pad=30)[:, 4:]
    ends = []
    for row, free in zip(ended, endless, strict=True):
        hits = (free == eos).nonzero().flatten().tolist()
        end = hits[0] + 1 if hits else 12
        assert torch.equal(row[:end], free[:end]) and (row[end:] == 30).all()
        ends.append(end)
    assert ended.shape[1] == max(ends)
    alone = generate(model, PROMPTS[:1], mask=REAL[:1], steps=12, eos=eos)
    assert alone.shape[1] == 4 + ends[0] < 16


def test_a_seed_repeats_its_text_and_another_writes_another(model):
    texts = [generate(model, PROMPTS, mask=REAL, steps=15, temperature=3.0, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(texts[0], texts[1]) and not torch.equal(texts[0], texts[2])


def test_samples_follow_the_probabilities(model):
    prompt = torch.tensor([[3, 8]])
    with torch.no_grad():
        expected = top_p(model(prompt)[:, -1], 1.0, 0.8)[0]
    drawn = generate(model, prompt.expand(4000, 2), steps=1, temperature=1.0, top_p=0.8, seed=0)[:, -1]
    shares = torch.bincount(drawn, minlength=31) / 4000
    assert (shares[expected == 0] == 0).all() and (shares - expected).abs().max() < 0.03


def test_what_makes_no_sense_is_refused(model):
    with pytest.raises(
        ValueError, match=r"temperature must be at least 0 and top_p in \(0, 1\], not -1 and 1.0"
    ):
        generate(model, PROMPTS, steps=1, temperature=-1)
    with pytest.raises(ValueError, match=r"not 1\.0 and 0$"):
        generate(model, PROMPTS, steps=1, temperature=1.0, top_p=0)
    with pytest.raises(ValueError, match="padded on the right"):
        generate(model, PROMPTS.flip(1), mask=REAL.flip(1), steps=1)
