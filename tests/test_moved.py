"""Names of a former layout lead to the modules of today."""

import importlib
import sys

import pytest

from vlmcourse.moved import MOVED


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
