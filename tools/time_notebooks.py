"""How long notebooks take on this machine: the whole of each, and its slowest cells.

    python tools/time_notebooks.py                              all chapters
    python tools/time_notebooks.py notebooks/04_clip.ipynb      some of them

A chapter may take 100 seconds on two quiet cores, and its trainings together 75. Machines differ and their
speed changes with the hour, so say on which one a number was taken, and let nothing else run. The notebooks
themselves are not changed.
"""

import argparse
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]


def run(path: Path) -> tuple[float, list[tuple[float, str]]]:
    """Execute a notebook in its own folder.

    Returns:
        seconds of the whole, starting the kernel included, and (seconds, id) of each code cell, the slowest
        first.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell fails.
    """
    started, cells = {}, []
    client = NotebookClient(
        nbformat.read(path, as_version=4), timeout=600, kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        on_cell_start=lambda cell, cell_index: started.update({cell_index: time.perf_counter()}),
        on_cell_executed=lambda cell, cell_index, execute_reply: cells.append(
            (time.perf_counter() - started[cell_index], cell["id"])),
    )  # fmt: skip
    begin = time.perf_counter()
    client.execute()
    return time.perf_counter() - begin, sorted(cells, reverse=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all chapters in English")
    for path in parser.parse_args().notebooks or sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        whole, cells = run(path.resolve())
        slowest = ", ".join(f"{name} {took:.1f}" for took, name in cells[:6])
        print(f"{path.stem:30} {whole:6.1f} s   {slowest}", flush=True)


if __name__ == "__main__":
    main()
