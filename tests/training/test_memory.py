"""The memory ledger: by hand, against what autograd keeps, and against the peak of a fresh process."""

import pytest
import torch

from vlmcourse.models.language import LlamaConfig
from vlmcourse.models.llava import Llava, LlavaConfig
from vlmcourse.models.vit import ViTConfig
from vlmcourse.training import peak
from vlmcourse.training.memory import (
    ENCODER,
    LANGUAGE,
    METHODS,
    PROJECTOR,
    PUBLISHED,
    Part,
    Setting,
    Tuned,
    block_numbers,
    in_gib,
    learned_numbers,
    ledger,
    parts_of,
    saved_bytes,
    state_bytes,
)

SMALL = LlavaConfig(ViTConfig(32, 8, width=48, depth=3, heads=4), LlamaConfig(300, 64, 4, 8, 2, 160), 3, -1)
LARGE = LlavaConfig(
    ViTConfig(64, 8, width=192, depth=6, heads=4), LlamaConfig(8000, 384, 8, 6, 2, 1024, tied=True), 3, -1
)


def test_states_by_hand():
    assert state_bytes(1000, 1000, 32) == (4000, 4000, 8000)  # AdamW in fp32: 16 bytes a number
    assert state_bytes(1000, 0, 4.5) == (562.5, 0, 0)
    assert state_bytes(1010, 10, 16, 2, 2, 12) == (2020, 20, 120)


def test_a_block_by_hand():
    # ViT of width 8, hidden 32: two norms; query, key, value, output; before GELU; read: 8, 8, 32
    assert block_numbers(8, 32, 1.0, False, True) == (16, 32 + 32 + 48)
    assert block_numbers(8, 32, 1.0, False, False) == (16, 32 + 32)
    # LLaMA with a quarter of the keys: 12 and 8, turned 10, three of the hidden width
    assert block_numbers(8, 20, 0.25, True, True) == (16, 12 + 8 + 10 + 60 + 36)


def test_lora_learns_what_is_counted_by_hand():
    part = Part(LANGUAGE, 0, width=8, depth=3, hidden=20, share=0.25, gated=True)
    assert part.matrices == [(12, 8), (8, 8), (20, 8), (20, 8), (8, 20)] and part.block == 96 + 64 + 480
    assert learned_numbers(part, Tuned("lora", 2, first=1)) == 2 * 2 * (20 + 16 + 28 + 28 + 28)
    assert learned_numbers(part, Tuned()) == 0


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", METHODS)
def test_activations_are_what_autograd_keeps(method, precision, recompute):
    setting = Setting(8, precision, recompute=recompute)
    counted = ledger(parts_of(SMALL, 48, 16), METHODS[method], setting)
    torch.manual_seed(0)
    model = Llava(SMALL)
    peak.prepare(model, METHODS[method], recompute)
    batch = peak._batch(SMALL, 8, 48, 16)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        kept = saved_bytes(lambda: peak._loss(model, *batch), model)
    assert counted.total("activations") == pytest.approx(kept, rel=0.1)
    stored = [*model.parameters(), *model.buffers()]
    weights = sum(
        tensor.numel() * tensor.element_size() for tensor in {id(one): one for one in stored}.values()
    )
    assert counted.total("weights") == pytest.approx(weights, rel=0.01)
    learned = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    assert counted.total("gradients") == 4 * learned and counted.total("optimizer") == 8 * learned


@pytest.mark.slow
@pytest.mark.parametrize("method, recompute", [("full", False), ("LoRA", True), ("QLoRA", False)])
def test_the_peak_is_that_of_a_fresh_process(method, recompute):
    setting = Setting(8, recompute=recompute)
    counted = ledger(parts_of(LARGE, 128, 40), METHODS[method], setting)
    measured = peak.measure_peak(LARGE, METHODS[method], setting, 128, 40)
    assert counted.peak == pytest.approx(measured["peak"], rel=0.1)
    assert counted.total("activations") == pytest.approx(measured["activations"], rel=0.1)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", METHODS)
def test_the_peak_is_that_of_the_allocator(method, precision):
    setting = Setting(16, precision)
    counted = ledger(parts_of(LARGE, 256, 100), METHODS[method], setting)
    measured = peak.measure_peak(LARGE, METHODS[method], setting, 256, 100, "cuda")
    assert counted.peak == pytest.approx(measured["peak"], rel=0.1)


def test_a_process_that_fails_says_so():
    with pytest.raises(RuntimeError, match="measuring process failed"):
        peak.measure_peak(SMALL, METHODS["full"], Setting(1), 4, 2)  # fewer tokens than the image has


def test_activations_and_gradients_are_not_there_at_once():
    parts = [Part(ENCODER, 100), Part(PROJECTOR, 100), Part(LANGUAGE, 1000, kept=10_000)]
    counted = ledger(parts, METHODS["full"], Setting())
    assert counted.total("activations") == 40_000 and counted.total("gradients") == 4_800
    assert counted.peak == 1200 * 4 + 1200 * 8 + 40_000
    assert ledger([*parts[:2], Part(LANGUAGE, 1000, kept=10)], METHODS["full"]).peak == 1200 * 16


def test_the_published_llava_fits_where_it_was_trained():
    parts = PUBLISHED["LLaVA-1.5-7B"]
    assert sum(part.parameters for part in parts) == pytest.approx(7.06e9, rel=0.001)
    alone = Setting(16, "bf16 weights", recompute=True)
    spread = Setting(16, "bf16 weights", recompute=True, gpus=8, sharded=3)
    stage = METHODS["frozen encoder"]
    one, eight = (ledger(parts, stage, setting) for setting in (alone, spread))
    assert in_gib(one.total("optimizer")) == pytest.approx(75.5, abs=0.2)
    assert eight.total("optimizer") == one.total("optimizer") / 8
    assert eight.total("weights") == one.total("weights") / 8
    assert in_gib(one.peak) > 100 > 80 > in_gib(eight.peak) > 25
    first = Setting(32, "bf16 weights", recompute=True, gpus=8, sharded=2)
    learned = ledger(parts, METHODS["projector only"], first)
    assert learned.total("weights") == ledger(parts, METHODS["projector only"]).total("weights") / 2
    assert learned.total("gradients") == 2 * parts[1].parameters / 8


def test_what_is_not_stored_is_not_counted():
    parts = parts_of(SMALL, 48, 16)
    full = ledger(parts, METHODS["full"])
    assert ledger(parts, METHODS["frozen encoder"]).rows[ENCODER]["activations"] == 0
    assert ledger(parts, METHODS["full"], Setting(fused=False)).total("activations") > full.total(
        "activations"
    )
    assert ledger(parts, METHODS["full"], Setting(4)).total("activations") == pytest.approx(
        4 * full.total("activations")
    )
    few = {**METHODS["full"], LANGUAGE: Tuned("lora", 2, 4.5, first=2)}
    half = ledger(parts, few).rows[LANGUAGE]
    assert half["activations"] < 0.6 * full.rows[LANGUAGE]["activations"]


@pytest.mark.parametrize("wrong", [dict(precision="int3"), dict(optimizer="lion"), dict(sharded=4)])
def test_what_is_not_known_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Setting(**wrong)
    with pytest.raises(ValueError, match="projector, language model"):
        ledger(PUBLISHED["LLaVA-1.5-7B"], {ENCODER: Tuned()})
