"""Linux' own way for a process to give up files and network for good: Landlock, from Linux 5.13 on.

See "Landlock: unprivileged access control" in the kernel's documentation, userspace-api/landlock. What is
given up here is refused by the kernel, whatever the process runs, machine code too.
"""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterable
from pathlib import Path

CREATE, ADD, RESTRICT = 444, 445, 446  # numbers of the system calls, the same on every machine since 2021
READ_FILE, READ_FOLDER = 1 << 2, 1 << 3  # to execute, 1 << 0, is given up everywhere
FILE_RIGHTS = {1: 13, 2: 14, 3: 15}  # how many kinds of access to files a version knows; 15 from the third on
TCP_FROM, TCP = 4, 0b11  # binding and connecting, and the version that first refuses them
PATHS_BELOW = 1
NO_NEW_PRIVILEGES = 38  # an option of prctl


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64))


class _Below(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def landlock_version() -> int:
    """Which version of Landlock this machine has; 0 for none."""
    if sys.platform != "linux":
        return 0
    with contextlib.suppress(OSError, AttributeError):
        return max(0, ctypes.CDLL(None).syscall(CREATE, None, 0, 1))
    return 0


def give_up_files(readable: Iterable[str | Path], hidden: tuple[str, ...] = ()) -> bool:
    """From here on this process reads below ``readable`` only, changes no file, starts no program,
    and opens no TCP connection.

    Args:
        hidden: beginnings of paths below ``readable`` that it does not read either.

    Returns:
        whether it does; False where the machine has no Landlock, and nothing has changed.
    """
    if not (known := landlock_version()):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    kinds = (1 << FILE_RIGHTS.get(known, 15)) - 1
    rules = _Ruleset(kinds, TCP if known >= TCP_FROM else 0)
    size = ctypes.sizeof(rules) if known >= TCP_FROM else 8
    ruleset = libc.syscall(CREATE, ctypes.byref(rules), size, 0)
    if ruleset < 0:
        return False
    try:
        for root in readable:
            _allow(libc, ruleset, Path(root).resolve(), hidden)
        libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        return libc.syscall(RESTRICT, ruleset, 0) == 0
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, root: Path, hidden: tuple[str, ...]) -> None:
    """Let what lies below a folder be read; one that is not there is left out.

    A rule holds for all that lies below, and none takes back what another gave: so a folder that holds what
    is hidden may be listed only, and each thing in it gets a rule of its own.
    """
    if str(root).startswith(hidden):
        return
    listed = any(path.startswith(f"{root}{os.sep}") for path in hidden)
    rights = READ_FILE | READ_FOLDER if root.is_dir() else READ_FILE
    with contextlib.suppress(OSError):
        folder = os.open(root, os.O_PATH)
        try:
            below = _Below(READ_FOLDER if listed else rights, folder)
            libc.syscall(ADD, ruleset, PATHS_BELOW, ctypes.byref(below), 0)
        finally:
            os.close(folder)
        for inner in root.iterdir() if listed else ():
            if not inner.is_symlink():  # what it leads to has a rule, or is not to be read
                _allow(libc, ruleset, inner, hidden)
