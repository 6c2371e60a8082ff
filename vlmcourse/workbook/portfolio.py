"""The learner's portfolio, ``my_vlm/`` in the workspace: every function that passed, and a diary.

The saved files are ordinary Python: at the end they are the learner's own vision-language model. Beside them,
in ``my_vlm/attempts/``, stands the latest answer to each exercise that was wrong. It is there to be handed in
(see submission.py): nothing here or elsewhere in the course loads, installs or runs it.
"""

import ast
import contextlib
import dis
import hashlib
import inspect
import json
import linecache
import math
import os
import sys
import textwrap
import time
import types
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from vlmcourse.data.assets import FIRST, workspace, written_beside
from vlmcourse.data.keeping import ATTEMPTS, keep_answers
from vlmcourse.exercises.base import Text, all_exercises
from vlmcourse.slots import Slot
from vlmcourse.workbook.say import phrase


class CannotSave(Exception):
    """A passed function depends on something that cannot be written to a file; `says` on what."""

    def __init__(self, says: Text):
        super().__init__(says.en)
        self.says = says


def folder() -> Path:
    """``my_vlm/``, made if need be."""
    path = workspace() / "my_vlm"
    path.mkdir(parents=True, exist_ok=True)
    return path


def file_of(name: str, passed: bool = True) -> Path:
    """The file of the slot ``name``: multi_image.join_images is saved as multi_image_join_images.py.

    An answer that has not ``passed`` has its own place, in attempts/.
    """
    return folder() / ("" if passed else ATTEMPTS) / file_name(name)


def file_name(name: str) -> str:
    """The name of that file."""
    return f"{name.replace('.', '_')}.py"


