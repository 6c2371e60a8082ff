"""The promises that our GPT and LLaMA keep alike; test_gpt and test_llama run them on the library's
models."""

import pytest
import torch
from torch import nn

from tests.parity.library import assert_equal, assert_equal_gradients, padding, texts
from vlmcourse.interop.language import from_transformers
from vlmcourse.models.attention import Cache
from vlmcourse.models.generation import generate
from vlmcourse.models.language import next_token_loss


def library_inputs(ids: torch.Tensor, real: torch.Tensor | None) -> dict:
    """What transformers needs to be told of padding; it does not derive the positions from the mask by
    itself."""
    if real is None:
        return {"input_ids": ids}
    positions = (real.long().cumsum(1) - 1).clamp(min=0)
    return {"input_ids": ids, "attention_mask": real.long(), "position_ids": positions}


class DecoderParity:
    """Subclass with a fixture ``theirs`` that gives a randomised library model."""

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("side", ["none", "left", "right"])
    def test_outputs_and_gradients(self, theirs: nn.Module, side, dtype):
        ids, real = texts(), padding(side)
        mine, theirs = from_transformers(theirs).to(dtype), theirs.to(dtype)
        labels = ids if real is None else ids.masked_fill(~real, -100)
        logits, output = mine(ids, mask=real), theirs(**library_inputs(ids, real), labels=labels)
        keep = torch.ones_like(ids, dtype=torch.bool) if real is None else real
        assert_equal(logits[keep], output.logits[keep])
        loss = next_token_loss(logits, ids, real)
        if (
            side != "left"
        ):  # transformers' loss also asks for the first real token, given the padding before it
            assert_equal(loss, output.loss)
        direction = torch.randn(logits[keep].shape, dtype=dtype, generator=torch.Generator().manual_seed(3))
        (logits[keep] * direction).mean().backward()
        (output.logits[keep] * direction).mean().backward()
        assert_equal_gradients(mine, theirs)

    @pytest.mark.parametrize("side", ["none", "left"])
    def test_cached_scores(self, theirs: nn.Module, side):
        ids, real = texts(), padding(side)
        mine, past, keep = from_transformers(theirs), None, padding(side) if side == "left" else ids > 0
        caches = [Cache() for _ in mine.blocks]
        with torch.no_grad():
            for start, stop in ((0, 14), (14, 19), (19, 20)):
                inputs = library_inputs(ids, real)
                inputs = {name: value[:, start:stop] for name, value in inputs.items()}
                if real is not None:
                    inputs["attention_mask"] = real[:, :stop].long()
                output = theirs(**inputs, past_key_values=past, use_cache=True)
                past = output.past_key_values
                seen = None if real is None else real[:, :stop]
                logits = mine(ids[:, start:stop], mask=seen, caches=caches)
                rows = keep[:, start:stop]
                assert_equal(logits[rows], output.logits[rows])

    @pytest.mark.parametrize("eos", [None, "sometimes"])
    @pytest.mark.parametrize("cached", [True, False])
    def test_greedy_text(self, theirs: nn.Module, eos, cached):
        mine, ids, real = from_transformers(theirs), texts(5, 20), padding("left", 5, 20)
        ids = ids * real
        settings = {
            "attention_mask": real.long(),
            "max_new_tokens": 30,
            "do_sample": False,
            "pad_token_id": 0,
        }
        if eos:  # a token that some prompts reach early and others late or never
            free = generate(mine, ids, mask=real, steps=30)[:, 20:]
            counts = (free[:, :, None] == torch.arange(97)).any(1).sum(0)
            eos = int(counts.masked_fill(counts == 5, 0).argmax())
            assert 0 < counts[eos] < 5
        settings["eos_token_id"] = eos
        theirs.generation_config.eos_token_id = eos
        text = generate(mine, ids, mask=real, steps=30, eos=eos, cached=cached)
        assert torch.equal(text, theirs.generate(ids, **settings))
        assert len(text[:, 20:].unique()) > 5  # something is being said
