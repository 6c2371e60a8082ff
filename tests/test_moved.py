"""Names of a former layout lead to the modules of today."""

import importlib
import sys

import pytest

from vlmcourse.moved import MOVED, OldNames, keep_old_names

FORMER = {
    "data": "captions chance packs questions reading render scenes stage talks truth twins",
    "diagnostics": "looks",
    "interop": "joining keeping",
    "world": "reading",
    "": "drawings nano real",
}
"""Modules of former layouts, by room: learners' functions and notebooks import them."""


def test_no_old_name_is_forgotten():
    assert {f"{room}.{name}".strip(".") for room, names in FORMER.items() for name in names.split()} <= set(
        MOVED
    )


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_an_old_name_gives_the_same_module(old, new):
    assert importlib.import_module(f"vlmcourse.{old}") is importlib.import_module(f"vlmcourse.{new}")


def test_a_moved_module_keeps_its_own_name_and_can_be_imported_from_its_old_folder():
    sys.modules.pop("vlmcourse.data.scenes", None)
    from vlmcourse.data import scenes

    assert scenes.__name__ == scenes.__spec__.name == "vlmcourse.world.scenes"


def test_a_name_that_never_was_is_still_an_error():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("vlmcourse.data.nonsense")


def test_only_names_below_the_package_are_looked_for():
    assert OldNames().find_spec("vlmcourse.data.scenes")
    assert OldNames().find_spec("elsewhere.data.scenes") is None
    assert OldNames().find_spec("vlmcourse.world.scenes") is None


def test_keeping_old_names_twice_adds_one_finder(monkeypatch):
    others = [finder for finder in sys.meta_path if not isinstance(finder, OldNames)]
    monkeypatch.setattr(sys, "meta_path", list(others))
    keep_old_names()
    keep_old_names()
    assert len(sys.meta_path) == len(others) + 1
