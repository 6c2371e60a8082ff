"""How fast are the course's training steps? Rates, utilisation, and ratios to transformers, in one run.

    python benchmarks/steps.py [--nano | --full] [--only NAME ...] [--rounds N] [--compile] [--json FILE]
    make bench OPTIONS="--json benchmarks/steps.json"      what the README's table says, with machine and date

On a GPU: ViT-B/16 at 224 pixels, CLIP ViT-B/32, a language model of SmolLM2-135M's shape, and the second
stage of a LLaVA of that language model and a ViT-B/16, whose encoder is frozen. On a CPU the same four with
four blocks of width 128; --nano takes these on a GPU too, and --full the large ones on a CPU.

Both sides have the same random weights (that their losses are equal is checked first), the same batch, AdamW,
and the format that `precision_of` chooses here. Ways to run a step alternate with transformers', and a ratio
is the median over neighbours, so noise of the machine hits both alike. LLaVA is trained by the course's loop
and by transformers' Trainer, both with a batch that lies ready.

MFU is what our model needs, forwards and backwards (diagnostics/cost.py), over what this device reaches in a
large product of matrices in the same format, which is measured in the same run. Ways: as it is, that is with
torch's fused attention; attention in steps; compiled, on a CPU only with --compile, where that takes minutes.

Where gains come from: a classifier's and CLIP's last block computes only the class token (ViT.class_vector,
exactly equal); LLaVA scores the vocabulary only where an answer is predicted, and runs no layer of the
encoder behind the one that it reads.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.diagnostics.cost import flops
from vlmcourse.interop import clip, language, llava, vit
from vlmcourse.models.clip import TextConfig
from vlmcourse.models.language import LlamaConfig, next_token_loss
from vlmcourse.models.llava import Llava, LlavaConfig
from vlmcourse.models.vit import Classifier, ViTConfig
from vlmcourse.training.loop import WithLoss, train
from vlmcourse.training.losses import answer_loss
from vlmcourse.training.precision import precision_of
from vlmcourse.training.speed import WAYS, fastest_way, matmul_peak, utilisation, wait_for

RATE, CLASSES = 1e-4, 10
FORMATS = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TRAINER = "transformers"


@dataclass(frozen=True)
class Sizes:
    """Of the four models and their batches."""

    vit: ViTConfig
    text: TextConfig
    shared: int  # width of CLIP's shared space
    language: LlamaConfig
    images: int  # in a batch of ViT
    pairs: int  # of CLIP
    texts: tuple[int, int]  # of the language model: how many, and how long
    rows: tuple[int, int, int]  # of LLaVA: how many, how long, and how much of it is an answer
    patch: int  # of CLIP's images


BASE = dict(width=768, depth=12, heads=12)
FULL = Sizes(
    ViTConfig(224, 16, **BASE), TextConfig(49408, 49407, 77, 512, 12, 8), 512,
    LlamaConfig(49152, 576, 30, 9, 3, 1536, 1e5, tied=True), 128, 256, (16, 1024), (32, 512, 128), 32,
)  # fmt: skip
NANO = Sizes(
    ViTConfig(), TextConfig(512, 511, 24), 128, LlamaConfig(256), 64, 64, (16, 128), (16, 128, 24), 8
)


class Case(NamedTuple):
    """One model on both sides; each takes the batch and says its loss."""

    name: str
    ours: WithLoss
    theirs: WithLoss
    batch: tuple[Tensor, ...]
    images: int  # in a step
    tokens: int  # that a language model reads in a step


def vit_case(sizes: Sizes) -> Case:
    config = transformers.ViTConfig(**_their_vision(sizes.vit), num_labels=CLASSES)
    theirs = transformers.ViTForImageClassification(config)
    ours = Classifier(sizes.vit, CLASSES)
    ours.vit.load_state_dict(vit.from_transformers(theirs.vit).state_dict())
    ours.head.load_state_dict(theirs.classifier.state_dict())
    batch = _pictures(sizes.images, sizes.vit), torch.randint(CLASSES, (sizes.images,))

    def loss(model: nn.Module, batch: tuple) -> Tensor:
        scores = model(batch[0])
        return F.cross_entropy(getattr(scores, "logits", scores).float(), batch[1])

    return Case("ViT", WithLoss(ours, loss), WithLoss(theirs, loss), batch, sizes.images, 0)


def clip_case(sizes: Sizes) -> Case:
    vision = _their_vision(sizes.vit) | dict(patch_size=sizes.patch)
    text = sizes.text
    reader = dict(hidden_size=text.width, intermediate_size=4 * text.width, num_hidden_layers=text.depth,
                  num_attention_heads=text.heads, vocab_size=text.vocabulary, bos_token_id=0,
                  eos_token_id=text.eos, pad_token_id=text.eos, max_position_embeddings=text.length,
                  layer_norm_eps=text.epsilon)  # fmt: skip
    config = transformers.CLIPConfig(vision_config=vision, text_config=reader, projection_dim=sizes.shared)
    theirs = transformers.CLIPModel(config)
    ours = clip.from_transformers(theirs)
    ids = torch.randint(text.eos, (sizes.pairs, text.length))
    ids[:, -1] = text.eos  # as long as can be: no side may save work on padding

    def their_loss(model: nn.Module, batch: tuple) -> Tensor:
        return model(pixel_values=batch[0], input_ids=batch[1], return_loss=True).loss

    loss = WithLoss(ours, lambda model, batch: model.loss(*batch))
    batch = _pictures(sizes.pairs, sizes.vit), ids
    return Case("CLIP", loss, WithLoss(theirs, their_loss), batch, sizes.pairs, 0)


def language_case(sizes: Sizes) -> Case:
    theirs = transformers.LlamaForCausalLM(_their_language(sizes.language))
    ours = language.from_transformers(theirs)
    ids = torch.randint(sizes.language.vocabulary, sizes.texts)

    def their_loss(model: nn.Module, batch: tuple) -> Tensor:
        return model(batch[0], labels=batch[0], use_cache=False).loss

    loss = WithLoss(ours, lambda model, batch: next_token_loss(model(batch[0]), batch[0]))
    return Case("language model", loss, WithLoss(theirs, their_loss), (ids,), 0, ids.numel())


def llava_case(sizes: Sizes) -> Case:
    """Rows of an image, a question and an answer; projector and language model learn."""
    eye = ViTConfig(**{**asdict(sizes.vit), **dict(norm_before_blocks=True, patch_bias=False, epsilon=1e-5)})
    ours = Llava(LlavaConfig(eye, sizes.language, image_token=3))
    theirs = llava.to_transformers(ours)
    count, length, answer = sizes.rows
    ids = torch.randint(4, sizes.language.vocabulary, (count, length))
    ids[:, : ours.tokens_per_image] = 3
    labels = ids.clone()
    labels[:, : length - answer] = -100
    for encoder in (ours.vision, theirs.model.vision_tower):
        encoder.requires_grad_(False)

    def our_loss(model: Llava, batch: tuple) -> Tensor:
        images, ids, labels = batch
        with torch.no_grad():
            features = model.image_features(images)
        return answer_loss(model.hidden(ids, features=model.connect(features)), labels, model.head)

    def their_loss(model: nn.Module, batch: tuple) -> Tensor:
        images, ids, labels = batch
        return model(input_ids=ids, pixel_values=images, labels=labels, use_cache=False).loss

    batch = _pictures(count, eye), ids, labels
    return Case("LLaVA", WithLoss(ours, our_loss), WithLoss(theirs, their_loss), batch, count, ids.numel())


CASES: dict[str, Callable[[Sizes], Case]] = {
    "vit": vit_case, "clip": clip_case, "language": language_case, "llava": llava_case
}  # fmt: skip


def _pictures(count: int, config: ViTConfig) -> Tensor:
    return torch.randn(count, 3, *config.image_shape)


def _their_vision(config: ViTConfig) -> dict[str, Any]:
    return dict(hidden_size=config.width, intermediate_size=4 * config.width, num_hidden_layers=config.depth,
                num_attention_heads=config.heads, image_size=config.image_size,
                patch_size=config.patch_size, layer_norm_eps=config.epsilon)  # fmt: skip


def _their_language(config: LlamaConfig) -> transformers.LlamaConfig:
    return transformers.LlamaConfig(
        vocab_size=config.vocabulary, hidden_size=config.width, num_hidden_layers=config.depth,
        num_attention_heads=config.heads, num_key_value_heads=config.groups, rms_norm_eps=config.epsilon,
        intermediate_size=config.hidden or 8 * config.width // 3, tie_word_embeddings=config.tied,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip


class Row(NamedTuple):
    """What was measured of one way to train a model."""

    model: str
    way: str
    precision: str
    milliseconds: float  # of a step
    images: float  # a second
    tokens: float  # a second
    ratio: float  # to transformers
    mfu: float | None  # None for transformers', which computes more than is needed


def refuse_unequal(case: Case) -> None:
    """Only equal models can be compared.

    Raises:
        SystemExit: if their losses on the batch differ by more than 1e-5 of them, in fp32.
    """
    with torch.no_grad():
        mine, other = (float(side(case.batch)) for side in (case.ours, case.theirs))
    if not abs(mine - other) <= 1e-5 * max(abs(mine), 1):
        raise SystemExit(f"{case.name}: our loss is {mine}, theirs {other}, so their speeds say nothing")


def stepper(run: Callable, weights: list[nn.Parameter], batch: tuple, precision: str) -> Callable[[], float]:
    """A function that makes a step of the optimizer and returns its seconds."""
    device = weights[0].device
    optimizer = torch.optim.AdamW([weight for weight in weights if weight.requires_grad], RATE, fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def step() -> float:
        wait_for(device)
        start = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast(device.type, FORMATS[precision], enabled=precision != "no"):
            loss = run(batch)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        wait_for(device)
        return time.perf_counter() - start

    return step


def by_steps(case: Case, precision: str, ways: dict[str, Any], rounds: int) -> dict[str, list[float]]:
    """Seconds of a step by way, round by round; two rounds to warm up are left out."""
    runs = {TRAINER: case.theirs} | {name: way(case.ours) for name, way in ways.items()}
    nets = {name: case.theirs if name == TRAINER else case.ours for name in runs}
    steps = {name: stepper(run, list(nets[name].parameters()), case.batch, precision)
             for name, run in runs.items()}  # fmt: skip
    table = [{name: step() for name, step in steps.items()} for _ in range(rounds + 2)][2:]
    return {name: [row[name] for row in table] for name in runs}


class Ticks:
    """Seconds between two of its calls: from behind the first few, which warm up, to the last."""

    def __init__(self, first: int, last: int, device: torch.device):
        self.first, self.last, self.device, self.count, self.times = first, last, device, 0, []

    def __call__(self, *_: Any) -> None:
        self.count += 1
        if self.count in (self.first, self.last):
            wait_for(self.device)
            self.times.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        return (self.times[1] - self.times[0]) / (self.last - self.first)


def by_loop(case: Case, precision: str, way: Any, ticks: Ticks) -> float:
    """Seconds of a step of the course's training loop."""
    run = way(case.ours)

    def loss(model: nn.Module, batch: tuple) -> Tensor:
        ticks()
        return run(batch)

    train(case.ours.model, [case.batch], loss, steps=ticks.last, lr=RATE, precision=precision)
    return ticks.seconds


