"""The server behind ``vlmcourse lab``: JupyterLab on one address, and nothing left running."""

import errno
import os
import signal
import socket
import subprocess
import sys
import webbrowser
from pathlib import Path

_PATIENCE = 20  # seconds for a server to end by itself


def run_server(command: list[str], environment: dict[str, str]) -> int:
    """Run a server until it ends, or until this process is told to end; then nothing is left running."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # Windows lacks the last
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    server = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        return server.wait()
    except KeyboardInterrupt:
        pass
    try:  # from here on a second Ctrl-C, which may come at once, kills it
        server.terminate()  # JupyterLab ends its kernels first
        server.wait(_PATIENCE)
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        server.kill()
    return 0


def server_command(root: Path, notebook: str, port: int, browser: bool, host: str) -> list[str]:
    """The command that serves the course folder on the address `host`, such as 127.0.0.1."""
    return [
        *(sys.executable, "-m", "jupyterlab", "--log-level=ERROR", "--ServerApp.answer_yes=True"),
        *(f"--ServerApp.ip={host}", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"),
        *(f"--ServerApp.root_dir={root}", f"--LabApp.default_url=/lab/tree/{notebook}"),
        *([] if browser else ["--no-browser"]),
        *(["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []),  # containers run as root
    ]


def free_port(host: str, first: int = 8888) -> int:
    """The first free port of the address `host` from `first` on; any free one if a hundred are taken.

    Raises:
        ValueError: if this computer has no such address.
    """
    for port in [*range(first, first + 100), 0]:
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
                return probe.getsockname()[1]
            except OSError as error:
                if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                    raise ValueError(
                        f"{host} is no address of this computer; take 127.0.0.1, or 0.0.0.0 in a container"
                    ) from None
    raise OSError(f"no free port on {host}")


def can_open_a_browser() -> bool:
    """Whether there is a window to open one in: a text browser would take over the terminal."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    try:
        return bool(webbrowser.get())
    except webbrowser.Error:
        return False
