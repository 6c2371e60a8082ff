"""Optimizers for models of several parts: who learns, how fast, and with what (rate_groups: notebook 08).

A momentum step changes a matrix mostly along a few directions. Muon makes all directions of the step equally
long, and small transformers learn rarer things much sooner: 67 % against 63 % in a quick trial, see the card
of nano-vlm. MuonAdamW takes it for the matrices and AdamW for everything else.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from vlmcourse.slots import slot
from vlmcourse.training.sharding import own_part, put_together, split_like

# Tables and outputs: AdamW trains them, though they have two axes
APART = ("embedding", "embed_token", "positions", "table", "class_token", "head")
ROUNDS = 5  # of the iteration that makes a matrix orthogonal


@slot
def rate_groups(
    named: Iterable[tuple[str, nn.Parameter]], rates: dict[str, float], weight_decay: float
) -> list[dict[str, Any]]:
    """Groups for a torch optimizer: one learning rate per part, and weight decay on matrices only.

    Args:
        named: as ``model.named_parameters()`` gives them; frozen ones (requires_grad is False) are left out.
        rates: learning rate of each part, by the first word of its parameters' names: {"projector": 1e-3}.
        weight_decay: of parameters with two axes or more; biases, norms and other vectors get 0.

    Returns:
        for every part, in the order of ``rates``, {"params", "lr", "weight_decay"} of its matrices and then
        of its vectors. A group without parameters is left out.

    Raises:
        ValueError: if a parameter that learns belongs to no part: it would stay as it is, unnoticed.

    Source: LLaVA's training code (mm_projector_lr), which spares vectors from weight decay too.
    """
    groups = {}
    for part, rate in rates.items():
        for flat in (False, True):
            decay = 0.0 if flat else weight_decay
            groups[part, flat] = {"params": [], "lr": rate, "weight_decay": decay}
    for name, parameter in named:
        if parameter.requires_grad:
            part = name.split(".")[0]
            if part not in rates:
                raise ValueError(
                    f"{name} learns, but there is a rate only for {', '.join(rates)}; "
                    f"freeze it, or give {part!r} a rate"
                )
            groups[part, parameter.ndim < 2]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


def learning(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that require gradients, by name; ValueError if there are none."""
    learned = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    if not learned:
        raise ValueError(f"no parameter of {type(model).__name__} requires a gradient; is everything frozen?")
    return learned


def orthogonal(matrices: Float[Tensor, "... row column"]) -> Float[Tensor, "... row column"]:
    """About the nearest matrices all of whose singular values are equal; they end between 0.7 and 1.2.

    In fp32: torch.optim.Muon computes it in bf16, which takes 16 times as long on a CPU without bf16 units.
    Each of the five rounds multiplies a matrix by a polynomial of its Gram matrix. That is smaller than a
    matrix at least twice as long as wide; so there the polynomials are multiplied, and the matrix by their
    product at the end.

    Source: the Newton-Schulz iteration and its numbers, Jordan 2024, kellerjordan.github.io/posts/muon.
    """
    flat = matrices.reshape(-1, *matrices.shape[-2:]).float()
    wide = flat if flat.shape[1] <= flat.shape[2] else flat.mT
    wide = wide / wide.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    if wide.shape[2] < 2 * wide.shape[1]:
        for _ in range(ROUNDS):
            gram = wide @ wide.mT
            wide = torch.baddbmm(wide, _polynomial(gram), wide, beta=3.4445)
    else:
        gram, product = wide @ wide.mT, None
        for number in range(ROUNDS):
            factor = _polynomial(gram)
            factor.diagonal(dim1=1, dim2=2).add_(3.4445)
            product = factor if product is None else factor @ product
            if number < ROUNDS - 1:
                # All of them are polynomials of one matrix, so their order is free
                gram = factor @ (gram @ factor)
        wide = product @ wide
    return (wide if flat.shape[1] <= flat.shape[2] else wide.mT).reshape(matrices.shape).to(matrices.dtype)


def _polynomial(gram: Float[Tensor, "matrix row row"]) -> Float[Tensor, "matrix row row"]:
    return torch.baddbmm(gram, gram, gram, beta=-4.775, alpha=2.0315)