class Saved(NamedTuple):
    """A file of the portfolio: where it stands, or will, and its text."""

    path: Path
    text: str

    def load(self, function: str) -> Callable:
        """Run the file, whatever that does, and return its ``function``."""
        lines = self.text.splitlines(keepends=True)
        linecache.cache[str(self.path)] = len(self.text), None, lines, str(self.path)
        space: dict[str, Any] = {"__name__": f"my_vlm.{self.path.stem}", "__file__": str(self.path)}
        exec(compile(self.text, str(self.path), "exec", dont_inherit=True), space)
        return space[function]

    def fingerprint(self) -> str:
        """Short words that another text would not have."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


def source_of(function: Callable) -> str:
    """The source of ``function`` without decorators, indented as at top level.

    Raises:
        CannotSave: if Python does not know the source.
    """
    lines, node = _definition(function)
    if not isinstance(node, ast.FunctionDef):
        raise CannotSave(phrase("no_def", name=function.__name__))
    return "\n".join(lines[node.lineno - 1 : node.end_lineno]) + "\n"


def _definition(function: Callable) -> tuple[list[str], ast.stmt]:
    """The lines that define ``function``, indented as at top level, and the statement in them."""
    try:
        text = textwrap.dedent(inspect.getsource(function))
        return text.splitlines(), ast.parse(text).body[0]
    except (OSError, TypeError, SyntaxError, IndexError) as error:
        raise CannotSave(phrase("no_source", error=error)) from None


def written(slot: Slot, answer: Callable, chapter: str, passed: bool = True) -> Saved:
    """An answer with everything it uses, as the file to keep.

    Args:
        passed: if not, what it uses and cannot be written down is left out.

    Raises:
        CannotSave: if it has no source, or has ``passed`` and uses something that cannot be written down.
        OSError: if there is no folder for it.
    """
    writer = _Writer(answer.__globals__, {slot.__name__, answer.__code__.co_name}, whole=passed)
    answer_text = writer.function(slot.__name__, answer)
    how = "passed" if passed else "not right yet,"
    header = f'"""Your {slot.name}, {how} in chapter {chapter}."""\n\nfrom __future__ import annotations\n'
    imports = "".join(f"{line}\n" for line in sorted(writer.imports))
    text = "\n".join([header, imports, *writer.pieces, answer_text])
    return Saved(file_of(slot.name, passed), text)


def keep(saved: Saved) -> None:
    """Write the file; it replaces an older one in one step.

    Raises:
        OSError: if the folder cannot be written.
    """
    with written_beside(saved.path) as draft:
        draft.write_text(saved.text, encoding="utf-8")


def drop_attempt(name: str) -> None:
    """Remove the wrong answer to the slot ``name``, if there is one and it can be removed.

    One that stays does no harm: what passed is handed in before it.
    """
    with contextlib.suppress(OSError):
        file_of(name, passed=False).unlink(missing_ok=True)


class _Writer:
    """Writes functions of a notebook down: first what they use, each name once.

    Attributes:
        whole: whether something that cannot be written down is an error; else a comment names it.
        imports: lines that import what can be imported.
        pieces: constants and helpers, each behind what it uses.
    """

    def __init__(self, notebook: dict[str, Any], known: set[str], whole: bool = True):
        self.notebook, self.known, self.whole = notebook, known, whole
        self.imports: set[str] = set()
        self.pieces: list[str] = []

    def function(self, name: str, function: Callable) -> str:
        """Text that defines ``function`` under this name; what it uses goes to the pieces."""
        plain = inspect.unwrap(function)
        lines, node = _definition(plain)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
            inner, arguments, first = ast.unparse(node.targets[0]), node.value.args, node.lineno
        elif isinstance(node, ast.FunctionDef):
            inner, arguments, first = node.name, node.args, node.lineno
        else:
            raise CannotSave(phrase("no_def", name=name))
        used = [*arguments.defaults, *(default for default in arguments.kw_defaults if default)]
        if plain is not function and (decorators := _below_exercise(node)):
            used, first = [*used, *decorators], decorators[0].lineno
        for other in [*_names(plain.__code__), *_names_in(used)]:
            self.add(other)
        for other in _names_in(_annotations(node)):
            if other in self.notebook:
                self._importable(other, self.notebook[other])
        text = "\n".join(lines[first - 1 : node.end_lineno]) + "\n"
        if plain.__closure__:
            return self._closure(name, inner, text, plain)
        return text if inner == name else f"{text}\n\n{name} = {inner}\n"

    def add(self, name: str) -> None:
        """Write a global of the notebook down, unless it is there; other names are Python's own."""
        if name not in self.known and name in self.notebook:
            self.known.add(name)  # first, so that functions that call each other end
            if text := self.value(name, self.notebook[name]):
                self.pieces.append(text)

    def value(self, name: str, value: Any) -> str:
        """Text that gives ``name`` its value; "" if an import does."""
        if self._importable(name, value):
            return ""
        plain = inspect.unwrap(value) if callable(value) else value
        try:
            if isinstance(plain, types.FunctionType):
                return self.function(name, value)
            return f"{name} = {self._constant(name, value)}\n"
        except CannotSave:
            if self.whole:
                raise
            return f"# {name} cannot be written down\n"

    def _importable(self, name: str, value: Any) -> bool:
        """Import ``name``, if some module has it; whether one does."""
        if isinstance(value, types.ModuleType):
            self.imports.add(f"import {value.__name__}" + (f" as {name}" if value.__name__ != name else ""))
            return True
        original = getattr(value, "__name__", None)
        for module in (getattr(value, "__module__", None), "torch", "torch.nn.functional", "numpy", "math"):
            known = module and module != "__main__" and isinstance(original, str) and sys.modules.get(module)
            if known and getattr(known, original, None) is value:
                renamed = f" as {name}" if original != name else ""
                self.imports.add(f"from {module} import {original}{renamed}")
                return True
        return self._of_the_course(name, value)

    def _of_the_course(self, name: str, value: Any) -> bool:
        """Import a table, such as a dict, that a module of the course has under the same name."""
        if not isinstance(value, dict | list | set | frozenset):
            return False
        for module in sorted(sys.modules):
            if module.startswith("vlmcourse.") and vars(sys.modules[module]).get(name) is value:
                self.imports.add(f"from {module} import {name}")
                return True
        return False

    def _constant(self, name: str, value: Any) -> str:
        kind = type(value)
        if kind in (bool, int, str, bytes, type(None), range):
            return repr(value)
        if kind is float:
            return repr(value) if math.isfinite(value) else f'float("{value}")'
        if kind is tuple:
            return "(" + "".join(f"{self._constant(name, item)}, " for item in value) + ")"
        if kind is torch.Size:
            self.imports.add("import torch")
            return f"torch.Size({self._constant(name, tuple(value))})"
        if kind in (torch.dtype, torch.device):
            self.imports.add("import torch")
            return str(value) if kind is torch.dtype else f"torch.device({str(value)!r})"
        if kind.__module__ == "numpy" and kind.__name__ != "ndarray" and hasattr(value, "item"):
            self.imports.add("import numpy")
            return f"numpy.{kind.__name__}({self._constant(name, value.item())})"
        raise CannotSave(phrase("of_this_notebook", name=name, kind=kind.__name__))

    def _closure(self, name: str, inner: str, text: str, function: Callable) -> str:
        """A function with names of the one around it: made by a function that gives them their values."""
        around = dict(zip(function.__code__.co_freevars, function.__closure__, strict=True))
        values = [
            self.value(free, cell.cell_contents)
            for free, cell in around.items()
            if free != inner  # it may call itself
        ]
        body = textwrap.indent("\n".join([*filter(None, values), text]), "    ")
        return f"def _make_{name}():\n{body}    return {inner}\n\n\n{name} = _make_{name}()\n"


