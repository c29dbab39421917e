"""The filters of seccomp, run by an interpreter of their instructions: machines that this one is not included."""

from __future__ import annotations

import errno
import socket
import struct

import pytest

from control.walls.bpf import ALLOW, ARCHITECTURES, KILL, Instruction, NoneOf, OneOf, Rule, assemble, packed
from control.walls.kernel import CALLS
from control.walls.seccomp import Ban, rules_of

PID = 4711
MACHINES = sorted(CALLS)
CLOSED = Ban()
CLONE_THREAD, CLONE_NEWUSER, MSG_FASTOPEN = 0x10000, 0x10000000, 0x20000000


def run(program: list[Instruction], number: int, arguments: tuple[int, ...] = (), arch: int = 0) -> int:
    """What the kernel would do."""
    data = struct.pack("<IIQ6Q", number, arch, 0, *(arguments + (0,) * 6)[:6])
    at = accumulator = 0
    while True:
        code, true, false, constant = program[at]
        at += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, constant)
            case 0x15:
                at += true if accumulator == constant else false
            case 0x35:
                at += true if accumulator >= constant else false
            case 0x45:
                at += true if accumulator & constant else false
            case 0x06:
                return constant
            case _:
                raise AssertionError(f"no instruction: {code:#x}")


def outcome(ban: Ban, machine: str, name: str, *arguments: int) -> str:
    program = assemble(rules_of(ban, PID), machine, CALLS[machine])
    action = run(program, CALLS[machine][name], arguments, ARCHITECTURES[machine])
    return "allowed" if action == ALLOW else errno.errorcode[action & 0xFFFF]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    "name",
    [
        "execve",
        "execveat",
        "ptrace",
        "io_uring_setup",
        "bpf",
        "mount",
        "setns",
        "unshare",
        "chroot",
        "keyctl",
        "connect",
    ],
)
def test_a_call_that_is_banned_fails_on_every_machine(machine: str, name: str) -> None:
    assert outcome(CLOSED, machine, name) == "EPERM"


@pytest.mark.parametrize("machine", MACHINES)
def test_a_call_of_another_kind_of_machine_ends_the_process(machine: str) -> None:
    program = assemble(rules_of(CLOSED, PID), machine, CALLS[machine])
    i386 = 0x40000003
    assert run(program, 0, (), i386) == KILL


def test_every_call_of_x32_is_refused() -> None:
    program = assemble([], "x86_64", CALLS["x86_64"])
    arch = ARCHITECTURES["x86_64"]
    assert run(program, 0x40000000 | 59, (), arch) & 0xFFFF == errno.EPERM
    assert run(program, 59, (), arch) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_threads_are_made_and_processes_and_namespaces_are_not(machine: str) -> None:
    assert outcome(CLOSED, machine, "clone", CLONE_THREAD) == "allowed"
    assert outcome(CLOSED, machine, "clone", 0) == "EPERM"
    assert outcome(CLOSED, machine, "clone", CLONE_THREAD | CLONE_NEWUSER) == "EPERM"


@pytest.mark.parametrize("machine", MACHINES)
def test_a_thread_is_not_made_by_the_call_whose_flags_no_filter_sees(machine: str) -> None:
    assert outcome(CLOSED, machine, "clone3") == "ENOSYS"


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", ["kill", "tgkill", "rt_sigqueueinfo", "prlimit64"])
def test_a_process_signals_and_limits_nobody_but_itself(machine: str, name: str) -> None:
    assert outcome(CLOSED, machine, name, PID) == "allowed"
    assert outcome(CLOSED, machine, name, PID + 1) == "EPERM"


@pytest.mark.parametrize("machine", MACHINES)
def test_no_flag_of_a_send_makes_a_connection(machine: str) -> None:
    assert outcome(CLOSED, machine, "sendto", 3, 0, 0, MSG_FASTOPEN) == "EPERM"
    assert outcome(CLOSED, machine, "sendmsg", 3, 0, MSG_FASTOPEN) == "EPERM"
    assert outcome(CLOSED, machine, "sendto", 3, 0, 0, socket.MSG_DONTWAIT) == "allowed"


