"""The memory ledger: by hand, against what autograd keeps, and against the peak of a fresh process."""

from dataclasses import replace

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
    Ledger,
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
@pytest.mark.parametrize("method, recompute, precision", [
    ("full", False, "fp32"), ("LoRA", True, "fp32"), ("QLoRA", False, "fp32"),
    ("projector only", False, "bf16"),
])  # fmt: skip
def test_the_peak_is_that_of_a_fresh_process(method, recompute, precision):
    setting = Setting(8, precision, recompute=recompute)
    counted = ledger(parts_of(LARGE, 128, 40), METHODS[method], setting)
    measured = peak.measure_peak(LARGE, METHODS[method], setting, 128, 40)
    assert counted.peak == pytest.approx(measured["peak"], rel=0.03)  # 16 MB of code for bf16 would be 6 %
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


EYE = Part(ENCODER, 4000, 8, 3, 32, 2, tokens=5, kept=30)  # block: 24 · 8, 8 · 8, 32 · 8, 8 · 32: 768
BRIDGE = Part(PROJECTOR, 500, tokens=4, kept=60)
MOUTH = Part(LANGUAGE, 5000, 8, 4, 20, 4, 0.25, True, 7, vocabulary=11, predicted=3)  # block: 640


def test_a_ledger_by_hand():
    counted = ledger([EYE, BRIDGE, MOUTH], METHODS["full"], Setting(2))
    kept = {name: row["activations"] for name, row in counted.rows.items()}
    assert kept[ENCODER] == 3 * 10 * (16 + 112) * 4 + 2 * (30 + 5 * 8) * 4 == 15_920
    assert kept[PROJECTOR] == 2 * 60 * 4
    # the norms read and scale, 32; inside 126 and a row of the mask, 7; scores and what they are made of
    assert kept[LANGUAGE] == 4 * 14 * (32 + 126 + 7) * 4 + 2 * (3 * (11 + 8) + 3 * 7 * 8) * 4 == 38_760
    assert counted.working == {
        ENCODER: 10 * 80 * 4,
        PROJECTOR: 0,
        LANGUAGE: 14 * 56 * 4,
        "scores": 264,
        "loss": 528,
    }
    assert counted.rows[LANGUAGE] == dict(
        weights=20_000, gradients=20_000, optimizer=40_000, activations=38_760
    )
    assert (
        counted.peak == 9500 * 12 + 15_920 + 480 + 38_760 - 264 + 3136
    )  # no scores, when blocks have their turn
    few = ledger([EYE, BRIDGE, MOUTH], METHODS["projector only"], Setting(2))
    assert few.rows[LANGUAGE]["activations"] == 4 * 14 * (16 + 90 + 7) * 4 + 2 * (3 * 19 + 7 * 8) * 4
    assert few.working[ENCODER] == few.rows[ENCODER]["activations"] == 0


def test_the_methods_by_name():
    learned = {name: [(method[part].what, method[part].rank, method[part].bits)
                      for part in (ENCODER, PROJECTOR, LANGUAGE)]
               for name, method in METHODS.items()}  # fmt: skip
    everything, nothing = ("all", 0, 32), ("nothing", 0, 32)
    assert learned == {
        "full": [everything] * 3,
        "frozen encoder": [nothing, everything, everything],
        "projector only": [nothing, everything, nothing],
        "LoRA": [nothing, everything, ("lora", 8, 32)],
        "QLoRA": [nothing, everything, ("lora", 8, 4.5)],
    }
    each = 8 * (20 + 16 + 28 + 28 + 28)
    assert learned_numbers(MOUTH, METHODS["LoRA"][LANGUAGE]) == 4 * each  # from the lowest block on


def test_formats_by_hand():
    parts = [EYE, BRIDGE, MOUTH]
    assert ledger(parts, METHODS["full"], Setting(2, "fp16")) == ledger(
        parts, METHODS["full"], Setting(2, "bf16")
    )
    counted = ledger(parts, METHODS["full"], Setting(2, "bf16 weights", gpus=4))  # none is spread
    assert tuple(counted.rows[LANGUAGE].values())[:3] == (10_000, 10_000, 60_000)
    block, scores = 4 * 14 * (32 + 126 + 7) * 2, 2 * (3 * (11 * 4 + 8 * 2) + 3 * 7 * 8 * 2)
    assert counted.rows[LANGUAGE]["activations"] == block + scores  # nothing is cast or copied
    assert counted.rows[PROJECTOR]["activations"] == 2 * 60 * 2
    bare = Part(PROJECTOR, 500)
    assert (bare.width, bare.depth, bare.hidden, bare.heads, bare.tokens, bare.kept) == (0,) * 6
    assert (bare.vocabulary, bare.predicted, bare.share, bare.gated) == (0, 0, 1, False)


