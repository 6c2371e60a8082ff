"""Parts read off a model's layers: as counted by hand, and never less than what autograd keeps."""

import pytest
import torch

from vlmcourse.models.blip import Blip
from vlmcourse.models.blip2 import Blip2, Blip2T5
from vlmcourse.models.flamingo import Flamingo
from vlmcourse.models.language import Llama, LlamaConfig, next_token_loss
from vlmcourse.models.llava import Llava, LlavaConfig
from vlmcourse.models.video import VideoLlava
from vlmcourse.models.vit import ViTConfig
from vlmcourse.models.vlm import EncoderDecoder
from vlmcourse.recipes.book import RECIPES
from vlmcourse.training.losses import answer_loss
from vlmcourse.training.memory import ALL, LANGUAGE, METHODS, Setting, ledger, parts_of, saved_bytes
from vlmcourse.training.parts import parts_of_model

SMALL = LlavaConfig(ViTConfig(32, 8, width=48, depth=3, heads=4), LlamaConfig(300, 64, 4, 8, 2, 160), 3, -1)
FAMILIES = {"nano-vlm": Llava, "nano-video": VideoLlava, "nano-flamingo": Flamingo, "nano-blip": Blip,
            "nano-blip2": Blip2, "nano-blip2-t5": Blip2T5}  # fmt: skip


def test_a_llava_by_hand():
    eye, bridge, words = parts_of_model(Llava(SMALL), 40, 12)
    assert (eye.name, eye.width, eye.depth, eye.hidden, eye.heads, eye.share, eye.gated, eye.tokens) == (
        "vision", 48, 3, 192, 4, 1.0, False, 17)  # fmt: skip
    assert eye.kept == 17 * (8 * 8 * 3 + 48) and eye.vocabulary == 0
    assert (bridge.name, bridge.depth, bridge.tokens) == ("projector", 0, 17)
    assert bridge.kept == 17 * (48 + 64 + 64 + 64)
    assert (words.name, words.width, words.depth, words.hidden, words.heads, words.share, words.gated) == (
        "language", 64, 4, 160, 8, 0.25, True)  # fmt: skip
    assert (words.tokens, words.kept, words.vocabulary, words.predicted) == (40, 0, 300, 12)
    model = Llava(SMALL)
    assert eye.parameters == sum(weight.numel() for weight in model.vision.parameters())


def test_it_agrees_with_the_exact_count():
    exact = ledger(parts_of(SMALL, 48, 16), METHODS["full"], Setting(8))
    parts = parts_of_model(Llava(SMALL), 48, 16)
    counted = ledger(parts, {part.name: ALL for part in parts}, Setting(8))
    assert exact.peak <= counted.peak <= 1.05 * exact.peak


def test_a_language_model_alone_is_one_part():
    model, ids = Llama(LlamaConfig(90, 32, 2, 4, 2, 60)), torch.randint(90, (4, 30))
    (part,) = parts_of_model(model, 30, 30)
    assert part.name == LANGUAGE and part.vocabulary == 90 and part.kept == 0
    kept = saved_bytes(lambda: next_token_loss(model(ids), ids), model)
    assert ledger([part], {LANGUAGE: ALL}, Setting(4)).total("activations") == pytest.approx(kept, rel=0.1)


def test_what_is_named_reads_as_many_tokens_as_said():
    eye, bridge, words = parts_of_model(Llava(SMALL), 40, 12, seen=dict(projector=5, language=0))
    assert (eye.tokens, bridge.tokens, words.tokens) == (17, 5, 0) and bridge.kept == 5 * (48 + 3 * 64)


@pytest.mark.parametrize("name", FAMILIES)
def test_no_family_keeps_more_than_is_counted(name):
    config, count, length = RECIPES[name].model, 3, 90
    torch.manual_seed(0)
    model = FAMILIES[name](config).train()
    ids = torch.randint(200, 250, (count, length))
    if token := getattr(config, "image_token", None):
        ids[:, : model.tokens_per_image] = token
    if isinstance(model, EncoderDecoder):  # the answer's first and last token
        ids[:, 69], ids[:, -1] = model.start, model.end
    labels = ids.masked_fill(torch.arange(length) < 70, -100)
    images = torch.rand(count, 3, 64, 64)
    kept = saved_bytes(lambda: answer_loss(model.hidden(ids, images=images), labels, model.head), model)
    parts = parts_of_model(model, length, 20)
    assert parts[0].name == "vision" and parts[-1].predicted == 20 and parts[-1].vocabulary in (1024, 1280)
    assert sum(part.parameters for part in parts) >= sum(weight.numel() for weight in model.parameters())
    counted = ledger(parts, {part.name: ALL for part in parts}, Setting(count)).total("activations")
    assert kept <= counted <= 2.5 * kept


def test_a_cross_attention_counts_beside_the_blocks():
    """Of Flamingo's gated blocks: keys and values, from 96 numbers to 256, for every token of the row."""
    config = RECIPES["nano-flamingo"].model
    gated = {part.name: part for part in parts_of_model(Flamingo(config), 50, 10)}["gated"]
    assert gated.kept == 4 * 50 * (96 + 2 * 128) and (gated.depth, gated.gated, gated.share) == (4, True, 1.0)
