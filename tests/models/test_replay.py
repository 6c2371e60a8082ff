"""A recording writes what the model writes, and notices what it must not sleep through."""

import pytest
import torch

from vlmcourse.models import language
from vlmcourse.models.attention import Cache, record_attention
from vlmcourse.models.generation import generate
from vlmcourse.models.gpt import GPT, GPTConfig
from vlmcourse.models.language import Llama, LlamaConfig
from vlmcourse.models.replay import Replay

MODELS = {
    "llama": lambda: Llama(LlamaConfig(64, 32, 2, 4, 2)),
    "gpt": lambda: GPT(GPTConfig(64, 32, 2, 4, positions=64)),
}


def new(name: str):
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # otherwise every text repeats one token
    return model


@pytest.fixture(params=MODELS)
def model(request):
    return new(request.param)


def prompts(batch: int = 3) -> torch.Tensor:
    return torch.randint(64, (batch, 6), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "how", [{}, {"temperature": 1.0, "seed": 3}, {"eos": 5, "temperature": 1.5, "seed": 1}]
)
def test_the_same_tokens_with_and_without(model, how):
    replay = Replay(model)
    for batch in (1, 3, 1):  # each number of texts has its own recording
        plain = generate(model, prompts(batch), steps=40, **how)
        assert torch.equal(plain, generate(model, prompts(batch), steps=40, replay=replay, **how))
    assert len(replay.recorded) <= 2


def test_padded_prompts(model):
    mask = torch.ones(3, 6, dtype=torch.bool)
    mask[0, :4] = mask[1, :1] = False
    plain = generate(model, prompts(), mask=mask, steps=40)
    assert torch.equal(plain, generate(model, prompts(), mask=mask, steps=40, replay=Replay(model)))


def test_scores_and_caches_are_those_of_the_model(model):
    caches = [[Cache() for _ in model.blocks] for _ in range(2)]
    for each in caches:
        model.hidden(prompts(), caches=each)
    replay, new = Replay(model), prompts()[:, :1]
    for _ in range(3):
        wanted = model.head(model.hidden(new, caches=caches[0])[:, -1])
        torch.testing.assert_close(replay(new, None, caches[1]), wanted, atol=1e-5, rtol=1e-5)
    for one, other in zip(*caches, strict=True):
        torch.testing.assert_close(one.past, other.past, atol=1e-5, rtol=1e-5)


def test_new_weights_are_read(model):
    replay = Replay(model)
    first = generate(model, prompts(), steps=20, replay=replay)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(-1.3)
    plain = generate(model, prompts(), steps=20)
    assert not torch.equal(first, plain) and torch.equal(
        plain, generate(model, prompts(), steps=20, replay=replay)
    )


def test_a_new_function_behind_a_slot_is_heard():
    model = new("llama")
    replay, given = Replay(model), prompts(1)
    before = generate(model, given, steps=20, replay=replay)
    language.rms_norm.install(
        lambda tokens, scale, epsilon: -2 * language.rms_norm.reference(tokens, scale, epsilon)
    )
    try:
        plain = generate(model, given, steps=20)
        assert torch.equal(plain, generate(model, given, steps=20, replay=replay)) and not torch.equal(
            plain, before
        )
    finally:
        language.rms_norm.reset()


def test_a_function_that_decides_by_the_length_is_refused():
    model = new("llama")

    def moody(parts, angles):
        return language.rope.reference(parts, angles if angles.max() < 8 else 3 * angles + 1)

    language.rope.install(moody)
    try:
        with pytest.raises(RuntimeError, match="decides by the length"):
            generate(model, prompts(1), steps=20, replay=Replay(model))
    finally:
        language.rope.reset()


def test_close_to_the_longest_text_a_shorter_one_is_the_check():
    model = new("gpt")
    given = torch.randint(64, (2, 50), generator=torch.Generator().manual_seed(2))
    mask = torch.arange(50) >= torch.tensor([[0], [37]])
    for how in ({}, {"mask": mask}):
        plain = generate(model, given, steps=14, **how)
        assert torch.equal(plain, generate(model, given, steps=14, replay=Replay(model), **how))
    original = model.blocks[0].forward

    def moody(tokens, *, cache, **how):
        return original(tokens if cache.length < 40 else 2 * tokens, cache=cache, **how)

    model.blocks[0].forward = moody
    with pytest.raises(RuntimeError, match="decides by the length"):
        generate(model, given, steps=4, replay=Replay(model))


def test_attention_can_be_recorded_meanwhile(model):
    replay = Replay(model)
    generate(model, prompts(1), steps=4, replay=replay)
    with record_attention(model) as seen:
        generate(model, prompts(1), steps=4, replay=replay)
    assert len(seen) == 4 * len(model.blocks)


def test_a_text_that_is_too_long_is_named_as_ever():
    with pytest.raises(ValueError, match="too long for this GPT"):
        model = MODELS["gpt"]()
        generate(model, prompts(1), steps=60, replay=Replay(model))


def test_what_a_replay_cannot_do_is_said(model):
    for wrong in ({"cached": False}, {"images": torch.zeros(1, 3, 8, 8)}):
        with pytest.raises(ValueError, match="a replay is of one language model"):
            generate(model, prompts(1), steps=2, replay=Replay(model), **wrong)
    with pytest.raises(ValueError, match="a replay is of one language model"):
        generate(model, prompts(1), steps=2, replay=Replay(MODELS["llama"]()))