def test_the_peak_may_stand_anywhere_on_the_way_back():
    rows = {name: dict(weights=0, gradients=come, optimizer=0, activations=left)
            for name, come, left in (("first", 100, 10), ("second", 1, 2))}  # fmt: skip
    assert Ledger(rows, {"loss": 1000}).peak == 12 + 1000
    assert Ledger(rows, {"second": 500}).peak == 12 + 500
    assert Ledger(rows, {"first": 50}).peak == 1 + 100 + 50  # the last activations are gone
    assert Ledger({"one": dict(rows["second"], gradients=0)}).peak == 2
    assert (
        Ledger(rows, {"scores": 2, "second": 500}).peak == 10 + 1 + 500
    )  # they went with the loss, and only once
    assert Ledger(rows, {"scores": 2, "first": 50}).peak == 1 + 100 + 50
    assert Ledger(rows, {"scores": 2, "loss": 1000}).peak == 12 + 1000
    turned = {"first": dict(rows["first"], gradients=1), "second": dict(rows["second"], gradients=100)}
    assert Ledger(turned, {"first": 50}).peak == 10 + 100 + 50  # those of the last part are still there


def test_lora_in_four_bits_by_hand():
    method = {**METHODS["QLoRA"], LANGUAGE: Tuned("lora", 2, 4.5, first=1)}
    whole = {**method, LANGUAGE: Tuned("lora", 2, first=1)}
    setting = Setting(2, "bf16", fused=False)
    row = ledger([EYE, BRIDGE, MOUTH], method, setting).rows[LANGUAGE]
    assert row["weights"] == pytest.approx(2560 * 4.5 / 8 + 2440 * 4 + 720 * 4)
    assert (row["gradients"], row["optimizer"]) == (720 * 4, 720 * 8)
    # five detours of rank 2, a cast for gate and up; a mask and four heads' weights of 7 × 7
    block, around = 14 * (16 * 4 + (126 + 10 + 8 + 35) * 2), 2 * (3 * (44 + 16) + 7 * 8 * 4) + 11 * 8 * 2
    assert row["activations"] == 3 * block + around == 18_708
    kept = ledger([EYE, BRIDGE, MOUTH], whole, setting).rows[LANGUAGE]["activations"]
    assert kept == 18_708 + 3 * 640 * 2  # weights that autocast copies
    half = {**method, LANGUAGE: Tuned("nothing", bits=16)}
    stored = ledger([EYE, BRIDGE, MOUTH], half, setting).rows
    assert stored[LANGUAGE]["weights"] == 5000 * 2 and stored[ENCODER]["weights"] == 4000 * 4
    assert stored[PROJECTOR]["activations"] == 2 * 60 * 2 + 500 * 2
    again = ledger([EYE, BRIDGE, MOUTH], method, Setting(2, "bf16", fused=False, recompute=True))
    assert again.rows[LANGUAGE]["activations"] == 3 * 2 * 7 * 8 * 4 + around
    assert again.working[LANGUAGE] == block + 14 * 56 * 2
    sixteen = ledger([EYE, BRIDGE, MOUTH], {**method, LANGUAGE: Tuned("lora", 2, 16, 1)}, setting)
    assert sixteen.rows[LANGUAGE]["activations"] == kept  # those of 16 bits are copied as well
    through = ledger([EYE, BRIDGE, MOUTH], METHODS["projector only"], setting).rows[LANGUAGE]
    assert through["activations"] == 4 * (14 * (64 + (90 + 35) * 2) + 1280) + around
    bare = ledger([EYE, BRIDGE, MOUTH], method, Setting(2, "bf16", masked=False)).rows[LANGUAGE]
    assert bare["activations"] == 18_708 - 3 * 14 * 35 * 2


