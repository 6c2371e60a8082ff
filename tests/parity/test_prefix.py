"""Our prefix mask and token injection equal PaliGemma's: scores and gradients; without token types it is a
decoder."""

import pytest
import torch
import transformers

from tests.parity.library import assert_equal, assert_equal_gradients, padding, randomised
from vlmcourse.interop.language import from_transformers
from vlmcourse.models.fusion import inject
from vlmcourse.models.language import prefix_mask
from vlmcourse.models.look import causal, prefixed

TOKEN, PATCHES = 96, 4


def library() -> transformers.PaliGemmaForConditionalGeneration:
    """PaliGemma's class around a LLaMA, so that nothing differs but the way image and words meet."""
    torch.manual_seed(0)
    size = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
    vision = transformers.SiglipVisionConfig(**size, image_size=16, patch_size=8)
    text = transformers.LlamaConfig(
        vocab_size=97, hidden_size=64, intermediate_size=112, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=False, bos_token_id=None, eos_token_id=None)  # fmt: skip
    text.use_bidirectional_attention = False  # a question that PaliGemma asks of a Gemma
    config = transformers.PaliGemmaConfig(
        vision_config=vision, text_config=text, image_token_index=TOKEN, projection_dim=64, hidden_size=64,
        tie_word_embeddings=False)  # fmt: skip
    model = transformers.PaliGemmaForConditionalGeneration(config)
    model.set_attn_implementation("eager")  # which tells its attention weights
    return randomised(model)


def inputs(side: str) -> tuple[torch.Tensor, ...]:
    """Three texts: an image, 5, 4 or 3 tokens of a question, an answer; True in the prefix, image and
    question."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(3, TOKEN, (3, 24), generator=generator)
    real = padding(side, 3, 24)
    real = torch.ones(3, 24, dtype=torch.bool) if real is None else real
    prefix = torch.zeros_like(real)
    for row, start in enumerate(real.int().argmax(dim=1).tolist()):
        ids[row, start : start + PATCHES] = TOKEN
        prefix[row, start : start + PATCHES + 5 - row] = True
    return ids * real, real, prefix, torch.randn(3, 3, 16, 16, generator=generator)


def both(side: str, with_prefix: bool = True) -> tuple:
    theirs, (ids, real, prefix, images) = library(), inputs(side)
    more = {"token_type_ids": (~prefix).long()} if with_prefix else {}
    positions = (real.long().cumsum(1) - 1).clamp(min=0)
    output = theirs(input_ids=ids, pixel_values=images, attention_mask=real.long(), position_ids=positions,
                    output_attentions=True, **more)  # fmt: skip
    language = transformers.LlamaForCausalLM(theirs.config.text_config)
    language.model, language.lm_head = theirs.model.language_model, theirs.lm_head
    mine = from_transformers(language)
    with torch.no_grad():
        features = theirs.model.get_image_features(images).pooler_output
    embeddings = inject(mine.embed(ids), features, ids == TOKEN)
    logits = mine(embeddings, (prefixed(prefix, real=real) if with_prefix else causal(24, real=real)))
    return mine, language, logits, output, real, prefix


@pytest.mark.parametrize("side", ["none", "left", "right"])
@pytest.mark.parametrize("with_prefix", [True, False])
def test_scores_and_gradients(side, with_prefix):
    mine, language, logits, output, real, _ = both(side, with_prefix)
    assert_equal(logits[real], output.logits[real])
    logits[real].square().mean().backward()
    output.logits[real].square().mean().backward()
    assert_equal_gradients(mine, language)


@pytest.mark.parametrize("side", ["none", "left"])
def test_who_looks_at_whom(side):
    *_, output, real, prefix = both(side)
    looks = output.attentions[0].amax(dim=1) > 0
    seen = real[:, :, None] & real[:, None]
    assert torch.equal(looks & seen, prefix_mask(prefix) & seen)


def test_the_prefix_counts():
    assert (both("none")[2] - both("none", with_prefix=False)[2]).abs().max() > 0.1
