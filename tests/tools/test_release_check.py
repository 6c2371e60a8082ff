"""What must hold before the course is published is asked step by step, and the first failure ends it."""

import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import release_check
from release_check import STEPS, NotReady, answers, check, clean_tree

from tests.test_project import ROOT


def test_the_first_step_that_fails_ends_it(capsys):
    done = []

    def fails():
        raise NotReady("three links are broken")

    steps = {"one": lambda: done.append(1), "two": fails, "three": lambda: done.append(3)}
    assert not check(steps) and done == [1]
    told = capsys.readouterr().out
    assert "== one: fine" in told and "== two: not ready. three links are broken" in told
    assert "three\n" not in told
    assert check({"one": lambda: done.append(1)})


def test_steps_of_make_are_targets_of_the_makefile_and_end_with_its_word():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert {"test", "colab-check", "book", "wheel"} <= targets & set(STEPS)
    with pytest.raises(NotReady, match="`make no-such-target` ended with 2"):
        release_check.make("no-such-target")()


def test_a_step_that_is_none_is_named_and_nothing_is_begun(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["release_check.py", "clean", "wheels"])
    with pytest.raises(SystemExit):
        release_check.main()
    told = capsys.readouterr()
    assert "there is no step 'wheels'; there are clean, test," in told.err and not told.out


@pytest.mark.parametrize(("chosen", "done", "code"), [
    (["two"], ["two"], 0), ([], ["one", "two", "wrong"], 1), (["wrong", "one"], ["wrong"], 1),
])  # fmt: skip
def test_the_steps_that_are_named_are_done_and_the_command_ends_with_whether_all_is_ready(
    monkeypatch, chosen, done, code
):
    begun = []

    def step(name):
        begun.append(name)
        if name == "wrong":
            raise NotReady("no")

    names = ("one", "two", "wrong", "last")
    monkeypatch.setattr(release_check, "STEPS", {name: lambda name=name: step(name) for name in names})
    monkeypatch.setattr(sys, "argv", ["release_check.py", *chosen])
    with pytest.raises(SystemExit) as ended:
        release_check.main()
    assert begun == done and ended.value.code == code


def test_all_is_tried_between_two_looks_at_the_tree():
    assert list(STEPS) == ["clean", "test", "colab-check", "book", "wheel", "still clean"]
    assert STEPS["clean"] is STEPS["still clean"] is clean_tree


@pytest.mark.parametrize("name", ["test", "colab-check", "book"])
def test_a_step_of_make_makes_the_target_of_its_name(monkeypatch, name):
    ran = []
    monkeypatch.setattr(release_check, "run", ran.append)
    STEPS[name]()
    assert ran == [["make", name]]


def test_the_newest_wheel_is_installed_alone_and_answers_from_an_empty_folder(monkeypatch, tmp_path):
    (tmp_path / "dist").mkdir()
    files = [tmp_path / "dist" / f"vlmcourse-0.{number}.0-py3-none-any.whl" for number in (1, 2)]
    for file, seconds in zip(files, (2, 1), strict=True):
        file.touch()
        os.utime(file, (seconds, seconds))
    ran = []

    def answered(command, folder):
        ran.append((command, list(folder.iterdir())))

    monkeypatch.setattr(release_check, "ROOT", tmp_path)
    monkeypatch.setattr(release_check, "run", ran.append)
    monkeypatch.setattr(release_check, "answers", answered)
    release_check.wheel()
    made, begun, installed, (command, found) = ran
    place = Path(begun[-1])
    assert made == ["make", "wheel"] and begun[:-1] == [sys.executable, "-m", "venv"]
    assert installed[:3] == [str(place / "bin" / "python"), "-m", "pip"] and installed[3] == "install"
    assert installed[-1] == str(files[0]) and not place.parent.exists()
    assert command == place / "bin" / "vlmcourse" and found == []


def test_a_changed_tree_is_not_ready(monkeypatch, tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.setattr(release_check, "ROOT", tmp_path)
    clean_tree()
    (tmp_path / "forgotten.txt").write_text("")
    with pytest.raises(NotReady, match=r"commit or remove first:\n\?\? forgotten.txt"):
        clean_tree()


def command(folder: Path, text: str) -> Path:
    path = folder / "vlmcourse"
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)
    return path


