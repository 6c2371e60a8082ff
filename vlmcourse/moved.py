"""Old names of modules, so that a notebook or a saved function written for a former layout still runs.

``import vlmcourse.data.scenes`` gives the module ``vlmcourse.world.scenes``: the same one, not a copy.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
from types import ModuleType

# From the old name to the new one, both below ``vlmcourse``
_TO_WORLD = ("captions", "chance", "questions", "render", "scenes", "truth", "twins")
MOVED = {f"data.{name}": f"world.{name}" for name in _TO_WORLD}
MOVED |= {name: f"families.{name}" for name in ("drawings", "nano", "real")}
MOVED |= {
    "data.packs": "data.packing",
    "data.pictures": "data.photos",
    "data.reading": "world.grammar",
    "data.stage": "world.arranging",
    "data.talks": "world.instructions",
    "diagnostics.looks": "diagnostics.controls",
    "interop.joining": "interop.assembling",
    "interop.keeping": "interop.distillation",
    "world.reading": "world.grammar",
}


class OldNames(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a module under its old name."""

    def find_spec(self, name: str, path=None, target=None) -> importlib.machinery.ModuleSpec | None:
        package, _, rest = name.partition(".")
        if package != "vlmcourse" or rest not in MOVED:
            return None
        return importlib.machinery.ModuleSpec(name, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = importlib.import_module(f"vlmcourse.{MOVED[spec.name.partition('.')[2]]}")
        spec.loader_state = module.__spec__  # the import system is about to overwrite it
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = module.__spec__.loader_state


def keep_old_names() -> None:
    """Let imports of old names find the modules under their new ones."""
    if not any(isinstance(finder, OldNames) for finder in sys.meta_path):
        sys.meta_path.append(OldNames())
