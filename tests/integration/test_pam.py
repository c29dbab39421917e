"""Passwords of the system's users: PAM asked by a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
import smtplib
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from control.pam.keeper import COMMAND, PamKeeper
from policy.authenticator import MAX_QUESTIONS, NoLogins, SystemLogins
from policy.credentials import encrypt
from policy.errors import TableUnavailable
from policy.login_frames import TICKET, Question
from policy.pki import selfsigned
from tests.tools.account import Account, throw_away_account
from tests.tools.daemon import Daemon, wait_for
from tests.tools.folders import public_folder
from tests.tools.logins import plain

pytestmark = [
    pytest.mark.anyio,
    # The machine has one list of users.
    pytest.mark.xdist_group("accounts"),
    pytest.mark.skipif(
        not any(Path(folder).glob("libpam.so.0") for folder in ("/lib", *map(str, Path("/lib").glob("*-linux-gnu")))),
        reason="there is no libpam on this machine",
    ),
]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make users and check their passwords")

SHIPPED = Path(__file__).parents[2] / "packaging/pam.d/smtpd"
#: A helper that gives up each question early.
HASTY = (
    sys.executable,
    "-c",
    "import sys; from control.pam.__main__ import main; main(sys.argv[1:], 0.5)",
)

Asked = Callable[[str], SystemLogins]


@pytest.fixture
def keepers(tmp_path: Path) -> Iterator[Callable[..., PamKeeper]]:
    """Makes a keeper by the text of its service file."""
    made: list[PamKeeper] = []

    def make(service: str, command: tuple[str, ...] = COMMAND) -> PamKeeper:
        (tmp_path / "smtpd").write_text(service)
        keeper = PamKeeper(str(tmp_path), command)
        made.append(keeper)
        keeper.start()
        return keeper

    yield make
    for keeper in made:
        keeper.close()


@pytest.fixture
def account() -> Iterator[Account]:
    with throw_away_account() as account:
        yield account


PERMIT = "auth required pam_permit.so\naccount required pam_permit.so\n"


@as_root
async def test_a_system_user_s_password_is_right_and_no_other_is(
    keepers: Callable[..., PamKeeper], account: Account
) -> None:
    logins = SystemLogins(keepers(SHIPPED.read_text()).end)
    assert await logins.check(account.name, account.password, "192.0.2.1")
    assert not await logins.check(account.name, account.password[:-1], "192.0.2.1")
    assert not await logins.check(account.name, "", "192.0.2.1")
    assert not await logins.check(account.name.upper(), account.password, "192.0.2.1")
    assert not await logins.check("nobody-of-this-name", account.password, "192.0.2.1")


@as_root
async def test_an_account_that_has_expired_lets_nobody_in(keepers: Callable[..., PamKeeper], account: Account) -> None:
    account.change("--expiredate", "1990-01-01")
    logins = SystemLogins(keepers(SHIPPED.read_text()).end)
    assert not await logins.check(account.name, account.password, "192.0.2.1")


@as_root
async def test_a_locked_account_lets_nobody_in(keepers: Callable[..., PamKeeper], account: Account) -> None:
    account.change("--lock")
    logins = SystemLogins(keepers(SHIPPED.read_text()).end)
    assert not await logins.check(account.name, account.password, "192.0.2.1")


@as_root
async def test_a_wrong_password_costs_no_delay_of_pam_s_own(
    keepers: Callable[..., PamKeeper], account: Account
) -> None:
    logins = SystemLogins(keepers(SHIPPED.read_text()).end)
    await logins.check(account.name, account.password, "")
    begin = time.monotonic()
    assert not await logins.check(account.name, "wrong", "")
    # pam_unix would wait for two seconds.
    assert time.monotonic() - begin < 1.5


async def test_the_account_is_asked_beside_the_password(keepers: Callable[..., PamKeeper]) -> None:
    assert await SystemLogins(keepers(PERMIT).end).check("ann", "x", "")
    refused = PERMIT.replace("account required pam_permit", "account required pam_deny")
    assert not await SystemLogins(keepers(refused).end).check("ann", "x", "")


@pytest.mark.parametrize(
    "service", ["auth required pam_nosuch.so\n", "nonsense\n", ""], ids=["module", "line", "empty"]
)
async def test_a_service_that_is_out_of_order_lets_nobody_in(keepers: Callable[..., PamKeeper], service: str) -> None:
    logins = SystemLogins(keepers(service).end)
    is_in = False
    with suppress(TableUnavailable):
        is_in = await logins.check("ann", "x", "")
    assert not is_in


async def test_modules_hear_the_address_and_no_environment_of_ours(
    keepers: Callable[..., PamKeeper], tmp_path: Path
) -> None:
    heard = tmp_path / "heard"
    program = tmp_path / "hear"
    program.write_text(f"#!/bin/sh\nenv > {heard}\ncat >> {heard}\n")
    program.chmod(0o755)
    keeper = keepers(f"auth required pam_exec.so expose_authtok {program}\naccount required pam_permit.so\n")
    assert await SystemLogins(keeper.end).check("ann", "pass word", "2001:db8::7")
    said = heard.read_bytes()
    assert b"PAM_RHOST=2001:db8::7\n" in said
    assert b"PAM_USER=ann\n" in said
    assert said.rstrip(b"\0").endswith(b"\npass word")
    assert b"HOME=" not in said


async def test_a_module_that_hangs_holds_nobody_else_up_and_ends(
    keepers: Callable[..., PamKeeper], tmp_path: Path
) -> None:
    program = tmp_path / "hang"
    program.write_text('#!/bin/sh\n[ "$PAM_USER" = stuck ] && exec /bin/sleep 61.4142\nexit 0\n')
    program.chmod(0o755)
    keeper = keepers(f"auth required pam_exec.so {program}\naccount required pam_permit.so\n", HASTY)
    logins = SystemLogins(keeper.end)
    fates: list[str] = []

    async def hang() -> None:
        with pytest.raises(TableUnavailable):
            await logins.check("stuck", "x", "")
        fates.append("stuck")

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(hang)
        assert await logins.check("ann", "x", "")
        fates.append("ann")
    assert fates == ["ann", "stuck", "stuck", "stuck"]
    assert not any(b"61.4142" in line for line in command_lines())


def command_lines() -> Iterator[bytes]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield path.read_bytes()


async def test_very_many_questions_are_all_answered_few_at_a_time(keepers: Callable[..., PamKeeper]) -> None:
    logins = SystemLogins(keepers(PERMIT).end)
    answers: list[bool] = []

    async def one() -> None:
        answers.append(await logins.check("ann", "x", ""))

    async with anyio.create_task_group() as group:
        for _ in range(5 * MAX_QUESTIONS):
            group.start_soon(one)
    assert answers == [True] * 5 * MAX_QUESTIONS


async def test_a_helper_that_has_died_is_replaced_and_the_socket_stays(keepers: Callable[..., PamKeeper]) -> None:
    keeper = keepers(PERMIT)
    logins = SystemLogins(keeper.end)
    assert await logins.check("ann", "x", "")
    (first,) = helpers_of(os.getpid(), keeper)
    os.kill(first, signal.SIGKILL)
    assert await logins.check("ann", "x", "")
    (second,) = helpers_of(os.getpid(), keeper)
    assert second != first


def helpers_of(parent: int, keeper: PamKeeper) -> list[int]:
    children = {child for task in Path(f"/proc/{parent}/task").glob("*/children") for child in task.read_text().split()}
    return [
        int(child)
        for child in children
        if f"control.pam\0{keeper._arguments[0]}".encode() in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


async def test_a_helper_that_cannot_be_reached_is_a_temporary_failure() -> None:
    end, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with end, far:
        with pytest.raises(TableUnavailable):
            await SystemLogins(end, 0.1).check("ann", "x", "")
        far.close()
        with pytest.raises(TableUnavailable):
            await SystemLogins(end, 5).check("ann", "x", "")
    with pytest.raises(TableUnavailable):
        await NoLogins().check("ann", "x", "")


async def test_the_answer_to_another_s_question_lets_nobody_in() -> None:
    end, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with end, far:
        logins = SystemLogins(end, 0.3)

        async def answer_wrongly() -> None:
            packet = await anyio.to_thread.run_sync(far.recv, 2000)
            other = bytes(TICKET)
            assert Question.read(packet).ticket != other
            far.send(other + b"\1")

        async with anyio.create_task_group() as group:
            group.start_soon(answer_wrongly)
            with pytest.raises(TableUnavailable):
                await logins.check("ann", "x", "")


async def test_packets_that_are_no_questions_are_survived(keepers: Callable[..., PamKeeper]) -> None:
    keeper = keepers(PERMIT)
    for octets in (b"x", b"\0" * 70000, bytes(TICKET) + b"\xff" * 6, os.urandom(500)):
        keeper.end.send(octets)
    assert await SystemLogins(keeper.end).check("ann", "x", "")


async def test_what_pam_cannot_be_asked_is_wrong_without_asking() -> None:
    end, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with end, far:
        assert not await SystemLogins(end).check("ann\0root", "x", "")
        assert not await SystemLogins(end).check("ann", "x" * 600, "")
        far.setblocking(False)
        with pytest.raises(BlockingIOError):
            far.recv(1)


async def test_the_helper_ends_with_those_who_ask(keepers: Callable[..., PamKeeper]) -> None:
    keeper = keepers(PERMIT)
    assert await SystemLogins(keeper.end).check("ann", "x", "")
    (helper,) = helpers_of(os.getpid(), keeper)
    assert core_limit(helper) == ["0", "0"]
    keeper.close()
    with pytest.raises(FileNotFoundError):
        core_limit(helper)


def core_limit(pid: int) -> list[str]:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line.split()[4:6] for line in lines if line.startswith("Max core file size"))


# -- the whole daemon -------------------------------------------------------------------------------------------------

CONFIGURATION = """\
pki box cert "/tls/box.crt" key "/tls/box.key"
listen on socket
listen on 127.0.0.1 port $port smtps pki box auth
action "inbox" maildir "/home/%{user.username}"
match from any for any action "inbox"
"""


@contextmanager
def secure_daemon(configuration: str, one_process: bool, **tables: str) -> Iterator[Daemon]:
    """One with a certificate and the service file."""
    with public_folder() as root:
        (root / "etc/pam.d").mkdir(parents=True)
        shutil.copy(SHIPPED, root / "etc/pam.d/smtpd")
        (root / "tls").mkdir()
        pki = selfsigned(str(root / "tls"), "box")
        Path(pki.cert).rename(root / "tls/box.crt")
        Path(pki.key).rename(root / "tls/box.key")
        with Daemon(root, configuration, tables=tables, one_process=one_process) as daemon:
            yield daemon


def says(daemon: Daemon, login: str, password: str) -> int:
    """The code of the answer to a login."""
    trust = ssl.create_default_context(cafile=str(daemon.root / "tls/box.crt"))
    trust.check_hostname = False
    with smtplib.SMTP_SSL("127.0.0.1", daemon.port, context=trust, timeout=30) as client:
        client.ehlo()
        return client.docmd(plain(login, password))[0]


@as_root
@pytest.mark.parametrize("one_process", [True, False], ids=["one process", "several"])
def test_a_system_user_logs_in_to_the_daemon(account: Account, one_process: bool) -> None:
    with secure_daemon(CONFIGURATION, one_process) as daemon:
        assert says(daemon, account.name, "wrong") == 535
        assert says(daemon, account.name, account.password) == 235
        wait_for(lambda: "result=ok" in daemon.log, "the login in the log")
        assert account.password not in daemon.log


@as_root
def test_a_password_that_has_changed_in_a_table_holds_in_the_process_that_cannot_read_it() -> None:
    configuration = "table creds file:/etc/smtpd/creds\n" + CONFIGURATION.replace(" auth\n", " auth <creds>\n")
    with secure_daemon(configuration, one_process=False, creds=f"ann {encrypt('old')}\n") as daemon:
        assert says(daemon, "ann", "old") == 235
        daemon.write("creds", f"ann {encrypt('new')}\n")
        wait_for(lambda: says(daemon, "ann", "new") == 235, "the new password")
