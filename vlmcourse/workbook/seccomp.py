"""Linux' own way for a process to give up system calls for good: seccomp with a filter, on x86-64 and arm64.

See "Seccomp BPF" in the kernel's documentation, userspace-api/seccomp_filter. A filter is a small program for
the machine of the Berkeley Packet Filter: the kernel runs it on the number and the arguments of each call.
What is given up here is refused whatever the process runs, machine code too: other processes (it starts none,
signals none, and changes nobody's priority, processors or limits, its own neither), connections of every
kind, looking into the memory of others, leaving something in the kernel's memory for a later process to
find, and the computer's clock, name and mounts. Threads it may start.
"""

import contextlib
import ctypes
import platform
import struct
import sys

LOAD, EQUAL, ANY_BIT, AT_LEAST, RETURN = 0x20, 0x15, 0x45, 0x35, 0x06  # instructions of the filter
ALLOW, REFUSE = 0x7FFF0000, 0x00050000  # what it returns; an error number is added to the second
NO_PERMISSION, NO_SUCH_CALL = 1, 38  # EPERM; ENOSYS, after which the C library takes the older clone
NUMBER, MACHINE = 0, 4  # where the kernel puts what the filter looks at
ARGUMENTS = (16, 24, 32)  # where the lower half of each argument stands; the upper one comes 4 bytes later
THREAD = 0x10000  # the flag of clone that makes a thread
ENDS = {"refused": REFUSE | NO_PERMISSION, "unknown": REFUSE | NO_SUCH_CALL, "allowed": ALLOW}
OTHER_NUMBERING = 0x40000000  # from here on x86-64 counts the calls of its 32-bit form once more
NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER = 38, 22, 2

REFUSED = {  # by name, the numbers on x86-64 and on arm64, which lacks two
    # other processes, and connections
    "socket": (41, 198), "socketpair": (53, 199), "execve": (59, 221), "execveat": (322, 281),
    "fork": (57, None), "vfork": (58, None),
    # signals
    "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    # memory and files of others
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424), "kcmp": (312, 272), "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # priorities and limits
    "setpriority": (141, 140), "ioprio_set": (251, 30), "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119), "sched_setattr": (314, 274), "sched_setaffinity": (203, 122),
    "setrlimit": (160, 164),
    # what stays in the kernel's memory
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semop": (65, 193),
    "semtimedop": (220, 192), "semctl": (66, 191), "msgget": (68, 186), "msgsnd": (69, 189),
    "msgrcv": (70, 188), "msgctl": (71, 187), "mq_open": (240, 180), "mq_unlink": (241, 181),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    # the computer
    "clock_settime": (227, 112), "settimeofday": (164, 170), "clock_adjtime": (305, 266),
    "adjtimex": (159, 171), "sethostname": (170, 161), "setdomainname": (171, 162), "reboot": (169, 142),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "unshare": (272, 97), "setns": (308, 268), "open_by_handle_at": (304, 265),
    # what would go round all this
    "io_uring_setup": (425, 425), "perf_event_open": (298, 241), "bpf": (321, 280),
    "userfaultfd": (323, 282),
}  # fmt: skip
CLONE3 = 435
MACHINES = {"x86_64": (0xC000003E, 0, 56, 302), "aarch64": (0xC00000B7, 1, 220, 261)}
"""For each machine: its number, which numbers of REFUSED are its own, clone, and prlimit64."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))


def filter_program(machine: str) -> bytes:
    """The filter for a machine of MACHINES: eight bytes for each step."""
    number, column, clone, limits = MACHINES[machine]
    calls = [numbers[column] for numbers in REFUSED.values() if numbers[column] is not None]
    pid, new, upper = ARGUMENTS[0], ARGUMENTS[2], ARGUMENTS[2] + 4  # of prlimit64, a pointer to new limits
    # Each step: what it does, with which number, and where to go on if that is so, and if not: 0 is the next
    # step, 6 the one that comes six later, and a word one of the ends.
    steps = [
        (LOAD, MACHINE, 0, 0),
        (EQUAL, number, 0, "refused"),
        (LOAD, NUMBER, 0, 0),
        (AT_LEAST, OTHER_NUMBERING, "refused", 0),
        *[(EQUAL, call, "refused", 0) for call in calls],
        (EQUAL, CLONE3, "unknown", 0),
        (EQUAL, limits, 0, 6),  # who reads limits of its own may do so
        (LOAD, pid, 0, 0),
        (EQUAL, 0, 0, "refused"),
        (LOAD, new, 0, 0),
        (EQUAL, 0, 0, "refused"),
        (LOAD, upper, 0, 0),
        (EQUAL, 0, "allowed", "refused"),
        (EQUAL, clone, 0, "allowed"),
        (LOAD, ARGUMENTS[0], 0, 0),
        (ANY_BIT, THREAD, "allowed", "refused"),
    ]
    program = []
    for place, (code, value, *ways) in enumerate(steps):
        left = len(steps) - place - 1  # steps between this one and the ends
        yes, no = (left + list(ENDS).index(way) if way in ENDS else way for way in ways)
        program.append(struct.pack("HBBI", code, yes, no, value))
    return b"".join([*program, *(struct.pack("HBBI", RETURN, 0, 0, what) for what in ENDS.values())])


def give_up_calls() -> bool:
    """From here on this process makes no call of REFUSED, starts no other one, and changes no limit.

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
