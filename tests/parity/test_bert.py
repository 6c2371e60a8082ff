"""Our BERT equals transformers' BertModel and BertForMaskedLM: outputs, pooled vector, loss and gradients."""

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
from vlmcourse.models.bert import mask_tokens
from vlmcourse.training.checkpoints import CheckpointError

SEGMENTS = (torch.arange(20) > 8).long().expand(3, 20)


def library(kind=transformers.BertModel, **options):
    config = {"hidden_size": 64, "intermediate_size": 112, "num_hidden_layers": 2, "num_attention_heads": 4,
              "max_position_embeddings": 32} | options  # fmt: skip
    return randomised(kind(transformers.BertConfig(vocab_size=VOCABULARY, **config)))


def library_inputs(real) -> dict:
    mask = {} if real is None else {"attention_mask": real.long()}
    return {"input_ids": texts(), "token_type_ids": SEGMENTS, **mask}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("side", ["none", "right", "left"])
def test_outputs_and_gradients(side, dtype):
    theirs, real = library(), padding(side)
    mine, theirs = from_transformers(theirs).to(dtype), theirs.to(dtype)
    tokens, output = mine(texts(), SEGMENTS, real), theirs(**library_inputs(real))
    pooled, keep = mine.pooled(tokens), texts() > 0 if real is None else real
    assert_equal(tokens[keep], output.last_hidden_state[keep])
    assert_equal(pooled, output.pooler_output)
    direction = torch.randn(tokens[keep].shape, dtype=dtype, generator=torch.Generator().manual_seed(3))
    ((tokens[keep] * direction).mean() + pooled.mean()).backward()
    ((output.last_hidden_state[keep] * direction).mean() + output.pooler_output.mean()).backward()
    assert_equal_gradients(mine, theirs)


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_masked_language_model_loss_and_gradients(activation):
    theirs, real = library(transformers.BertForMaskedLM, hidden_act=activation), padding("right")
    mine, chosen = from_transformers(theirs), torch.rand(3, 20, generator=torch.Generator().manual_seed(5))
    inputs, labels = mask_tokens(texts(), chosen / 3, chosen, texts(seed=6), 2, ~real)
    assert (labels >= 0).sum() > 5
    logits, output = (
        mine(inputs, SEGMENTS, real),
        theirs(**library_inputs(real) | {"input_ids": inputs}, labels=labels),
    )
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
    assert_equal(logits[real], output.logits[real])
    assert_equal(loss, output.loss)
    loss.backward()
    output.loss.backward()
    assert_equal_gradients(mine, theirs)


@pytest.mark.parametrize("kind", [transformers.BertModel, transformers.BertForMaskedLM])
def test_a_saved_folder_loads(kind, tmp_path):
    theirs = library(kind)
    theirs.save_pretrained(tmp_path)
    with torch.no_grad():
        assert_equal(from_folder(tmp_path, kind)(texts(), SEGMENTS), theirs(**library_inputs(None))[0])


def test_without_segments_all_belongs_to_the_first_text_and_the_pooler_is_optional():
    config = transformers.BertConfig(
        vocab_size=VOCABULARY, hidden_size=64, num_hidden_layers=1, num_attention_heads=4
    )
    theirs = randomised(transformers.BertModel(config, add_pooling_layer=False))
    with torch.no_grad():
        assert_equal(from_transformers(theirs)(texts()), theirs(texts()).last_hidden_state)


def test_every_key_counts():
    theirs = library()
    del theirs.encoder.layer[1].output.dense
    with pytest.raises(CheckpointError, match=r"missing: encoder\.layer\.1\.output\.dense\.bias"):
        from_transformers(theirs)
    with pytest.raises(ValueError, match=r"the course knows .*, not BertForSequenceClassification"):
        from_transformers(library(transformers.BertForSequenceClassification))