class Muon(Optimizer):
    """Momentum whose steps are made orthogonal: torch.optim.Muon, see orthogonal.

    A step has singular values of about lr · √(rows / columns), or lr if that is more.
    """

    def __init__(self, matrices: Iterable[nn.Parameter], lr: float, weight_decay: float):
        super().__init__(matrices, dict(lr=lr, weight_decay=weight_decay, momentum=0.95))

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> None:
        for group in self.param_groups:
            alike: dict[torch.Size, list[nn.Parameter]] = {}  # matrices of one shape take their step at once
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike.setdefault(matrix.shape, []).append(matrix)
            for matrices in alike.values():
                self._move(matrices, group)

    def _move(self, matrices: list[nn.Parameter], group: dict[str, Any]) -> None:
        """One step of matrices that have the same shape.

        Of a sharded matrix each process holds some rows: it keeps their momentum and moves them. Only the
        step is put together, since whether it is orthogonal depends on all rows.
        """
        grads = [own_part(p.grad) for p in matrices]
        kept = [self.state[p].setdefault("momentum_buffer", torch.zeros_like(p)) for p in matrices]
        momenta = [own_part(momentum) for momentum in kept]
        torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
        ahead = torch._foreach_lerp(grads, momenta, group["momentum"])  # Nesterov's momentum
        ahead = [put_together(step, matrix) for step, matrix in zip(ahead, matrices, strict=True)]
        whole = orthogonal(torch.stack(ahead)).unbind()
        steps = [split_like(step, matrix) for step, matrix in zip(whole, matrices, strict=True)]
        row, column = matrices[0].shape
        own = [own_part(matrix) for matrix in matrices]
        torch._foreach_mul_(own, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(own, steps, alpha=-group["lr"] * max(1.0, row / column) ** 0.5)


class MuonAdamW(Optimizer):
    """Steps a Muon and an AdamW together.

    Args:
        model: its parameters that require gradients are trained; matrices inside blocks by Muon.
        lr: learning rate of Muon, see there.
        other_lr: learning rate of AdamW, for vectors, embeddings and the head.
        weight_decay: of the matrices.
        factors: for parts of the model, by the first word of their names, what both rates are multiplied
            with, such as {"projector": 0.01} for one that was trained before; 1 for all others.

    Raises:
        ValueError: if no parameter requires a gradient, or the model has no part of a name in ``factors``.

    Source: Jordan 2024, see orthogonal; Liu et al. 2025, arXiv:2502.16982.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float = 0.01,
        other_lr: float = 2e-3,
        weight_decay: float = 0.01,
        factors: Mapping[str, float] | None = None,
    ):
        learned, factors = learning(model), factors or {}
        known = {name.split(".")[0] for name, _ in model.named_parameters()}
        if unknown := ", ".join(sorted(set(factors) - known)):
            here = ", ".join(sorted(known))
            raise ValueError(f"{type(model).__name__} has no part {unknown}; its parts are {here}")
        groups: dict[float, tuple[list, list]] = {}  # factor: matrices, others
        for name, weight in learned.items():
            matrices, others = groups.setdefault(factors.get(name.split(".")[0], 1.0), ([], []))
            inside_blocks = weight.ndim == 2 and not any(part in name for part in APART)
            (matrices if inside_blocks else others).append(weight)
        super().__init__(list(learned.values()), {})
        self.parts: list[Optimizer] = []
        for factor, (matrices, others) in sorted(groups.items(), reverse=True):
            if matrices:
                self.parts.append(Muon(matrices, lr * factor, weight_decay))
            if others:
                self.parts.append(AdamW(others, lr=other_lr * factor, betas=(0.9, 0.95), weight_decay=0.0))
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def step(self, closure: Callable | None = None) -> None:
        for part, group in zip(self.parts, self.param_groups, strict=True):
            # Groups and state are kept here, as of one optimizer; a loaded state brings new ones
            part.param_groups, part.state = [group], self.state
            part.step()


def warmup_linear(steps: int, warmup: int = 50, flat: float = 0.4) -> Callable[[int], float]:
    """Schedule: rises to 1 over ``warmup`` steps, stays there until ``flat`` of all steps, then falls to 0.

    Source: Hägele et al. 2024, arXiv:2405.18392, section 3 ("cooldown").
    """
    return lambda step: min(1.0, (step + 1) / warmup) * min(1.0, (1 - step / max(steps, 1)) / (1 - flat))
