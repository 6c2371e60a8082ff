"""Sharding: a model, its gradients and its optimizer spread over processes, each of which holds a part.

DDP keeps the whole model on every GPU: 16 bytes for each parameter that learns, 112 GB for 7 billion. FSDP
keeps on each only its share, and gathers a block's weights when the block runs:

    accelerate launch --use_fsdp --fsdp_version 2 -m vlmcourse train RECIPE

Accelerate's own wrapper refuses processes without a GPU, so nobody could try it before renting eight; here
stands what it calls, torch's fully_shard, on whatever device there is. Two more things differ from its way:
before and after the training the model is an ordinary one, with the parameters that it had, and checkpoints
are whole, so that any number of processes goes on from them.

Source: Rajbhandari et al. 2020 (ZeRO), arXiv:1910.02054, section 5; Zhao et al. 2023 (FSDP),
    arXiv:2304.11277.
"""

import os
from collections import Counter
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils.hooks import RemovableHandle

from vlmcourse.training.sharing import process_count

ENTRANCES = ("one_token",)  # methods of a block, beside forward, that compute with its weights
HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks_always_called",
)


def launched_sharded() -> bool:
    """Whether ``accelerate launch --use_fsdp`` started this process, and others with it."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true" and process_count() > 1


def whole(tensor: Tensor) -> Tensor:
    """A tensor of which each process may hold a part, put together; every process must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor; writing to it writes to the tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def put_together(part: Tensor, sharded: Tensor) -> Tensor:
    """All processes' parts of what stands where ``sharded`` stands, see split_like; without gradient."""
    if not isinstance(sharded, DTensor):
        return part
    shape, stride = sharded.shape, sharded.stride()
    spread = DTensor.from_local(part, sharded.device_mesh, sharded.placements, shape=shape, stride=stride)
    return spread.full_tensor()


def split_like(values: Tensor, sharded: Tensor) -> Tensor:
    """This process's part of ``values``, which all have whole, where the part of ``sharded`` stands."""
    if not isinstance(sharded, DTensor):
        return values
    parts = values.chunk(sharded.device_mesh.size())
    number = sharded.device_mesh.get_local_rank()
    return parts[number] if number < len(parts) else values[:0]


def units(net: nn.Module) -> list[nn.Module]:
    """What is gathered and let go at once: the blocks of a model, apart from those that share weights.

    A block is an entry of an outermost ModuleList; a scalar is never split, and what is left stands together.
    """
    everywhere = _names_of_weights(net)
    alone = []
    for block in _outermost_blocks(net):
        inside = _names_of_weights(block)
        if all(everywhere[weight] == count for weight, count in inside.items()):
            alone.append(block)
    return [block for block in alone if any(weight.ndim for weight in block.parameters())]


def _names_of_weights(net: nn.Module) -> Counter:
    """How many names each weight has."""
    return Counter(weight for _, weight in net.named_parameters(remove_duplicate=False))


