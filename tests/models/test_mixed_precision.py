"""Under autocast some numbers have 16 bits and others 32; wherever image and words meet, both may come."""

import copy

import pytest
import torch
from torch.nn import functional as F

from vlmcourse.data.packing import pack
from vlmcourse.models.bert import BertConfig
from vlmcourse.models.blip import Blip, BlipConfig
from vlmcourse.models.blip2 import Blip2, Blip2Config, Blip2T5
from vlmcourse.models.flamingo import Flamingo, FlamingoConfig
from vlmcourse.models.fusion import FAMILIES, FusionConfig, inject
from vlmcourse.models.generation import generate
from vlmcourse.models.language import LlamaConfig
from vlmcourse.models.llava import Llava, LlavaConfig
from vlmcourse.models.qformer import QFormerConfig
from vlmcourse.models.t5 import T5Config
from vlmcourse.models.video import VideoConfig, VideoLlava
from vlmcourse.models.vit import ViTConfig
from vlmcourse.models.vlm import VLM

START, END, MARK = 3, 4, 5
VISION = ViTConfig((16, 16), 8, width=24, depth=2, heads=2)  # 4 patches
WORDS = LlamaConfig(30, 24, 2, 4)
TEXT = BertConfig(30, 24, 2, 3, positions=40, segments=0)
QUERIES = QFormerConfig(TEXT, 24, queries=4, reads=False)

MAKE = {
    "llava": lambda: Llava(LlavaConfig(VISION, WORDS, MARK)),
    "video": lambda: VideoLlava(VideoConfig(VISION, WORDS, MARK, side=2)),
    "flamingo": lambda: Flamingo(FlamingoConfig(VISION, WORDS, MARK, latents=4, resampler_part=8, gate=0.5)),
    "blip": lambda: Blip(BlipConfig(VISION, TEXT, START, END, shared=8)),
    "blip2": lambda: Blip2(Blip2Config(VISION, QUERIES, WORDS, MARK)),
    "blip2-t5": lambda: Blip2T5(
        Blip2Config(VISION, QUERIES, T5Config(30, 20, 2, 2, 2, 10, 30, start=0), MARK, START, END)
    ),
}
MAKE |= {name: lambda kind=kind: kind(FusionConfig(16, WORDS)) for name, kind in FAMILIES.items()}


@pytest.fixture(params=MAKE)
def model(request) -> VLM:
    torch.manual_seed(0)
    made = MAKE[request.param]().eval()
    for name, weight in made.named_parameters():
        if name.endswith("gate") and weight.ndim == 0:
            weight.data.fill_(0.5)
    return made


def pictures(model: VLM) -> torch.Tensor:
    """Two of what the model reads."""
    shape = (2, 4, 16) if isinstance(model, tuple(FAMILIES.values())) else (2, 3, 16, 16)
    if isinstance(model, VideoLlava):
        shape = (2, 3, 3, 16, 16)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def opening(model: VLM) -> list[int]:
    """What a text begins with: a word, and a placeholder for each image token."""
    if isinstance(model, VideoLlava):
        return [6] + [MARK] * 3 * model.tokens_per_frame
    return [6] + [MARK] * getattr(model, "tokens_per_image", 0)


def talk(model: VLM) -> torch.Tensor:
    return torch.tensor(
        [[*opening(model), 7, 8, START, 9, 10, END], [*opening(model), 11, 12, START, 13, 14, END]]
    )


