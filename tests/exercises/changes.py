"""Small wrong changes of a reference's source, made by themselves: what a tired learner might write."""

import ast
import copy
import inspect
import sys
import types
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from tools.mutants import Change, Finder, name_of
from vlmcourse.exercises.base import Exercise
from vlmcourse.exercises.edits import Edit, plain_source
from vlmcourse.slots import Slot
from vlmcourse.workbook.outcomes import Trial, trial_of

EXCHANGED = {
    "sum": "mean", "mean": "sum", "any": "all", "all": "any", "cumsum": "cumprod", "cumprod": "cumsum",
    "softmax": "sigmoid", "sigmoid": "tanh", "tanh": "sigmoid", "floor": "ceil", "append": "extend",
    "startswith": "endswith", "endswith": "startswith", "zeros": "ones", "ones": "zeros",
    "zeros_like": "ones_like", "ones_like": "zeros_like", "new_zeros": "new_ones", "new_ones": "new_zeros",
}  # fmt: skip
SIGNS = {ast.Sub: "-", ast.Div: "/", ast.MatMult: "@", ast.FloorDiv: "//"}
OTHER = {ast.Mult: "+", ast.Add: "*", ast.BitAnd: "|^", ast.BitOr: "&^", ast.MatMult: "*"}
EITHER = {ast.Eq: (">=", "<="), ast.NotEq: ("<", ">"), ast.Lt: ("==",), ast.Gt: ("==",)}


def wrong_versions(exercise: Exercise) -> dict[str, Edit]:
    """Each changed reference by the lines that are new in it; none twice, none that does not compile."""
    trial = trial_of(exercise, Slot.changes)
    source = plain_source(exercise.slot.reference)
    right, found, seen = source.splitlines(), {}, {"", meaning(source)}
    for change in Wrong(exercise, trial, source.encode()).changes:
        changed = change.apply(source.encode()).decode()
        if (same := meaning(changed)) not in seen:
            seen.add(same)
            new = [line.strip() for line in changed.splitlines() if line not in right]
            says = " ".join(new) or f"without {change.old}"
            words = says if says not in found else f"{says} (for {change.old})"
            found[words] = Edit(exercise.slot, changed, says)
    return found


