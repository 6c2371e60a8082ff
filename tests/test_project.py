"""The project keeps its own rules: imports go one way, modules stay small, the README says what is true."""

import ast
import importlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jaxtyping
import pytest
import yaml
from beartype.roar import BeartypeCallHintParamViolation

from vlmcourse.workbook.chapters import CHAPTERS
from vlmcourse.world import render, truth

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vlmcourse"
MODULES = sorted(PACKAGE.rglob("*.py"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

LAYERS = [
    "moved", "slots", "models", "data", "world", "training", "evaluation", "diagnostics", "interop", "speak",
    "recipes", "widgets", "exercises", "workbook", "families", "terminal", "cli", "away",
]  # fmt: skip
HEAVY = {"accelerate", "anywidget", "datasets", "IPython", "matplotlib", "open_clip", "peft", "PIL",
         "skimage", "sklearn", "timm", "torchvision", "transformers"}  # fmt: skip


def layer_of(module: str) -> str:
    """'vlmcourse.models.vit' -> 'models'."""
    return module.split(".")[1]


def imported(path: Path) -> set[str]:
    """Modules of the course that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports from the package's root"
            deeper = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= deeper if node.module == "vlmcourse" else {node.module}
    return {name for name in found if name.startswith("vlmcourse.")}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_is_small_and_imports_only_from_layers_before_its_own(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 450
    if path.parent == PACKAGE and path.stem in {"__init__", "__main__"}:
        return
    layer = layer_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
    assert layer in LAYERS, f"{layer} has no place in the order of layers"
    later = {name for name in imported(path) if LAYERS.index(layer_of(name)) > LAYERS.index(layer)}
    assert not later, f"{layer} may not import {', '.join(sorted(later))}"


PUBLISHED = "one for each published family"
COMMAND = "a command of the command line has the name of what it calls"
FAMILY = "one for each family of shipped models, found by its module's name"
MEANT_TWICE = {
    "from_transformers": PUBLISHED,
    "ask": "a command asks a model; world.questions asks about a scene",
    "check": "a command checks a folder of pictures; workbook.engine checks an answer",
    "diagnose": COMMAND,
    "doctor": COMMAND,
    "progress": COMMAND,
    "train": COMMAND,
    "load_named": FAMILY,
    "measure": FAMILY,
    "pictures": FAMILY,
    "run": FAMILY,
    "tune": FAMILY,
    "normalise": "two slots, of pixels and of features; a slot keeps its name",
}


def public_names(path: Path) -> set[str]:
    """What a module defines at its top, without a leading underscore."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return {name for name in names if not name.startswith("_")}


def test_a_public_name_stands_in_one_module():
    """A reader who greps a name finds one thing.  Exercises of chapters do not count: nobody imports them."""
    homes: dict[str, list[str]] = {}
    for path in MODULES:
        if not (path.parent.name == "exercises" and path.stem.startswith("ch")):
            for name in public_names(path):
                homes.setdefault(name, []).append(str(path.relative_to(PACKAGE)))
    twice = {name: modules for name, modules in homes.items() if len(modules) > 1}
    assert set(MEANT_TWICE) <= set(twice), "this name stands once now; take it from the list"
    new = {name: modules for name, modules in twice.items() if name not in MEANT_TWICE}
    assert not new, f"name by meaning, or import the one that is there: {new}"


CHECKED = [path for path in MODULES if path.parent.name in ("models", "world", "training", "diagnostics")]


@pytest.mark.parametrize("path", CHECKED, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_annotations_are_checked_while_the_tests_run(path):
    """A new module joins the list of pyproject.toml, or without arrays that of tests/__init__.py."""
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    by = type(module.__loader__).__module__.split(".")[0]
    assert path.name == "__init__.py" or by in ("jaxtyping", "beartype"), "nothing checks this module"


def test_a_wrong_argument_is_noticed_with_arrays_and_without():
    with pytest.raises(jaxtyping.TypeCheckError, match="to_tensor"):
        render.to_tensor("picture")
    with pytest.raises(BeartypeCallHintParamViolation, match="asked='yes'"):
        truth.pose("existence", "yes", [])


@pytest.mark.parametrize("command", [["check", "--quiet"], ["format", "--check", "--quiet"]], ids=" ".join)
def test_code_follows_the_style_in_pyproject(command):
    done = subprocess.run([sys.executable, "-m", "ruff", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*/__init__.py")), ids=lambda path: path.parent.name)
def test_init_of_a_folder_says_what_it_holds_and_only_the_workbook_exports(path):
    body = ast.parse(path.read_text(encoding="utf-8")).body
    assert ast.get_docstring(ast.Module(body, []))
    assert len(body) == 1 or path.parent.name == "workbook"


@pytest.mark.parametrize("statement", ["import vlmcourse", "from vlmcourse.workbook import begin, exercise"])
def test_import_loads_nothing_heavy(statement):
    code = (
        f"{statement}\nimport json, sys\nprint(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    )
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert not HEAVY & set(loaded)


def test_setup_cell_can_be_run_again_after_everything_was_used_once():
    from vlmcourse import workbook

    workbook.doctor()
    assert all(callable(getattr(workbook, name)) for name in workbook.__all__ if name != "roles")


def test_conda_environment_installs_the_same_package_on_a_python_pyproject_allows():
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert f"python{PROJECT['requires-python']}" in dependencies
    assert {"pip": ["-e ."]} in dependencies, "pip takes every other requirement from pyproject.toml"


def test_requirements_have_lower_bounds_and_torch_is_never_pinned_alone():
    extras = PROJECT["optional-dependencies"].values()
    requirements = [*PROJECT["dependencies"], *(requirement for extra in extras for requirement in extra)]
    assert all(">=" in requirement for requirement in requirements)
    assert not [r for r in requirements if r.startswith("torch") and re.search(r"==|<", r)]


def test_commands_in_the_documents_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    from vlmcourse.cli import app

    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    others = [(ROOT / name).read_text(encoding="utf-8") for name in ("CONTRIBUTING.md", "INSTRUCTOR.md")]
    for text in (README, *others):
        assert set(re.findall(r"`?make ([a-z-]+)(?:`| +#|$)", text, flags=re.MULTILINE)) <= targets
        assert set(re.findall(r"(?:`|bin/|^)vlmcourse ([a-z]+)", text, flags=re.MULTILINE)) <= commands


def test_chapter_table_of_the_readme_is_the_table_of_contents():
    lines = re.findall(r"^\| (?:\[?\d\d_).*", README, flags=re.MULTILINE)
    for line, chapter in zip(lines, CHAPTERS, strict=True):
        name, builds, minutes, gpu = line.strip("| ").split(" | ")
        assert builds and minutes.isdigit() and gpu in ("no", "faster")
        if chapter.ready:
            assert name == f"[{chapter.name}](notebooks/{chapter.name}.ipynb)"
            source = (ROOT / "notebooks" / "src" / f"{chapter.name}.py").read_text(encoding="utf-8")
            assert f"# **{minutes} minutes.**" in source, "the notebook's title says another time"
        else:
            assert name == f"{chapter.name} (to come)"


def test_chapters_called_ready_are_the_notebooks_that_are_here():
    built = {path.stem for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")}
    assert {chapter.name for chapter in CHAPTERS if chapter.ready} <= built
    assert not {chapter.name for chapter in CHAPTERS if not chapter.ready} & built


def test_the_full_course_in_notebook_00_goes_from_the_first_chapter_to_the_last():
    source = (ROOT / "notebooks" / "src" / "00_start_here.py").read_text(encoding="utf-8")
    first, last = (chapter.name[:2] for chapter in (CHAPTERS[0], CHAPTERS[-1]))
    assert f"| the full course | {first} → {last} |" in source


def test_notebooks_are_built_and_hold_no_outputs():
    done = subprocess.run(
        [sys.executable, "tools/build_notebooks.py", "--check"], cwd=ROOT, capture_output=True
    )
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        assert "widgets" not in notebook["metadata"]
        assert not any(cell.get("outputs") for cell in notebook["cells"])


def test_links_of_the_documents_lead_somewhere():
    for name in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
            assert (ROOT / target).exists(), f"{name} links to {target}"
