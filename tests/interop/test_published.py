"""The notebook's cells for published models run, on tiny models of those classes as the hub has them."""

import re
from pathlib import Path

import pytest
import torch
import transformers
from huggingface_hub import constants
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import CLIPImageProcessor, PreTrainedTokenizerFast

from vlmcourse.data.photos import photo
from vlmcourse.interop import clip, hub
from vlmcourse.workbook import tabulate

SOURCE = Path(__file__).parents[2] / "notebooks" / "src" / "17_real_models.py"
TEXT = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
VISION = dict(TEXT, image_size=32, patch_size=8)
SIZE = {"height": 32, "width": 32}


def words(*special: str, kind: type = PreTrainedTokenizerFast, **named) -> PreTrainedTokenizerFast:
    """Every byte is a token, and so are the special words."""
    alphabet = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({word: number for number, word in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    tokenizer.add_special_tokens(list(special))
    return kind(tokenizer_object=tokenizer, **named)


def pictures(kind: type = CLIPImageProcessor, **more):
    return kind(size=SIZE, **more)


def tiny_clip(folder):
    tokenizer = words("<s>", "</s>", bos_token="<s>", eos_token="</s>", pad_token="</s>")
    tokenizer.backend_tokenizer.post_processor = _ending("</s>", 1)
    special = dict(eos_token_id=1, bos_token_id=0, pad_token_id=1)
    text = dict(TEXT, vocab_size=len(tokenizer), max_position_embeddings=24, **special)
    model = transformers.CLIPModel(
        transformers.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16)
    )
    processor = transformers.CLIPProcessor(pictures(crop_size=SIZE), tokenizer)
    _save(folder, model, processor)


def tiny_blip(folder):
    vocabulary = {
        word: number
        for number, word in enumerate(
            [
                "[PAD]",
                "[UNK]",
                "[CLS]",
                "[SEP]",
                *(f"{letter}{other}" for letter in "abcde" for other in "vwxyz"),
            ]
        )
    }
    tokenizer = transformers.BertTokenizer(vocab=vocabulary)
    text = dict(TEXT, vocab_size=len(vocabulary), encoder_hidden_size=32, max_position_embeddings=64,
                bos_token_id=2, eos_token_id=3, sep_token_id=3, pad_token_id=0)  # fmt: skip
    config = transformers.BlipConfig(text_config=text, vision_config=VISION, image_text_hidden_size=16)
    _save(folder, transformers.BlipForConditionalGeneration(config),
          transformers.BlipProcessor(pictures(transformers.BlipImageProcessor), tokenizer))  # fmt: skip


def tiny_blip2(folder):
    tokenizer = words(
        "<s>", "<pad>", "</s>", "<image>", bos_token="</s>", eos_token="</s>", pad_token="<pad>"
    )
    opt = dict(model_type="opt", hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4,
               vocab_size=len(tokenizer), max_position_embeddings=128, word_embed_proj_dim=32, bos_token_id=2,
               eos_token_id=2, pad_token_id=1)  # fmt: skip
    former = dict(TEXT, vocab_size=50, encoder_hidden_size=32, cross_attention_frequency=2)
    config = transformers.Blip2Config(vision_config=VISION, qformer_config=former, text_config=opt,
                                      num_query_tokens=4, image_token_index=3)  # fmt: skip
    _save(folder, transformers.Blip2ForConditionalGeneration(config), transformers.Blip2Processor(
        pictures(transformers.BlipImageProcessor), tokenizer, num_query_tokens=4))  # fmt: skip


def tiny_llava(folder):
    tokenizer = words("<unk>", "<s>", "</s>", "<image>", bos_token="<s>", eos_token="</s>", pad_token="<unk>")
    text = transformers.LlamaConfig(vocab_size=len(tokenizer), **TEXT)
    eye = transformers.CLIPVisionConfig(**VISION)
    config = transformers.LlavaConfig(
        vision_config=eye, text_config=text, image_token_index=3, image_seq_length=16
    )
    _save(folder, transformers.LlavaForConditionalGeneration(config), transformers.LlavaProcessor(
        pictures(crop_size=SIZE), tokenizer, patch_size=8, vision_feature_select_strategy="default",
        num_additional_image_tokens=1))  # fmt: skip


def tiny_idefics(folder):
    tokenizer = words("<unk>", "<s>", "</s>", "<fake_token_around_image>", "<image>", "<end_of_utterance>",
                      bos_token="<s>", eos_token="</s>", pad_token="<unk>", unk_token="<unk>")  # fmt: skip
    vision = {"embed_dim" if name == "hidden_size" else name: value for name, value in VISION.items()}
    config = transformers.IdeficsConfig(
        vocab_size=len(tokenizer) - 2, additional_vocab_size=2, **TEXT, vision_config=vision,
        cross_layer_interval=1, qk_layer_norms=False, use_resampler=False, bos_token_id=1, eos_token_id=2,
        pad_token_id=0,
    )  # fmt: skip
    images = transformers.IdeficsImageProcessor(image_size=32)
    _save(
        folder,
        transformers.IdeficsForVisionText2Text(config),
        transformers.IdeficsProcessor(images, tokenizer),
    )


def tiny_kosmos(folder):
    places = [f"<patch_index_{number:04d}>" for number in range(1024)]
    tags = ["<image>", "</image>", "<phrase>", "</phrase>", "<object>", "</object>",
            "</delimiter_of_multi_objects/>", "<grounding>", "</doc>", "</chunk>", "</line>"]  # fmt: skip
    tokenizer = words("<s>", "<pad>", "</s>", "<unk>", *tags, *places, bos_token="<s>", eos_token="</s>",
                      pad_token="<pad>", unk_token="<unk>")  # fmt: skip
    text = dict(vocab_size=len(tokenizer), embed_dim=32, layers=2, ffn_dim=48, attention_heads=4,
                max_position_embeddings=256, bos_token_id=0, eos_token_id=2, pad_token_id=1)  # fmt: skip
    config = transformers.Kosmos2Config(text_config=text, vision_config=dict(VISION), latent_query_num=64)
    _save(folder, transformers.Kosmos2ForConditionalGeneration(config), transformers.Kosmos2Processor(
        pictures(crop_size=SIZE), tokenizer, num_patch_index_tokens=1024))  # fmt: skip


def _ending(word: str, number: int):
    from tokenizers.processors import TemplateProcessing

    return TemplateProcessing(single=f"$A {word}", special_tokens=[(word, number)])


def _save(folder: Path, model, processor) -> None:
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


CELLS = {  # id of the cell: its models, how to make tiny ones
    "hub-clip": {
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K": tiny_clip,
        "Salesforce/blip-image-captioning-base": tiny_blip,
    },
    "hub-blip2": {"Salesforce/blip2-opt-2.7b": tiny_blip2},
    "hub-llava": {"llava-hf/llava-1.5-7b-hf": tiny_llava},
    "hub-idefics": {"HuggingFaceM4/idefics-9b": tiny_idefics, "microsoft/kosmos-2-patch14-224": tiny_kosmos},
}
MODELS = [(name, repository) for name, of_cell in CELLS.items() for repository in of_cell]


def cell(name: str) -> str:
    return re.search(rf'^# %% id="{name}"\n(.*?)(?=^# %%)', SOURCE.read_text(), re.MULTILINE | re.DOTALL)[1]


def run(name: str) -> None:
    space = dict(hub=hub, clip=clip, torch=torch, transformers=transformers, Image=Image, photo=photo)
    space |= dict(tabulate=tabulate)
    for source in (cell("photo"), cell(name)):
        exec(source, space)


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VLMCOURSE_MODELS", str(tmp_path))


@pytest.mark.parametrize(("name", "repository"), MODELS)
def test_a_cell_runs_with_its_model(name, repository, tmp_path, capsys):
    CELLS[name][repository](tmp_path / repository)
    capsys.readouterr()
    run(name)
    printed = capsys.readouterr().out.splitlines()
    missing = [line for line in printed if "not on this machine" in line]
    assert len(missing) == len(CELLS[name]) - 1 and not any(repository in line for line in missing)
    assert any(line.strip() for line in printed if line not in missing)


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_without_its_models_says_what_to_run_in_one_line_for_each(name, capsys):
    run(name)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(CELLS[name])
    for line, repository in zip(printed, CELLS[name], strict=True):
        assert f"hf download {repository}" in line


def test_every_cell_for_a_published_model_is_tested():
    assert set(re.findall(r'^# %% id="(hub-\w+)"', SOURCE.read_text(), re.MULTILINE)) == set(CELLS)