SERVER = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(b'LISTED' if self.path == '/api/contents/notebooks?token=t' else b'')
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(f"http://127.0.0.1:{server.server_port}/lab/tree/x?token=t", flush=True)
server.serve_forever()
"""


def test_a_lab_that_lists_the_first_notebook_answers_and_any_other_does_not(tmp_path):
    answers(command(tmp_path, SERVER.replace("LISTED", "00_start_here.ipynb")), tmp_path)
    with pytest.raises(NotReady, match="no first notebook"):
        answers(command(tmp_path, SERVER), tmp_path)
    with pytest.raises(NotReady, match="ended without an address"):
        answers(command(tmp_path, ""), tmp_path)


def test_a_lab_knows_nothing_of_this_session_and_is_started_in_the_folder(tmp_path, monkeypatch):
    for name in ("PYTHONPATH", "VLMCOURSE_WORKSPACE"):
        monkeypatch.setenv(name, str(tmp_path))
    asserts = """
import os, pathlib, sys
held = [name for name in os.environ if name.startswith(("PYTHON", "VLM"))]
if (held, sys.argv[1:]) != (["PYTHONUNBUFFERED"], ["lab", "--no-browser"]):
    sys.exit("wrong")
pathlib.Path("here").touch()
print("no address: http://h/lab/ without its", "or token= alone", sep="\\n")
"""
    there = tmp_path / "there"
    there.mkdir()
    server = asserts + SERVER.replace("LISTED", "00_start_here.ipynb")
    answers(command(tmp_path, server), there)
    assert (there / "here").exists()


def test_a_lab_that_refuses_is_told_without_its_token(tmp_path):
    refuses = SERVER.replace("send_response(200)", "send_response(403)")
    with pytest.raises(NotReady, match=r"^http://127\.0\.0\.1:\d+/api/contents/notebooks answered 403$"):
        answers(command(tmp_path, refuses), tmp_path)


def test_nobody_who_answers_is_waited_for_in_vain():
    with pytest.raises(NotReady, match="nobody answered"):
        release_check.fetched("http://127.0.0.1:9/", patience=0.1)


def test_a_folder_that_git_does_not_know_is_not_ready(monkeypatch, tmp_path):
    monkeypatch.setattr(release_check, "ROOT", tmp_path)
    with pytest.raises(NotReady, match=r"git does not know this folder: .*not a git repository"):
        clean_tree()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotReady, match="git does not start"):
        clean_tree()
    with pytest.raises(NotReady, match="`make` does not start"):
        release_check.make("test")()


def test_a_step_that_is_stopped_is_told_and_none_follows(capsys):
    def stops():
        raise KeyboardInterrupt

    assert not check({"one": stops, "two": lambda: print("begun")})
    told = capsys.readouterr().out
    assert "== one: stopped" in told and "two" not in told


def test_a_lab_that_says_nothing_is_ended_and_so_is_one_whose_check_is_stopped(tmp_path, monkeypatch):
    started = []
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(real(*a, **k)) or started[-1])
    says = "import time\nprint('see https://jupyter.org', flush=True)\ntime.sleep(100)"
    with pytest.raises(NotReady, match="or said none in 1 s"):
        answers(command(tmp_path, says), tmp_path, patience=0.6)

    def stops(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(release_check, "fetched", stops)
    with pytest.raises(KeyboardInterrupt):
        answers(
            command(tmp_path, "print('http://h/lab/x?token=t', flush=True)\nimport time\ntime.sleep(100)"),
            tmp_path,
        )
    assert len(started) == 2 and all(lab.returncode is not None for lab in started)


def test_this_computer_is_asked_without_a_proxy_and_who_is_no_server_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    answers(command(tmp_path, SERVER.replace("LISTED", "00_start_here.ipynb")), tmp_path)
    with socket.socket() as odd:
        odd.bind(("127.0.0.1", 0))
        odd.listen()

        def answer():
            while True:
                try:
                    with odd.accept()[0] as there:
                        there.sendall(b"SSH-2.0-odd\r\n")
                except OSError:
                    return

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(NotReady, match="nobody answered"):
            release_check.fetched(f"http://127.0.0.1:{odd.getsockname()[1]}/", patience=0.1)
