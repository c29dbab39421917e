"""The kernel's own interface, as far as the standard library does not have it: prctl(2), capabilities, bare system calls.

Guarantees: a call that fails raises, as `os` does; nothing is tried twice.

Failure: `OSError` with the name of the call.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)

#: Numbers of system calls that are the same on every machine: those that came after Linux 5.1.
_SAME: Final = {
    "clone3": 435, "fsconfig": 431, "fsmount": 432, "fsopen": 430, "fspick": 433, "io_uring_enter": 426,
    "io_uring_register": 427, "io_uring_setup": 425, "landlock_add_rule": 445, "landlock_create_ruleset": 444,
    "landlock_restrict_self": 446, "mount_setattr": 442, "move_mount": 429, "open_tree": 428, "open_tree_attr": 467,
    "pidfd_getfd": 438, "pidfd_send_signal": 424, "process_madvise": 440, "process_mrelease": 448, "quotactl_fd": 443,
}  # fmt: skip

_X86_64: Final = {
    **_SAME,
    "acct": 163, "add_key": 248, "adjtimex": 159, "bind": 49, "bpf": 321, "chroot": 161, "clock_adjtime": 305,
    "clock_settime": 227, "clone": 56, "connect": 42, "delete_module": 176, "execve": 59, "execveat": 322,
    "fanotify_init": 300, "finit_module": 313, "fork": 57, "init_module": 175, "ioperm": 173, "iopl": 172, "kcmp": 312,
    "kexec_file_load": 320, "kexec_load": 246, "keyctl": 250, "kill": 62, "listen": 50, "lookup_dcookie": 212,
    "mbind": 237, "migrate_pages": 256, "modify_ldt": 154, "mount": 165, "move_pages": 279, "name_to_handle_at": 303,
    "open_by_handle_at": 304, "perf_event_open": 298, "personality": 135, "pivot_root": 155, "prlimit64": 302,
    "process_vm_readv": 310, "process_vm_writev": 311, "ptrace": 101, "quotactl": 179, "reboot": 169,
    "request_key": 249, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297, "sendmmsg": 307, "sendmsg": 46, "sendto": 44,
    "setdomainname": 171, "sethostname": 170, "setns": 308, "settimeofday": 164, "socket": 41, "swapoff": 168,
    "swapon": 167, "syslog": 103, "tgkill": 234, "tkill": 200, "umount2": 166, "unshare": 272, "uselib": 134,
    "userfaultfd": 323, "vfork": 58, "vhangup": 153, "vmsplice": 278,
    "setsockopt": 54, "shmget": 29, "msgget": 68, "semget": 64, "mq_open": 240,
}  # fmt: skip

_AARCH64: Final = {
    **_SAME,
    "acct": 89, "add_key": 217, "adjtimex": 171, "bind": 200, "bpf": 280, "chroot": 51, "clock_adjtime": 266,
    "clock_settime": 112, "clone": 220, "connect": 203, "delete_module": 106, "execve": 221, "execveat": 281,
    "fanotify_init": 262, "finit_module": 273, "init_module": 105, "kcmp": 272, "kexec_file_load": 294,
    "kexec_load": 104, "keyctl": 219, "kill": 129, "listen": 201, "lookup_dcookie": 18, "mbind": 235,
    "migrate_pages": 238, "mount": 40, "move_pages": 239, "name_to_handle_at": 264, "open_by_handle_at": 265,
    "perf_event_open": 241, "personality": 92, "pivot_root": 41, "prlimit64": 261, "process_vm_readv": 270,
    "process_vm_writev": 271, "ptrace": 117, "quotactl": 60, "reboot": 142, "request_key": 218, "rt_sigqueueinfo": 138,
    "rt_tgsigqueueinfo": 240, "sendmmsg": 269, "sendmsg": 211, "sendto": 206, "setdomainname": 162,
    "sethostname": 161, "setns": 268, "settimeofday": 170, "socket": 198, "swapoff": 225, "swapon": 224,
    "syslog": 116, "tgkill": 131, "tkill": 130, "umount2": 39, "unshare": 97, "userfaultfd": 282, "vhangup": 58,
    "vmsplice": 75, "setsockopt": 208, "shmget": 194, "msgget": 186, "semget": 190, "mq_open": 180,
}  # fmt: skip

#: The numbers of system calls by name, for each machine that is known. One that is not in it does not exist there.
CALLS: Final[Mapping[str, Mapping[str, int]]] = MappingProxyType({"x86_64": _X86_64, "aarch64": _AARCH64})


def machine() -> str:
    """The machine that the system calls of this process are of: as the kernel says, or 32 bits of it."""
    return platform.machine() if ctypes.sizeof(ctypes.c_void_p) == 8 else f"32 bits of {platform.machine()}"


def prctl(option: int, *arguments: int) -> int:
    """prctl(2). Raises `OSError`."""
    filled = (ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4])
    return _checked(_LIBC.prctl(ctypes.c_int(option), *filled), "prctl")


def syscall(name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """syscall(2), for numbers that are the same everywhere. Raises `OSError`."""
    words = (ctypes.c_long(one) if isinstance(one, int) else one for one in arguments)
    _LIBC.syscall.restype = ctypes.c_long
    return _checked(_LIBC.syscall(ctypes.c_long(_SAME[name]), *words), name)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


#: _LINUX_CAPABILITY_VERSION_3: sets of 64 bits, in two halves.
_CAPABILITY_VERSION: Final = 0x20080522


def capset(kept: int) -> None:
    """Let these, as bits, be the permitted and effective capabilities, and let none be inheritable. Raises `OSError`."""
    halves = (kept & 0xFFFFFFFF, kept >> 32)
    data = (_Data * 2)(*(_Data(half, half, 0) for half in halves))
    _checked(_LIBC.capset(ctypes.byref(_Header(_CAPABILITY_VERSION, 0)), data), "capset")


def _checked(result: int, name: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result
