"""Places in a source: which there are, what stands there, and what a step works on."""

import ast

import pytest

from vlmcourse.workbook.places import at, meets_itself, operands, places, put

SOURCE = "x = f(a, *b)[0]\nfor n in x:\n    y += -n"


def expression(code: str) -> ast.expr:
    return ast.parse(code, mode="eval").body


def test_every_expression_has_a_place_but_what_is_assigned_to():
    there = [ast.unparse(at(place)) for place in places(ast.parse(SOURCE))]
    assert there == ["f(a, *b)[0]", "x", "f(a, *b)", "0", "-n", "f", "a", "*b", "n", "b"]


def test_what_is_put_stands_there_and_all_else_stays():
    for number in range(10):
        tree = ast.parse(SOURCE)
        place = [*places(tree)][number]
        old, new = at(place), ast.Name("new", ast.Load())
        put(place, new)
        assert at(place) is new and ast.unparse(tree).count("new") == 1
        put(place, old)
        assert ast.unparse(tree) == SOURCE


@pytest.mark.parametrize("code, works_on", [
    ("x.f(y)", "x"), ("x.f()", "x"), ("f(x, y)", "x"), ("f(*x)", ""), ("f(y=x)", ""), ("f()", ""),
    ("torch.f(x)", "x"), ("F.f(x)", "x"), ("nn.f(x)", "x"), ("math.f(x)", "x"), ("torch.linalg.f(x)", "x"),
    ("x + y", "x y"), ("x < y", "x y"), ("x < y < z", "x y"), ("-x", "x"), ("x[0]", "x"), ("x[0].T", "x[0]"),
    ("x.mT", "x"), ("x.shape", ""), ("x", ""), ("x and y", ""), ("(x, y)", ""),
])  # fmt: skip
def test_a_step_works_on_what_it_is_called_on_or_given_first(code, works_on):
    assert [ast.unparse(at(place)) for place in operands(expression(code))] == works_on.split()


@pytest.mark.parametrize("code, new, meets", [
    ("x < y", "y", True), ("x + y", "y", True), ("x - y", "y", True), ("x / y", "y", True),
    ("x * y", "y", False), ("x @ y", "y", False), ("x < y", "x", False), ("x < y", "z", False),
    ("x < y", "y.T", False), ("x < y", "z - z", True), ("x < y", "z * z", False),
    ("x < y", "f(z == z)", True), ("f(x, y)", "y", False),
])  # fmt: skip
def test_nothing_is_compared_with_itself_or_added_to_it(code, new, meets):
    place = operands(expression(code))[0]
    assert meets_itself(place, expression(new)) == meets


def test_a_place_that_no_step_works_on_has_nothing_beside_it():
    node = expression("f(x, y)")
    assert not meets_itself((node, "args", 1), expression("x"))
    node = expression("x < y < x")
    assert not meets_itself((node, "comparators", 1), expression("x"))
