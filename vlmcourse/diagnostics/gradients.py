"""Where does learning arrive? Gradients of every part of a model, frozen parts included (notebook 07).

A frozen part has no gradient of its own, but it may pass one on: the gradient with respect to its output,
from which the parts before it learn.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vlmcourse.models.llava import Llava

Loss = Callable[[nn.Module], Float[Tensor, ""]]


class Row(NamedTuple):
    """What is reported of one part of a model; norms are over all numbers of the part together."""

    name: str
    parameters: int  # a parameter that several parts share counts in the first of them
    trained: int  # how many of them are trained; 0 if the part is frozen
    gradient: float  # norm of the loss's gradient with respect to the trained ones; 0 if there are none
    weight: float  # norm of all parameters
    ratio: float  # gradient / weight
    through: float  # norm of the gradient that reaches the part's output; 0 if none does


def llava_parts(model: Llava) -> dict[str, str]:
    """Names of the parts of a LLaVA for gradient_report, in the order of the data flow."""
    blocks = {f"block {n}": f"language.blocks.{n}" for n in range(len(model.language.blocks))}
    before = {"words": "language.embedding", "eye": "vision", "projector": "projector"}
    return before | blocks | {"head": "language.head"}


def gradient_report(model: nn.Module, loss: Loss, groups: Mapping[str, str | Sequence[str]]) -> list[Row]:
    """One row for each part, in the given order. No ``.grad`` is touched, and no weight.

    A part's output is taken to be that of the module inside it that ran last. To the output of a part that
    did not run, or that has nothing trained in it and before it, no gradient comes.

    Args:
        loss: runs the model once and returns what would be trained on.
        groups: for each part the name of its module as in ``model.named_modules()``, or several names.

    Raises:
        ValueError: if a name is none of the model's modules, or nothing that the loss depends on is trained.
    """
    parts = {name: _modules(model, name, paths) for name, paths in groups.items()}
    outputs, value = _run(model, loss, set().union(*parts.values()))
    if not value.requires_grad:
        raise ValueError("the loss depends on no parameter that is trained; unfreeze one: requires_grad_()")
    owned, trained, reached = _owned(parts), {}, {}
    for name, modules in parts.items():
        trained[name] = [parameter for parameter in owned[name] if parameter.requires_grad]
        last = [module for module in outputs if module in modules][-1:]
        reached[name] = [output for module in last for output in outputs[module] if output.requires_grad]
    wanted = list(dict.fromkeys(chain(*trained.values(), *reached.values())))
    gradients = dict(zip(wanted, torch.autograd.grad(value, wanted, allow_unused=True), strict=True))
    rows = []
    for name, parameters in owned.items():
        gradient, weight = _norm([gradients[p] for p in trained[name]]), _norm(parameters)
        through = _norm([gradients[output] for output in reached[name]])
        ratio = gradient / weight if weight else 0.0
        rows.append(Row(name, _count(parameters), _count(trained[name]), gradient, weight, ratio, through))
    return rows


def _run(model: nn.Module, loss: Loss, modules: set[nn.Module]) -> tuple[dict[nn.Module, list], Tensor]:
    """The loss, and the outputs of these modules on the way to it, in the order in which they last ran."""
    outputs: dict[nn.Module, list[Tensor]] = {}

    def keep(module: nn.Module, _, output) -> None:
        if isinstance(output, Tensor):
            outputs[module] = [*outputs.pop(module, []), output]  # the module that ran last stands last

    hooks = [module.register_forward_hook(keep) for module in modules]
    try:
        with torch.enable_grad():
            return outputs, loss(model)
    finally:
        for hook in hooks:
            hook.remove()


def _owned(parts: Mapping[str, set[nn.Module]]) -> dict[str, list[nn.Parameter]]:
    """The parameters of each part; one that several parts share is owned by the first of them."""
    owned, taken = {}, set()
    for name, modules in parts.items():
        own = dict.fromkeys(chain.from_iterable(module.parameters() for module in modules))
        owned[name] = [parameter for parameter in own if parameter not in taken]
        taken.update(own)
    return owned


def _count(parameters: Sequence[Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _modules(model: nn.Module, name: str, paths: str | Sequence[str]) -> set[nn.Module]:
    """Every module inside the part called ``name``."""
    known, paths = dict(model.named_modules()), [paths] if isinstance(paths, str) else paths
    if missing := [path for path in paths if path not in known]:
        children = ", ".join(child for child, _ in model.named_children())
        kind = type(model).__name__
        raise ValueError(f"part {name!r}: {missing[0]!r} is no module of this {kind}; its own are {children}")
    return {module for path in paths for module in known[path].modules()}


def _norm(tensors: Sequence[Tensor | None]) -> float:
    """Of all numbers together, in fp32; None counts as zeros."""
    squares = [tensor.detach().float().square().sum() for tensor in tensors if tensor is not None]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0
