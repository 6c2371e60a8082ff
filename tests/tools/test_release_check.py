"""What must hold before the course is published is asked step by step, and the first failure ends it."""

import re
import subprocess
import sys
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


def test_nobody_who_answers_is_waited_for_in_vain():
    with pytest.raises(NotReady, match="nobody answered"):
        release_check.fetched("http://127.0.0.1:9/", patience=0.1)
