"""The command line: ``vlmcourse lab``, ``vlmcourse doctor``, ``vlmcourse progress``.

Every command imports what it needs when it runs, so that ``vlmcourse --help`` answers at once.
"""

import os
import secrets
import socket
import subprocess
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Build a vision-language model yourself.")

FIRST_NOTEBOOK = "notebooks/00_start_here.ipynb"


@app.command()
def lab(
    notebook: Annotated[str, typer.Argument(help="Which notebook to open first.")] = FIRST_NOTEBOOK,
    browser: Annotated[bool, typer.Option(help="Open a browser window.")] = True,
) -> None:
    """Open the notebooks in JupyterLab, reachable from this computer only."""
    root = Path(__file__).resolve().parents[1]
    if not (root / notebook).is_file():
        typer.echo(
            f"There is no {root / notebook}. Is this a clone of the course, installed with `pip install -e .`, "
            "and has `make book` built the notebooks?",
            err=True,
        )
        raise typer.Exit(1)
    port, token = free_port(), secrets.token_urlsafe(24)
    seen = browser and can_open_a_browser()
    typer.echo("JupyterLab starts. Ctrl-C here stops it." + ("" if seen else " Open this address in a browser:"))
    typer.echo(f"  http://127.0.0.1:{port}/lab/tree/{notebook}?token={token}")
    environment = {**os.environ, "JUPYTER_TOKEN": token}  # not an argument: other users can read those
    server = subprocess.Popen(server_command(root, notebook, port, seen), env=environment)
    while True:
        try:
            raise typer.Exit(server.wait())
        except KeyboardInterrupt:  # JupyterLab got it too, and stops by itself
            continue


def server_command(root: Path, notebook: str, port: int, browser: bool) -> list[str]:
    """The command that serves the course folder on the loopback address."""
    return [
        *(sys.executable, "-m", "jupyterlab", "--log-level=ERROR", "--ServerApp.answer_yes=True"),
        *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"),
        *(f"--ServerApp.root_dir={root}", f"--LabApp.default_url=/lab/tree/{notebook}"),
        *([] if browser else ["--no-browser"]),
        *(["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []),  # containers run as root
    ]


def free_port(first: int = 8888) -> int:
    """The first free port of the loopback address from `first` on; any free one if a hundred are taken."""
    for port in [*range(first, first + 100), 0]:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return probe.getsockname()[1]
            except OSError:
                continue
    raise OSError("no free port on the loopback address")


def can_open_a_browser() -> bool:
    """Whether there is a window to open one in: a text browser would take over the terminal."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    try:
        return bool(webbrowser.get())
    except webbrowser.Error:
        return False


@app.command()
def doctor() -> None:
    """Versions, device, memory, and the exact command that mends what is missing."""
    from vlmcourse.workbook.doctor import examine, table

    findings = examine()
    show(*table(findings))
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(1)


@app.command()
def progress() -> None:
    """How far you are: one row per chapter."""
    from vlmcourse.workbook.lesson import progress_table

    show(*progress_table())


def show(header: list[str], rows: list[list[str]]) -> None:
    """Print a table; a narrow terminal wraps its cells."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*header, box=SIMPLE)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
