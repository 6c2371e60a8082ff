"""Find the one step of a wrong answer that makes it wrong, by editing its source and trying.

One place at a time is edited: an operator, a number, a name, a call exchanged for one the reference makes, a
step left out or put in, two places exchanged, a line moved. If all cases become right, that place is the
mistake. Likely edits come first, and nothing is said that was not tried.
"""

import ast
import contextlib
import copy
import inspect
import itertools
import textwrap
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from vlmcourse.exercises.base import Text
from vlmcourse.workbook.outcomes import OutOfTime, Trial, limited, run, same
from vlmcourse.workbook.places import Place, at, meets_itself, operands, places, put
from vlmcourse.workbook.say import phrase

EDITS, TRY = 4.5, 0.15  # seconds of CPU time for all edits, and for one
SHOWN, KNOWN = 64, 56  # letters of the code that is shown; of what is taken from the reference
HOLE = "_hole_"
OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.MatMult, ast.FloorDiv, ast.Mod, ast.Pow)
COMPARISONS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
KIN = [
    "sum mean amax amin median prod max min std norm", "argmax argmin", "any all", "tril triu",
    "log log2 log10", "zeros_like ones_like", "zeros ones", "sin cos tan", "floor ceil round trunc",
    "relu gelu silu sigmoid tanh", "softmax log_softmax sigmoid", "repeat repeat_interleave", "append extend",
    "sum cumsum", "exp exp2", "square abs", "startswith endswith", "permute reshape", "stack cat",
]  # fmt: skip

Line = tuple[str, int]  # file and number


def wrong_step(answer: Callable, trial: Trial, wrong: list[int]) -> tuple[Text, Line] | None:
    """The sentence about the one edit that makes the most ``wrong`` cases right, and its line."""
    words, began = Vocabulary.of(trial, answer), time.process_time()
    most, found = 0, None
    for function in (answer, *helpers(answer)):
        with contextlib.suppress(OSError, SyntaxError):
            held = inspect.getclosurevars(function).nonlocals
            source = Source(parsed(function), function, answer, words, held)
            for edit in source.edits():
                if time.process_time() - began > EDITS or most == len(wrong):
                    break
                mended = _mended(source, edit, trial, wrong)
                if mended > most and (not edit.far or mended == len(wrong)):
                    most, found = mended, source.shown(edit)
    if found is None:
        return None
    line, got, right = found
    name = "wrong_step" if most == len(wrong) else "wrong_step_somewhere"
    words = {"line": line, "got": got, "right": right, "mended": most, "all": len(wrong)}
    return phrase(name, **words), (answer.__code__.co_filename, line)


def _mended(source: "Source", edit: "Exchange", trial: Trial, wrong: list[int]) -> int:
    """How many wrong cases, the first among them, the edit makes right; 0 if it makes a right one wrong."""
    places = [*wrong, *(place for place in range(len(trial.cases)) if place not in wrong)]
    right = []
    with contextlib.suppress(Exception, OutOfTime), limited(TRY), source.edited(edit) as function:
        for place in places:
            right.append(same(run(function, trial.names, trial.cases[place]), trial.expected[place]))
            if not right[0] or (place not in wrong and not right[-1]):
                return 0
    return sum(right[: len(wrong)]) if len(right) == len(places) else 0


def helpers(answer: Callable) -> list[Callable]:
    """The functions of the same file that the answer calls by their names."""
    of = (answer.__globals__.get(name) for name in answer.__code__.co_names)
    file = answer.__code__.co_filename
    return [f for f in of if isinstance(f, types.FunctionType) and f.__code__.co_filename == file]


@dataclass
class Exchange:
    """One exchange: what stands at the places, one or several alike, becomes ``new``, code or a block."""

    places: list[Place]
    new: Any
    far: bool = False  # nobody forgets such a step: told only if it makes every case right


