"""How fast is the course's ViT? Train step and forward against transformers' ViTForImageClassification, in one run.

    python benchmarks/vit.py [STEPS]

Same sizes (4 layers × 128, MLP 512, 64 px, patch 8, batch 64), same optimiser, steps alternate, median of the ratios
of neighbouring steps, so noise of the machine hits both alike.
"""

import statistics
import sys
import time

import torch
from torch.nn import functional as F
from transformers import ViTConfig as LibraryConfig
from transformers import ViTForImageClassification

from vlmcourse.models.vit import Classifier, ViTConfig

CLASSES, BATCH = 10, 64


def trainer(model: torch.nn.Module, logits):
    """A function that makes one optimiser step and returns its seconds."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step(images, labels) -> float:
        start = time.perf_counter()
        optimizer.zero_grad()
        F.cross_entropy(logits(model, images), labels).backward()
        optimizer.step()
        return time.perf_counter() - start

    return step


def reader(model: torch.nn.Module, logits):
    """A function that makes one forward pass without gradients and returns its seconds."""

    @torch.no_grad()
    def step(images, labels) -> float:
        start = time.perf_counter()
        logits(model, images)
        return time.perf_counter() - start

    return step


def main(steps: int) -> None:
    torch.manual_seed(0)
    images, labels = torch.randn(BATCH, 3, 64, 64), torch.randint(CLASSES, (BATCH,))
    ours = Classifier(ViTConfig(), CLASSES)
    theirs = ViTForImageClassification(
        LibraryConfig(
            hidden_size=128, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4, image_size=64,
            patch_size=8, num_labels=CLASSES,
        )
    ).train()  # fmt: skip
    for title, make in (("train step", trainer), ("forward", reader)):
        our_step = make(ours, lambda model, x: model(x))
        their_step = make(theirs, lambda model, x: model(x).logits)
        pairs = [(our_step(images, labels), their_step(images, labels)) for _ in range(steps + 3)][3:]
        mine, library = (1000 * statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(library / mine for mine, library in pairs)
        print(f"ViT {title}: ours {mine:.0f} ms, transformers {library:.0f} ms, ratio {ratio:.2f}×")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 25)