def _below_exercise(node: ast.stmt) -> list[ast.expr]:
    """The decorators between @exercise(...) and def; all, where it does not stand."""
    texts = [ast.unparse(decorator).partition("(")[0].rpartition(".")[2] for decorator in node.decorator_list]
    return node.decorator_list[texts.index("exercise") + 1 if "exercise" in texts else 0 :]


def _annotations(node: ast.stmt) -> list[ast.expr]:
    found = [getattr(part, "annotation", None) for part in ast.walk(node)]
    return [part for part in [*found, getattr(node, "returns", None)] if part is not None]


def _names_in(expressions: list[ast.expr]) -> list[str]:
    parts = [part for expression in expressions for part in ast.walk(expression)]
    return [part.id for part in parts if isinstance(part, ast.Name)]


def _names(code: types.CodeType) -> list[str]:
    """Names looked up among the globals, in inner functions too; not attributes such as torch.cat's `cat`."""
    steps = dis.get_instructions(code)
    names = [step.argval for step in steps if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names += _names(constant)
    return names


def saved(names: Iterable[str], passed: bool = True) -> dict[str, Saved | Exception]:
    """Those of the slots `names` that are saved; a file that cannot be read gives its exception instead.

    Args:
        passed: what passed and may run; else the attempts, which nobody may load.

    A file is found by the name of its slot, not the name by the file: both halves of a name may hold a "_".
    """
    files: dict[str, Saved | Exception] = {}
    for name in sorted(names):
        path = workspace() / "my_vlm" / ("" if passed else ATTEMPTS) / file_name(name)
        if path.is_file():
            try:
                files[name] = Saved(path, path.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError) as error:
                files[name] = error
    return files


GATHERED = "my_vlm.py"  # all functions in one file, see workbook/gathering.py


def strangers() -> list[str]:
    """Python files in my_vlm/ that belong to no exercise; nothing runs them."""
    files = [path.name for path in (workspace() / "my_vlm").glob("*.py")]
    known = {GATHERED, *map(file_name, all_exercises())} if files else set()  # whose import takes seconds
    return sorted(set(files) - known)


def note(**event: Any) -> None:
    """Append one event to the diary. A diary that cannot be written is a warning: the lesson goes on."""
    from filelock import FileLock

    try:
        path = folder() / "diary.jsonl"
        with FileLock(path.with_suffix(".lock"), timeout=10), path.open("a", encoding="utf-8") as file:
            if path.read_bytes()[-1:] not in (b"", b"\n"):
                file.write("\n")  # behind a line that was torn
            file.write(json.dumps({"time": round(time.time()), **event}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if event.get("status") == "passed" or "quiz" in event:
            keep_answers()
    except OSError as error:  # filelock's Timeout is an OSError too
        warnings.warn(f"progress was not recorded: {error}. Is {workspace()} writable?", stacklevel=2)


def nothing_yet() -> str:
    """A sentence if ``my_vlm/`` is not there, or empty; it asks if the workspace has no notebooks either."""
    place = workspace() / "my_vlm"
    if any(place.glob("*")):
        return ""
    asks = "" if (workspace() / FIRST).is_file() else "; is this the folder of the course?"
    return f"no answers yet in {place}{asks}"


def diary() -> list[dict]:
    """All events; lines that are damaged are passed over."""
    return [event for event in _lines() if event is not None]


def damaged() -> list[int]:
    """Numbers of the diary's lines that hold no event: torn, or changed by something else."""
    return [number for number, event in enumerate(_lines(), start=1) if event is None]


def _lines() -> list[dict | None]:
    """The event in each line of the diary, or None.

    Raises:
        OSError: if the diary cannot be read.
    """
    path = workspace() / "my_vlm" / "diary.jsonl"
    return [event_of(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def event_of(line: bytes | str) -> dict | None:
    """The event that a line of a diary holds; None if it is damaged."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    words = ("chapter", "slot", "status", "quiz")
    whole = isinstance(event, dict) and all(isinstance(event.get(word, ""), str) for word in words)
    return event if whole else None
