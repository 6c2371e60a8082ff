"""The training loop: the one loop that trains every model of the course (first used in notebook 02).

Read `train` first: batch, loss, backward, clip, step. Accelerate moves tensors to the device, lowers the
precision, accumulates gradients and averages them over processes; the same loop runs on a laptop and, with
`accelerate launch`, on many GPUs. Each holds the whole model (DDP) or a part of it (FSDP, see sharding.py).
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import (
    DistributedDataParallelKwargs,
    GradientAccumulationPlugin,
    InitProcessGroupKwargs,
    patch_environment,
    send_to_device,
)
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from vlmcourse.data.batches import rows_of_process
from vlmcourse.training.history import NORM, History, Log
from vlmcourse.training.optimizers import learning
from vlmcourse.training.precision import choose_precision
from vlmcourse.training.resume import Run
from vlmcourse.training.sharding import launched_sharded, sharded, whole
from vlmcourse.training.sharing import alike_in_all
from vlmcourse.training.speed import fastest_way

ANSWER_WITHIN = timedelta(minutes=10)  # of a process that waits for one that does not answer

LossFn = Callable[[nn.Module, Any], Tensor | tuple[Tensor, dict]]


def train(
    model: nn.Module,
    batches: Iterable,
    loss_fn: LossFn,
    *,
    steps: int,
    lr: float = 1e-3,
    optimizer: torch.optim.Optimizer | None = None,
    schedule: Callable[[int], float] | None = None,
    clip: float = 1.0,
    accumulate: int = 1,
    precision: str | None = None,
    seconds: float = math.inf,
    watch: Any = (),
    name: str = "",
    checkpoint: str | Path | None = None,
    save_every: int = 200,
    keep: int = 2,
    resume: bool = False,
    origin: dict[str, Any] | None = None,
    by_block: bool = True,
    fastest: bool = False,
) -> History:
    """Train `model` in place.

    Args:
        batches: a `Batches`; or any iterable of batches, begun again when it ends, a list of one batch say.
            Of several processes each takes its share of the rows of every batch.
        loss_fn: takes (model, batch) and returns the mean loss of the batch, or (loss, {name: number}).
        steps: optimizer steps, counted from the very first one, also when resuming.
        lr: peak learning rate of the default optimizer `adamw`; an `optimizer` of yours brings its own.
        schedule: step (from 0) -> factor on the learning rate; default `warmup_cosine(steps)`.
        clip: largest norm of the gradient; math.inf only measures it.
        accumulate: batches whose gradients are averaged for one step.
        precision: "no", "bf16" or "fp16"; default `choose_precision`.
        seconds: stop after this time, even if steps are left.
        watch: a function, an object with a method `add`, or a list of them; called after every step (on a
            GPU in groups of ten) with (step, loss=..., **metrics).
        name: what stands in front of the status line, such as "CNN, run 2 of 3"; default the model's class.
        checkpoint: folder for checkpoints, every `save_every` steps and at the end; the newest `keep` stay.
        resume: carry on from the newest whole checkpoint there; an empty folder starts a new run.
        origin: plain data that says what is trained, such as a recipe's stage. Checkpoints record it with a
            hash of the weights at the start, and a run that begins from something else is not carried on.
        by_block: where the model is sharded, whether a block's weights are gathered only while it runs. False
            gathers all for a step: where a block hands on keys and values beside its output (a Cache), the
            way back does not pass through its output, and nothing would gather them again.
        fastest: try on the first batch which way of speed.WAYS takes least time here, compiled for example,
            and go that way; the history says which. It takes a minute or several, so not for short runs.

    Raises:
        ValueError: if ``fastest`` is wanted of several processes, which might go different ways.
        FloatingPointError: if the loss or its gradient is not finite; the weights are those before that step,
            or on a GPU at most ten steps later.
        CheckpointError: if checkpoints cannot be written, or none fits (see training/checkpoints.py).
    """
    accelerator = _start_accelerator(precision, accumulate)
    if fastest and accelerator.num_processes > 1:
        raise ValueError("the fastest way is tried by one process alone; train with one, or without it")
    if not launched_sharded():  # else a GPU never holds the whole model
        model.to(accelerator.device)
    optimizer = optimizer or adamw(model, lr)
    rates = LambdaLR(optimizer, schedule or warmup_cosine(steps))
    share = accelerator.process_index, accelerator.num_processes
    stream = batches.stream(*share) if hasattr(batches, "stream") else _endless(batches, *share)
    history = History(precision=accelerator.mixed_precision)
    run = Run(model, optimizer, rates, stream, history, accelerator, origin)
    if checkpoint is not None:
        run.open(checkpoint, resume)
    history.way = ""  # tried anew, on what may be another device

    log = Log(history, watch, accelerator, steps, seconds, name or type(model).__name__)
    with _prepared(run, loss_fn, by_block) as (net, stepper), log.bar:
        run_batch = net
        for step in range(history.steps + 1, steps + 1):
            for _ in range(accumulate):
                batch = send_to_device(next(stream), accelerator.device)
                if fastest and not history.way:
                    history.way, run_batch, *_ = fastest_way(net, batch, accelerator.autocast)
                with accelerator.accumulate(net):
                    with accelerator.autocast():
                        loss, metrics = _loss_and_metrics(run_batch(batch))
                    accelerator.backward(loss)
                    log.add(step, loss=loss.detach(), **metrics)
                    if accelerator.sync_gradients:
                        log.add(step, **{NORM: whole(accelerator.clip_grad_norm_(net.parameters(), clip))})
                        log.read(step)
                    stepper.step()
                    stepper.zero_grad()
            if not stepper.step_was_skipped:  # fp16 skips the step if its gradient overflowed
                rates.step()
            finished = log.finish(step)
            if checkpoint is not None and (finished or step % save_every == 0):
                log.read()
                run.save(checkpoint, keep)
            if finished:
                break
    return history


def learn(model: nn.Module, batches: Iterable, loss_fn: LossFn, **train_options: Any) -> History:
    """`train`; afterwards the model is on the CPU, in evaluation mode, and no parameter is frozen."""
    history = train(model, batches, loss_fn, **train_options)
    model.cpu().eval().requires_grad_(True)
    return history


def adamw(model: nn.Module, lr: float, weight_decay: float = 0.05) -> torch.optim.AdamW:
    """AdamW over the parameters that require gradients; weight decay on matrices, not on biases and norms.

    Source: Loshchilov & Hutter 2019, arXiv:1711.05101.
    """
    learned = learning(model).values()
    groups = [
        {"params": [weight for weight in learned if weight.ndim >= 2], "weight_decay": weight_decay},
        {"params": [weight for weight in learned if weight.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=lr, fused=True)


def warmup_cosine(steps: int) -> Callable[[int], float]:
    """Schedule: up to 1 over a tenth of the steps, but at most 100, then to 0 in half a cosine."""
    warmup = min(100, steps // 10)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = min((step - warmup) / max(steps - warmup, 1), 1.0)
        return 0.5 * (1 + math.cos(math.pi * done))

    return factor


def _loss_and_metrics(answer: Any) -> tuple[Tensor, dict[str, Tensor | float]]:
    loss, metrics = answer if isinstance(answer, tuple) and len(answer) == 2 else (answer, {})
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        got = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise TypeError(f"loss_fn returned {got}, not one number as a tensor or (loss, dict of numbers)")
    if not loss.requires_grad:
        raise ValueError("the loss depends on no trainable parameter: a frozen model, or a detached loss?")
    for name, value in metrics.items():
        if name in ("loss", "step", NORM) or (isinstance(value, Tensor) and value.numel() != 1):
            raise ValueError(f"metric {name!r} must be one number, and not be called loss, step or {NORM}")
    numbers = {name: torch.as_tensor(value).detach().reshape(()) for name, value in metrics.items()}
    return loss.reshape(()), numbers


def _start_accelerator(precision: str | None, accumulate: int) -> Accelerator:
    launched = int(os.environ.get("WORLD_SIZE", 1))
    # Accelerate connects processes without a GPU only where it is told so
    cpu = launched > 1 and not torch.accelerator.is_available()
    waiting = InitProcessGroupKwargs(timeout=ANSWER_WITHIN)
    with patch_environment(ACCELERATE_USE_FSDP="false"):  # see sharding.py
        first = Accelerator(cpu=cpu, kwargs_handlers=[waiting])
        precision = alike_in_all(precision or choose_precision(first.device))
        AcceleratorState._reset_state()  # else the first training in a process decides for all others
        # as a plugin, since `accelerate launch` overrides the plain argument
        accumulation = GradientAccumulationPlugin(num_steps=accumulate, sync_with_dataloader=False)
        # Some parameters may be idle: a norm that a stage does not read, say
        handlers = [DistributedDataParallelKwargs(find_unused_parameters=True), waiting]
        options = dict(gradient_accumulation_plugin=accumulation, kwargs_handlers=handlers, cpu=cpu)
        accelerator = Accelerator(mixed_precision=precision, **options)
    if accelerator.num_processes != launched:
        raise RuntimeError(f"{launched} unconnected processes were launched; set ACCELERATE_USE_CPU=true")
    if launched_sharded() and precision == "fp16":
        raise ValueError("fp16 cannot be scaled where the model is sharded; launch with --multi_gpu, or bf16")
    return accelerator


class WithLoss(nn.Module):
    """Model and loss as one: DDP averages gradients of what runs in the forward of the module it wraps, and
    FSDP gathers the weights for it."""

    def __init__(self, model: nn.Module, loss_fn: LossFn):
        super().__init__()
        self.model, self.loss_fn = model, loss_fn

    def forward(self, batch: Any) -> Any:
        return self.loss_fn(self.model, batch)


@contextmanager
def _prepared(run: Run, loss_fn: LossFn, by_block: bool) -> Iterator[tuple[nn.Module, Any]]:
    """What computes the loss, and the optimizer, for the loop; then the model is as it came, but trained."""
    net, training, accelerator = WithLoss(run.model, loss_fn), run.model.training, run.accelerator
    spread = launched_sharded()
    shares = sharded(net, run.optimizer, accelerator.device, by_block) if spread else nullcontext()
    try:
        with shares:
            run.model.train()
            many = accelerator.num_processes > 1
            wrapped = accelerator.prepare_model(net) if many and not spread else net
            yield wrapped, accelerator.prepare_optimizer(run.optimizer)
    finally:
        run.close()
        run.model.train(training)
        for group in run.optimizer.param_groups:
            group["lr"] = group["initial_lr"]


def _endless(batches: Iterable, rank: int, world: int) -> Iterator:
    while True:
        batch = None
        for batch in batches:
            yield rows_of_process(batch, rank, world)
        if batch is None:
            raise ValueError("batches is empty, or an iterator that has ended; pass a Batches or a list")