def loss_of(model: VLM, scores: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(scores[:, -4:-1].flatten(0, 1).float(), ids[:, -3:].flatten())


def gradients(model: VLM, bf16: bool) -> dict[str, torch.Tensor]:
    ids = talk(model)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = loss_of(model, model(ids, pictures(model)), ids)
    model.zero_grad()
    loss.backward()
    found = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    return {"loss": loss.detach()} | copy.deepcopy(found)


def test_a_step_in_bf16_goes_where_one_in_fp32_goes(model):
    half, full = gradients(model, True), gradients(model, False)
    assert half.keys() == full.keys() and half["loss"] != full["loss"]
    assert half["loss"] == pytest.approx(float(full["loss"]), rel=0.01)
    vectors = [torch.cat([g.flatten() for g in some.values()]) for some in (half, full)]
    assert all(gradient.dtype == torch.float32 for gradient in half.values())
    assert F.cosine_similarity(*vectors, dim=0) > 0.999


@pytest.mark.parametrize("given", [torch.bfloat16, torch.float32, torch.float16])
@pytest.mark.parametrize("autocast", [True, False])
def test_image_tokens_of_any_format_join_the_words(model, given, autocast):
    ids, images = talk(model), pictures(model)
    right = model(ids, images)
    features = model.image_tokens(images).to(given)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        scores = model(ids, features=features)
    torch.testing.assert_close(scores.float(), right, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("cached", [True, False])
def test_writing_in_bf16(model, temperature, cached):
    ids = talk(model)[:, :-3]
    options = dict(images=pictures(model), steps=4, temperature=temperature, cached=cached, seed=0)
    with torch.autocast("cpu", torch.bfloat16):
        written = generate(model, ids, **options)
    assert written.shape == (2, ids.shape[1] + 4) and torch.equal(written[:, : ids.shape[1]], ids)
    if not temperature:
        assert torch.equal(written, generate(model, ids, **options))


@pytest.mark.parametrize("weights", [torch.bfloat16, torch.float16])
def test_a_model_of_16_bits_reads_pictures_of_32_under_autocast(model, weights):
    """Models are loaded so to write; pictures come in fp32 from the disk."""
    ids, images = talk(model)[:, :-3], pictures(model)
    right = generate(model, ids, images=images, steps=2)
    half = model.to(weights)
    with torch.autocast("cpu", weights):
        assert torch.equal(generate(half, ids, images=images, steps=2), right)


@pytest.mark.parametrize("kind", ["llava", "flamingo", "blip", "blip2", "blip2-t5"])
def test_packed_texts_in_bf16(kind):
    torch.manual_seed(0)
    model = MAKE[kind]()
    talks = [[([7, 8, START], [9, 10, END]), ([11, START], [12, END])], [([13, 14, START], [16, END])]]
    packs = pack(talks, opening(model), 0)
    found = []
    for bf16 in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            features = model.image_tokens(pictures(model))
            found.append(model.head(model.hidden_of_packs(packs.ids, packs.packs, features)).float())
    real = packs.packs > 0
    torch.testing.assert_close(found[0][real], found[1][real], atol=0.05, rtol=0.05)
    found[0][real].sum().backward()


@pytest.mark.parametrize("kind", ["llava", "video", "blip2", "blip2-t5", "injection", "injection, prefix"])
def test_whoever_joins_gives_inject_numbers_of_one_format(monkeypatch, kind):
    """A learner's own version may assign in place, which takes no two formats."""

    def assigned(embeddings, features, places):
        result = embeddings.clone()
        result[places] = features.flatten(0, 1)
        return result

    torch.manual_seed(0)
    model = MAKE[kind]().eval()
    ids, images = talk(model), pictures(model)
    with torch.autocast("cpu", torch.bfloat16):
        assert model.image_tokens(images).dtype == torch.bfloat16
        right = model(ids, images)
        monkeypatch.setattr(inject, "active", assigned)
        assert torch.equal(model(ids, images), right)


@pytest.mark.gpu
@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("kind", MAKE)
def test_a_gpu_trains_and_joins_in_few_bits(kind, low):
    """What autocast makes of words and of images meets in one format, and gradients come back."""
    torch.manual_seed(0)
    model = MAKE[kind]().cuda()
    ids, images = talk(model).cuda(), pictures(model).cuda()
    with torch.autocast("cuda", low):
        scores = model(ids, images)
        loss = F.cross_entropy(scores[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten())
    loss.backward()
    learned = [weight.grad for weight in model.parameters() if weight.grad is not None]
    assert torch.isfinite(loss) and learned and all(torch.isfinite(grad).all() for grad in learned)
