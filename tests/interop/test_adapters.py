"""Adapters in peft's format: ours open in peft with equal scores, peft's open in ours, misfits are named."""

import json

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

from tests.parity.library import assert_equal, llama, texts
from tests.parity.test_llava import TOKEN, library
from vlmcourse.interop import adapters, language, llava
from vlmcourse.models.lora import add_lora, lora_state, merge_lora
from vlmcourse.models.quantise import quantise_layers
from vlmcourse.training.checkpoints import CheckpointError

KINDS = {"LoRA": {}, "rsLoRA": dict(stabilised=True), "DoRA": dict(decomposed=True),
         "both": dict(stabilised=True, decomposed=True)}  # fmt: skip


def tuned(in_four_bits=False, **kind):
    """A LLaVA with LoRA whose numbers are all away from their start."""
    model = llava.from_transformers(library())
    if in_four_bits:
        quantise_layers(model.language.blocks)
    add_lora(model.language.blocks, rank=3, alpha=5.0, **kind)
    torch.manual_seed(5)
    with torch.no_grad():
        for name, module in model.named_modules():
            for part in ("down", "up", "magnitude"):
                if f"{name}.{part}" in lora_state(model):
                    nn.init.normal_(getattr(module, part), 1.0 if part == "magnitude" else 0.0, 0.2)
    return model.eval()


def question():
    ids = texts(2, 24)
    ids[ids == TOKEN] = 5
    ids[:, 2:18] = TOKEN
    return ids, torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(6))


@pytest.mark.parametrize("in_four_bits", [False, True], ids=["32 bits", "4 bits"])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_an_exported_folder_and_its_adapter_open_in_peft_with_equal_scores(tmp_path, kind, in_four_bits):
    model, (ids, images) = tuned(in_four_bits, **kind), question()
    adapters.save_adapter(model, tmp_path / "adapter", base="llava")
    bare = adapters.without_lora(model)
    theirs = llava.to_transformers(bare)
    with torch.no_grad():
        before = theirs(input_ids=ids, pixel_values=images).logits
        opened = PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
        mine, his = model(ids, images), opened(input_ids=ids, pixel_values=images).logits
    assert_equal(mine, his)
    assert (before - his).abs().max() > 0.1 and not lora_state(bare) and lora_state(model)
    merged = opened.merge_and_unload()
    merge_lora(model)
    with torch.no_grad():
        assert_equal(model(ids, images), merged(input_ids=ids, pixel_values=images).logits)
    ours = adapters.without_lora(model)  # dequantised, so that it can be exported
    with torch.no_grad():
        assert_equal(llava.to_transformers(ours)(input_ids=ids, pixel_values=images).logits, mine)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_is_written_is_read_back(tmp_path, kind):
    model = tuned(**kind)
    adapters.save_adapter(model, tmp_path / "adapter")
    again = adapters.without_lora(model)
    adapters.load_adapter(again, tmp_path / "adapter")
    one, other = lora_state(model), lora_state(again)
    assert list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("options", [{}, dict(use_rslora=True), dict(use_dora=True)])
@pytest.mark.parametrize(
    "targets", [["q_proj", "v_proj"], ["k_proj", "down_proj", "q_proj", "v_proj", "o_proj"]]
)
def test_an_adapter_of_peft_opens_in_ours(tmp_path, targets, options):
    theirs, ids = llama(), texts()
    config = LoraConfig(r=2, lora_alpha=7, target_modules=targets, init_lora_weights=False, **options)
    torch.manual_seed(8)
    model = language.from_transformers(theirs)
    theirs = get_peft_model(theirs, config)
    for name, weight in theirs.named_parameters():
        if "magnitude" in name:
            nn.init.normal_(weight, 1.0, 0.2)
    theirs.save_pretrained(tmp_path)
    adapters.load_adapter(model, tmp_path)
    with torch.no_grad():
        assert_equal(model.eval()(ids), theirs.eval()(ids).logits)


def changed(folder, **fields):
    path = folder / adapters.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.fixture
def folder(tmp_path):
    adapters.save_adapter(tuned(), tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.mark.parametrize("fields", [dict(bias="all"), dict(rank_pattern={"q_proj": 4}), dict(peft_type="IA3"),
                                    dict(modules_to_save=["lm_head"])])  # fmt: skip
def test_an_option_that_ours_does_not_have_is_refused_by_name(folder, fields):
    changed(folder, **fields)
    with pytest.raises(ValueError, match=next(iter(fields))):
        adapters.load_adapter(llava.from_transformers(library()), folder)


def test_a_missing_and_a_strange_weight_are_named(folder):
    tensors = load_file(folder / adapters.WEIGHTS)
    name = next(name for name in tensors if "lora_B" in name)
    tensors["base_model.model.somewhere.lora_A.weight"] = tensors.pop(name)
    save_file(tensors, folder / adapters.WEIGHTS)
    with pytest.raises(CheckpointError, match=r"(?s)missing: .*lora_B.*unexpected: .*somewhere"):
        adapters.load_adapter(llava.from_transformers(library()), folder)


def test_what_cannot_be_written_or_read_says_why(folder, tmp_path):
    with pytest.raises(ValueError, match="has no LoRA"):
        adapters.save_adapter(llava.from_transformers(library()), tmp_path / "other")
    with pytest.raises(ValueError, match="LoRA already"):
        adapters.load_adapter(tuned(), folder)
    mixed = llava.from_transformers(library())
    add_lora(mixed.language.blocks[:1], rank=2)
    add_lora(mixed.language.blocks[1:], rank=3)
    with pytest.raises(ValueError, match="one rank, alpha and kind"):
        adapters.save_adapter(mixed, tmp_path / "other")


def test_transformers_opens_the_same_file(folder):
    theirs = llava.to_transformers(llava.from_transformers(library()))
    assert isinstance(theirs, transformers.LlavaForConditionalGeneration)
    theirs.load_adapter(str(folder))
    ids, images = question()
    with torch.no_grad():
        assert_equal(tuned()(ids, images), theirs(input_ids=ids, pixel_values=images).logits)
