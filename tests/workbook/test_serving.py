"""A server is told to end when its runner is, ends by itself if it can, and is never left running."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from vlmcourse.workbook import serving

RUNNER = """
import importlib.util, os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in what a script runs in the background
spec = importlib.util.spec_from_file_location("serving", {file!r})  # alone: the package loads torch
serving = importlib.util.module_from_spec(spec)
spec.loader.exec_module(serving)
serving._PATIENCE = {patience}
command = [sys.executable, "-u", "-c", {server!r}]
sys.exit(serving.run_server(command, os.environ | dict(JUPYTER_TOKEN="t")))
"""
SERVER = """
import os, signal, sys, time
def end(*_):
    print("told")
    {end}
signal.signal(signal.SIGTERM, end)
print(os.getsid(0), os.environ["JUPYTER_TOKEN"])
time.sleep(100)
"""
ENDS = "time.sleep(0.3); print('kernels ended'); sys.exit(5)"
STAYS = "time.sleep(100)"
needs_signals = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has other signals")


@pytest.fixture
def runner():
    """Start a runner of a server; it has begun when it returns."""
    begun = []

    def start(end: str, patience: float) -> subprocess.Popen:
        server = SERVER.format(end=end)
        code = RUNNER.format(file=serving.__file__, patience=patience, server=server)
        begun.append(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True))
        session, token = begun[-1].stdout.readline().split()
        assert int(session) != os.getsid(begun[-1].pid) and token == "t"
        return begun[-1]

    yield start
    for process in begun:
        process.kill()
        process.stdout.close()
        process.wait()


@needs_signals
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_server_has_time_to_end_its_kernels_whatever_ends_its_runner(runner, name):
    process = runner(ENDS, serving._PATIENCE)
    process.send_signal(getattr(signal, name))
    assert process.communicate(timeout=60)[0].split("\n") == ["told", "kernels ended", ""]
    assert process.returncode == 0


@needs_signals
def test_a_server_that_does_not_end_is_ended_after_a_while_or_when_it_is_said_twice(runner):
    process = runner(STAYS, 0.2)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[0] == "told\n", "its pipe is closed, so the server is gone"
    assert process.returncode == 0
    process = runner(STAYS, 100)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "told\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[0] == "" and process.returncode == 0


def test_what_a_server_ends_with_is_passed_on(monkeypatch):
    monkeypatch.setattr(serving.signal, "signal", lambda *_: None)
    assert serving.run_server([sys.executable, "-c", "raise SystemExit(3)"], dict(os.environ)) == 3


def test_the_command_names_address_folder_and_notebook(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 1000, raising=False)
    command = serving.server_command(tmp_path, "notebooks/02_vit.ipynb", 8890, True, "127.0.0.1")
    assert command == [
        *(sys.executable, "-m", "jupyterlab", "--log-level=ERROR", "--ServerApp.answer_yes=True"),
        *("--ServerApp.ip=127.0.0.1", "--ServerApp.port=8890", "--ServerApp.port_retries=0"),
        *(f"--ServerApp.root_dir={tmp_path}", "--LabApp.default_url=/lab/tree/notebooks/02_vit.ipynb"),
    ]


class Taken:
    """A socket on a computer on which only one port is free, or none."""

    free = 8891

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def bind(self, address):
        self.address = address
        if address[1] != self.free:
            raise OSError(errno.EADDRINUSE, "taken")

    def getsockname(self):
        return self.address


def test_the_first_free_port_is_taken_and_none_is_an_error(monkeypatch):
    monkeypatch.setattr(serving.socket, "socket", Taken)
    assert serving.free_port("127.0.0.1") == 8891
    monkeypatch.setattr(Taken, "free", None)
    with pytest.raises(OSError, match=r"no free port on 127\.0\.0\.1"):
        serving.free_port("127.0.0.1")
