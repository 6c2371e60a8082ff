"""Run notebooks as a person on Colab has them: one file and the wheel in an empty folder, Colab's packages.

    python tools/colab_notebooks.py --stack .venv-colab/bin/python                        all chapters
    python tools/colab_notebooks.py --stack .venv-colab/bin/python notebooks/02_vit.ipynb

The stack is a Python with the packages of tools/colab_packages.txt; tools/colab_check.sh makes it. Each
notebook gets a session of its own: an environment that sees the stack and nothing else, into which the
notebook's first cell installs what it brings. A session in which that is what belongs to sessions, such as
another torch, fails. Models of the hub come from pip packages in the stack. `make wheel` builds the wheel.
Two notebooks run at a time, with one thread each.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from vlmcourse.away import is_the_sessions

ROOT = Path(__file__).resolve().parents[1]
SITE = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
SESSION = {"HF_HUB_OFFLINE": "1", "COLAB_RELEASE_TAG": "check", "CI": "true"}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def ask_python(python: Path, code: str) -> str:
    """What a program prints in another Python."""
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def new_session(folder: Path, stack: Path) -> tuple[Path, Path]:
    """An environment on top of the stack: its Python, and where it installs."""
    subprocess.run([stack, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    site = Path(ask_python(python, SITE))
    (site / "stack.pth").write_text(ask_python(stack, SITE) + "\n")
    return python, site


def with_course(folder: Path, wheel: Path, stack: Path) -> Path:
    """A session in a new folder that has brought the course, as notebooks do: where that was installed."""
    shutil.rmtree(folder, ignore_errors=True)
    python, site = new_session(folder, stack)
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", wheel]
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for command in (pip, [python, "-c", "from vlmcourse.away import set_up; set_up()"]):
        subprocess.run(command, cwd=folder, env=alone, check=True, stdout=subprocess.DEVNULL)
    return site


def run_alone(notebook: Path, wheel: Path, stack: Path, cache: Path) -> tuple[float, float, list[str]]:
    """Run a notebook in a new session.

    Returns:
        seconds of the whole, seconds of the cell that brings the course, and what was installed.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell fails.
        AssertionError: if the session's own packages were touched.
    """
    with tempfile.TemporaryDirectory() as place:
        desk, kernels = Path(place) / "content", Path(place) / "jupyter" / "kernels" / "session"
        desk.mkdir()
        kernels.mkdir(parents=True)
        for file in (notebook, wheel):
            shutil.copy(file, desk)
        python, site = new_session(Path(place) / "session", stack)
        launched = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec = {"argv": launched, "display_name": "session", "language": "python"}
        (kernels / "kernel.json").write_text(json.dumps(spec))
        os.environ["JUPYTER_PATH"] = str(kernels.parents[1])
        seconds, own = execute(desk / notebook.name, cache)
        installed = [f"{one.name} {one.version}" for one in metadata.distributions(path=[str(site)])]
    touched = [one for one in installed if is_the_sessions(one.split()[0])]
    assert not touched, f"the session has its own {', '.join(touched)}"
    return seconds, own, sorted(installed)


def execute(notebook: Path, cache: Path) -> tuple[float, float]:
    """Seconds of all cells, and of the one that brings the course."""
    environment = {name: value for name, value in os.environ.items() if name != "VLMCOURSE_WORKSPACE"}
    environment |= SESSION | {"XDG_CACHE_HOME": str(cache)}
    environment.pop("PYTHONPATH", None)
    started, took = {}, {}
    client = NotebookClient(
        nbformat.read(notebook, as_version=4), timeout=1200, kernel_name="session",
        resources={"metadata": {"path": str(notebook.parent)}},
        on_cell_start=lambda cell, cell_index: started.update({cell["id"]: time.perf_counter()}),
        on_cell_executed=lambda cell, cell_index, execute_reply: took.update(
            {cell["id"]: time.perf_counter() - started[cell["id"]]}),
    )  # fmt: skip
    begin = time.perf_counter()
    client.execute(env=environment)
    return time.perf_counter() - begin, took["away"]


def told(notebook: Path, wheel: Path, stack: Path, cache: Path) -> tuple[bool, str]:
    """Whether a notebook ran to its end, and the lines that say how."""
    try:
        seconds, own, installed = run_alone(notebook, wheel, stack, cache)
    except Exception as error:  # the others are run too
        return False, f"{notebook.stem:30} FAILED\n{str(error)[-3000:]}"
    brought = f"{own:5.1f} s of it to bring {len(installed)} packages"
    return True, f"{notebook.stem:30} {seconds:6.1f} s, {brought}\n    {', '.join(installed)}"


def run_all(notebooks: list[Path], wheel: Path, stack: Path, processes: int = 2) -> list[str]:
    """Run notebooks, some at a time, and tell of each in their order: the names of those that failed."""
    failed = []
    with (
        tempfile.TemporaryDirectory() as cache,
        ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool,
    ):
        runs = [pool.submit(told, notebook.resolve(), wheel, stack, Path(cache)) for notebook in notebooks]
        for notebook, run in zip(notebooks, runs, strict=True):
            fine, lines = run.result()
            print(lines, flush=True)
            if not fine:
                failed.append(notebook.stem)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stack", type=Path, required=True, help="a Python with the packages of a session")
    parser.add_argument("--wheel", type=Path, help="default: the newest in dist/")
    parser.add_argument(
        "--session", type=Path, help="run nothing: make a session here, print its packages' folder"
    )
    parser.add_argument("--processes", type=int, default=2, help="notebooks that run at once; default: 2")
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all chapters")
    options = parser.parse_args()
    wheels = sorted((ROOT / "dist").glob("vlmcourse-*.whl"), key=os.path.getmtime)
    wheel = options.wheel or (wheels[-1] if wheels else parser.error("there is no wheel: make wheel"))
    wheel, stack = wheel.resolve(), options.stack.absolute()
    if options.session:
        print(with_course(options.session.absolute(), wheel, stack))
        return 0
    if options.processes > 1:
        os.environ |= ONE_THREAD
    every = options.notebooks or sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    failed = run_all(every, wheel, stack, options.processes)
    print(f"failed: {', '.join(failed)}" if failed else "all ran to their end")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
