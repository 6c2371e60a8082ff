"""Our BLIP-2 equals transformers': Q-Former, stage 1's scores, and the whole with a LLaMA and with a T5."""

import pytest
import torch
import transformers

from tests.parity.library import assert_equal, assert_equal_gradients, padding, randomised
from vlmcourse.interop.blip2 import from_transformers
from vlmcourse.models.generation import generate
from vlmcourse.models.qformer import best_query

TOKEN, START, END = 96, 0, 1
QUERIES = 5
VISION = dict(hidden_size=24, intermediate_size=30, num_hidden_layers=2, num_attention_heads=4, image_size=12,
              patch_size=4, hidden_act="gelu")  # fmt: skip
QFORMER = dict(vocab_size=97, hidden_size=36, intermediate_size=40, num_hidden_layers=3,
               num_attention_heads=3, max_position_embeddings=40, hidden_act="gelu")  # fmt: skip
IMAGES = torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(3))
LLAMA = transformers.LlamaConfig(
    vocab_size=97, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, bos_token_id=None, eos_token_id=None, pad_token_id=None,
)  # fmt: skip
T5_SIZES = dict(
    vocab_size=97, d_model=32, d_kv=8, d_ff=40, num_layers=2, num_decoder_layers=2, num_heads=4,
    pad_token_id=START, eos_token_id=END, decoder_start_token_id=START,
)  # fmt: skip
T5 = transformers.T5Config(**T5_SIZES)


def library(kind, text=LLAMA, every=2, **qformer):
    config = transformers.Blip2Config(
        vision_config=VISION, qformer_config=QFORMER | dict(cross_attention_frequency=every) | qformer,
        num_query_tokens=QUERIES, text_config=text.to_dict(), image_text_hidden_size=10,
        tie_word_embeddings=text.tie_word_embeddings,
        image_token_index=None if kind == "Blip2ForImageTextRetrieval" else TOKEN,
    )  # fmt: skip
    theirs = getattr(transformers, kind)(config)
    if text.model_type == "t5" and not text.scale_decoder_outputs:  # as in Flan-T5; tied by the library
        head = theirs.language_model.lm_head
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
    randomised(theirs)
    torch.nn.init.normal_(theirs.query_tokens)
    return theirs


def texts(token=12):
    return torch.randint(3, TOKEN, (3, token), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("match", [True, False])
def test_stage_1_matches_and_contrasts(match, every):
    theirs = library("Blip2ForImageTextRetrieval", every=every, use_qformer_text_input=True)
    ids, real = texts(), padding("right", 3, 12)
    mine = from_transformers(theirs)
    his = theirs(IMAGES, ids, real.long(), use_image_text_matching_head=match).logits_per_image
    features = mine.image_features(IMAGES)
    if match:
        ours, idle = mine.match_scores(features, ids, real), ("project_", "qformer.blocks.2.mlp.")
    else:
        ours, idle = best_query(mine.image_vectors(features), mine.text_vectors(ids, real)), ("match.",)
    assert_equal(ours, his)
    ours.square().mean().backward()
    his.square().mean().backward()
    assert_equal_gradients(mine, theirs, from_transformers, idle)


def prompts(answer=()):
    """Image, question and answer."""
    ids = texts(14)
    ids[:, :QUERIES] = TOKEN
    ids[:, 9] = START
    return ids


@pytest.mark.parametrize("tied", [False, True])
def test_with_a_llama(tied):
    text = transformers.LlamaConfig(**LLAMA.to_dict() | dict(tie_word_embeddings=tied))
    theirs, ids = library("Blip2ForConditionalGeneration", text), prompts()
    mine = from_transformers(theirs)
    ours, his = mine(ids, IMAGES), theirs(IMAGES, ids).logits
    assert_equal(ours, his)
    assert (mine(ids, IMAGES.flip(0)) - ours).abs().max() > 0.01
    expected = theirs.generate(IMAGES, ids[:, :9], max_new_tokens=10, do_sample=False, pad_token_id=0)
    written = generate(mine, ids[:, :9], images=IMAGES, steps=10)
    assert torch.equal(written[:, -10:], expected[:, -10:])
    ours.square().mean().backward()
    his.square().mean().backward()
    assert_equal_gradients(mine, theirs, from_transformers)


@pytest.mark.parametrize("gated", [False, True])
def test_with_a_t5(gated):
    form = dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False) if gated else {}
    text = transformers.T5Config(**T5_SIZES, **form)
    theirs, ids = library("Blip2ForConditionalGeneration", text), prompts()
    mine = from_transformers(theirs)
    his = theirs(IMAGES, ids[:, :9], decoder_input_ids=ids[:, 9:]).logits
    ours = mine(ids, IMAGES)[:, 9:]
    assert_equal(ours, his)
    ours.square().mean().backward()
    his.square().mean().backward()
    assert_equal_gradients(mine, theirs, from_transformers)


@pytest.mark.parametrize("cached", [True, False])
def test_written_answers_of_a_t5_are_the_same(cached):
    theirs, ids = library("Blip2ForConditionalGeneration", T5), prompts()
    mine = from_transformers(theirs)
    expected = theirs.generate(IMAGES, ids[:, :9], max_new_tokens=8, do_sample=False, eos_token_id=None)
    written = generate(mine, ids[:, :10], images=IMAGES, steps=8, cached=cached)
    assert torch.equal(written[:, 9:], expected)


@pytest.mark.parametrize("part, option", [
    ("qformer_config", dict(hidden_act="tanh")), ("vision_config", dict(qkv_bias=False)),
    ("text_config", dict(model_type="opt")),
])  # fmt: skip
def test_what_ours_does_not_have_is_refused_by_name(part, option):
    theirs = library("Blip2ForConditionalGeneration")
    ((name, value),) = option.items()
    object.__setattr__(getattr(theirs.config, part), name, value)
    with pytest.raises(ValueError, match=str(value) if name == "model_type" else name):
        from_transformers(theirs)
