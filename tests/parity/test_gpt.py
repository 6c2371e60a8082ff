"""Our GPT equals transformers' GPT2LMHeadModel: scores, gradients, cache and greedy text, padded and not."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.parity.decoders import DecoderParity
from tests.parity.library import assert_equal, from_folder, gpt, texts
from vlmcourse.interop.language import from_transformers
from vlmcourse.training.checkpoints import CheckpointError


class TestGPT(DecoderParity):
    @pytest.fixture(params=[{}, {"n_inner": None, "n_head": 2}], ids=["narrow", "usual"])
    def theirs(self, request):
        return gpt(**request.param)


def expected(theirs) -> torch.Tensor:
    with torch.no_grad():
        return theirs(texts()).logits


def test_a_saved_folder_loads(tmp_path):
    theirs = gpt()
    theirs.save_pretrained(tmp_path)
    with torch.no_grad():
        assert_equal(from_folder(tmp_path, type(theirs))(texts()), expected(theirs))


def test_the_hubs_older_layout_loads(tmp_path):
    """The published gpt2 has no prefix, and carries its causal masks along."""
    theirs = gpt()
    theirs.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    state = {key.removeprefix("transformer."): value for key, value in load_file(file).items()}
    state |= {f"h.{layer}.attn.bias": torch.ones(1, 1, 80, 80).tril() for layer in range(2)}
    state |= {f"h.{layer}.attn.masked_bias": torch.tensor(-1e4) for layer in range(2)}
    save_file(state, file, {"format": "pt"})
    with torch.no_grad():
        assert_equal(from_folder(tmp_path, type(theirs))(texts()), expected(theirs))


def test_every_key_counts():
    theirs = gpt()
    theirs.transformer.h[1].surprise = torch.nn.Linear(2, 2)
    with pytest.raises(CheckpointError, match=r"unexpected: transformer\.h\.1\.surprise\.bias"):
        from_transformers(theirs)


def test_names_of_one_tensor_must_agree():
    theirs = gpt()
    theirs.lm_head.weight = torch.nn.Parameter(torch.randn(97, 64))
    with pytest.raises(CheckpointError, match=r"wte\.weight and lm_head\.weight should be one tensor"):
        from_transformers(theirs)


def test_options_that_ours_does_not_have_are_named():
    with pytest.raises(
        ValueError, match="our gpt2 needs activation_function = 'gelu_new'; this one has 'relu'"
    ):
        from_transformers(gpt(activation_function="relu"))
