"""The measured side of the memory ledger: a few training steps in a process of their own (notebook 15).

    measure_peak    what autograd kept, and the most memory that was in use at once

On a CPU that is how much the process grew: nothing else must run in it, and freed memory must go back at
once, so it is a fresh one, in which a step has been rehearsed. On a GPU it is what torch's allocator counted.
"""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from vlmcourse.models.language import LlamaConfig
from vlmcourse.models.llava import Llava, LlavaConfig
from vlmcourse.models.lora import add_lora
from vlmcourse.models.quantise import quantise_layers
from vlmcourse.models.recompute import recompute_blocks
from vlmcourse.models.vit import ViTConfig
from vlmcourse.training.losses import answer_loss
from vlmcourse.training.memory import Setting, Tuned, saved_bytes


def measure_peak(
    config: LlavaConfig,
    method: Mapping[str, Tuned],
    setting: Setting,
    tokens: int,
    predicted: int,
    device: str = "cpu",
) -> dict[str, float]:
    """Train a model of this form for three steps on numbers without meaning, in a fresh process.

    Args:
        tokens, predicted: of each text, image tokens included, and how many of them are answers.

    Returns:
        bytes: ``activations`` that autograd kept, and ``peak`` beyond what the process held before.

    Raises:
        RuntimeError: if the process fails; with what it said.
    """
    task = dict(config=asdict(config), method={name: tuple(tuned) for name, tuned in method.items()},
                setting=asdict(setting), tokens=tokens, predicted=predicted, device=device)  # fmt: skip
    # pieces above 64 KiB are given back to the system as soon as they are freed
    own = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    root = str(Path(__file__).parents[2])
    paths = [root, os.environ.get("PYTHONPATH", "")]
    own["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    done = subprocess.run([sys.executable, "-m", __name__, json.dumps(task)], env=os.environ | own,
                          capture_output=True, text=True, check=False)  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the measuring process failed: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout.splitlines()[-1])


def prepare(model: Llava, method: Mapping[str, Tuned], recompute: bool = False) -> None:
    """Let in each part learn what the method says; put LoRA and four bits where they belong."""
    parts = zip(method.values(), (model.vision, model.projector, model.language), strict=True)
    for tuned, part in parts:
        part.requires_grad_(tuned.what == "all")
        if tuned.bits < 16:
            quantise_layers(part.blocks)
        if tuned.what == "lora":
            add_lora(part.blocks[tuned.first :], tuned.rank, 2.0 * tuned.rank)
    if recompute:
        recompute_blocks(model)


def run_steps(task: dict[str, Any]) -> dict[str, float]:
    """What measure_peak asks of the fresh process."""
    sizes, setting, device = task["config"], Setting(**task["setting"]), torch.device(task["device"])
    vision, language = ViTConfig(**sizes.pop("vision")), LlamaConfig(**sizes.pop("language"))
    config = LlavaConfig(vision, language, **sizes)
    _rehearse(config, task, setting, device)
    before, meter = _used(device), _Meter(device)
    model, batch = _made(config, task, setting, device)
    with torch.autocast(device.type, _dtype(setting), enabled=setting.precision in ("bf16", "fp16")):
        kept = saved_bytes(lambda: _loss(model, *batch), model)
    meter.reset()
    optimizer = _optimizer(model)
    for _ in range(3):
        _step(model, batch, setting, optimizer)
    return {"activations": kept, "peak": meter.most() - before}


def _made(config: LlavaConfig, task: dict[str, Any], setting: Setting, device: torch.device) -> tuple:
    model = Llava(config).to(device)
    prepare(model, {name: Tuned(*tuned) for name, tuned in task["method"].items()}, setting.recompute)
    return model, _batch(config, setting.batch, task["tokens"], task["predicted"], device)


def _rehearse(config: LlavaConfig, task: dict[str, Any], setting: Setting, device: torch.device) -> None:
    """A step that is thrown away: libraries are loaded, and code is made for products of these shapes. For
    bf16 on a CPU that stays, 15 to 27 MB in the sizes tested; it belongs to the process, not to the step."""
    model, batch = _made(config, task, setting, device)
    _step(model, batch, setting)
    del model, batch
    gc.collect()


def _dtype(setting: Setting) -> torch.dtype:
    return torch.float16 if setting.precision == "fp16" else torch.bfloat16


def _batch(config: LlavaConfig, batch: int, tokens: int, predicted: int, device: Any = "cpu") -> tuple:
    """Images, texts that begin with image tokens and end with answers, labels, and which tokens are real."""
    with torch.device("meta"):
        image_tokens = Llava(config).tokens_per_image
    images = torch.rand(batch, config.vision.channels, *config.vision.image_shape)
    ids = torch.randint(config.image_token + 1, config.language.vocabulary, (batch, tokens))
    ids[:, :image_tokens] = config.image_token
    labels = torch.full_like(ids, -100)
    labels[:, tokens - predicted :] = ids[:, tokens - predicted :]
    return (
        images.to(device),
        ids.to(device),
        labels.to(device),
        torch.ones_like(ids, dtype=torch.bool).to(device),
    )


def _loss(model: Llava, images: Tensor, ids: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    learns = any(weight.requires_grad for weight in model.vision.parameters())
    with torch.set_grad_enabled(learns):
        features = model.image_features(images)
    return answer_loss(model.hidden(ids, features=model.connect(features), mask=mask), labels, model.head)


def _optimizer(model: nn.Module) -> torch.optim.Optimizer:
    learned = [weight for weight in model.parameters() if weight.requires_grad]
    return torch.optim.AdamW(learned, 1e-4, fused=True)


def _step(model: Llava, batch: tuple, setting: Setting, optimizer: Any = None) -> None:
    optimizer = optimizer or _optimizer(model)
    device = batch[0].device.type
    with torch.autocast(device, _dtype(setting), enabled=setting.precision in ("bf16", "fp16")):
        loss = _loss(model, *batch)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def _used(device: torch.device) -> int:
    return torch.cuda.memory_allocated() if device.type == "cuda" else psutil.Process().memory_info().rss


class _Meter:
    """The most memory in use since reset."""

    def __init__(self, device: torch.device):
        self.cuda = device.type == "cuda"

    def reset(self) -> None:
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # the kernel's own mark of the highest

    def most(self) -> int:
        if self.cuda:
            return torch.cuda.max_memory_allocated()
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


if __name__ == "__main__":
    print(json.dumps(run_steps(json.loads(sys.argv[1]))))
