"""Linux' own way for a process to give up system calls for good: seccomp with a filter, on x86-64 and arm64.

See "Seccomp BPF" in the kernel's documentation, userspace-api/seccomp_filter. A filter is a small program for
the machine of the Berkeley Packet Filter: the kernel runs it on the number and the arguments of each call.
What is given up here is refused whatever the process runs, machine code too: other processes (it starts none
and signals none), connections of every kind, and looking into the memory of others. Threads it may start.
"""

import contextlib
import ctypes
import platform
import struct
import sys

LOAD, EQUAL, ANY_BIT, AT_LEAST, RETURN = 0x20, 0x15, 0x45, 0x35, 0x06  # instructions of the filter
ALLOW, REFUSE = 0x7FFF0000, 0x00050000  # what it returns; an error number is added to the second
NO_PERMISSION, NO_SUCH_CALL = 1, 38  # EPERM; ENOSYS, after which the C library takes the older clone
NUMBER, MACHINE, FIRST_ARGUMENT = 0, 4, 16  # where the kernel puts what the filter looks at
THREAD = 0x10000  # the flag of clone that makes a thread
OTHER_NUMBERING = 0x40000000  # from here on x86-64 counts the calls of its 32-bit form once more
NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER = 38, 22, 2

# socket, socketpair, execve, execveat, kill, tkill, tgkill, rt_sigqueueinfo, rt_tgsigqueueinfo, ptrace,
# process_vm_readv, process_vm_writev, unshare, setns, perf_event_open, bpf; fork, vfork
X86_64 = (41, 53, 59, 322, 62, 200, 234, 129, 297, 101, 310, 311, 272, 308, 298, 321, 57, 58)
ARM64 = (198, 199, 221, 281, 129, 130, 131, 138, 240, 117, 270, 271, 97, 268, 241, 280)
EVERYWHERE = (424, 425, 434)  # pidfd_send_signal, io_uring_setup, pidfd_open
CLONE3 = 435
MACHINES = {"x86_64": (0xC000003E, X86_64, 56), "aarch64": (0xC00000B7, ARM64, 220)}
"""For each machine: its number, the calls that are refused, and clone."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))


def filter_program(machine: str) -> bytes:
    """The filter for a machine of MACHINES: eight bytes for each step."""
    number, refused, clone = MACHINES[machine]
    refused = (*refused, *EVERYWHERE)
    # The last steps, to which the others jump forward: refuse, refuse as unknown, allow.
    ends = [(RETURN, 0, 0, what) for what in (REFUSE | NO_PERMISSION, REFUSE | NO_SUCH_CALL, ALLOW)]
    steps = 3 + 1 + len(refused) + 2 + 2  # how many stand in front of the ends

    def to(place: int, end: int) -> int:
        return steps + end - place - 1

    program = [(LOAD, 0, 0, MACHINE), (EQUAL, 0, to(1, 0), number), (LOAD, 0, 0, NUMBER)]
    program.append((AT_LEAST, to(3, 0), 0, OTHER_NUMBERING))
    for call in refused:
        program.append((EQUAL, to(len(program), 0), 0, call))
    program.append((EQUAL, to(len(program), 1), 0, CLONE3))
    program.append((EQUAL, 0, to(len(program), 2), clone))
    program.append((LOAD, 0, 0, FIRST_ARGUMENT))
    program.append((ANY_BIT, to(len(program), 2), to(len(program), 0), THREAD))
    return b"".join(struct.pack("HBBI", *step) for step in [*program, *ends])


def give_up_calls() -> bool:
    """From here on this process starts and signals no other one, and opens no connection.

    Returns:
        whether it does; False on other systems, or where the kernel has no such filters.
    """
    if sys.platform != "linux" or platform.machine() not in MACHINES or sys.maxsize < 2**32:
        return False
    with contextlib.suppress(OSError, AttributeError):
        text = filter_program(platform.machine())
        held = ctypes.create_string_buffer(text, len(text))
        program = _Program(len(text) // 8, ctypes.addressof(held))
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        return libc.prctl(SET_SECCOMP, FILTER, ctypes.byref(program), 0, 0) == 0
    return False
