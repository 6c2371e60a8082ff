"""The wheel carries the whole course: from it alone, in an empty folder, chapters open and models answer."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEEDED = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "vlmcourse", "notebooks", "assets")
MOST_MEGABYTES = 45

# Run from an empty folder, with nothing of the repository on the path
AS_A_LEARNER = """
import json
from pathlib import Path
import nbformat
from typer.testing import CliRunner
import vlmcourse
from vlmcourse import cli
from vlmcourse.data.assets import course_folder, from_a_wheel

assert from_a_wheel() and course_folder() == Path(vlmcourse.__file__).parent / "carried"
from vlmcourse.workbook.opening import opened_folder
home = opened_folder()
cells = {c.id: c.source for c in nbformat.read(home / "notebooks" / "02_vit.ipynb", 4).cells}
space = {}
for name in ("away", "setup", "map", "drawing"):
    exec(cells[name], space)
(home / "notebooks" / "00_start_here.ipynb").write_text("mine")
(home / "notebooks" / "01_the_problem.ipynb").unlink()
again = opened_folder()
def run(*words):
    done = CliRunner().invoke(cli.app, list(words))
    assert done.exit_code == 0, f"{words}: {done.output} {done.exception!r}"
    return done.output
scene = str(home / "assets" / "examples" / "scene.png")
told = {
    "home": str(home), "again": str(again), "mine": (home / "notebooks" / "00_start_here.ipynb").read_text(),
    "restored": (home / "notebooks" / "01_the_problem.ipynb").is_file(),
    "answer": run("ask", scene, "What shape is the green thing?").split()[0],
    "trained": run("train", "clip-scenes", "--steps", "1", "--runs", "runs").splitlines()[0],
}
Path("told.json").write_text(json.dumps(told))
"""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The folder of the unpacked wheel, and the size of the wheel in MB."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in NEEDED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, source / name)
    stale = source / "build" / "lib" / "vlmcourse" / "gone.py"  # of a module that there was once
    stale.parent.mkdir(parents=True)
    stale.touch()
    strays = ("checkpoints/.DS_Store", "examples/.ipynb_checkpoints/a.png", "figures/folder/b.svg")
    for left in (*strays, "figures/a.svg.0a1b2c3d.writing"):
        (source / "assets" / left).parent.mkdir(exist_ok=True)
        (source / "assets" / left).touch()
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", built, source], check=True, capture_output=True)
    (wheel,) = built.glob("vlmcourse-*-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(built / "unpacked")
    return built / "unpacked", wheel.stat().st_size / 1e6


def test_it_holds_every_module_notebook_checkpoint_example_and_figure_and_no_more(unpacked):
    folder, megabytes = unpacked
    carried = folder / "vlmcourse" / "carried"
    there = {path.relative_to(carried).as_posix() for path in carried.rglob("*") if path.is_file()}
    wanted = [*ROOT.glob("notebooks/[0-9]*.ipynb"), *ROOT.glob("notebooks/ja/[0-9]*.ipynb")]
    wanted += [ROOT / "notebooks" / "INDEX.md"]
    for name in ("checkpoints", "examples", "figures"):
        wanted += (ROOT / "assets" / name).iterdir()
    assert there == {path.relative_to(ROOT).as_posix() for path in wanted} and len(there) > 70
    assert all((carried / path.relative_to(ROOT)).read_bytes() == path.read_bytes() for path in wanted)
    modules = {path.relative_to(folder / "vlmcourse") for path in (folder / "vlmcourse").rglob("*.py")}
    assert modules == {path.relative_to(ROOT / "vlmcourse") for path in (ROOT / "vlmcourse").rglob("*.py")}
    assert not [path for path in folder.iterdir() if path.name[:9] != "vlmcourse"], "nothing but the package"
    assert 20 < megabytes < MOST_MEGABYTES
    (stated,) = re.findall(r"`dist/vlmcourse-\*\.whl` \((\d+) MB\)", (ROOT / "README.md").read_text("utf-8"))
    assert int(stated) == round(megabytes)


def test_without_notebooks_there_is_no_wheel(tmp_path, monkeypatch):
    import runpy

    import setuptools
    from setuptools.command.build_py import build_py

    given = {}
    monkeypatch.setattr(setuptools, "setup", given.update)
    shutil.copy(ROOT / "setup.py", tmp_path)
    runpy.run_path(str(tmp_path / "setup.py"))
    command = given["cmdclass"]["build_py"](setuptools.Distribution())
    command.build_lib = str(tmp_path / "lib")
    monkeypatch.setattr(build_py, "run", lambda self: None)
    with pytest.raises(SystemExit, match=r"there is no notebooks/.*in the course's repository only"):
        command.run()


@pytest.mark.slow
def test_from_an_empty_folder_a_chapter_opens_and_models_answer_and_train(unpacked, tmp_path):
    folder, _ = unpacked
    environment = {**os.environ, "PYTHONPATH": str(folder), "CI": "true"}
    del environment["VLMCOURSE_WORKSPACE"]
    done = subprocess.run(
        [sys.executable, "-c", AS_A_LEARNER], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "02_vit: ready" in done.stdout
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["home"] == told["again"] == str(tmp_path / "vlm-workbook")
    assert told["mine"] == "mine" and told["restored"], "what is the learner's stays, what is missing comes"
    assert told["answer"] == "star"
    assert (tmp_path / "runs" / "clip-scenes.safetensors").is_file(), told["trained"]
