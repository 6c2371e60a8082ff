"""Our Llava equals transformers' LlavaForConditionalGeneration: scores, gradients, written text; and
folders open."""

import pytest
import torch
import transformers
from PIL import Image

from tests.parity.library import assert_equal, padding, randomised
from vlmcourse.data.chat import encode, label_mask
from vlmcourse.data.pixels import normalise
from vlmcourse.data.text import END, IMAGE, load_tokenizer
from vlmcourse.interop import hub, llava
from vlmcourse.models.generation import generate
from vlmcourse.models.language import LlamaConfig, next_token_loss
from vlmcourse.models.llava import Llava, LlavaConfig
from vlmcourse.models.vit import ViTConfig

TOKEN = 96


def library(tied=False, layer=-2):
    torch.manual_seed(0)
    vision = transformers.CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
    )
    text = transformers.LlamaConfig(
        vocab_size=97,
        hidden_size=64,
        intermediate_size=112,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = randomised(
        transformers.LlavaForConditionalGeneration(
            transformers.LlavaConfig(
                vision_config=vision,
                text_config=text,
                image_token_index=TOKEN,
                image_seq_length=16,
                vision_feature_layer=layer,
                tie_word_embeddings=tied,
            )
        )
    )
    if not tied:
        model.lm_head.weight.data[TOKEN] = 0  # or a random model writes placeholders
    return model


def inputs(side="none", token=60):
    """Three texts with one, two and no image; those between padding and image are words."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(3, TOKEN, (3, token), generator=generator)
    ids[0, 20:36] = ids[1, 14:30] = ids[1, 31:47] = TOKEN
    real = padding(side, 3, token)
    images = torch.randn(3, 3, 32, 32, generator=generator)
    return ids if real is None else ids * real, real, images


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("layer", [-2, -1])
@pytest.mark.parametrize("side", ["none", "left", "right"])
def test_scores_and_gradients(side, layer, tied):
    theirs, (ids, real, images) = library(tied, layer), inputs(side)
    mine, more = llava.from_transformers(theirs), {}
    if real is not None:
        more = {"attention_mask": real.long(), "position_ids": (real.long().cumsum(1) - 1).clamp(min=0)}
    ours, his = mine(ids, images, mask=real), theirs(input_ids=ids, pixel_values=images, **more).logits
    keep = torch.ones_like(ids, dtype=torch.bool) if real is None else real
    assert_equal(ours[keep], his[keep])
    assert (mine(ids, images.flip(0), mask=real)[keep] - ours[keep]).abs().max() > 0.1  # the images count
    ours[keep].square().mean().backward()
    his[keep].square().mean().backward()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    gradients = dict(llava.from_transformers(theirs).named_parameters())
    for name, parameter in mine.named_parameters():
        if parameter.grad is None:  # the encoder's last norm, and the blocks behind the layer that is read
            assert gradients[name].abs().max() == 0 and name.startswith(("vision.norm.", "vision.blocks.2."))
        else:
            assert_equal(parameter.grad, gradients[name])


@pytest.mark.parametrize("cached", [True, False])
def test_written_text_is_the_same(cached):
    theirs, (ids, real, images) = library(), inputs("left")
    expected = theirs.generate(
        input_ids=ids,
        pixel_values=images,
        attention_mask=real.long(),
        max_new_tokens=24,
        do_sample=False,
        pad_token_id=0,
    )
    mine = generate(llava.from_transformers(theirs), ids, mask=real, images=images, steps=24, cached=cached)
    assert torch.equal(mine, expected) and len(mine[:, 60:].unique()) > 3


def test_rows_end_like_the_library_s():
    theirs, (ids, real, images) = library(), inputs("left")
    given = dict(
        input_ids=ids, pixel_values=images, attention_mask=real.long(), max_new_tokens=24, do_sample=False
    )
    free = theirs.generate(**given, pad_token_id=0)[:, 60:]
    ends = [int(token) for token in free[0, 1:12] if not torch.isin(token, free[0, :1])]
    for end in ends[:3]:
        expected = theirs.generate(**given, pad_token_id=0, eos_token_id=end)
        mine = generate(llava.from_transformers(theirs), ids, mask=real, images=images, steps=24, eos=end)
        assert torch.equal(mine, expected)


@pytest.mark.parametrize("side", ["none", "left", "right"])
def test_the_loss_of_answers_is_the_library_s(side):
    theirs, (ids, real, images) = library(), inputs(side)
    ids[:, 48], ids[:, 55] = 1, 2  # an answer begins and ends; two of the rows hold padding behind or before
    answers = label_mask(ids, start=1, end=2)
    answers &= torch.ones_like(ids, dtype=torch.bool) if real is None else real
    labels, more = torch.where(answers, ids, -100), {}
    if real is not None:
        more = {"attention_mask": real.long(), "position_ids": (real.long().cumsum(1) - 1).clamp(min=0)}
    loss = theirs(input_ids=ids, pixel_values=images, labels=labels, **more).loss
    assert answers.sum() > 10
    assert_equal(next_token_loss(llava.from_transformers(theirs)(ids, images, mask=real), labels), loss)


def test_the_projector_alone():
    theirs = library()
    mine, features = llava.from_transformers(theirs).projector, torch.randn(2, 16, 32)
    assert_equal(mine(features), theirs.model.multi_modal_projector(features))


def nano():
    torch.manual_seed(0)
    vision = ViTConfig(64, 8, width=32, depth=2, heads=4, patch_bias=False, norm_before_blocks=True)
    language = LlamaConfig(len(load_tokenizer()), width=48, depth=2, tied=True)
    return Llava(LlavaConfig(vision, language, IMAGE, layer=-1)).eval()


def test_a_folder_opens_in_transformers_and_comes_back(tmp_path):
    model, pictures = nano(), torch.randint(256, (1, 64, 64, 3), dtype=torch.uint8)
    llava.save_folder(model, tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} <= {".safetensors", ".json", ".jinja"}
    theirs = transformers.LlavaForConditionalGeneration.from_pretrained(tmp_path).eval()
    processor = transformers.AutoProcessor.from_pretrained(tmp_path)
    talk = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what colour is the star?"}]}
    ]
    batch = processor(images=Image.fromarray(pictures[0].numpy()), return_tensors="pt",
                      text=processor.apply_chat_template(talk, add_generation_prompt=True))  # fmt: skip
    chats = encode([[("user", "<image>what colour is the star?")]], model.tokens_per_image, prompt=True)
    assert torch.equal(batch["input_ids"], chats.ids)
    torch.testing.assert_close(batch["pixel_values"], normalise(pictures), atol=1e-6, rtol=0)
    with torch.no_grad():
        ours = model(chats.ids, normalise(pictures), mask=chats.mask)
        torch.testing.assert_close(theirs(**batch).logits, ours, atol=1e-4, rtol=0)
        back = llava.from_transformers(hub.resolve(tmp_path).open(type(theirs)))
        torch.testing.assert_close(back(chats.ids, normalise(pictures)), ours, atol=1e-6, rtol=0)
    written = theirs.generate(**batch, max_new_tokens=8, do_sample=False)
    assert torch.equal(written, generate(model, chats.ids, images=normalise(pictures), steps=8, eos=END))


def test_what_transformers_has_no_place_for_is_named():
    with pytest.raises(ValueError, match="no place for pixel shuffle"):
        llava.to_transformers(Llava(LlavaConfig(nano().config.vision, LlamaConfig(20, 16), IMAGE, shuffle=2)))
    with pytest.raises(ValueError, match="patch bias"):
        llava.to_transformers(Llava(LlavaConfig(ViTConfig(16, 8, width=16), LlamaConfig(20, 16), IMAGE)))
    theirs = library()
    theirs.config.vision_feature_select_strategy = "full"
    with pytest.raises(
        ValueError, match="needs vision_feature_select_strategy = 'default'; this one has 'full'"
    ):
        llava.from_transformers(theirs)
