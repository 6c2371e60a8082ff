"""The learner's portfolio, ``my_vlm/`` in the workspace: every function that passed, and a diary.

The saved files are ordinary Python: at the end they are the learner's own vision-language model.
"""

import ast
import contextlib
import dis
import inspect
import json
import os
import sys
import textwrap
import time
import types
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from vlmcourse.data.assets import written_beside
from vlmcourse.exercises.base import Text
from vlmcourse.slots import Slot
from vlmcourse.workbook.say import phrase


class CannotSave(Exception):
    """A passed function depends on something that cannot be written to a file; `says` on what."""

    def __init__(self, says: Text):
        super().__init__(says.en)
        self.says = says


def workspace() -> Path:
    """Where the learner works: $VLMCOURSE_WORKSPACE, else the folder above ``notebooks/``, else here."""
    if chosen := os.environ.get("VLMCOURSE_WORKSPACE"):
        return Path(chosen)
    here = Path.cwd()
    for folder in (here, *here.parents):
        if folder.name == "notebooks":
            return folder.parent
    return here


def folder() -> Path:
    """``my_vlm/``, made if need be."""
    path = workspace() / "my_vlm"
    path.mkdir(parents=True, exist_ok=True)
    return path


def file_of(name: str) -> Path:
    """The file of the slot ``name``: multi_image.join_images is saved as multi_image_join_images.py."""
    return folder() / f"{name.replace('.', '_')}.py"


def source_of(function: Callable) -> str:
    """The source of ``function`` without decorators, indented as at top level.

    Raises:
        CannotSave: if Python does not know the source.
    """
    try:
        text = textwrap.dedent(inspect.getsource(function))
        node = ast.parse(text).body[0]
    except (OSError, TypeError, SyntaxError, IndexError) as error:
        raise CannotSave(phrase("no_source", error=error)) from None
    if not isinstance(node, ast.FunctionDef):
        raise CannotSave(phrase("no_def"))
    return "\n".join(text.splitlines()[node.lineno - 1 : node.end_lineno]) + "\n"


def save(slot: Slot, answer: Callable, chapter: str) -> None:
    """Write a passed answer with everything it uses; the file replaces an older one in one step.

    Raises:
        CannotSave: if it uses a global that cannot be written down.
        OSError: if the folder cannot be written.
    """
    pieces: dict[str, str] = {}
    _collect(answer, pieces)
    imports = sorted(text for text in pieces.values() if text.startswith(("import ", "from ")))
    others = [text for text in pieces.values() if not text.startswith(("import ", "from "))]
    header = f'"""Your {slot.name}, passed in chapter {chapter}."""\n'
    with written_beside(file_of(slot.name)) as draft:
        draft.write_text("\n".join([header, *imports, "", *others, source_of(answer)]), encoding="utf-8")


def _collect(function: Callable, pieces: dict[str, str]) -> None:
    """Write the globals that ``function`` uses down: as an import, a constant or a helper's source."""
    for name in _names(function.__code__):
        if name in pieces or name not in function.__globals__:
            continue
        value = function.__globals__[name]
        pieces[name] = _write_down(name, value)
        if isinstance(value, types.FunctionType) and value.__module__ == function.__module__:
            helper = pieces.pop(name)
            pieces[name] = ""  # so that functions that call each other end
            _collect(value, pieces)
            pieces[name] = pieces.pop(name) + helper


def _names(code: types.CodeType) -> list[str]:
    """Names looked up among the globals, in inner functions too; not attributes such as torch.cat's `cat`."""
    steps = dis.get_instructions(code)
    names = [step.argval for step in steps if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names += _names(constant)
    return names


def _write_down(name: str, value: Any) -> str:
    if isinstance(value, types.ModuleType):
        return f"import {value.__name__}" + (f" as {name}" if value.__name__ != name else "")
    module, original = getattr(value, "__module__", None), getattr(value, "__name__", None)
    importable = module and original and module != "__main__"
    if importable and getattr(sys.modules.get(module), original, None) is value:
        return f"from {module} import {original}" + (f" as {name}" if original != name else "")
    if isinstance(value, types.FunctionType):
        return source_of(value)
    if isinstance(value, bool | int | float | str | type(None)):
        return f"{name} = {value!r}\n"
    raise CannotSave(phrase("of_this_notebook", name=name, kind=type(value).__name__))


def saved(names: Iterable[str]) -> dict[str, Callable | Exception]:
    """Those of the slots `names` that are saved; a file that does not load gives its exception instead.

    A file is found by the name of its slot, not the name by the file: both halves of a name may hold a "_".
    """
    answers: dict[str, Callable | Exception] = {}
    for name in sorted(names):
        path = file_of(name)
        if not path.is_file():
            continue
        space = {"__name__": f"my_vlm.{path.stem}", "__file__": str(path)}
        try:
            exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), space)
            answers[name] = space[name.rpartition(".")[2]]
        except Exception as error:
            answers[name] = error
    return answers


def note(**event: Any) -> None:
    """Append one event to the diary. A diary that cannot be written is a warning: the lesson goes on."""
    from filelock import FileLock

    try:
        path = folder() / "diary.jsonl"
        with FileLock(path.with_suffix(".lock"), timeout=10), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": round(time.time()), **event}) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:  # filelock's Timeout is an OSError too
        warnings.warn(f"progress was not recorded: {error}. Is {workspace()} writable?", stacklevel=2)


def diary() -> list[dict]:
    """All events; a line that is not whole (the machine stopped while writing) is passed over."""
    path = workspace() / "my_vlm" / "diary.jsonl"
    events = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):
            events.append(json.loads(line))
    return [event for event in events if isinstance(event, dict)]
