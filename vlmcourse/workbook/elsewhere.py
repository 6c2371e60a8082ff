"""A second device for machines that have none: torch takes it for "meta", but it holds its numbers.

So whatever runs on a CPU runs here too, conditions on values included, and what an answer makes without
``device=`` stays on the CPU and does not mix, as on a GPU.
"""

import contextlib
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from vlmcourse.workbook.outcomes import convert

HERE, THERE = torch.device("cpu"), torch.device("meta")
BETWEEN = {"copy_", "_to_copy", "index", "index_put_", "index_put"}  # torch takes both devices for these


Step = tuple[str, int]  # file and line of a call that was under way


class DeviceError(RuntimeError):
    """Numbers of both devices met in one operation.

    made: the calls under way, inner ones first, when what stayed on the CPU was made; [] if not known.
    """

    def __init__(self, says: str, made: list[Step]):
        super().__init__(says)
        self.made = made


class NumpyError(DeviceError):
    """NumPy was to read a tensor of the second device."""

    def __init__(self):
        super().__init__("NumPy reads no tensor of another device", [])


class Elsewhere(Tensor):
    """A tensor on the second device; ``inside`` holds its numbers. Use it within ``second_device()`` only."""

    inside: Tensor

    @staticmethod
    def __new__(cls, inside: Tensor) -> "Elsewhere":
        form = {"strides": inside.stride(), "storage_offset": inside.storage_offset(), "dtype": inside.dtype}
        made = Tensor._make_wrapper_subclass(cls, inside.shape, device=THERE, **form)
        made.inside = inside
        return made

    def tolist(self) -> Any:
        """As of any tensor; torch has no way of its own for this class."""
        return self.inside.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """As of a GPU's tensor: only by force."""
        if not force:
            raise NumpyError
        return self.inside.numpy()

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise NumpyError

    def new_tensor(self, numbers: Any, **named: Any) -> Tensor:
        """As of any tensor; torch would write no numbers there."""
        return torch.tensor(numbers, **{"dtype": self.dtype, "device": THERE} | named)

    @classmethod
    def __torch_dispatch__(cls, *operation: Any) -> Any:
        return carried_out(*operation)


class Carried(TorchDispatchMode):
    """Carries out what runs on the second device, and what makes something there."""

    def __torch_dispatch__(self, *operation: Any) -> Any:
        return carried_out(*operation)


class Writing(TorchFunctionMode):
    """Lets torch.tensor write numbers on the CPU, and brings them over; by itself it would write none."""

    def __torch_function__(
        self, function: Callable, _: Any, args: tuple = (), named: dict | None = None
    ) -> Any:
        named = named or {}
        if function in (torch.tensor, torch.as_tensor) and named.get("device") == THERE:
            return function(*args, **named | {"device": HERE}).to(THERE)
        return function(*args, **named)


@contextlib.contextmanager
def second_device() -> Iterator[None]:
    """Within it the second device is there, for forward computation."""
    with torch.no_grad(), Carried(), Writing():
        yield


def placed(function: Callable, case: tuple) -> list[torch.device]:
    """The device of each tensor that a function makes of a case on the second device; [] if it raises.

    Raises:
        DeviceError: if it mixes tensors of both.
    """
    with second_device():
        try:
            output = function(*convert(case, lambda tensor: Elsewhere(tensor.detach().clone())))
        except DeviceError:
            raise
        except Exception:  # a case may ask for one, and not all that torch can do is possible here
            return []
    return [leaf.device for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]


def carried_out(operation: Callable, _: Any, args: tuple = (), named: dict | None = None) -> Any:
    """One operation of torch, on the CPU, whose results stand on the device that it should have run on.

    Raises:
        DeviceError: if it mixes tensors of both devices, single numbers apart, where a GPU would not.
    """
    named = dict(named or {})
    given = [leaf for leaf in tree_leaves((args, named)) if isinstance(leaf, Tensor)]
    there = {id(leaf.inside): leaf for leaf in given if isinstance(leaf, Elsewhere)}
    here = [leaf for leaf in given if not isinstance(leaf, Elsewhere) and leaf.dim()]
    if any(leaf.is_meta for leaf in here):
        raise NotImplementedError("made in a way that no number was written")
    if there and here and operation.overloadpacket.__name__ not in BETWEEN:
        made = next((leaf.made for leaf in here if hasattr(leaf, "made")), [])
        raise DeviceError("tensors of two devices were mixed", made)
    goes_there = bool(there)
    if named.get("device") is not None:
        goes_there, named["device"] = named["device"] == THERE, HERE

    def unwrapped(leaf: Any) -> Any:
        return leaf.inside if isinstance(leaf, Elsewhere) else leaf

    def wrapped(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not goes_there:
            return leaf
        return there[id(leaf)] if id(leaf) in there else Elsewhere(leaf)  # the same one if changed in place

    done = operation(*tree_map(unwrapped, args), **tree_map(unwrapped, named))
    if not goes_there:
        remember(done, given)
    return tree_map(wrapped, done)


def remember(done: Any, given: list[Tensor]) -> None:
    """Note at tensors on the CPU in which line they, or what they were computed from, were made."""
    known = [leaf.made for leaf in given if hasattr(leaf, "made")]
    stack = traceback.walk_stack(sys._getframe(2))
    made = known[0] if known else [(frame.f_code.co_filename, line) for frame, line in stack]
    for leaf in tree_leaves(done):
        if isinstance(leaf, Tensor):
            leaf.made = made
