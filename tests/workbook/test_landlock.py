"""Who gives up files reads below what is named, but not what is hidden there, by machine code neither."""

import contextlib
import ctypes
import json
import os
import socket
import sys
from pathlib import Path

import pytest
import torch

from vlmcourse.workbook import landlock
from vlmcourse.workbook.copies import FORKS, Copy
from vlmcourse.workbook.landlock import give_up_files, landlock_version

needs_it = pytest.mark.skipif(not (FORKS and landlock_version()), reason="this system has no Landlock")


def read_by_torch(path):
    """The first bytes of a file, which torch opens without Python's knowledge."""
    return bytes(torch.from_file(str(path), size=4, dtype=torch.uint8).tolist())


def kept_open():
    """How many of its first hundred descriptors this process has open."""
    opened = 0
    for number in range(100):
        with contextlib.suppress(OSError):
            os.fstat(number)
            opened += 1
    return opened


@pytest.fixture
def tree(tmp_path):
    """Folders open, with deep/hidden.* in it and a link that leads out, whole, closed, and door to open."""
    for name in ("open/a.txt", "open/deep/hidden.py", "open/deep/hidden.pyc", "open/deep/other.py",
                 "open/deep/hid", "open/deep/further/b.txt", "whole/d.txt", "closed/c.txt"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    (tmp_path / "door").symlink_to(tmp_path / "open")
    (tmp_path / "open/link").symlink_to(tmp_path / "closed")
    return tmp_path


ACTS = {
    "read a.txt": (lambda t: read_by_torch(t / "open/a.txt"), True),
    "read other.py": (lambda t: read_by_torch(t / "open/deep/other.py"), True),
    "read b.txt": (lambda t: read_by_torch(t / "open/deep/further/b.txt"), True),
    "list what holds the hidden": (lambda t: os.listdir(t / "open/deep"), True),
    "read what is named alike": (lambda t: read_by_torch(t / "open/deep/hid"), True),
    "read d.txt": (lambda t: read_by_torch(t / "whole/d.txt"), True),
    "list whole": (lambda t: os.listdir(t / "whole"), True),
    "list below": (lambda t: os.listdir(t / "open/deep/further"), True),
    "read hidden.py": (lambda t: read_by_torch(t / "open/deep/hidden.py"), False),
    "read hidden.pyc": (lambda t: read_by_torch(t / "open/deep/hidden.pyc"), False),
    "read c.txt": (lambda t: read_by_torch(t / "closed/c.txt"), False),
    "read by a link": (lambda t: read_by_torch(t / "open/link/c.txt"), False),
    "list closed": (lambda t: os.listdir(t / "closed"), False),
    "write": (lambda t: (t / "open/made").write_text("x"), False),
    "write into": (lambda t: os.open(t / "open/a.txt", os.O_WRONLY), False),
    "empty": (lambda t: os.truncate(t / "open/a.txt", 0) or True, landlock_version() < 3),
    "remove": (lambda t: os.remove(t / "open/a.txt"), False),
    "move away": (lambda t: os.rename(t / "open/a.txt", t / "closed/a.txt"), False),
    "a folder": (lambda t: os.mkdir(t / "open/folder"), False),
    "a pipe with a name": (lambda t: os.mkfifo(t / "open/pipe"), False),
    "a link": (lambda t: os.symlink(t / "open/a.txt", t / "open/other"), False),
    "run a program": (lambda t: os.execv(sys.executable, [sys.executable, "-c", "pass"]), False),
}


@needs_it
def test_what_is_given_up_and_what_is_not(tree):
    def work():
        given_up = give_up_files(
            [tree / "door", tree / "whole", tree / "nowhere"], (str(tree / "open/deep/hidden."),)
        )
        done = [given_up, kept_open()]
        for act, _ in ACTS.values():
            try:
                done.append(bool(act(tree)))
            except (PermissionError, RuntimeError):
                done.append(False)
        return json.dumps(done).encode()

    before, _ = Copy(lambda: str(kept_open()).encode()).message(5, 30, lambda: None)
    message, _ = Copy(work).message(5, 30, lambda: None)
    given_up, kept, *done = json.loads(message)
    assert given_up and kept == int(before)
    assert dict(zip(ACTS, done, strict=True)) == {name: allowed for name, (_, allowed) in ACTS.items()}


@needs_it
@pytest.mark.skipif(landlock_version() < 4, reason="Landlock refuses connections from its fourth version on")
def test_no_connection_is_made_or_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as server:
        where = server.getsockname()

        def work():
            give_up_files([sys.prefix])
            refused = b""
            for act in ("connect", "bind"):
                try:
                    getattr(socket.socket(), act)(where if act == "connect" else ("127.0.0.1", 0))
                except PermissionError:
                    refused += act.encode()
            return refused

        assert Copy(work).message(5, 30, lambda: None)[0] == b"connectbind"


class Kernel:
    """Stands in for the C library of a machine with some version of Landlock, and notes what is asked."""

    def __init__(self, version, refuses=()):
        self.version, self.refuses, self.asked = version, refuses, []

    def syscall(self, number, *given):
        if number == 444 and given == (None, 0, 1):
            return self.version
        if number == 444:
            rules = ctypes.cast(given[0], ctypes.POINTER(ctypes.c_uint64))
            self.asked.append(("create", rules[0], rules[1], *given[1:]))
            return -1 if "create" in self.refuses else os.open(os.devnull, os.O_RDONLY)
        self.asked.append({445: "add", 446: "restrict"}[number])
        return -1 if self.asked[-1] in self.refuses else 0

    def prctl(self, *given):
        self.asked.append(given)
        return 0


@pytest.fixture
def kernel(monkeypatch):
    def of(*given):
        library = Kernel(*given)
        monkeypatch.setattr(landlock.sys, "platform", "linux")
        monkeypatch.setattr(landlock.ctypes, "CDLL", lambda *_, **__: library)
        return library

    return of


KNOWN = {1: (2**13 - 1, 0, 8), 2: (2**14 - 1, 0, 8), 3: (2**15 - 1, 0, 8), 4: (2**15 - 1, 3, 16),
         7: (2**15 - 1, 3, 16)}  # fmt: skip


@pytest.mark.parametrize("version", KNOWN)
def test_each_version_is_asked_for_what_it_knows(kernel, version):
    """The kernel refuses a set of rules with rights that it does not know."""
    library = kernel(version)
    files, network, size = KNOWN[version]
    assert give_up_files([Path(__file__).parent]) is True
    assert library.asked == [("create", files, network, size, 0), "add", (38, 1, 0, 0, 0), "restrict"]


@pytest.mark.parametrize("version", [0, -1])
def test_a_machine_without_landlock_is_asked_for_nothing(kernel, version):
    library = kernel(version)
    assert landlock_version() == 0 and give_up_files(["/"]) is False and library.asked == []


@pytest.mark.parametrize("refused", ["create", "restrict"])
def test_it_says_so_where_the_kernel_refuses(kernel, refused):
    kernel(3, (refused,))
    assert give_up_files([]) is False


def test_other_systems_have_none(monkeypatch):
    monkeypatch.setattr(landlock.sys, "platform", "darwin")
    monkeypatch.setattr(landlock.ctypes, "CDLL", lambda *_: pytest.fail("asks the kernel"))
    assert landlock_version() == 0