def by_trainer(case: Case, precision: str, ticks: Ticks) -> float:
    """Seconds of a step of transformers' Trainer."""
    images, ids, labels = (values.cpu() for values in case.batch)
    rows = [dict(pixel_values=images, input_ids=ids, labels=labels, use_cache=False)] * ticks.last
    low = dict(bf16=precision == "bf16", fp16=precision == "fp16")
    hook = case.theirs.model.register_forward_pre_hook(ticks)
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            folder, per_device_train_batch_size=1, max_steps=ticks.last, learning_rate=RATE, report_to=[],
            weight_decay=0.05, optim="adamw_torch_fused", save_strategy="no", logging_strategy="no",
            disable_tqdm=True, use_cpu=ticks.device.type == "cpu", **low,
        )  # fmt: skip
        trainer = transformers.Trainer(case.theirs.model, arguments, train_dataset=rows, data_collator=_ready)
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    hook.remove()
    return ticks.seconds


def _ready(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return rows[0]


def by_trainings(case: Case, precision: str, ways: dict[str, Any], rounds: int) -> dict[str, list[float]]:
    """Seconds of a step by way, round by round: short trainings, one after the other."""
    device = next(case.ours.parameters()).device
    first, last = (5, 25) if device.type == "cuda" else (2, 5)
    seconds: dict[str, list[float]] = {TRAINER: [], **{name: [] for name in ways}}
    for _ in range(rounds):
        seconds[TRAINER].append(by_trainer(case, precision, Ticks(first, last, device)))
        for name, way in ways.items():
            seconds[name].append(by_loop(case, precision, way, Ticks(first, last, device)))
    return seconds


def rows_of(
    case: Case, precision: str, seconds: dict[str, list[float]], work: float, peak: float
) -> list[Row]:
    """What the seconds of a step mean.

    Args:
        work: operations of a step of ours; peak: operations a second of the device.
    """
    rows = []
    for way, mine in seconds.items():
        one = statistics.median(mine)
        ratio = statistics.median(their / my for their, my in zip(seconds[TRAINER], mine, strict=True))
        mfu = None if way == TRAINER else utilisation(work, one, peak)
        rates = case.images / one, case.tokens / one
        rows.append(Row(case.name, way, precision, 1000 * one, *rates, ratio, mfu))
    return rows


def measure(case: Case, device: str, ways: dict[str, Any], rounds: int, peaks: dict[str, float]) -> list[Row]:
    """All of one model; ``peaks`` keeps what was measured of the device, by precision."""
    case = case._replace(batch=tuple(values.to(device) for values in case.batch))
    for side in (case.ours, case.theirs):
        side.to(device).train()
    refuse_unequal(case)
    rows, width = _product_of(case)
    precision = precision_of(rows, width)
    if precision not in peaks:
        peaks[precision] = matmul_peak(device, FORMATS[precision])
    work = flops(lambda: case.ours(case.batch).backward())
    case.ours.zero_grad()
    tried = fastest_way(case.ours, case.batch, _cast(device, precision), ways, rounds=1)
    for way, why in tried.failed.items():
        print(f"{case.name}, {way}: left out, {why}")
    there = {name: way for name, way in ways.items() if name in tried.seconds}
    seconds = (by_trainings if case.name == "LLaVA" else by_steps)(case, precision, there, rounds)
    return rows_of(case, precision, seconds, work, peaks[precision])


def _cast(device: str, precision: str) -> Callable[[], torch.autocast]:
    return lambda: torch.autocast(device, FORMATS[precision], enabled=precision != "no")


def _product_of(case: Case) -> tuple[int, int]:
    """Rows and width of a typical product of matrices: what most of the tokens pass through."""
    model = case.ours.model
    if case.tokens:
        return case.tokens, model.language.config.width if case.images else model.config.width
    eye = (model.vit if isinstance(model, Classifier) else model.vision).config
    return case.images * (eye.grid[0] * eye.grid[1] + 1), eye.width


HEADER = ("model", "way", "format", "ms a step", "images/s", "tokens/s", "ratio", "MFU")


def table_of(rows: list[Row]) -> str:
    """One line for each row, below HEADER; * marks the fastest way of each model."""
    best = {row.model: min((other.milliseconds, other.way) for other in rows if other.model == row.model)[1]
            for row in rows}  # fmt: skip
    lines = [HEADER]
    for row in rows:
        rates = [f"{value:,.0f}" if value else "-" for value in (row.images, row.tokens)]
        share = "-" if row.mfu is None else f"{row.mfu:.1%}"
        way = row.way + " *" * (row.way == best[row.model])
        precision = row.precision.replace("no", "fp32")
        numbers = f"{row.milliseconds:.1f}", *rates, f"{row.ratio:.2f}", share
        lines.append((row.model, way, precision, *numbers))
    return "\n".join(f"{model:14}  {way:20}  {low:6}  {ms:>9}  {images:>9}  {tokens:>9}  {ratio:>5}  {mfu:>6}"
                     for model, way, low, ms, images, tokens, ratio, mfu in lines)  # fmt: skip


def sizes_here(nano: bool, full: bool) -> Sizes:
    """Full sizes on a GPU; with less than 60 GiB of memory a quarter of the batches."""
    gpu = torch.cuda.is_available()
    if nano or not (gpu or full):
        return NANO
    large = not gpu or torch.cuda.get_device_properties(0).total_memory > 60 * 2**30
    part = 1 if large else 4
    (texts, length), (rows, *rest) = FULL.texts, FULL.rows
    given = vars(FULL) | dict(images=FULL.images // part, pairs=FULL.pairs // part,
                              texts=(texts // part, length), rows=(rows // part, *rest))  # fmt: skip
    return Sizes(**given)


def arguments_of(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--nano", action="store_true", help="small sizes, on a GPU too")
    size.add_argument("--full", action="store_true", help="full sizes, on a CPU too: hours")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="some of the models")
    parser.add_argument("--rounds", type=int, default=9, help="steps of each way; the median counts")
    parser.add_argument("--compile", action="store_true", help="try compiled steps on a CPU too")
    parser.add_argument("--json", type=Path, help="write the numbers to this file, too")
    options = parser.parse_args(given)
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: at least one is needed for a median")
    return options


def main(given: list[str] | None = None) -> list[Row]:
    options = arguments_of(given)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    ways = {
        name: way for name, way in WAYS.items() if name != "compiled" or options.compile or device == "cuda"
    }
    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)"
    transformers.logging.set_verbosity_error()
    sizes, peaks, rows = sizes_here(options.nano, options.full), {}, []
    for case in options.only:
        torch.manual_seed(0)
        rows += measure(CASES[case](sizes), device, ways, options.rounds, peaks)
    reached = ", ".join(f"{key.replace('no', 'fp32')} {peak / 1e12:.3g}" for key, peak in peaks.items())
    print(f"{name}, torch {torch.__version__}; measured peak in teraFLOP/s: {reached}")
    print(table_of(rows))
    if options.json:
        facts = dict(date=f"{date.today()}", device=name, machine=platform.machine(), torch=torch.__version__,
                     nano=sizes is NANO, peaks=peaks)  # fmt: skip
        facts["rows"] = [row._asdict() for row in rows]
        options.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return rows


if __name__ == "__main__":
    main()
