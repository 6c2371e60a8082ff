"""How fast is the course's ViT? Train step and forward against transformers' ViTForImageClassification, in
one run.

    python benchmarks/vit.py [STEPS]

Same sizes (4 layers × 128, MLP 512, 64 px, patch 8, batch 64), same optimiser, same precision on both sides.
Steps alternate, and the ratio is the median over neighbouring steps, so noise of the machine hits both alike.

Where the gain comes from: a classifier reads only the class token, so our last block computes only that one
(ViT.class_vector, exactly equal). In bf16, explicit attention is also faster on the CPU than the fused one.
"""

import statistics
import sys
import time

import torch
from torch.nn import functional as F
from transformers import ViTConfig as LibraryConfig
from transformers import ViTForImageClassification

from vlmcourse.models.vit import Classifier, ViTConfig
from vlmcourse.training.precision import choose_precision, cpu_bf16_gain

CLASSES, BATCH, TOKENS, WIDTH = 10, 64, 65, 128


def trainer(model: torch.nn.Module, logits):
    """A function that makes one optimiser step and returns its seconds."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step(images, labels, low: bool) -> float:
        start = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            loss = F.cross_entropy(logits(model(images)), labels)
        loss.backward()
        optimizer.step()
        return time.perf_counter() - start

    return step


def reader(model: torch.nn.Module, logits):
    """A function that makes one forward pass without gradients and returns its seconds."""

    @torch.no_grad()
    def step(images, labels, low: bool) -> float:
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            logits(model(images))
        return time.perf_counter() - start

    return step


def main(steps: int) -> None:
    torch.manual_seed(0)
    images, labels = torch.randn(BATCH, 3, 64, 64), torch.randint(CLASSES, (BATCH,))
    ours = Classifier(ViTConfig(), CLASSES)
    theirs = ViTForImageClassification(
        LibraryConfig(
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=4,
            num_attention_heads=4,
            image_size=64,
            patch_size=8,
            num_labels=CLASSES,
        )
    ).train()
    for title, make in (("train step", trainer), ("forward", reader)):
        our_step, their_step = make(ours, lambda output: output), make(theirs, lambda output: output.logits)
        for precision in ("fp32", "bf16"):
            case = images, labels, precision == "bf16"
            pairs = [(our_step(*case), their_step(*case)) for _ in range(steps + 3)][3:]
            mine, library = (1000 * statistics.median(column) for column in zip(*pairs, strict=True))
            ratio = statistics.median(library / mine for mine, library in pairs)
            print(
                f"ViT {title}, {precision}: ours {mine:.0f} ms, "
                f"transformers {library:.0f} ms, ratio {ratio:.2f}×"
            )
    name, gain = choose_precision("cpu", BATCH * TOKENS, WIDTH), cpu_bf16_gain(BATCH * TOKENS, WIDTH)
    print(f"On this machine the course would train this model in {name}: bf16 has {gain:.2g}× fp32's speed")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 25)
