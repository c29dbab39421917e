"""What the machine itself says: its interfaces, its names, its users."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from policy.host import KernelHost
from policy.tables.passwd import User, ask_system

ROOT = Path(__file__).parents[2]


def test_the_loopback_has_its_addresses() -> None:
    assert "127.0.0.1" in KernelHost().interfaces()["lo"]


def test_every_interface_is_listed_whether_it_has_an_address_or_not() -> None:
    assert set(KernelHost().interfaces()) == {name for _, name in socket.if_nameindex()}


def test_every_address_listed_can_be_listened_on() -> None:
    for addresses in KernelHost().interfaces().values():
        for address in addresses:
            ((family, kind, _, _, target), *_) = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)
            with socket.socket(family, kind) as listener:
                listener.bind(target)


def test_names_are_resolved_and_unknown_ones_have_no_address() -> None:
    host = KernelHost()
    assert set(host.addresses("localhost")) <= {"127.0.0.1", "::1"}
    assert host.addresses("localhost")
    assert host.addresses("no such name") == ()
    assert host.canonical_name("no such name") == ""
    assert host.canonical_name("\N{SNOWMAN}" * 70) == ""


def test_the_host_name_is_the_kernel_s() -> None:
    assert KernelHost().name() == os.uname().nodename


def test_a_system_user_is_found_by_name() -> None:
    root = pwd.getpwnam("root")
    assert ask_system("root") == User("root", 0, 0, root.pw_dir)


@pytest.mark.parametrize("name", ["", "no-such-user", "root\0", "x" * 300, "müller"])
def test_others_are_not_found(name: str) -> None:
    assert ask_system(name) is None


def test_a_user_database_that_cannot_be_opened_is_not_taken_for_an_unknown_user() -> None:
    script = """
import os
import resource
from policy.errors import TableUnavailable
from policy.tables.passwd import ask_system
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
try:
    while True:
        os.dup(1)
except OSError:
    pass
try:
    print(ask_system("root"))
except TableUnavailable as error:
    print("unavailable:", error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.startswith("unavailable: the system's users: Too many open files")
