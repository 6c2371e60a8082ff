"""The filter of system calls refuses what it says, on each machine, and lets threads be."""

import os
import signal
import socket
import struct
import threading

import pytest

from vlmcourse.workbook import seccomp
from vlmcourse.workbook.copies import FORKS, Copy
from vlmcourse.workbook.seccomp import filter_program, give_up_calls

ALLOW, REFUSE, UNKNOWN = 0x7FFF0000, 0x00050001, 0x00050026
NUMBERS = {  # of system calls, by the kernel's tables
    "x86_64": dict(machine=0xC000003E, read=0, mmap=9, futex=202, kill=62, tgkill=234, socket=41, execve=59,
                   fork=57, vfork=58, ptrace=101, io_uring_setup=425, clone=56, clone3=435,
                   process_vm_readv=310),
    "aarch64": dict(machine=0xC00000B7, read=63, mmap=222, futex=98, kill=129, tgkill=131, socket=198,
                    execve=221, ptrace=117, io_uring_setup=425, clone=220, clone3=435, process_vm_readv=270),
}  # fmt: skip
ALLOWED = ("read", "mmap", "futex")


def answer(program, call, machine, argument=0):
    """What a filter says of a call: its steps, one after the other, as the kernel goes through them."""
    steps = [struct.unpack("HBBI", program[place : place + 8]) for place in range(0, len(program), 8)]
    place, held, seen = 0, None, {0: call, 4: machine, 16: argument}
    while True:
        code, yes, no, value = steps[place]
        place += 1
        if code == 0x06:
            return value
        if code == 0x20:
            held = seen[value]
        else:
            true = {0x15: held == value, 0x35: held >= value, 0x45: bool(held & value)}[code]
            place += yes if true else no


@pytest.mark.parametrize("machine", NUMBERS)
def test_the_filter_refuses_what_it_says(machine):
    program, numbers = filter_program(machine), dict(NUMBERS[machine])
    number, clone, clone3 = (numbers.pop(name) for name in ("machine", "clone", "clone3"))
    for name, call in numbers.items():
        assert answer(program, call, number) == (ALLOW if name in ALLOWED else REFUSE), name
        assert answer(program, call, 0x40000003) == REFUSE  # a 32-bit machine counts otherwise
    assert answer(program, clone, number, 0x3D0F00) == ALLOW  # as the C library makes a thread
    assert answer(program, clone, number, 0x1200011) == REFUSE  # as it makes a process
    assert answer(program, clone3, number) == UNKNOWN
    assert answer(program, 0x40000000, number) == REFUSE


def harmless():
    """Nothing; a thread that does it shows that threads start."""


TRIES = {
    "a signal to itself": lambda: os.kill(os.getpid(), signal.SIGCONT),
    "a signal to its parent": lambda: os.kill(os.getppid(), 0),
    "a socket": socket.socket,
    "a process": os.fork,
    "a program": lambda: os.execv("/bin/true", ["true"]),
}


@pytest.mark.skipif(not FORKS, reason="needs os.fork")
@pytest.mark.parametrize("what", TRIES)
def test_the_kernel_refuses_it(what):
    def work():
        if not give_up_calls():
            return b"no filter here"
        thread = threading.Thread(target=harmless)
        thread.start()
        thread.join()
        try:
            TRIES[what]()
        except PermissionError:
            return b"refused"
        return b"done"

    message, _ = Copy(work).message(5, 30, lambda: None)
    if message == b"no filter here":
        pytest.skip("this system filters no calls")
    assert message == b"refused"


def test_a_machine_that_nobody_knows_gets_no_filter(monkeypatch):
    monkeypatch.setattr(seccomp.platform, "machine", lambda: "riscv64")
    assert not give_up_calls()
