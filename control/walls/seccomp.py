"""seccomp: the system calls that a process cannot make any more.

What a kind of process may do is a `Ban`; what none of ours has a use for is refused to all of them. Refused calls fail with
EPERM, so that a library that only tries goes on.

Guarantees: no program is started, no process is made (threads are), none is looked into, signalled or limited but this one
itself; there is no way round the filter (io_uring, other machines' calls); sockets are of the families that the ban leaves,
and where connecting is banned, TCP Fast Open does not connect either.

Failure: `OSError`. On a machine whose calls are not known here nothing is raised, and `fence_calls` says so.

seccomp(2), SECCOMP_RET_ERRNO, clone(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from control.walls.bpf import AnyBit, NoBit, NoneOf, OneOf, Rule, assemble, packed
from control.walls.kernel import CALLS, machine, prctl

_PR_SET_SECCOMP: Final = 22
_MODE_FILTER: Final = 2

#: What nobody of ours does, in groups: programs, other processes, file systems and roots, the kernel, its keys, its clock,
#: devices, memory, memory and queues that would be there after the process, and what would bypass this filter.
_NEVER: Final = (
    *("execve", "execveat", "fork", "vfork", "uselib"),
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease", "pidfd_getfd", "kcmp"),
    *("pidfd_send_signal", "tkill", "migrate_pages", "move_pages"),
    *("mount", "umount2", "move_mount", "open_tree", "open_tree_attr", "fsopen", "fsconfig", "fsmount", "fspick"),
    *("mount_setattr", "pivot_root", "chroot", "setns", "unshare", "name_to_handle_at", "open_by_handle_at"),
    *("quotactl", "quotactl_fd", "fanotify_init", "lookup_dcookie", "swapon", "swapoff", "acct", "vhangup"),
    *("kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "bpf", "perf_event_open"),
    *("reboot", "syslog", "sethostname", "setdomainname", "personality"),
    *("keyctl", "add_key", "request_key"),
    *("settimeofday", "clock_settime", "adjtimex", "clock_adjtime"),
    *("iopl", "ioperm", "modify_ldt", "userfaultfd", "vmsplice", "mbind"),
    *("shmget", "msgget", "semget", "mq_open"),
    *("io_uring_setup", "io_uring_enter", "io_uring_register"),
)

#: sched.h: namespaces of its own.
_CLONE_NAMESPACES: Final = 0x7E020000
_CLONE_THREAD: Final = 0x00010000
#: sys/socket.h: sendto(2) to an address is connect(2) with it.
_MSG_FASTOPEN: Final = 0x20000000
#: The call that sends with flags, and where they are.
_SENDING: Final = {"sendto": 3, "sendmsg": 2, "sendmmsg": 3}


#: socket(7): programs that decide what a socket takes. At a listening one they would be there after the process, too.
_FILTERS_OF_SOCKETS: Final = (26, 44, 50, 51, 52)
_SOL_SOCKET: Final = 1


@dataclass(frozen=True, slots=True)
class Ban:
    """What a kind of process does not do, beside what none of ours does."""

    #: Families that sockets may be made of. Pairs of sockets are always allowed: they lead nowhere else.
    families: tuple[int, ...] = ()
    connect: bool = True
    bind: bool = True
    listen: bool = True


#: A helper of the name service: getaddrinfo(3) asks the kernel for its addresses.
_NETLINK_ROUTE: Final = 0


def rules_of(ban: Ban, pid: int) -> list[Rule]:
    """The rules for the process ``pid``, the frequent calls first."""
    rules = [Rule(name, (AnyBit(at, _MSG_FASTOPEN),)) for name, at in _SENDING.items()]
    rules += [
        Rule("socket", (NoneOf(0, ban.families),) if ban.families else ()),
        Rule("socket", (OneOf(0, (socket.AF_NETLINK,)), NoneOf(2, (_NETLINK_ROUTE,)))),
        Rule("setsockopt", (OneOf(1, (_SOL_SOCKET,)), OneOf(2, _FILTERS_OF_SOCKETS))),
        *(Rule(name) for name in ("connect", "bind", "listen") if getattr(ban, name)),
        # Its flags are in memory, where no filter sees them; the C library makes a thread by clone(2) then.
        Rule("clone3", error=errno.ENOSYS),
        Rule("clone", (NoBit(0, _CLONE_THREAD),)),
        Rule("clone", (AnyBit(0, _CLONE_NAMESPACES),)),
        *(Rule(name, (NoneOf(0, (pid,)),)) for name in ("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")),
        Rule("prlimit64", (NoneOf(0, (0, pid)),)),
    ]
    return rules + [Rule(name) for name in _NEVER]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def has_seccomp() -> bool:
    """Whether the kernel filters, and the calls of this machine are known."""
    if machine() not in CALLS:
        return False
    try:
        prctl(_PR_SET_SECCOMP, _MODE_FILTER, 0)
    except OSError as error:
        # A kernel with filters looks for the program first, and finds none.
        return error.errno == errno.EFAULT
    return False


def fence_calls(ban: Ban) -> bool:
    """Hold to it from now on, this thread and those that it starts; needs PR_SET_NO_NEW_PRIVS.

    False when nothing was raised, see `has_seccomp`. Raises `OSError`.
    """
    if not has_seccomp():
        return False
    _install(packed(assemble(rules_of(ban, os.getpid()), machine(), CALLS[machine()])))
    return True


def refused(rules: Sequence[Rule]) -> int:
    """How many calls are refused, always or sometimes, on this machine."""
    return len({rule.name for rule in rules} & set(CALLS.get(machine(), ())))


def _install(octets: bytes) -> None:
    buffer = ctypes.create_string_buffer(octets, len(octets))
    program = _Program(len(octets) // 8, ctypes.addressof(buffer))
    prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(program))
