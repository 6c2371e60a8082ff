"""``my_vlm/my_vlm.py``: a learner's functions as one file of Python, in the order of the data (notebook 18).

    gather      the text of that file
    SECTIONS    the parts of a vision-language model, and which slots belong to each
    section_of  of a slot

What every answer needs besides, its imports, constants and helpers, stands in it once. Where two answers use
one name for two things, the second is made inside a function of its own, as a closure is; so is one whose
file does more than define each name once, such as ``SIZE += 1``.
"""

import ast
import textwrap
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from vlmcourse.exercises.base import all_exercises
from vlmcourse.workbook.portfolio import Saved

SECTIONS = {  # by the beginning of a slot's name; the first that fits
    "picture": ("pixels.",),
    "vision encoder": ("vit.",),
    "attention": ("attention.",),
    "connector": ("projector.", "flamingo.", "qformer.", "fusion."),
    "words": ("chat.", "bpe.", "frames."),
    "language model": ("language.", "generation."),
    "training": ("stages.", "optimizers.", "answers.", "losses."),
}
OTHER = "measuring and everything else"


def section_of(name: str) -> str:
    """The part of a vision-language model that a slot belongs to."""
    return next((part for part, begins in SECTIONS.items() if name.startswith(begins)), OTHER)


class _Piece(NamedTuple):
    """A saved file in parts."""

    imports: dict[str, str]  # by the name that it brings, its text
    defined: dict[str, str]  # by the name that it defines at top level, its text
    body: str  # all that is no import
    steps: bool  # whether the body does more than define each name once, so that it stays whole


def _pieces_of(text: str) -> _Piece:
    tree, lines = ast.parse(text), text.splitlines()
    imports, defined, body, steps = {}, {}, [], False
    for number, node in enumerate(tree.body):
        if number == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # the docstring of the file
        begins = min([node.lineno, *(part.lineno for part in getattr(node, "decorator_list", []))])
        source = "\n".join(lines[begins - 1 : node.end_lineno])
        if isinstance(node, ast.Import | ast.ImportFrom):
            if getattr(node, "module", "") != "__future__":
                names = [alias.asname or alias.name.partition(".")[0] for alias in node.names]
                imports |= dict.fromkeys(names, source)
            continue
        body.append(source)
        names = _names_of(node)
        steps = steps or not names or any(name in defined for name in names)
        defined |= dict.fromkeys(names, source)
    return _Piece(imports, defined, "\n\n\n".join(body), steps)


def _names_of(node: ast.stmt) -> list[str]:
    """The names that a statement at top level defines; none if it does anything else."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [part.id for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Name)]
    return []


def gather(answers: Mapping[str, Saved], order: Iterable[str] = ()) -> str:
    """One file that defines all saved answers, and MY_CODE, a table of them by the names of their slots.

    Args:
        answers: by the name of the slot, see portfolio.saved.
        order: slots in the order in which a model calls them; the others come behind them.

    Raises:
        ValueError: if there are no answers, or one is no Python.
    """
    if not answers:
        raise ValueError("my_vlm/ holds no function yet; pass an exercise, and it is saved there")
    ordered = [name for name in [*order, *all_exercises(), *answers] if name in answers]
    ordered = list(dict.fromkeys(ordered))
    parts = [*SECTIONS, OTHER]
    ordered.sort(key=lambda name: parts.index(section_of(name)))
    known: dict[str, str] = {}
    imports: dict[str, None] = {}
    texts, table, heading = [], [], ""
    for name in ordered:
        piece = _parsed(name, answers[name].text)
        if section_of(name) != heading:
            heading = section_of(name)
            texts.append(f"# {f' {heading} '.center(76, '-')}")
        made, text = _written(name, piece, known, imports)
        chapter = all_exercises()[name].chapter if name in all_exercises() else "?"
        texts.append(f"# {name}, chapter {chapter}\n{text}")
        table.append(f'    "{name}": {made},')
    head = "\n".join([_HEAD, *sorted(imports)])
    return "\n\n\n".join([head, *texts, "\n".join(["MY_CODE = {", *table, "}"]), _TAIL])


def _parsed(name: str, text: str) -> _Piece:
    try:
        return _pieces_of(text)
    except SyntaxError as error:
        raise ValueError(
            f"my_vlm/{name.replace('.', '_')}.py is no Python ({error}); pass it again"
        ) from error


def _written(name: str, piece: _Piece, known: dict[str, str], imports: dict[str, None]) -> tuple[str, str]:
    """Under which name the file has an answer, and the text that makes it.

    ``known`` learns its names, and ``imports`` what stands at the head of the file. Where it uses a name for
    another thing than an answer before it, such as torch's sqrt and math's, it brings its own inside.
    """
    function = name.split(".")[1]
    same = all(known.get(other, text) == text for other, text in (piece.imports | piece.defined).items())
    if same and not piece.steps:
        imports |= dict.fromkeys(piece.imports.values())
        new = list(dict.fromkeys(text for other, text in piece.defined.items() if other not in known))
        known |= piece.imports | piece.defined
        return function, "\n\n\n".join(new) or f"# {function} stands above"
    own = name.replace(".", "_")
    taken = "\n".join(dict.fromkeys(piece.imports.values()))
    body = f"{taken}\n\n{piece.body}\n\n\nreturn {function}".strip().replace("\n\n\n", "\n\n")
    body = textwrap.indent(body, "    ")
    known[own] = body
    return own, f"def _make_{own}():\n{body}\n\n\n{own} = _make_{own}()"


_HEAD = '''"""My vision-language model: every function of it that I wrote, in the order of the data.

    picture -> vision encoder -> connector -> language model -> answer

Gathered from the files of this folder; change a function in its notebook, not here. What is not here is the
package's: the modules that hold parameters, the loops that train and ask, data and files.

    from my_vlm.my_vlm import install
    install()          # from here on the models of the course run these functions, in any program
"""

from __future__ import annotations
'''
_TAIL = '''def install():
    """Let every model of the course run these functions."""
    from vlmcourse.slots import REGISTRY
    from vlmcourse.exercises.base import all_exercises

    all_exercises()  # imports every module that has a slot
    for name, function in MY_CODE.items():
        REGISTRY[name].install(function)
'''
