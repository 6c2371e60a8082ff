"""What is handed over to transformers is what was trained: every setting of the folder that is written."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from PIL import Image
from safetensors import SafetensorError

from tests.interop.families import numbers, randomised, with_images
from vlmcourse.data.photos import load_picture
from vlmcourse.data.pixels import normalise
from vlmcourse.data.text import BOS, END, IMAGE, PAD, load_tokenizer
from vlmcourse.interop import llava
from vlmcourse.models.language import LlamaConfig
from vlmcourse.models.llava import Llava, LlavaConfig
from vlmcourse.models.vit import ViTConfig
from vlmcourse.training.reading import CheckpointError

EYE = ViTConfig(12, 4, 3, 12, 2, 3, 10, "relu", 0.1, patch_bias=False, norm_before_blocks=True)
LANGUAGE = LlamaConfig(18, 12, 2, 6, 3, 10, 30.0, 0.1)
CONFIGS = {
    "every field": LlavaConfig(EYE, LANGUAGE, 4, layer=-1),
    "tied": LlavaConfig(EYE, LlamaConfig(18, 12, 2, 6, 3, 10, tied=True), 4, layer=-3),
    "widths not given": LlavaConfig(
        ViTConfig(12, 4, width=12, depth=2, heads=3, patch_bias=False, norm_before_blocks=True),
        LlamaConfig(18, 12, 2, 6, 3), 4, hidden=12),
}  # fmt: skip


@pytest.fixture(scope="module", params=CONFIGS)
def ours(request):
    return randomised(Llava(CONFIGS[request.param]))


@torch.no_grad()
def test_the_library_s_model_gives_the_same_scores_and_comes_back_the_same(ours):
    theirs = llava.to_transformers(ours)
    assert not theirs.training
    torch.testing.assert_close(with_images(theirs), with_images(ours), atol=1e-4, rtol=1e-4)
    back = llava.from_transformers(theirs)
    assert back.config.layer == ours.config.layer and back.config.image_token == 4
    assert back.config.language.tied == ours.config.language.tied
    state = ours.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in back.state_dict().items())


def test_every_field_is_handed_over():
    config = llava.to_transformers(Llava(CONFIGS["every field"])).config
    eye, words = config.vision_config, config.text_config
    assert (eye.image_size, eye.patch_size, eye.num_channels, eye.hidden_size) == (12, 4, 3, 12)
    assert (eye.num_hidden_layers, eye.num_attention_heads, eye.intermediate_size) == (2, 3, 10)
    assert (eye.hidden_act, eye.layer_norm_eps) == ("relu", 0.1)
    assert (words.vocab_size, words.hidden_size, words.num_hidden_layers, words.num_attention_heads) == (
        18,
        12,
        2,
        6,
    )
    assert (words.num_key_value_heads, words.intermediate_size, words.rms_norm_eps) == (3, 10, 0.1)
    assert (
        words.rope_parameters["rope_theta"] == 30.0 and words.max_position_embeddings == llava.CONTEXT == 2048
    )
    assert (words.bos_token_id, words.eos_token_id, words.pad_token_id) == (BOS, END, PAD)
    assert (config.image_token_id, config.image_seq_length, config.vision_feature_layer) == (4, 9, -1)
    assert not config.tie_word_embeddings and not words.tie_word_embeddings


@pytest.mark.parametrize(
    ("named", "config"),
    [
        ("pixel shuffle", LlavaConfig(EYE, LANGUAGE, 4, shuffle=3)),
        ("several tokens for each patch", LlavaConfig(EYE, LANGUAGE, 4, spread=2)),
        ("a projector with another width inside than the language model's",
         LlavaConfig(EYE, LANGUAGE, 4, hidden=24)),
        ("a ViT with a patch bias", LlavaConfig(replace(EYE, patch_bias=True), LANGUAGE, 4)),
        ("a ViT without a norm before its blocks",
         LlavaConfig(replace(EYE, norm_before_blocks=False), LANGUAGE, 4)),
        ("images that are not square", LlavaConfig(replace(EYE, image_size=(12, 16)), LANGUAGE, 4)),
    ],
)  # fmt: skip
def test_what_the_library_lacks_is_named_alone(named, config):
    with pytest.raises(ValueError, match=f"^transformers' LLaVA has no place for {named}$"):
        llava._their_config(config)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("llava")
    language = LlamaConfig(len(load_tokenizer()), 12, 1, 2, 1, 8, tied=True)
    llava.save_folder(Llava(LlavaConfig(EYE, language, IMAGE, layer=-1)), path)
    return path


def test_a_folder_says_when_to_stop(folder):
    written = transformers.GenerationConfig.from_pretrained(folder)
    assert (written.bos_token_id, written.eos_token_id, written.pad_token_id) == (BOS, END, PAD)
    config = transformers.AutoConfig.from_pretrained(folder).text_config
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (BOS, END, PAD)


@pytest.mark.parametrize("writer", [transformers.LlavaForConditionalGeneration, transformers.LlavaProcessor])
def test_a_full_disk_leaves_no_half_folder(tmp_path, monkeypatch, writer):
    language = LlamaConfig(len(load_tokenizer()), 12, 1, 2, 1, 8, tied=True)

    def full(_, folder):
        Path(folder).mkdir(exist_ok=True)
        (Path(folder) / "config.json").write_text("{")
        raise SafetensorError("No space left on device (os error 28)")

    monkeypatch.setattr(writer, "save_pretrained", full)
    with pytest.raises(CheckpointError, match=r"could not write .*vlm \(No space left.*MB are free"):
        llava.save_folder(Llava(LlavaConfig(EYE, language, IMAGE, layer=-1)), tmp_path / "vlm")
    assert not list(tmp_path.iterdir())


def test_a_folder_with_another_tokenizer_says_its_words_and_template(tmp_path):
    vocabulary = {word: number for number, word in enumerate(["a", "<image>", "<pad>", "<end>", "<begin>"])}
    words = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="a")),
        bos_token="<begin>", eos_token="<end>", pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    config = LlavaConfig(EYE, LlamaConfig(5, 12, 1, 2, 1, 8), image_token=1)
    llava.save_folder(Llava(config), tmp_path, words, "{{ messages[0]['content'] }}!")
    for written in (
        transformers.GenerationConfig.from_pretrained(tmp_path),
        transformers.AutoConfig.from_pretrained(tmp_path).text_config,
    ):
        assert (written.bos_token_id, written.eos_token_id, written.pad_token_id) == (4, 3, 2)
    processor = transformers.AutoProcessor.from_pretrained(tmp_path)
    assert processor.apply_chat_template([{"role": "user", "content": "hello"}]) == "hello!"


def test_a_folder_prepares_images_as_the_course_does(folder):
    processor = transformers.AutoProcessor.from_pretrained(folder)
    images = processor.image_processor
    assert dict(images.size) == {"shortest_edge": 12} and images.do_center_crop
    assert dict(images.crop_size) == {"height": 12, "width": 12}
    assert list(images.image_mean) == list(images.image_std) == [0.5] * 3
    assert (processor.patch_size, processor.vision_feature_select_strategy) == (4, "default")
    assert processor.num_additional_image_tokens == 1 and processor.image_token == "<image>"
    picture = (numbers(20, 12, 3).sigmoid() * 255).byte().numpy()
    batch = processor(images=picture, text="a <image> b", return_tensors="pt")
    assert batch["pixel_values"].shape == (1, 3, 12, 12) and batch["pixel_values"].min() < -0.5
    assert (batch["input_ids"] == IMAGE).sum() == 9


SHAPES = [(12, 12), (12, 13), (200, 200), (100, 300), (301, 77), (64, 65), (5, 9), (40, 25), (480, 640),
          (1000, 333), (1, 300), (640, 9)]  # fmt: skip


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK"])
def test_a_picture_of_any_shape_looks_the_same_to_an_export(folder, tmp_path, rows, columns, mode):
    if mode != "RGB" and (rows, columns) not in SHAPES[3:5]:
        return
    noise = np.random.default_rng(0).integers(0, 256, (rows, columns, 4), np.uint8)
    picture, path = Image.fromarray(noise[..., :3]).convert(mode), tmp_path / "picture.tif"
    if mode == "RGBA":
        picture = Image.fromarray(noise, mode)
    picture.save(path)
    ours = normalise(torch.from_numpy(load_picture(path, 12))[None])
    images = transformers.AutoProcessor.from_pretrained(folder).image_processor
    theirs = images(Image.open(path), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(theirs, ours, atol=0.02, rtol=0)


def test_a_folder_writes_conversations_as_the_course_does(folder):
    tokenizer = transformers.AutoProcessor.from_pretrained(folder).tokenizer
    assert tokenizer.padding_side == "left"
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (BOS, END, PAD)
    chat = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what?"}]},
        {"role": "assistant", "content": "a star"},
        {"role": "user", "content": "sure?"},
    ]
    processor = transformers.AutoProcessor.from_pretrained(folder)
    text = processor.apply_chat_template(chat, add_generation_prompt=True)
    assert text == "<user><image>what?<assistant>a star<end><user>sure?<assistant>"
    assert processor.apply_chat_template(chat).endswith("<user>sure?")