def _outermost_blocks(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from _outermost_blocks(child)


@contextmanager
def sharded(
    net: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device, by_block: bool
) -> Iterator[None]:
    """Spread ``net`` and what the optimizer knows over all processes, then put both together again.

    ``by_block``: see training.loop.train.

    After an error nothing is put together: that takes all processes, and the others may not have one.

    Raises:
        RuntimeError: if this torch could not be made to let go of the model; before anything is spread.
    """
    noted = _noted_by_torch()
    homes = [
        (module, name, weight)
        for module in net.modules()
        for name, weight in module._parameters.items()
        if weight is not None
    ]
    plain = [(module, type(module), _without_hooks(module)) for module in net.modules()]
    averaging = _shard(net, init_device_mesh(device.type, (process_count(),)), by_block)
    parts = {weight: module._parameters[name] for module, name, weight in homes}
    places = {weight: weight.device for weight in parts}
    for weight, part in parts.items():
        if part is not weight:
            weight.data = weight.data.new_empty(0)  # else its memory would not be free
    _exchange(optimizer, parts, lambda value, part: _split(value, part))
    plainly = _step_one_by_one(optimizer)
    yield
    plainly()
    for hook in averaging:
        hook.remove()
    for weight, part in parts.items():
        if part is not weight:
            weight.data = whole(part.detach()).to(places[weight])
            weight.grad = None
    _exchange(optimizer, {part: weight for weight, part in parts.items()}, lambda value, _: whole(value))
    for module, kind, kept in plain:
        noted.pop(module, None)
        module.__class__ = kind
        for name in set(vars(module)) - set(kept):
            del vars(module)[name]
        vars(module).update({name: value for name, value in kept.items() if name in HOOKS})
    for module, name, weight in homes:
        module._parameters[name] = weight


def _noted_by_torch() -> MutableMapping[nn.Module, Any]:
    """Torch's own table of the modules that it has sharded.

    It has no public way back from fully_shard and does not shard a module twice, so what is whole again must
    be taken from there.
    """
    try:
        from torch.distributed._composable_state import _module_state_mapping as noted
    except ImportError:
        noted = None
    if not isinstance(noted, MutableMapping):
        raise RuntimeError(
            f"torch {torch.__version__} keeps its sharded modules in another way than sharding.py knows, so "
            "they could not be put together again; launch with --multi_gpu in place of --use_fsdp"
        )
    return noted


def _shard(net: nn.Module, mesh: DeviceMesh, by_block: bool) -> list[RemovableHandle]:
    """Split all weights but scalars, which fully_shard cannot; the hooks average the gradients of those."""
    scalars = {weight for weight in net.parameters() if weight.ndim == 0}
    for weight in scalars:
        weight.data = weight.data.to(mesh.device_type)
    learned = [weight for weight in scalars if weight.requires_grad]
    hooks = [weight.register_post_accumulate_grad_hook(_average) for weight in learned]
    for unit in units(net) if by_block else ():
        fully_shard(unit, mesh=mesh, ignored_params=scalars)
        for name in ENTRANCES:
            if hasattr(unit, name):
                register_fsdp_forward_method(unit, name)
    fully_shard(net, mesh=mesh, ignored_params=scalars)
    return hooks


def _average(weight: nn.Parameter) -> None:
    distributed.all_reduce(weight.grad)
    weight.grad /= process_count()


def _without_hooks(module: nn.Module) -> dict[str, Any]:
    """A module's attributes, its hooks copied: what will be added there is not among them."""
    return {name: value.copy() if name in HOOKS else value for name, value in vars(module).items()}


def _split(value: Tensor, part: Tensor) -> Tensor:
    if not isinstance(part, DTensor) or value.shape != part.shape:
        return value
    return distribute_tensor(value.to(part.device), part.device_mesh, part.placements)


def _exchange(optimizer: torch.optim.Optimizer, others: dict, moved: Any) -> None:
    """Let an optimizer step other parameters, in the same places, with the state that it has moved along."""
    for group in optimizer.param_groups:
        group["params"][:] = [others[weight] for weight in group["params"]]
    for weight in [weight for weight in optimizer.state if weight in others]:
        state, other = optimizer.state.pop(weight), others[weight]
        kept = {
            name: moved(value, other) if isinstance(value, Tensor) else value for name, value in state.items()
        }
        optimizer.state[other] = kept


def _step_one_by_one(optimizer: torch.optim.Optimizer) -> Any:
    """No operation over all parameters at once, where some are split and others not; a function undoes it."""
    before = []
    for group in optimizer.param_groups:
        before.append({name: group[name] for name in ("foreach", "fused") if name in group})
    for group, kept in zip(optimizer.param_groups, before, strict=True):
        if len({isinstance(weight, DTensor) for weight in group["params"]}) > 1:
            group.update(dict.fromkeys(kept, False))

    def undo() -> None:
        for group, kept in zip(optimizer.param_groups, before, strict=True):
            group.update(kept)

    return undo
