"""History: what a training run remembers of its steps, and how it shows them while it runs."""

import math
import os
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm.auto import tqdm

NORM = "gradient norm"


@dataclass
class History:
    """What happened; `losses[k]`, `gradient_norms[k]` (before clipping), `metrics[name][k]` in step k+1."""

    precision: str = "no"
    losses: list[float] = field(default_factory=list)
    gradient_norms: list[float] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    stopped: str = ""
    way: str = ""  # of speed.WAYS, if the fastest was sought

    @property
    def steps(self) -> int:
        """Optimizer steps made."""
        return len(self.losses)

    def __repr__(self) -> str:
        if not self.losses:
            return "History(no steps)"
        tail = self.losses[-min(20, self.steps) :]
        way = f", {self.way}" if self.way else ""
        return (
            f"History({self.steps} steps in {self.seconds:.1f} s, loss {self.losses[0]:.4g} → "
            f"{sum(tail) / len(tail):.4g} (mean of the last {len(tail)}), stopped by {self.stopped}{way})"
        )


class Log:
    """Feeds the history, the progress bar and the watchers.

    On a GPU the numbers of ten steps are fetched together, because to look at one is to wait for it.
    """

    def __init__(
        self, history: History, watch: Any, accelerator: Accelerator, steps: int, seconds: float, name: str
    ):
        self.history, self.accelerator, self.steps = history, accelerator, steps
        self.limit = history.seconds + seconds
        watchers = watch if isinstance(watch, (list, tuple)) else [watch]
        self.watchers = [getattr(watcher, "add", watcher) for watcher in watchers if watcher is not None]
        self.every = 1 if accelerator.device.type == "cpu" else 10
        self.unread: list[tuple[int, str, Tensor | float]] = []
        self.unseen: list[tuple[int, dict[str, float]]] = []
        self.start = time.perf_counter() - history.seconds
        in_view = sys.stderr.isatty() or "ipykernel" in sys.modules
        quiet = steps < 2 or "CI" in os.environ or not in_view or not accelerator.is_main_process
        self.bar = tqdm(total=steps, initial=history.steps, desc=name, disable=quiet, unit="step")

    def add(self, step: int, **values: Tensor | float) -> None:
        """Note numbers of one batch of `step`, without looking at them."""
        self.unread += [(step, name, value) for name, value in values.items()]

    def read(self, step: int = 0) -> None:
        """Look at the noted numbers, averaged over batches and processes; raise if they are not finite."""
        if step % self.every and step != self.steps:  # on a GPU every tenth step, and the last
            return
        to_number = dict(dtype=torch.float32, device=self.accelerator.device)
        values = [value for _, _, value in self.unread] + [time.perf_counter() - self.start]
        table = torch.stack([torch.as_tensor(value, **to_number) for value in values])
        if self.accelerator.num_processes > 1:
            table = self.accelerator.reduce(table, "mean")
        *numbers, self.history.seconds = table.tolist()
        points: dict[int, dict[str, list[float]]] = {}
        for (step, name, _), number in zip(self.unread, numbers, strict=True):
            points.setdefault(step, {}).setdefault(name, []).append(number)
        self.unread.clear()
        for step, lists in points.items():
            self._keep(step, {name: sum(numbers) / len(numbers) for name, numbers in lists.items()})

    def _keep(self, step: int, point: dict[str, float]) -> None:
        norm, history = point.pop(NORM), self.history
        overflow_is_normal = history.precision == "fp16"  # the loss scale is lowered and the step left out
        if not math.isfinite(point["loss"]) or not (math.isfinite(norm) or overflow_is_normal):
            before = f"{history.losses[-1]:.4g}" if history.losses else "none"
            raise FloatingPointError(
                f"step {step}: loss {point['loss']:.4g}, gradient norm {norm:.4g}, loss one step before "
                f"{before}, precision {history.precision}. Try a smaller learning rate or a longer warm-up; "
                "look in the loss for log(0), 0/0 or the square root of 0, and in the batch for numbers that "
                "are not finite, and for labels: a mean over none of them is 0/0"
            )
        history.gradient_norms.append(norm)
        history.losses.append(point["loss"])
        for name, number in point.items():
            if name != "loss":
                history.metrics.setdefault(name, []).append(number)
        self.unseen.append((step, point))

    def finish(self, step: int) -> bool:
        """Show what was read to the watchers; True if this was the last step."""
        for read_step, point in self.unseen:
            for watcher in self.watchers if self.accelerator.is_main_process else ():
                watcher(read_step, **point)
        if self.unseen:
            self.bar.set_postfix_str(f"loss {self.unseen[-1][1]['loss']:.4g}", refresh=False)
        self.unseen.clear()
        self.bar.update()
        out_of_time = "seconds" if self.history.seconds >= self.limit else ""
        self.history.stopped = "steps" if step == self.steps else out_of_time
        return bool(self.history.stopped)