@pytest.mark.parametrize("stage, row, gathered", [
    (0, (10_000, 10_000, 60_000), 0), (1, (10_000, 10_000, 15_000), 0),
    (2, (10_000, 2500, 15_000), 0), (3, (2500, 2500, 15_000), 1),
])  # fmt: skip
def test_what_is_spread_by_hand(stage, row, gathered):
    setting = Setting(2, "bf16 weights", gpus=4, sharded=stage)
    counted = ledger([EYE, BRIDGE, MOUTH], METHODS["frozen encoder"], setting)
    assert tuple(counted.rows[LANGUAGE].values())[:3] == row
    assert counted.working[LANGUAGE] == gathered * 2 * 640 * 2 + 14 * 56 * 2
    assert counted.working[ENCODER] == gathered * 2 * 768 * 2
    alone = ledger([EYE, BRIDGE, MOUTH], METHODS["full"], Setting(sharded=3))
    assert alone.rows[LANGUAGE]["weights"] == 20_000 and alone.working[LANGUAGE] == 7 * 56 * 4
    two = ledger([EYE, BRIDGE, MOUTH], METHODS["full"], Setting(gpus=2, sharded=3))
    assert two.working[LANGUAGE] == 7 * 56 * 4 + 2 * 640 * 4


@pytest.mark.parametrize("name, size", [("adamw", 8), ("adamw in 8 bits", 2), ("muon", 4), ("sgd", 0)])
def test_what_optimizers_keep(name, size):
    assert ledger([BRIDGE], METHODS["full"], Setting(optimizer=name)).total("optimizer") == 500 * size
    alone = ledger([BRIDGE], METHODS["full"], Setting(1, "bf16 weights", name))
    assert alone.total("optimizer") == 500 * (size + 4)


def test_the_parts_of_a_model_by_hand():
    encoder, projector, words = parts_of(SMALL, 48, 16)
    assert (encoder.width, encoder.depth, encoder.hidden, encoder.heads) == (48, 3, 192, 4)
    assert (encoder.tokens, encoder.kept, encoder.gated) == (17, 16 * 8 * 8 * 3, False)
    assert (projector.tokens, projector.kept, projector.depth) == (16, 16 * (48 + 2 * 64), 0)
    assert (words.width, words.depth, words.hidden, words.heads, words.share) == (64, 4, 160, 8, 0.25)
    assert (words.gated, words.tokens, words.vocabulary, words.predicted) == (True, 48, 300, 16)
    model = Llava(SMALL)
    assert encoder.parameters == sum(weight.numel() for weight in model.vision.parameters())
    assert words.parameters == sum(weight.numel() for weight in model.language.parameters())
    other = replace(SMALL, layer=-2, hidden=100, shuffle=2, spread=3,
                    language=LlamaConfig(300, 64, 4, 8, 2))  # fmt: skip
    encoder, projector, words = parts_of(other, 48, 16)
    assert encoder.depth == 2 and words.hidden == 8 * 64 // 3
    assert (projector.tokens, projector.kept) == (4 * 3, 12 * (48 * 4 + 200))


def test_the_published_sizes_by_their_formulas():
    encoder, projector, words = PUBLISHED["LLaVA-1.5-7B"]
    layer = 4 * 1024**2 + 2 * 1024 * 4096 + 4 * 1024 + 4096 + 1024 + 4 * 1024
    assert encoder.parameters == 3 * 14**2 * 1024 + 1024 + 577 * 1024 + 4 * 1024 + 24 * layer
    assert projector.parameters == 1024 * 4096 + 4096 + 4096**2 + 4096
    block = 4 * 4096**2 + 3 * 4096 * 11008
    assert words.parameters == 2 * 32000 * 4096 + 32 * (block + 2 * 4096) + 4096
    assert words.block == block and encoder.block == 12 * 1024**2
    assert (encoder.depth, encoder.heads, encoder.tokens) == (23, 16, (336 // 14) ** 2 + 1)
    assert (projector.tokens, projector.kept) == (576, 576 * (1024 + 4096 + 4096))
    assert (words.depth, words.heads, words.tokens, words.predicted) == (32, 32, 2048, 2048)
    assert words.vocabulary == 32000 and in_gib(2**31) == 2


def test_what_autograd_keeps_is_counted_once_and_without_weights():
    layer, tokens = torch.nn.Linear(3, 5), torch.ones(2, 3, requires_grad=True)
    assert saved_bytes(lambda: layer(tokens), layer) == 2 * 3 * 4
    assert saved_bytes(lambda: layer(tokens) + layer(tokens), layer) == 2 * 3 * 4
    assert saved_bytes(lambda: layer(tokens).exp(), layer) == 2 * 3 * 4 + 2 * 5 * 4


@pytest.mark.parametrize("wrong", [dict(precision="int3"), dict(optimizer="lion"), dict(sharded=4)])
def test_what_is_not_known_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Setting(**wrong)
    with pytest.raises(ValueError, match="projector, language model"):
        ledger(PUBLISHED["LLaVA-1.5-7B"], {ENCODER: Tuned()})
