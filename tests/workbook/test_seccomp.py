"""The filter of system calls refuses what it says, on each machine, and lets threads be."""

import os
import re
import signal
import socket
import struct
import threading
import time
from pathlib import Path

import pytest

from vlmcourse.workbook import seccomp
from vlmcourse.workbook.copies import FORKS, Copy
from vlmcourse.workbook.seccomp import filter_program, give_up_calls

resource = pytest.importorskip("resource")
ALLOW, REFUSE, UNKNOWN = 0x7FFF0000, 0x00050001, 0x00050026
MACHINES = {
    "x86_64": dict(machine=0xC000003E, clone=56, clone3=435, prlimit64=302,
                   allowed=dict(read=0, mmap=9, futex=202, getpriority=140, getrlimit=97)),
    "aarch64": dict(machine=0xC00000B7, clone=220, clone3=435, prlimit64=261,
                    allowed=dict(read=63, mmap=222, futex=98, getpriority=141)),
}  # fmt: skip
TABLE = """
socket 41 198; socketpair 53 199; execve 59 221; execveat 322 281; fork 57 -; vfork 58 -; kill 62 129;
tkill 200 130; tgkill 234 131; rt_sigqueueinfo 129 138; rt_tgsigqueueinfo 297 240; ptrace 101 117;
process_vm_readv 310 270; process_vm_writev 311 271; process_madvise 440 440; pidfd_open 434 434;
pidfd_getfd 438 438; pidfd_send_signal 424 424; kcmp 312 272; migrate_pages 256 238;
move_pages 279 239; setpriority 141 140; ioprio_set 251 30; sched_setparam 142 118;
sched_setscheduler 144 119; sched_setattr 314 274; sched_setaffinity 203 122; setrlimit 160 164;
shmget 29 194; shmat 30 196; shmctl 31 195; semget 64 190; semop 65 193; semtimedop 220 192;
semctl 66 191; msgget 68 186; msgsnd 69 189; msgrcv 70 188; msgctl 71 187; mq_open 240 180;
mq_unlink 241 181; add_key 248 217; request_key 249 218; keyctl 250 219; clock_settime 227 112;
settimeofday 164 170; clock_adjtime 305 266; adjtimex 159 171; sethostname 170 161;
setdomainname 171 162; reboot 169 142; mount 165 40; umount2 166 39; pivot_root 155 41; chroot 161 51;
unshare 272 97; setns 308 268; open_by_handle_at 304 265; io_uring_setup 425 425;
perf_event_open 298 241; bpf 321 280; userfaultfd 323 282
"""
"""What is refused, with its numbers on x86-64 and arm64, as the kernel's headers have them."""
NUMBERS = {name: numbers for name, *numbers in (row.split() for row in TABLE.split(";"))}


def answer(program, call, machine, first=0, third=0):
    """What a filter says of a call: its steps, one after the other, as the kernel goes through them."""
    steps = [struct.unpack("HBBI", program[place : place + 8]) for place in range(0, len(program), 8)]
    place, held = 0, None
    seen = {0: call, 4: machine, 16: first, 32: third % 2**32, 36: third // 2**32}
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


@pytest.mark.parametrize("machine", MACHINES)
def test_the_filter_refuses_what_it_says(machine):
    program, about, place = filter_program(machine), MACHINES[machine], list(MACHINES).index(machine)
    for name, numbers in NUMBERS.items():
        if numbers[place] != "-":
            assert answer(program, int(numbers[place]), about["machine"]) == REFUSE, name
    for name, call in about["allowed"].items():
        assert answer(program, call, about["machine"]) == ALLOW, name
        assert answer(program, call, 0x40000003) == REFUSE  # a 32-bit machine counts otherwise
    assert seccomp.REFUSED.keys() == NUMBERS.keys()
    assert answer(program, 0x40000000, about["machine"]) == REFUSE
    assert answer(program, 0x3FFFFFFF, about["machine"]) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_threads_may_be_made_and_limits_read(machine):
    program, about = filter_program(machine), MACHINES[machine]
    number, clone, limits = about["machine"], about["clone"], about["prlimit64"]
    assert answer(program, clone, number, 0x3D0F00) == ALLOW  # as the C library makes a thread
    assert answer(program, clone, number, 0x1200011) == REFUSE  # as it makes a process
    assert answer(program, about["clone3"], number) == UNKNOWN
    assert answer(program, limits, number, 0, 0) == ALLOW  # reads limits of its own
    assert answer(program, limits, number, 77, 0) == REFUSE  # those of another process
    assert answer(program, limits, number, 0, 0x1000) == REFUSE  # changes its own
    assert answer(program, limits, number, 0, 0x7F00_0000_0000) == REFUSE


HEADERS = {
    "x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
    "aarch64": "/usr/include/asm-generic/unistd.h",
}


@pytest.mark.parametrize("machine", HEADERS)
def test_the_numbers_are_those_of_the_kernels_headers(machine):
    header, place = Path(HEADERS[machine]), list(HEADERS).index(machine)
    if not header.exists():
        pytest.skip("needs the kernel's headers: sudo apt-get install linux-libc-dev")
    known = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text()))
    named = {name: numbers[place] for name, numbers in NUMBERS.items() if numbers[place] != "-"}
    about = MACHINES[machine]
    named |= {name: str(about[name]) for name in ("clone", "clone3", "prlimit64")}
    named |= {name: str(number) for name, number in about["allowed"].items()}
    assert named == {name: known.get(name) for name in named}


def harmless():
    """Nothing; a thread that does it shows that threads start."""


TRIES = {
    "a signal to itself": lambda: os.kill(os.getpid(), signal.SIGCONT),
    "a signal to its parent": lambda: os.kill(os.getppid(), 0),
    "a socket": socket.socket,
    "a pair of sockets": socket.socketpair,
    "its parent's priority": lambda: os.setpriority(os.PRIO_PROCESS, os.getppid(), 3),
    "its parent's processors": lambda: os.sched_setaffinity(os.getppid(), os.sched_getaffinity(0)),
    "its parent's turn": lambda: os.sched_setscheduler(os.getppid(), os.SCHED_OTHER, os.sched_param(0)),
    "its parent's limits": lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CORE),
    "limits of its own": lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
    "the clock": lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
    "the name of the machine": lambda: socket.sethostname(socket.gethostname()),
    "another root": lambda: os.chroot("/"),
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
        resource.getrlimit(resource.RLIMIT_AS)
        try:
            TRIES[what]()
        except (PermissionError, ValueError):  # Python's word where limits may not be changed
            return b"refused"
        return b"done"

    message, _ = Copy(work).message(5, 30, lambda: None)
    if message == b"no filter here" and not Path("/proc/sys/kernel/seccomp").exists():
        pytest.skip("this system filters no calls")
    assert message == b"refused"


def test_a_machine_that_nobody_knows_gets_no_filter(monkeypatch):
    monkeypatch.setattr(seccomp.platform, "machine", lambda: "riscv64")
    assert not give_up_calls()


def test_a_kernel_that_takes_no_filter_is_told(monkeypatch):
    """As in a sandbox that has a filter of its own, which lets no other be added."""
    taken = []

    class Library:
        def __init__(self, *_, **__):
            self.prctl = lambda *given: taken.append(given[:2]) or -1

    monkeypatch.setattr(seccomp.sys, "platform", "linux")
    monkeypatch.setattr(seccomp.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(seccomp.ctypes, "CDLL", Library)
    assert give_up_calls() is False
    assert taken == [(38, 1), (22, 2)]  # no new privileges, then the filter