@pytest.mark.parametrize("machine", MACHINES)
def test_sockets_are_made_of_the_families_that_are_left(machine: str) -> None:
    ban = Ban((socket.AF_UNIX, socket.AF_INET, socket.AF_NETLINK))
    assert outcome(ban, machine, "socket", socket.AF_INET) == "allowed"
    assert outcome(ban, machine, "socket", socket.AF_UNIX) == "allowed"
    assert outcome(ban, machine, "socket", socket.AF_INET6) == "EPERM"
    assert outcome(CLOSED, machine, "socket", socket.AF_UNIX) == "EPERM"


@pytest.mark.parametrize("machine", MACHINES)
def test_of_netlink_only_addresses_and_routes_are_left(machine: str) -> None:
    ban = Ban((socket.AF_NETLINK,))
    assert outcome(ban, machine, "socket", socket.AF_NETLINK, socket.SOCK_RAW, 0) == "allowed"
    netfilter = 12
    assert outcome(ban, machine, "socket", socket.AF_NETLINK, socket.SOCK_RAW, netfilter) == "EPERM"


@pytest.mark.parametrize("machine", MACHINES)
def test_no_program_is_left_at_a_socket_that_outlives_the_process(machine: str) -> None:
    attach_filter, lock_filter = 26, 44
    for option in (attach_filter, lock_filter):
        assert outcome(CLOSED, machine, "setsockopt", 3, socket.SOL_SOCKET, option) == "EPERM"
        assert outcome(CLOSED, machine, "setsockopt", 3, socket.IPPROTO_TCP, option) == "allowed"
    assert outcome(CLOSED, machine, "setsockopt", 3, socket.SOL_SOCKET, socket.SO_REUSEADDR) == "allowed"


@pytest.mark.parametrize("machine", MACHINES)
def test_what_a_ban_does_not_name_is_allowed(machine: str) -> None:
    assert outcome(Ban(connect=False), machine, "connect") == "allowed"
    assert outcome(Ban(bind=False), machine, "bind") == "allowed"
    assert outcome(Ban(listen=False), machine, "listen") == "allowed"


@pytest.mark.parametrize("first", [1, 2, 3, 4])
@pytest.mark.parametrize("second", [7, 8, 9])
def test_a_rule_refuses_when_all_of_its_tests_hold(first: int, second: int) -> None:
    rule = Rule("kill", (OneOf(0, (1, 3)), NoneOf(1, (7, 9))))
    action = run(assemble([rule], "x86_64", {"kill": 62}), 62, (first, second), ARCHITECTURES["x86_64"])
    assert (action == ALLOW) is not (first in {1, 3} and second == 8)


def test_the_rules_after_one_that_looked_at_arguments_see_the_call_again() -> None:
    rules = [Rule("kill", (OneOf(0, (62,)),)), Rule("kill", (OneOf(0, (63,)),)), Rule("getpid")]
    program = assemble(rules, "x86_64", {"kill": 62, "getpid": 39})
    assert run(program, 62, (39,), ARCHITECTURES["x86_64"]) == ALLOW
    assert run(program, 62, (63,), ARCHITECTURES["x86_64"]) != ALLOW


def test_the_upper_half_of_an_argument_hides_nothing() -> None:
    assert outcome(CLOSED, "x86_64", "kill", (1 << 32) | PID) == "allowed"
    assert outcome(CLOSED, "x86_64", "clone", (CLONE_THREAD << 32)) == "EPERM"


def test_an_instruction_takes_eight_octets() -> None:
    assert len(packed(assemble([], "x86_64", {}))) == 8 * len(assemble([], "x86_64", {}))
