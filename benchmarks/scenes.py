"""How many scenes a second one core makes: sampled, drawn at 64×64 and captioned.

python benchmarks/scenes.py
"""

import statistics
import time

from vlmcourse.world.captions import captions
from vlmcourse.world.render import render
from vlmcourse.world.scenes import sample

BATCH, REPEATS = 2000, 9


def rates(repeats: int = REPEATS) -> list[float]:
    """Pictures with short captions per second of processor time, one number per repeat, after a warm-up."""

    def once(number: int) -> float:
        start = time.process_time()
        batch = sample("train", BATCH, start=number * BATCH)
        render(batch), captions(batch)
        return BATCH / (time.process_time() - start)

    return [once(number) for number in range(repeats + 1)][1:]


if __name__ == "__main__":
    measured = rates()
    print(
        f"scenes: {statistics.median(measured):,.0f} pictures with captions per second and core "
        f"(median of {REPEATS}; {min(measured):,.0f} to {max(measured):,.0f})"
    )
