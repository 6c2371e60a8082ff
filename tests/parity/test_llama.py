"""Our Llama equals transformers' LlamaForCausalLM: scores, gradients, cache and greedy text, padded and
not."""

import pytest
import torch

from tests.parity.decoders import DecoderParity
from tests.parity.library import assert_equal, from_folder, llama, padding, texts
from vlmcourse.interop.language import from_transformers
from vlmcourse.training.checkpoints import CheckpointError

KINDS = {"grouped": {}, "one group": {"num_key_value_heads": 1}, "tied": {"tie_word_embeddings": True}}


class TestLlama(DecoderParity):
    @pytest.fixture(params=KINDS)
    def theirs(self, request):
        return llama(**KINDS[request.param])


@pytest.mark.parametrize("scale", [1e-3, 30.0])
def test_no_epsilon_hides(scale):
    theirs, vectors = llama(), scale * torch.randn(2, 9, 64, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        assert_equal(from_transformers(theirs)(embeddings=vectors), theirs(inputs_embeds=vectors).logits)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shards", ["one file", "several"])
def test_a_saved_folder_loads(kind, shards, tmp_path):
    theirs = llama(**KINDS[kind])
    theirs.save_pretrained(tmp_path, max_shard_size="5GB" if shards == "one file" else "60KB")
    assert len(list(tmp_path.glob("*.safetensors"))) == 1 or shards == "several"
    with torch.no_grad():
        real = padding("left")
        positions = (real.long().cumsum(1) - 1).clamp(min=0)
        expected = theirs(texts(), attention_mask=real.long(), position_ids=positions).logits
        assert_equal(from_folder(tmp_path, type(theirs))(texts(), mask=real)[real], expected[real])


def test_every_key_counts(tmp_path):
    theirs = llama()
    theirs.model.layers[1].surprise = torch.nn.Linear(2, 2)
    with pytest.raises(CheckpointError, match=r"unexpected: model\.layers\.1\.surprise\.bias"):
        from_transformers(theirs)
    theirs = llama()
    del theirs.model.layers[0].mlp.up_proj
    with pytest.raises(CheckpointError, match=r"missing: model\.layers\.0\.mlp\.up_proj\.weight"):
        from_transformers(theirs)
    with pytest.raises(FileNotFoundError, match=r"has no config\.json"):
        from_folder(tmp_path, type(theirs))


@pytest.mark.parametrize("option", [
    {"attention_bias": True}, {"hidden_act": "gelu"}, {"head_dim": 24},
    {"rope_parameters": {"rope_theta": 5000.0, "rope_type": "linear", "factor": 2.0}},
])  # fmt: skip
def test_options_that_ours_does_not_have_are_named(option):
    with pytest.raises(ValueError, match="our llama") as refused:
        from_transformers(llama(**option))
    assert "rope_type 'linear'" in str(refused.value) or next(iter(option)) in str(refused.value)
