"""The tool that changes the code a little finds changes that mean something, and tells who noticed."""

import ast
import importlib.util
from argparse import Namespace
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "tools" / "mutants.py"
CODE = '''"""Numbers below 10."""


def share(part: int, whole: int, digits: int = 2) -> float:
    """Part of the whole, at most 1."""
    if whole <= 0 and not part:
        raise ValueError("whole must be above 0")
    return round(min(part / whole, 1), ndigits=digits)


def unused(value):
    return value + 1
'''
TEST = """from vlmcourse.shares import share


def test_shares():
    assert [share(1, 3), share(4, 2), share(1, -3)] == [0.33, 1, -0.33]
"""


@pytest.fixture(scope="module")
def mutants():
    spec = importlib.util.spec_from_file_location("mutants", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path, mutants, monkeypatch):
    (tmp_path / "vlmcourse").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "vlmcourse" / "__init__.py").write_text("")
    (tmp_path / "vlmcourse" / "shares.py").write_text(CODE)
    (tmp_path / "tests" / "__init__.py").write_text("")
    (tmp_path / "tests" / "test_shares.py").write_text(TEST)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    monkeypatch.setattr(mutants, "ROOMS", {"shares": ["shares.py"]})
    return tmp_path


def changed(changes):
    return {(change.old, change.new) for change in changes}


def test_changes_are_small_and_valid_and_leave_words_alone(tree, mutants):
    changes = mutants.changes_of("shares", tree)
    assert changed(changes) >= {
        ("<=", "<"), ("and", "or"), ("not part", "bool(part)"), ("/", "*"), ("min", "max"), ("2", "3"),
        ("+", "-"),
        ("ndigits=digits", ""),
    }  # fmt: skip
    assert not any("above" in change.old and change.kind == "string" for change in changes)
    assert not any(change.line in {1, 5} for change in changes)
    for change in changes:
        assert ast.dump(ast.parse(change.apply(CODE.encode()))) != ast.dump(ast.parse(CODE))


def test_a_seed_draws_the_same_changes_from_each_function_in_turn(tree, mutants):
    changes = mutants.changes_of("shares", tree)
    drawn = mutants.drawn(changes, 2, seed=3)
    assert drawn == mutants.drawn(changes, 2, seed=3)
    assert {change.function for change in drawn} == {"share", "unused"}


def test_a_change_is_noticed_where_a_test_enters_and_not_elsewhere(tree, mutants, capsys):
    changes = mutants.changes_of("shares", tree)
    some = [
        change
        for change in changes
        if change.old == "min" or (change.function, change.old) == ("unused", "+")
    ]
    left = mutants.tried("shares", some, Namespace(budget=10, files=2))
    assert [change.function for change in left] == ["unused"]
    assert "tests/test_shares.py::test_shares" in capsys.readouterr().out
    assert (tree / "vlmcourse" / "shares.py").read_text() == CODE
