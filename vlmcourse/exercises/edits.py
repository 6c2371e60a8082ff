"""Slips as edits: a wrong version is the reference's own source with a few words changed; it cannot go stale.

    slips=[
        ("= tokens + ", "= ", "the residual stream is missing ..."),
        (("tokens + attend", "attend"), ("tokens + mlp", "mlp"), "no residual at all ..."),  # two places
    ]

The source is what ``solution()`` shows: without decorator, types and docstring (and there with the imports
it needs, see ``pasted_source``). Each old text must stand in
it exactly once: the import fails otherwise, so whoever changes a reference sees which slips spoke of the old
words. The edited source is compiled in the reference's module when the slip is first needed.
"""

import ast
import functools
import inspect
import linecache
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, ModuleType
from typing import Any

from vlmcourse.slots import Slot


@dataclass(frozen=True)
class Edit:
    """A slip made from the reference of ``slot``: the edited source, and what is wrong with it."""

    slot: Slot
    source: str
    says: str

    @functools.cached_property
    def wrong(self) -> Callable:
        """The edited function; ``inspect.getsource`` shows its source."""
        place = f"<slip of {self.slot.name}: {self.says}>"
        lines = self.source.splitlines(keepends=True)
        linecache.cache[place] = len(self.source), None, lines, place
        made: dict[str, Callable] = {}
        exec(compile(self.source, place, "exec"), inspect.unwrap(self.slot.reference).__globals__, made)
        return made[self.slot.__name__]


def edits(slot: Slot, *slips: Any) -> list[Any]:
    """One edit for each (old text, new text, sentence) or ((old, new), (old, new), ..., sentence).

    Several changes of one slip are made one after the other. What is no tuple is a ``Slip`` and stays.

    Raises:
        ValueError: if an old text does not stand in the source exactly once.
    """
    source = plain_source(slot.reference)
    return [_edit(slot, source, *slip) if isinstance(slip, tuple) else slip for slip in slips]


def _edit(slot: Slot, source: str, *parts: Any) -> Edit:
    *changes, says = parts
    for old, new in [changes] if isinstance(changes[0], str) else changes:
        if (count := source.count(old)) != 1:
            raise ValueError(
                f"a slip of {slot.name} changes {old!r}, which must stand in its source once, not {count} ×"
            )
        source = source.replace(old, new)
    return Edit(slot, source, says)


def pasted_source(function: Callable) -> str:
    """``plain_source`` that runs wherever it is pasted: its first line imports what it uses of its module.

    torch is left out: every notebook imports it.
    """
    there = inspect.unwrap(function).__globals__
    names = sorted(_read_outside(inspect.unwrap(function).__code__) & there.keys())
    modules = {name: there[name].__name__ for name in names if isinstance(there[name], ModuleType)}
    taken = [_import_of(name, module) for name, module in modules.items() if name != "torch"]
    names = [name for name in names if name not in modules]
    signature, _, steps = plain_source(function).partition("\n")
    taken += [f"    from {function.__module__} import {', '.join(names)}"] if names else []
    return "\n".join([signature, *taken, steps])


def _import_of(name: str, module: str) -> str:
    """Such as "    import math" or "    from torch.nn import functional as F"."""
    package, _, last = module.rpartition(".")
    line = f"from {package} import {last}" if package else f"import {module}"
    return f"    {line}" if name == last else f"    {line} as {name}"


def _read_outside(code: CodeType) -> set[str]:
    """Names that a function, or one inside it, reads from outside, and those of attributes."""
    inside = [part for part in code.co_consts if isinstance(part, CodeType)]
    own = {*code.co_varnames, *code.co_cellvars, *code.co_freevars}
    return {*code.co_names}.union(*map(_read_outside, inside)) - own


def plain_source(function: Callable) -> str:
    """The source as a learner would write it: no decorator, no types, no docstring."""
    text = textwrap.dedent(inspect.getsource(function))
    node = ast.parse(text).body[0]
    first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
    lines = text.splitlines()[first.lineno - 1 :]
    node.returns, node.body, node.decorator_list = None, [], []
    for argument in [*node.args.args, *node.args.kwonlyargs]:
        argument.annotation = None
    return "\n".join([ast.unparse(node), *lines])