def parsed(function: Callable) -> ast.FunctionDef:
    """The definition, numbered as in its file, without decorators and annotations; OSError without one."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    if not isinstance(tree, ast.FunctionDef):
        raise OSError(f"{function} is not written with def")
    ast.increment_lineno(tree, function.__code__.co_firstlineno - 1)
    tree.decorator_list, tree.returns = [], None
    for argument in [*tree.args.args, *tree.args.kwonlyargs]:
        argument.annotation = None
    return tree


@dataclass
class Vocabulary:
    """What the reference is written with, by its arguments: steps with a hole, values, names of numbers."""

    names: list[str]
    space: dict[str, Any]
    steps: list[ast.expr]
    values: list[ast.expr]
    keywords: dict[str, list[ast.keyword]]

    @classmethod
    def of(cls, trial: Trial, answer: Callable) -> "Vocabulary":
        reference = inspect.unwrap(trial.reference)
        own = answer.__code__.co_varnames[: answer.__code__.co_argcount]
        tree, space = parsed(reference), reference.__globals__
        known = _Known(tree, dict(zip(trial.names, own, strict=False)), space)
        wholes = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return)]
        steps, values, keywords = [], [], {}
        for node in ast.walk(tree):
            for number in range(len(operands(node))):
                step = copy.deepcopy(node)
                put(operands(step)[number], ast.Name(HOLE, ast.Load()))
                steps.append(known.of(step))
            if isinstance(node, ast.expr) and node not in wholes:
                values.append(known.of(node))
            if isinstance(node, ast.Call):
                keywords.setdefault(_name(node), []).extend(k for k in node.keywords if known.of(k.value))
        case = zip(own, max(trial.cases, key=len), strict=False)
        numbers = [name for name, value in case if type(value) in (int, float)]
        return cls(numbers, space, _once(steps), _once(values), keywords)


class _Known(ast.NodeTransformer):
    """Writes code of the reference with its arguments only: a name given once becomes its value."""

    def __init__(self, tree: ast.FunctionDef, names: dict[str, str], space: dict):
        self.names, self.space, self.given = names, space, {}
        stored = [n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
        for node in [node for node in ast.walk(tree) if isinstance(node, ast.Assign)]:
            name = getattr(node.targets[0], "id", None)
            begun = isinstance(node.value, ast.List) and not node.value.elts  # a list that grows later
            if stored.count(name) == 1 and name not in names and not begun:
                self.given[name] = node.value
        self.free = {name for name in stored if name not in names}

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in self.given and self.depth < 4:
            self.depth += 1
            return self.visit(copy.deepcopy(self.given[node.id]))
        if isinstance(self.space.get(node.id), int | float | str) and node.id not in self.names:
            return ast.Constant(self.space[node.id])
        return ast.Name(self.names.get(node.id, node.id), ast.Load())

    def visit_Call(self, node: ast.Call) -> ast.AST:
        node.keywords = [k for k in node.keywords if getattr(k.value, "attr", "") not in ("device", "dtype")]
        return self.generic_visit(node)

    def of(self, node: ast.expr) -> ast.expr | None:
        """The code, or None if it needs more than the arguments or is too long to be one step."""
        self.depth = 0
        node = self.visit(copy.deepcopy(node))
        free = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} & self.free
        return None if free or len(ast.unparse(node)) > KNOWN else node


def _once(nodes: list[ast.expr | None]) -> list[ast.expr]:
    return list({ast.unparse(node): node for node in nodes if node}.values())


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else ast.unparse(call.func)


@dataclass
class Source:
    """A function of the learner's as a tree that can be edited."""

    tree: ast.FunctionDef
    function: Callable
    answer: Callable
    words: Vocabulary
    held: dict[str, Any]  # names of the function that encloses it

    @contextlib.contextmanager
    def edited(self, edit: Exchange) -> Iterator[Callable]:
        """The answer with the edit made; afterwards the tree is as it was."""
        before = [at(place) for place in edit.places]
        for place in edit.places:
            put(place, edit.new)
        try:
            module = ast.fix_missing_locations(ast.Module([self.tree], []))
            space = {**self.words.space, **self.answer.__globals__, **self.held}
            exec(compile(module, self.function.__code__.co_filename, "exec"), space)
            made = space[self.tree.name]
            if self.function is not self.answer:
                code, rest = self.answer.__code__, (self.answer.__defaults__, self.answer.__closure__)
                made = types.FunctionType(code, space, self.answer.__name__, *rest)
            yield made
        finally:
            for place, node in zip(edit.places, before, strict=True):
                put(place, node)

    def shown(self, edit: Exchange) -> tuple[int, str, str]:
        """The line of an edit, and the code around it before and after."""
        old = [at(place) for place in edit.places]
        if isinstance(old[0], list):
            return self._shown_lines(old[0], edit.new)
        tops = [self._around(node) for node in old]
        got = [_brief(top, node) for top, node in zip(tops, old, strict=True)]
        with self.edited(edit):
            right = [_brief(edit.new if top is old[n] else top, edit.new) for n, top in enumerate(tops)]
        told = dict.fromkeys(zip(tops, got, right, strict=True))  # two places of one expression: once
        return old[0].lineno, *("`, `".join(texts[n] for texts in told) for n in (1, 2))

    def _around(self, node: ast.expr) -> ast.expr:
        """The largest expression around a node that is short enough to be shown."""
        parents = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}
        top = node
        while not isinstance(node := parents[node], ast.stmt):
            bare = isinstance(top, ast.Constant | ast.Name)
            if isinstance(node, ast.expr) and (bare or len(ast.unparse(node)) <= SHOWN):
                top = node
        return top

    def _shown_lines(self, before: list[ast.stmt], after: list[ast.stmt]) -> tuple[int, str, str]:
        first = next(n for n in range(len(before)) if n >= len(after) or before[n] is not after[n])
        last = next(n for n in range(1, len(before) + 1) if n > len(after) or before[-n] is not after[-n])
        old, new = before[first : len(before) - last + 1], after[first : len(after) - last + 1]
        texts = ["; ".join(map(ast.unparse, lines)) for lines in (old, new)]
        got, right = (textwrap.shorten(" ".join(text.split()), 2 * SHOWN) for text in texts)
        return old[0].lineno, got, right or "pass"

    def edits(self) -> Iterator[Exchange]:
        """All edits, the likeliest first."""
        spots = list(places(self.tree))
        kinds = (self._left_out, self._operators, self._numbers, self._swapped, self._other_names,
                 self._alike, self._exchanged, self._values, self._put_in, self._terms)  # fmt: skip
        for kind in kinds:
            if kind == self._put_in:
                yield from self._lines()
            for place in spots:
                before = ast.dump(at(place))
                compared = kind == self._left_out and isinstance(at(place), ast.Compare)
                far = compared or kind == self._terms
                yield from (Exchange([place], new, far) for new in kind(at(place))
                            if ast.dump(new) != before and not meets_itself(place, new))  # fmt: skip
            if kind == self._numbers:
                yield from self._together()

    def _operators(self, node: ast.expr) -> Iterator[ast.expr]:
        if isinstance(node, ast.BinOp):
            of = (ast.BitAnd, ast.BitOr) if isinstance(node.op, ast.BitAnd | ast.BitOr) else OPERATORS
            yield from (ast.BinOp(node.left, op(), node.right) for op in of)
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARISONS:
            yield from (ast.Compare(node.left, [op()], node.comparators) for op in COMPARISONS)
        if isinstance(node, ast.BoolOp):
            yield from (ast.BoolOp(op(), node.values) for op in (ast.And, ast.Or))
        if isinstance(node, ast.UnaryOp):
            yield node.operand
        if isinstance(node, ast.IfExp):
            yield ast.IfExp(node.test, node.orelse, node.body)
        if isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield ast.Constant(not node.value)

    def _numbers(self, node: ast.expr) -> Iterator[ast.expr]:
        value = _number(node)
        if value is None and not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            return
        yield from (other for other in self.words.values
                    if isinstance(other, ast.Constant) or _number(other) is not None)  # fmt: skip
        if isinstance(value, int):
            near = (-value, value + 1, value - 1, -1, 0, 1, 2, 3, -2)
            yield from (ast.Constant(number) for number in dict.fromkeys(near) if number != value)
            yield ast.Slice()
        yield from map(_load, self.words.names)

    def _together(self) -> Iterator[Exchange]:
        """The same number in several calls of the same name."""
        groups: dict[tuple, list[Place]] = {}
        for call in [node for node in ast.walk(self.tree) if isinstance(node, ast.Call)]:
            spots = {n: (call, "args", n) for n in range(len(call.args))}
            spots |= {keyword.arg: (keyword, "value", None) for keyword in call.keywords}
            for name, place in spots.items():
                if (number := _number(at(place))) is not None:
                    groups.setdefault((_name(call), name, number), []).append(place)
        for alike in [alike for alike in groups.values() if len(alike) > 1]:
            yield from (Exchange(alike, new) for new in self._numbers(at(alike[0])))

    def _scope(self) -> list[str]:
        """The names of its arguments, and those it gives."""
        stored = (n for n in ast.walk(self.tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
        given = [argument.arg for argument in self.tree.args.args]
        return list(dict.fromkeys([*given, *(name.id for name in stored)]))

    def _other_names(self, node: ast.expr) -> Iterator[ast.expr]:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in self._scope():
            lists = {ast.unparse(call.func.value) for call in ast.walk(self.tree) if _appends(call)
                     and node in ast.walk(call)}  # fmt: skip
            yield from (_load(name) for name in self._scope() if name not in lists)  # none holds itself

    def _exchanged(self, node: ast.expr) -> Iterator[ast.expr]:
        inner = [at(place) for place in operands(node)]
        inner += [at(place) for one in inner for place in operands(one)[:1]]
        for operand, step in itertools.product(inner, self.words.steps):
            yield _filled(step, operand)

    def _left_out(self, node: ast.expr) -> Iterator[ast.expr]:
        inner = [at(place) for place in operands(node)]
        yield from inner
        yield from (at(place) for one in inner for place in operands(one)[:1])  # two steps
        if isinstance(node, ast.Call):
            for number in range(len(node.keywords)):
                yield ast.Call(node.func, node.args, node.keywords[:number] + node.keywords[number + 1 :])
            yield from (ast.Call(node.func, node.args, [*node.keywords, more])
                        for more in self.words.keywords.get(_name(node), [])
                        if more.arg not in [k.arg for k in node.keywords])  # fmt: skip
        if isinstance(node, ast.Slice):
            yield from (ast.Slice(node.lower), ast.Slice(None, node.upper), ast.Slice())
        if isinstance(node, ast.BoolOp):
            yield from node.values

    def _alike(self, node: ast.expr) -> Iterator[ast.expr]:
        if isinstance(node, ast.Call):
            others = {name: None for group in KIN if _name(node) in group.split() for name in group.split()}
            for name in others:
                func = copy.copy(node.func)
                setattr(func, "attr" if isinstance(func, ast.Attribute) else "id", name)
                yield ast.Call(func, node.args, node.keywords)

    def _swapped(self, node: ast.expr) -> Iterator[ast.expr]:
        if isinstance(node, ast.BinOp):
            yield ast.BinOp(node.right, node.op, node.left)
        if isinstance(node, ast.Call):
            yield from (ast.Call(node.func, args, node.keywords) for args in _orders(node.args))
        if isinstance(node, ast.Tuple | ast.List):
            yield from (type(node)(items, node.ctx) for items in _orders(node.elts))

    def _values(self, node: ast.expr) -> Iterator[ast.expr]:
        if isinstance(node, ast.Attribute | ast.Subscript | ast.Call | ast.Name | ast.BinOp):
            yield from (value for value in self.words.values
                        if _number(value) is None and not isinstance(value, ast.Constant))  # fmt: skip

    def _put_in(self, node: ast.expr) -> Iterator[ast.expr]:
        if isinstance(node, ast.Constant) or not isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
            return
        for step in self.words.steps:
            yield _filled(step, node)
        for code in ("{}.T", "-{}", "~{}", "reversed({})", "{}.argsort(-1)", "{}[1:]", "{}[:-1]"):
            if code != "~{}" or not isinstance(node, ast.Name):
                yield _filled(ast.parse(code.format(HOLE), mode="eval").body, node)

    def _terms(self, node: ast.expr) -> Iterator[ast.expr]:
        if isinstance(node, ast.Call | ast.BinOp | ast.Name):
            for name, op in itertools.product(self._scope(), (ast.Add, ast.Mult, ast.Sub, ast.Div)):
                yield ast.BinOp(node, op(), _load(name))
            yield from (ast.BinOp(node, ast.Add(), value) for value in self.words.values
                        if isinstance(value, ast.Constant) and isinstance(value.value, str))  # fmt: skip

    def _lines(self) -> Iterator[Exchange]:
        """A line left out, or moved to another place of its block."""
        for node in ast.walk(self.tree):
            for name in ("body", "orelse"):
                block = getattr(node, name, None)
                if not isinstance(block, list):
                    continue
                others = [block[:number] + block[number + 1 :] for number in range(len(block))]
                yield from (Exchange([(node, name, None)], rest) for rest in others if rest)
                for number, (line, rest) in enumerate(zip(block, others, strict=True)):
                    yield from (Exchange([(node, name, None)], [*rest[:to], line, *rest[to:]])
                                for to in range(len(block)) if to != number)  # fmt: skip


def _brief(top: ast.expr, kept: ast.expr) -> str:
    """An expression as text; if that is long, only what holds ``kept`` is written out."""
    if top is kept or len(ast.unparse(top)) <= SHOWN:
        return textwrap.shorten(ast.unparse(top), 2 * SHOWN)

    def dots(part: Any) -> Any:
        if isinstance(part, list):
            return list(map(dots, part))
        long = isinstance(part, ast.expr) and len(ast.unparse(part)) > SHOWN // 4
        return _load("…") if long and all(node is not kept for node in ast.walk(part)) else part

    return ast.unparse(type(top)(**{name: dots(value) for name, value in ast.iter_fields(top)}))


def _appends(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("append", "insert", "extend")


def _number(node: ast.expr) -> int | float | None:
    with contextlib.suppress(ValueError, TypeError):
        value = ast.literal_eval(node)
        return value if type(value) in (int, float) else None


def _load(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def _filled(step: ast.expr, operand: ast.expr) -> ast.expr:
    class Fill(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            return operand if node.id == HOLE else node

    return Fill().visit(copy.deepcopy(step))


def _orders(items: list) -> Iterator[list]:
    """Other orders: two items exchanged, or all moved round."""
    for one, other in itertools.combinations(range(min(len(items), 6)), 2):
        yield [items[{one: other, other: one}.get(n, n)] for n in range(len(items))]
    yield from (items[by:] + items[:by] for by in range(1, len(items)) if len(items) > 2)
