"""Loss scaling: what keeps small gradients alive in fp16, and what happens when they grow too large
(notebook 15).

    unscaled      gradients back at their own size, and whether one of them is no number any more
    next_scale    the scale of the next step: grows after a quiet time, falls at once
    LossScaler    a training step with them

fp16 has no number between 0 and 6e-8, and none above 65,504. Gradients are often smaller than the one; so the
loss is multiplied before backward, and they are divided after it. Source: Micikevicius et al. 2018,
arXiv:1710.03740, section 3.2. Equal to torch.amp.GradScaler, see tests/parity.
"""

import math

import torch
from torch import Tensor

from vlmcourse.slots import slot


@slot
def unscaled(gradients: list[Tensor], scale: float) -> tuple[list[Tensor], bool]:
    """The gradients in fp32, divided by the scale of the loss; and whether any of them overflowed: holds an
    infinity or NaN.

    Source: Micikevicius et al. 2018, arXiv:1710.03740, section 3.2.
    """
    found = [gradient.float() / scale for gradient in gradients]
    return found, not all(bool(gradient.isfinite().all()) for gradient in found)


@slot
def next_scale(
    scale: float, quiet: int, overflow: bool, growth: float = 2.0, backoff: float = 0.5, interval: int = 2000
) -> tuple[float, int]:
    """The scale of the next step, and how many steps in a row went well.

    An overflow: the scale is multiplied by ``backoff``, and counting starts again. Else, after every
    ``interval`` steps that went well: multiplied by ``growth``, and counting starts again.

    Args:
        quiet: steps that went well in a row, before this one.

    Source: dynamic loss scaling, as in torch.amp.GradScaler and apex; Micikevicius et al. 2018,
        arXiv:1710.03740, section 3.2, describes it in its last paragraph.
    """
    if overflow:
        return scale * backoff, 0
    if quiet + 1 == interval:
        return scale * growth, 0
    return scale, quiet + 1


class LossScaler:
    """``scaler.scale(loss).backward()``, then ``scaler.step(optimizer)``: steps that overflowed are left out.

    Args:
        scale: of the first step; infinity and NaN are refused.
        rule: growth, backoff, interval; see next_scale.
    """

    def __init__(self, scale: float = 2.0**16, **rule: float):
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"a loss is multiplied by a finite number above 0, not by {scale}")
        self.factor, self.quiet, self.skipped, self.rule = scale, 0, 0, rule

    def scale(self, loss: Tensor) -> Tensor:
        return loss * self.factor

    @torch.no_grad()
    def step(self, optimizer: torch.optim.Optimizer) -> bool:
        """Unscale the gradients; unless one overflowed, the optimizer takes its step. Whether it did."""
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        weights = [weight for weight in weights if weight.grad is not None]
        gradients, overflow = unscaled([weight.grad for weight in weights], self.factor)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient.to(weight.dtype)
        if overflow:
            self.skipped += 1
        else:
            optimizer.step()
        self.factor, self.quiet = next_scale(self.factor, self.quiet, overflow, **self.rule)
        return not overflow
