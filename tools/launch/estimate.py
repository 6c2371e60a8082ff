"""What LLaVA-1.5-7B's published stages need: memory on each GPU, operations, hours; nothing is run.

    python tools/launch/estimate.py [--gpus 8] [--peak 312] [--mfu 0.45]

Memory comes from the ledger of chapter 15 (vlmcourse/training/memory.py). Hours are operations divided by
what the GPUs do: ``peak`` in bf16 teraFLOP/s (A100 312, H100 989, L4 121, by their data sheets) times
``mfu``, the share of it that trainings reach. The published hours, the other way round, tell which share
LLaVA reached.

Published (github.com/haotian-liu/LLaVA, README, "Train"): pretraining with 558 thousand captions in about 3.5
hours, tuning with 665 thousand conversations in about 10 hours, both on eight A100; batches of 256 and 128,
ZeRO 2 and 3, every block computed again on the way back. Tokens of an example are not published: those below
are assumed, 576 of them the image's, and operations are proportional to them.
"""

import argparse
from dataclasses import dataclass, replace

from vlmcourse.training.memory import LANGUAGE, METHODS, PUBLISHED, Part, Setting, Tuned, in_gib, ledger

TERA, HOUR = 1e12, 3600.0


@dataclass(frozen=True)
class PublishedStage:
    """One stage as it was run."""

    name: str
    method: str  # of METHODS
    examples: int
    batch: int  # over all GPUs
    tokens: int  # of an example, on average; assumed
    longest: int  # tokens for which memory must do
    sharded: int  # stage of ZeRO
    hours: float  # as published, on eight A100


STAGES = (
    PublishedStage("pretrain", "projector only", 558_000, 256, 620, 700, 2, 3.5),
    PublishedStage("finetune", "frozen encoder", 665_000, 128, 900, 2048, 3, 10.0),
)


def sized(parts: tuple[Part, ...], tokens: int) -> list[Part]:
    """The parts with examples of so many tokens, all of them predicted at most."""
    return [replace(p, tokens=tokens, predicted=tokens) if p.name == LANGUAGE else p for p in parts]


def step_flops(parts: list[Part], method: dict[str, Tuned]) -> float:
    """Additions and multiplications for one example: 2 for each weight and token forwards, 2 for the gradient
    of what a weight read where something before it learns, and 2 for its own where it learns itself."""
    total, passes = 0.0, False
    for part in parts:
        learns = method[part.name].what != "nothing"
        total += (2 + 2 * passes + 2 * learns) * part.parameters * part.tokens
        passes = passes or learns
    return total


def estimate(
    stage: PublishedStage, gpus: int = 8, peak: float = 312.0, mfu: float = 0.45
) -> dict[str, float]:
    """GiB on each GPU, operations of the stage in 10¹⁸, hours at ``mfu``, mfu of the published hours."""
    parts, method = PUBLISHED["LLaVA-1.5-7B"], METHODS[stage.method]
    setting = Setting(
        max(stage.batch // gpus, 1), "bf16 weights", recompute=True, gpus=gpus, sharded=stage.sharded
    )
    held = ledger(sized(parts, stage.longest), method, setting)
    done = stage.examples * step_flops(sized(parts, stage.tokens), method)
    return {
        "GiB on each GPU": in_gib(held.peak),
        "exaFLOP": done / 1e18,
        "hours": done / (gpus * peak * TERA * mfu * HOUR),
        "published hours": stage.hours,
        "mfu of these": done / (8 * 312.0 * TERA * stage.hours * HOUR),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--peak", type=float, default=312.0, help="bf16 teraFLOP/s of one GPU")
    parser.add_argument("--mfu", type=float, default=0.45, help="share of the peak that is reached")
    given = parser.parse_args()
    for stage in STAGES:
        numbers = estimate(stage, given.gpus, given.peak, given.mfu)
        print(f"{stage.name}: " + ", ".join(f"{name} {value:.2f}" for name, value in numbers.items()))


if __name__ == "__main__":
    main()
