"""Our T5 equals transformers' T5ForConditionalGeneration: scores, loss, gradients and greedy text, relu and
gated."""

import pytest
import torch
import transformers
from torch.nn import functional as F

from tests.parity.library import (
    VOCABULARY,
    assert_equal,
    assert_equal_gradients,
    from_folder,
    padding,
    randomised,
    texts,
)
from vlmcourse.interop.language import from_transformers
from vlmcourse.training.checkpoints import CheckpointError

KINDS = {
    "T5": {},
    "T5 1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},  # Flan-T5's options as well
}


def library(kind: str) -> transformers.T5ForConditionalGeneration:
    config = transformers.T5Config(
        vocab_size=VOCABULARY,
        d_model=64,
        d_kv=12,
        d_ff=112,
        num_layers=3,
        num_decoder_layers=2,
        num_heads=4,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=12,
        decoder_start_token_id=0,
        **KINDS[kind],
    )
    theirs = transformers.T5ForConditionalGeneration(config)
    if kind != "T5":  # the published ones have a head of their own, a new one does not
        theirs.lm_head.weight = torch.nn.Parameter(torch.randn(VOCABULARY, 64))
    return randomised(theirs)


@pytest.fixture(params=KINDS)
def theirs(request):
    return library(request.param)


def mask(real) -> dict:
    return {} if real is None else {"attention_mask": real.long()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("side", ["none", "right", "left"])
def test_scores_loss_and_gradients(theirs, side, dtype):
    mine, theirs, real = from_transformers(theirs).to(dtype), theirs.to(dtype), padding(side)
    labels = texts(3, 17, seed=7)
    labels[0, 9:] = -100
    logits, output = mine(texts(), labels, real), theirs(texts(), labels=labels, **mask(real))
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
    assert_equal(logits, output.logits)
    assert_equal(loss, output.loss)
    loss.backward()
    output.loss.backward()
    assert_equal_gradients(mine, theirs)


@pytest.mark.parametrize("side", ["none", "right"])
def test_greedy_text(theirs, side):
    mine, real = from_transformers(theirs), padding(side)
    free = mine.generate(texts(), mask=real, steps=25, eos=None)
    for eos in (VOCABULARY - 1, int(free[1, 3])):
        theirs.generation_config.eos_token_id = eos
        settings = {"max_new_tokens": 25, "do_sample": False, "eos_token_id": eos, "pad_token_id": 0}
        text = mine.generate(texts(), mask=real, steps=25, eos=eos)
        assert torch.equal(text, theirs.generate(texts(), **mask(real), **settings))


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_folder_loads(kind, tmp_path):
    theirs = library(kind)
    theirs.save_pretrained(tmp_path)
    labels = texts(3, 17, seed=7)
    with torch.no_grad():
        mine = from_folder(tmp_path, type(theirs))
        assert_equal(mine(texts(), labels), theirs(texts(), labels=labels).logits)


def test_a_head_that_was_not_saved_is_the_embedding(tmp_path):
    theirs = transformers.T5ForConditionalGeneration(library("T5 1.1").config)
    theirs.save_pretrained(tmp_path)
    mine = from_folder(tmp_path, type(theirs))
    assert not mine.config.tied and torch.equal(mine.head.weight, mine.embedding.weight)


def test_every_key_counts(theirs):
    theirs.decoder.block[1].surprise = torch.nn.Linear(2, 2)
    with pytest.raises(CheckpointError, match=r"unexpected: decoder\.block\.1\.surprise\.bias"):
        from_transformers(theirs)


def test_options_that_ours_does_not_have_are_named():
    config = transformers.T5Config(
        d_model=64, num_layers=1, feed_forward_proj="gated-silu", decoder_start_token_id=0
    )
    with pytest.raises(
        ValueError, match="our t5 needs feed_forward_proj = 'relu'; this one has 'gated-silu'"
    ):
        from_transformers(transformers.T5ForConditionalGeneration(config))
