"""Optimizers for models of several parts: who learns, how fast, and with what.

    rate_groups     one learning rate per part of a model; frozen parts are left out (notebook 08)
    Muon            steps that move every direction of a matrix alike
    MuonAdamW       Muon for the matrices, AdamW for everything else, as one optimizer for the training loop
    warmup_linear   a schedule

A momentum step changes a matrix mostly along a few directions. Muon makes all directions of the step equally long, and
small transformers learn rarer things much sooner. A quick trial gave 67 % against 63 %; see the card of nano-vlm.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from vlmcourse.slots import slot

APART = ("embedding", "embed_token", "positions", "class_token", "head")  # tables and outputs, though two-dimensional


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
        for every part, in the order of ``rates``, {"params", "lr", "weight_decay"} of its matrices and then of its
        vectors. A group without parameters is left out.

    Raises:
        ValueError: if a parameter that learns belongs to no part: it would stay as it is, and nobody would notice.

    Source: a rate of its own for the projector is mm_projector_lr in LLaVA's training code, and vectors are spared
        from weight decay there too.
    """
    groups = {(part, flat): {"params": [], "lr": rate, "weight_decay": 0.0 if flat else weight_decay}
              for part, rate in rates.items() for flat in (False, True)}  # fmt: skip
    for name, parameter in named:
        if parameter.requires_grad:
            part = name.split(".")[0]
            if part not in rates:
                raise ValueError(f"{name} learns, but there is a rate only for {', '.join(rates)}; freeze it, or give "
                                 f"{part!r} a rate")  # fmt: skip
            groups[part, parameter.ndim < 2]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


def orthogonal(matrix: Float[Tensor, "row column"], rounds: int = 5) -> Float[Tensor, "row column"]:
    """About the nearest matrix all of whose singular values are equal; they end between 0.7 and 1.2.

    In fp32: torch.optim.Muon computes it in bf16, which takes 16 times as long on a CPU that has no bf16 units.

    Source: the Newton-Schulz iteration and its numbers, Jordan 2024, https://kellerjordan.github.io/posts/muon/.
    """
    wide = matrix.float() if matrix.shape[0] <= matrix.shape[1] else matrix.float().T
    wide = wide / wide.norm().clamp(min=1e-7)
    for _ in range(rounds):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=-4.775, alpha=2.0315), wide, beta=3.4445)
    return (wide if matrix.shape[0] <= matrix.shape[1] else wide.T).to(matrix.dtype)


class Muon(Optimizer):
    """Momentum whose steps are made orthogonal: torch.optim.Muon, see orthogonal.

    Args:
        lr: a step has singular values of about lr · √(rows / columns), or lr if that is more.
    """

    def __init__(self, matrices: Iterable[nn.Parameter], lr: float, weight_decay: float, momentum: float = 0.95):
        super().__init__(matrices, dict(lr=lr, weight_decay=weight_decay, momentum=momentum))

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> None:
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    held = self.state[matrix].setdefault("momentum_buffer", torch.zeros_like(matrix))
                    held.lerp_(matrix.grad, 1 - group["momentum"])
                    moved = orthogonal(matrix.grad.lerp(held, group["momentum"]))  # Nesterov's
                    matrix.mul_(1 - group["lr"] * group["weight_decay"])
                    matrix.add_(moved, alpha=-group["lr"] * max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5)


class MuonAdamW(Optimizer):
    """Steps a Muon and an AdamW together.

    Args:
        model: its parameters that require gradients are trained; matrices inside blocks by Muon.
        lr: learning rate of Muon; every step has a spectral norm of about lr · √(rows / columns) if that is above lr.
        other_lr: learning rate of AdamW, for vectors, embeddings and the head.
        weight_decay: of the matrices.
        factors: for parts of the model, by the first word of their names, what both rates are multiplied with, such as
            {"projector": 0.01} for one that was trained before; 1 for all others.

    Raises:
        ValueError: if no parameter requires a gradient, or the model has no part of a name in ``factors``.

    Source: Jordan 2024, https://kellerjordan.github.io/posts/muon/; Liu et al. 2025, arXiv:2502.16982.
    """

    def __init__(
        self, model: nn.Module, lr: float = 0.01, other_lr: float = 2e-3, weight_decay: float = 0.01,
        factors: Mapping[str, float] | None = None,
    ):  # fmt: skip
        learned = {name: each for name, each in model.named_parameters() if each.requires_grad}
        if not learned:
            raise ValueError(f"no parameter of {type(model).__name__} requires a gradient; is everything frozen?")
        parts = {name.split(".")[0] for name, _ in model.named_parameters()}
        if unknown := set(factors or {}) - parts:
            raise ValueError(f"{type(model).__name__} has no part {', '.join(sorted(unknown))}; "
                             f"its parts are {', '.join(sorted(parts))}")  # fmt: skip
        groups: dict[float, tuple[list, list]] = {}  # factor: matrices, others
        for name, each in learned.items():
            group = groups.setdefault((factors or {}).get(name.split(".")[0], 1.0), ([], []))
            group[each.ndim != 2 or any(part in name for part in APART)].append(each)
        self.parts: list[Optimizer] = []
        super().__init__(list(learned.values()), {})
        for factor, (matrices, others) in sorted(groups.items(), reverse=True):
            if matrices:
                self.parts.append(Muon(matrices, lr * factor, weight_decay))
            if others:
                self.parts.append(AdamW(others, lr=other_lr * factor, betas=(0.9, 0.95), weight_decay=0.0))
        self._gather()

    def _gather(self) -> None:
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def step(self, closure: Callable | None = None) -> None:
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """As of one optimizer: the parameters are numbered through, those of Muon first."""
        state, groups, first = {}, [], 0
        for part in self.parts:
            own = part.state_dict()
            state |= {first + number: values for number, values in own["state"].items()}
            groups += [group | {"params": [first + n for n in group["params"]]} for group in own["param_groups"]]
            first += sum(len(group["params"]) for group in own["param_groups"])
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        state, groups, first = state_dict["state"], list(state_dict["param_groups"]), 0
        if len(groups) != len(self.parts):
            raise ValueError(f"the state has {len(groups)} groups of parameters; this optimizer has {len(self.parts)}")
        for part, group in zip(self.parts, groups, strict=True):
            count = len(group["params"])
            own = {number - first: values for number, values in state.items() if first <= number < first + count}
            part.load_state_dict({"state": own, "param_groups": [group | {"params": list(range(count))}]})
            first += count
        self._gather()


def warmup_linear(steps: int, warmup: int = 50, flat: float = 0.4) -> Callable[[int], float]:
    """Schedule: rises to 1 over ``warmup`` steps, stays until ``flat`` of all steps, then falls to 0 in a line.

    Source: Hägele et al. 2024, arXiv:2405.18392, section 3 ("cooldown").
    """
    return lambda step: min(1.0, (step + 1) / warmup) * min(1.0, (1 - step / max(steps, 1)) / (1 - flat))