def meaning(source: str) -> str:
    """What a source says, without its form; "" for what Python does not take, or warns of."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", SyntaxWarning)
            compile(source, "", "exec")
            return ast.dump(ast.parse(source))
    except SyntaxError:
        return ""


class Wrong(Finder):
    """The changes of a Finder, and more: names, axes, slices, defaults, steps left out, one row for all."""

    def __init__(self, exercise: Exercise, trial: Trial, source: bytes):
        self.trial = trial
        self.raises = any(outcome.error for outcome in trial.expected)
        self.open_axes = "..." in str(inspect.unwrap(trial.reference).__annotations__.get("return"))
        self.values = values_inside(trial)
        self.given = dict(zip(trial.names, trial.cases[0], strict=False))
        self.alike = neighbours(ast.parse(source), self.given)
        super().__init__(exercise.slot.name, source)
        self.at_the_start(ast.parse(source).body[0])

    def at_the_start(self, function: ast.FunctionDef) -> None:
        """An argument is something else from the first line on."""
        place = self.span(function.body[0])[0]
        lines = [(kind, f"{name} = {words.format(name=name)}")
                 for name, value in self.given.items() for kind, words in whole(value)]  # fmt: skip
        lines += [("default", f"{name} = {ast.unparse(value)}") for name, value in defaults(function.args)]
        floats = [
            name for name, value in self.given.items() if torch.is_tensor(value) and value.is_floating_point()
        ]
        if floats:
            singles = [f"{name}.float()" for name in floats]
            lines.append(("precision", f"{', '.join(floats)} = {', '.join(singles)}"))
        for kind, line in lines:
            self.changes.append(Change(self.path, function.name, 2, place, "", f"{line}\n    ", kind))

    def removed(self, statement: ast.stmt, early: bool) -> None:
        if not self.own_guard(statement):
            super().removed(statement, early)

    def own_guard(self, statement: ast.stmt) -> bool:
        """A guard that only raises is the course's own, unless a case asks for it."""
        guard = isinstance(statement, ast.If) and isinstance(statement.body[0], ast.Raise)
        return guard and not self.raises

    def visit_If(self, node: ast.If) -> None:
        if self.own_guard(node):
            return
        for value in ("True", "False"):
            self.replace("condition", node.test, value)
        super().visit_If(node)

    def visit_arguments(self, node: ast.arguments) -> None:
        """Whoever calls a slot gets the reference's defaults, whatever the learner wrote."""

    def visit_Return(self, node: ast.Return) -> None:
        if isinstance(node.value, ast.Tuple) and len(node.value.elts) == 2:
            first, second = map(self.text, node.value.elts)
            self.replace("outputs exchanged", node.value, f"{second}, {first}")
        self.generic_visit(node)

    def visit_For(self, node: ast.For | ast.comprehension) -> None:
        for part in ("[1:]", "[:-1]", "[::-1]"):
            self.replace("items left out", node.iter, f"list({self.text(node.iter)}){part}")
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for condition in node.ifs:
            self.replace("condition", condition, "True")
        self.visit_For(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        for part in (node.body, node.orelse):
            self.replace("condition", node, f"({self.text(part)})")
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for part in node.values:
            self.replace("one side", node, f"({self.text(part)})")
        super().visit_BoolOp(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        left, right = self.text(node.left), self.text(node.right)
        words = [left, right, *(f"({left}) {sign} ({right})" for sign in OTHER.get(type(node.op), ()))]
        if isinstance(node.op, ast.Sub | ast.Div | ast.MatMult | ast.FloorDiv):
            words.append(f"({right}) {SIGNS[type(node.op)]} ({left})")
        for changed in words:
            self.replace("operator", node, f"({changed})")
        super().visit_BinOp(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        if len(node.ops) == 1:
            for operator in EITHER.get(type(node.ops[0]), ()):
                words = f"({self.text(node.left)} {operator} {self.text(node.comparators[0])})"
                self.replace("comparison", node, words)
        super().visit_Compare(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        self.replace("sign", node, f"({self.text(node.operand)})")
        if self.open_axes and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            for axis in "123":
                self.replace("axis from the front", node, axis)
        super().visit_UnaryOp(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self.written_out(node)
        self.replace("index", node, self.text(node.value))
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        for part in parts:
            if isinstance(part, ast.Slice) and (part.lower or part.upper):
                self.replace("slice", part, ":")
            if isinstance(part, ast.Constant) and part.value is Ellipsis:
                for axes in (":", ":, :"):
                    self.replace("axes from the front", part, axes)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.written_out(node)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        self.written_out(node)
        name = name_of(node.func)
        if name in EXCHANGED:
            end = self.span(node.func)[1]
            self.add("exchanged", end - len(name.encode()), end, EXCHANGED[name])
        if isinstance(node.func, ast.Attribute):
            self.replace("step left out", node, f"({self.text(node.func.value)})")
            if len(node.args) == 1 and not node.keywords:
                self.replace("argument dropped", node.args[0], "")
            if name_of(node.func.value) in self.given and hasattr(Tensor, f"{name}_"):
                end = self.span(node.func)[1]
                self.add("in place", end, end, "_")
        if node.args and not isinstance(node.args[0], ast.Starred):
            self.replace("step left out", node, f"({self.text(node.args[0])})")
        for keyword in node.keywords:
            if keyword.arg == "device":
                self.replace("device", keyword, "device=None")
        super().visit_Call(node)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.written_out(node)
            for other in self.alike.get(node.id, ()):
                self.replace("another name", node, other)

    def visit_Assign(self, node: ast.Assign) -> None:
        name = name_of(node.targets[0])
        if isinstance(self.values.get(name), Tensor) and self.values[name].dim():
            end, space = self.span(node)[1], " " * node.col_offset
            self.add("first row for all", end, end, f"\n{space}{name} = {name}[:1].expand({name}.shape)")
        targets = {leaf.id for leaf in ast.walk(node) if isinstance(leaf, ast.Name)}
        if any(name_of(target) in self.given or name_of(target) in targets for target in node.targets):
            self.replace("statement removed", node, "pass")
        super().visit_Assign(node)

    def written_out(self, node: ast.expr) -> None:
        """A number that depends on the input, as the number that it is in the first case."""
        names = {leaf.id for leaf in ast.walk(node) if isinstance(leaf, ast.Name)}
        if not isinstance(getattr(node, "ctx", ast.Load()), ast.Load) or not names & self.values.keys():
            return
        known = inspect.unwrap(self.trial.reference).__globals__ | self.values
        try:
            value = eval(compile(ast.Expression(node), "", "eval"), known)
        except Exception:  # of a name that is not there any more, such as one of a comprehension
            return
        if type(value) in (int, float, bool):
            self.replace("written out", node, repr(value))


def values_inside(trial: Trial) -> dict[str, Any]:
    """The local names of the reference at its end, in the first case."""
    code, found = inspect.unwrap(trial.reference).__code__, {}

    def look(frame: types.FrameType, event: str, _: Any) -> Any:
        if frame.f_code is code and event == "return":
            found.update(frame.f_locals)

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        trial.reference(*copy.deepcopy(trial.cases[0]))
    finally:
        sys.setprofile(before)
    return found


def neighbours(tree: ast.AST, given: dict[str, Any]) -> dict[str, set[str]]:
    """Names that are easily mistaken: arguments of one type, and what comes out of one tuple."""
    groups = [
        {name for name, other in given.items() if type(other) is type(value)} for value in given.values()
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Store):
            groups.append({name_of(part) for part in node.elts} - {"", "_"})
    return {name: {other for group in groups if name in group for other in group} - {name}
            for group in groups for name in group}  # fmt: skip


def defaults(arguments: ast.arguments) -> Iterator[tuple[str, ast.expr]]:
    """Arguments with their defaults."""
    late = arguments.args[len(arguments.args) - len(arguments.defaults) :]
    yield from ((one.arg, value) for one, value in zip(late, arguments.defaults, strict=True))
    both = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    yield from ((one.arg, value) for one, value in both if value is not None)


def whole(value: Any) -> Iterator[tuple[str, str]]:
    """What stands for an argument in a version that minds only part of it."""
    if isinstance(value, Tensor):
        if value.dim():
            yield "first row for all", "{name}[:1].expand({name}.shape)"
            yield "last row for all", "{name}[-1:].expand({name}.shape)"
        if value.is_floating_point():
            yield "detached", "{name}.detach()"
            yield "sign", "{name}.abs()"
    elif isinstance(value, list) and value:
        yield "first item for all", "[{name}[0]] * len({name})"
    elif type(value) in (int, float, bool):
        yield "written out", repr(value)
