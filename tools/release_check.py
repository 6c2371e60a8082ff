"""Whether the course is ready to be published: one step after another, the first that fails ends it.

    make release-check            all steps; one to two hours on two cores
    python tools/release_check.py wheel            one of them

Nothing is published and nothing in the repository changes.
"""

import argparse
import http.client
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 180  # seconds for a first JupyterLab to answer


class NotReady(Exception):
    """A step found something that must not be published."""


def clean_tree() -> None:
    """Nothing is changed, and nothing lies about that git does not know."""
    try:
        told = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True)
    except OSError as error:
        raise NotReady(f"git does not start: {error}") from error
    if told.returncode:
        raise NotReady(f"git does not know this folder: {told.stderr.strip()}")
    if told.stdout:
        raise NotReady(f"commit or remove first:\n{told.stdout.rstrip()}")


def make(target: str) -> Callable[[], None]:
    """A step that is a target of the Makefile."""

    def step() -> None:
        run(["make", target])

    return step


def wheel() -> None:
    """The wheel in an environment with nothing else: `vlmcourse lab` answers from an empty folder."""
    run(["make", "wheel"])
    newest = max((ROOT / "dist").glob("vlmcourse-*.whl"), key=lambda file: file.stat().st_mtime)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = folder / "env" / "bin" / "python"
        run([sys.executable, "-m", "venv", str(python.parents[1])])
        run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(newest)])
        (folder / "empty").mkdir()
        answers(python.with_name("vlmcourse"), folder / "empty")


def answers(command: Path, folder: Path, patience: float = PATIENCE) -> None:
    """Start `vlmcourse lab` in a folder, wait for JupyterLab to list its notebooks, and end it.

    Raises:
        NotReady: if it does not answer in time, or has no first notebook.
    """
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VLM"))
    }
    environment["PYTHONUNBUFFERED"] = "1"
    lab = subprocess.Popen(
        [str(command), "lab", "--no-browser"], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    )
    impatient = threading.Timer(
        patience, lab.terminate
    )  # who says nothing is ended, and then says nothing more
    impatient.start()
    try:
        address = next((line.strip() for line in lab.stdout if "/lab/" in line and "token=" in line), "")
        if not address:
            raise NotReady(f"vlmcourse lab ended without an address, or said none in {patience:.0f} s")
        impatient.cancel()
        base, token = address.split("/lab/")[0], address.split("token=")[1]
        listing = fetched(f"{base}/api/contents/notebooks?token={token}")
        if "00_start_here.ipynb" not in listing:
            raise NotReady(f"there is no first notebook in what {base} lists: {listing[:200]}")
    finally:
        impatient.cancel()
        lab.terminate()
        try:
            lab.wait(60)
        except subprocess.TimeoutExpired:
            lab.kill()
            lab.wait()


def fetched(address: str, patience: float = PATIENCE) -> str:
    """What stands at an address, once a server answers there."""
    end = time.monotonic() + patience
    direct = urllib.request.build_opener(
        urllib.request.ProxyHandler({})
    )  # a proxy does not see this computer
    while True:
        try:
            with direct.open(address, timeout=10) as page:
                return page.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            raise NotReady(f"{address.split('?')[0]} answered {error.code}") from error
        except (OSError, http.client.HTTPException) as error:  # or who answers is no server of pages
            if time.monotonic() > end:
                raise NotReady(f"nobody answered at {address.split('?')[0]} in {patience:.0f} s") from error
            time.sleep(0.5)


def run(command: list[str]) -> None:
    """Run a command in the repository, its output shown.

    Raises:
        NotReady: if it fails; says which one.
    """
    try:
        done = subprocess.run(command, cwd=ROOT)
    except OSError as error:
        raise NotReady(f"`{command[0]}` does not start: {error}") from error
    if done.returncode:
        raise NotReady(f"`{' '.join(command)}` ended with {done.returncode}; see above")


STEPS: dict[str, Callable[[], None]] = {
    "clean": clean_tree,
    "test": make("test"),
    "colab-check": make("colab-check"),
    "book": make("book"),
    "wheel": wheel,
    "still clean": clean_tree,
}


def check(steps: dict[str, Callable[[], None]]) -> bool:
    """Do the steps in order and tell of each; whether all went well. After a failure none is begun."""
    for name, step in steps.items():
        begun = time.monotonic()
        print(f"== {name}", flush=True)
        try:
            step()
        except NotReady as problem:
            print(f"== {name}: not ready. {problem}", flush=True)
            return False
        except KeyboardInterrupt:
            print(f"== {name}: stopped; nothing was published and nothing has changed", flush=True)
            return False
        print(f"== {name}: fine, {time.monotonic() - begun:.0f} s", flush=True)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("steps", nargs="*", help=f"of {', '.join(STEPS)}; default: all")
    chosen = parser.parse_args().steps or list(STEPS)
    if unknown := [name for name in chosen if name not in STEPS]:
        parser.error(f"there is no step {unknown[0]!r}; there are {', '.join(STEPS)}")
    sys.exit(not check({name: STEPS[name] for name in chosen}))


if __name__ == "__main__":
    main()
