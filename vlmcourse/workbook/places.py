"""Places in the source of an answer: what stands there, what stands beside it, and how to exchange it."""

import ast
from collections.abc import Iterator
from typing import Any

Place = tuple[ast.AST, str, int | None]  # a node's field that holds another, and where in a list


def places(tree: ast.AST) -> Iterator[Place]:
    """Every place of an expression below ``tree``, inner ones last."""
    for node in ast.walk(tree):
        for name, value in ast.iter_fields(node):
            for number, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if isinstance(child, ast.expr) and name != "targets" and name != "target":
                    yield node, name, number


def at(place: Place) -> Any:
    node, name, number = place
    return getattr(node, name) if number is None else getattr(node, name)[number]


def put(place: Place, new: Any) -> None:
    node, name, number = place
    if number is None:
        setattr(node, name, new)
    else:
        getattr(node, name)[number] = new


def operands(node: ast.AST) -> list[Place]:
    """Where a step holds what it works on: x in x.f(), f(x), x + y, -x, x[0], x.T and x < y; y in x + y."""
    if isinstance(node, ast.BinOp):
        return [(node, "left", None), (node, "right", None)]
    if isinstance(node, ast.Compare):
        return [(node, "left", None), (node, "comparators", 0)]
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and not _module(node.func.value):
            return [(node.func, "value", None)]
        return [(node, "args", 0)] if node.args and not isinstance(node.args[0], ast.Starred) else []
    if isinstance(node, ast.UnaryOp):
        return [(node, "operand", None)]
    if isinstance(node, ast.Subscript) or (isinstance(node, ast.Attribute) and node.attr in ("T", "mT")):
        return [(node, "value", None)]
    return []


def _module(node: ast.AST) -> bool:
    return ast.unparse(node).split(".")[0] in ("torch", "F", "nn", "math")


def meets_itself(place: Place, new: ast.expr) -> bool:
    """Whether a value would meet itself in a comparison, +, - or /; nobody would write that."""
    beside = [at(side) for side in operands(place[0]) if side != place] if place in operands(place[0]) else []
    pairs = [(place[0], new, other) for other in beside]
    pairs += [(node, *map(at, operands(node))) for node in ast.walk(new) if len(operands(node)) == 2]
    odd = ast.Compare, ast.Add, ast.Sub, ast.Div
    return any(isinstance(getattr(node, "op", node), odd) and ast.dump(one) == ast.dump(other)
               for node, one, other in pairs)  # fmt: skip
