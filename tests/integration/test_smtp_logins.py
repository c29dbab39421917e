"""Logins by SMTP: SCRAM-SHA-256, guesses, and the line that tells of each."""

from __future__ import annotations

import logging
import re
import ssl
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from control.journal import LineFormatter
from ingress.limits import Limits
from policy import scram
from policy.config import Auth, Listener, ListenerTls
from policy.credentials import encrypt
from policy.tables.inline import InlineTable
from spool.writer import SpoolWriter
from tests.tools.certificates import CertificateAuthority
from tests.tools.dialog import Client
from tests.tools.logins import NASTY, plain
from tests.tools.scram import ScramClient, decoded, encoded
from tests.tools.smtp_server import HOST, PEOPLE, QUICK, Setting, smtp_server

pytestmark = pytest.mark.anyio

#: ``user`` has the password ``pencil``.
VERIFIERS = InlineTable.of_mapping("creds", {"user": str(scram.make("pencil", 4096))})
FILTER = Path(__file__).parents[2] / "packaging/fail2ban/filter.d/mailspool.conf"

Connect = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def connect(spool: SpoolWriter, authority: CertificateAuthority) -> Connect:
    """A client inside TLS that has said EHLO, at a server of its own."""
    trust = ssl.create_default_context(cafile=authority.path)
    trust.check_hostname = False

    @asynccontextmanager
    async def made(table: InlineTable = VERIFIERS, limits: Limits = QUICK) -> AsyncIterator[Client]:
        listener = Listener("127.0.0.1", 0, tls=ListenerTls.IMPLICIT, auth=Auth.REQUIRED, credentials=table)
        setting = Setting(listener, replace(limits, failed_logins=1000, bad_commands=1000, idle_commands=1000))
        setting = replace(setting, tls=authority.issue(HOST).server_context())
        async with smtp_server(spool, setting) as server:
            client = Client(await anyio.connect_tcp("127.0.0.1", server.port), trust)
            try:
                await client.secure()
                await client.line()
                await client.ask("EHLO client.example")
                yield client
            finally:
                await client.close()

    return made


async def offers(client: Client) -> list[str]:
    await client.send(b"EHLO client.example\r\n")
    return [line[4:] for line in await client.reply() if line[4:].startswith("AUTH")]


async def begin(client: Client, scram_client: ScramClient) -> str:
    """The server's first message."""
    return decoded(await client.ask(f"AUTH SCRAM-SHA-256 {encoded(scram_client.first())}"))


# -- SCRAM ------------------------------------------------------------------------------------------------------------


async def test_scram_is_offered_where_the_table_holds_verifiers(connect: Connect) -> None:
    async with connect() as client:
        assert await offers(client) == ["AUTH SCRAM-SHA-256 PLAIN LOGIN"]
    async with connect(PEOPLE) as client:
        assert await offers(client) == ["AUTH PLAIN LOGIN"]
        assert (await client.ask("AUTH SCRAM-SHA-256 biws")).startswith("504 5.5.4")


@pytest.mark.parametrize("has_initial", [True, False])
async def test_a_client_logs_in_without_telling_its_password_and_we_prove_that_we_know_it(
    connect: Connect, has_initial: bool
) -> None:
    user = ScramClient("user", "pencil")
    async with connect() as client:
        if has_initial:
            challenge = await begin(client, user)
        else:
            assert await client.ask("AUTH SCRAM-SHA-256") == "334 "
            challenge = decoded(await client.ask(encoded(user.first())))
        assert decoded(await client.ask(encoded(user.final(challenge)))) == user.signature
        assert (await client.ask("")).startswith("235 2.0.0 Authentication succeeded")
        assert (await client.ask("MAIL FROM:<a@b.example>")).startswith("250")


@pytest.mark.parametrize(("login", "password"), [("user", "pen"), ("nobody", "pencil")])
async def test_a_wrong_password_and_an_unknown_login_look_alike(connect: Connect, login: str, password: str) -> None:
    user = ScramClient(login, password)
    async with connect() as client:
        challenge = await begin(client, user)
        assert re.fullmatch(rf"r={user.nonce}[\w+/]{{24}},s=[\w+/]{{22}}==,i=4096", challenge)
        assert (await client.ask(encoded(user.final(challenge)))).startswith("535 5.7.8 Authentication failed")


async def test_an_unknown_login_has_one_salt_in_every_session(connect: Connect) -> None:
    salts = set()
    for _ in range(2):
        async with connect() as client:
            salts.add(re.search(",s=([^,]*)", await begin(client, ScramClient("nobody", "x")))[1])  # type: ignore[index]
    assert len(salts) == 1


@pytest.mark.parametrize("step", [0, 1, 2])
async def test_a_client_may_cancel_at_each_step(connect: Connect, step: int) -> None:
    user = ScramClient("user", "pencil")
    async with connect() as client:
        said = await client.ask("AUTH SCRAM-SHA-256")
        for each in range(step):
            said = await client.ask(encoded(user.first() if each == 0 else user.final(decoded(said))))
        assert (await client.ask("*")).startswith("501 5.7.0")
        assert (await client.ask("MAIL FROM:<a@b.example>")).startswith("530")


async def test_a_client_that_demands_a_channel_binding_is_refused(connect: Connect) -> None:
    async with connect() as client:
        answer = await client.ask(f"AUTH SCRAM-SHA-256 {encoded('p=tls-unique,,n=user,r=x')}")
        assert answer.startswith("501 5.5.2")
        assert (await client.ask("AUTH SCRAM-SHA-256-PLUS")).startswith("504 5.5.4")


async def test_the_password_itself_is_taken_against_a_verifier_too(connect: Connect) -> None:
    async with connect() as client:
        assert (await client.ask(plain("user", "pen"))).startswith("535")
        assert (await client.ask(plain("user", "pencil"))).startswith("235")


@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
async def test_a_token_is_refused_unread_and_is_in_no_log(
    connect: Connect, mechanism: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = b64encode(b"user=ann\x01auth=Bearer very-secret\x01\x01").decode()
    async with connect() as client:
        assert (await client.ask(f"AUTH {mechanism} {token}")).startswith("504 5.5.4")
        assert (await client.ask(f"AUTH {mechanism}")).startswith("504 5.5.4")
        assert (await client.ask(plain("user", "pencil"))).startswith("235")
    assert token not in caplog.text


# -- guesses ----------------------------------------------------------------------------------------------------------


async def test_an_unknown_login_costs_the_time_of_a_wrong_password(
    connect: Connect, capsys: pytest.CaptureFixture[str]
) -> None:
    table = InlineTable.of_mapping("creds", {"user": encrypt("pencil")})
    # Without the delay that hides it: what is left is the work itself. One session's failures add up.
    limits = replace(QUICK, login_delay=0.0)
    times: dict[str, list[float]] = {"user": [], "nobody": []}
    async with connect(table, limits) as client:
        for _ in range(25):
            for login, taken in times.items():
                # Of the processor, and the best of many: other programs' work on this machine is none of ours.
                begun = time.process_time()
                assert (await client.ask(plain(login, "wrong"))).startswith("535")
                taken.append(time.process_time() - begun)
    known, unknown = (min(each) for each in times.values())
    with capsys.disabled():
        print(
            f"\nwrong password {known * 1000:.1f} ms, unknown login {unknown * 1000:.1f} ms of the processor (best of 25)"
        )
    assert abs(known - unknown) < 0.3 * max(known, unknown)


async def test_the_answer_to_a_failure_comes_at_its_time_whatever_the_check_took(connect: Connect) -> None:
    slow = InlineTable.of_mapping("creds", {"user": encrypt("pencil")})
    limits = replace(QUICK, login_delay=0.3, login_slips=1000.0)
    for table in (slow, PEOPLE):
        async with connect(table, limits) as client:
            begun = time.monotonic()
            assert (await client.ask(plain("user", "wrong"))).startswith("535")
            assert 0.3 <= time.monotonic() - begun < 0.6


async def test_an_account_that_is_guessed_at_is_slowed_and_its_owner_still_gets_in(connect: Connect) -> None:
    limits = replace(QUICK, login_delay=0.02, login_slips=2.0, login_delays=10.0)
    async with connect(PEOPLE, limits) as client:
        for _ in range(8):
            await client.ask(plain("user", "wrong"))
        begun = time.monotonic()
        assert (await client.ask(plain("user", "secret"))).startswith("235")
        assert time.monotonic() - begun > 0.02 * 4


async def test_an_address_that_guesses_on_is_sent_away(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingress.guesses.is_loopback", lambda address: False)
    limits = replace(QUICK, login_delay=0.0, address_failures=5.0)
    async with connect(PEOPLE, limits) as client:
        for number in range(8):
            answer = await client.ask(plain(f"login{number}", "wrong"))
            if answer.startswith("421"):
                break
        assert answer.startswith("421 4.7.0 Too many failed logins")
        assert number >= 5
        assert await client.line() == ""


# -- the log ----------------------------------------------------------------------------------------------------------

#: What the filter of fail2ban looks for, with its own names for the address and for what syslog puts before a line.
PATTERN = re.compile(
    re.search(r"^failregex = (.*)$", FILTER.read_text(), re.M)[1]  # type: ignore[index]
    .replace("%(__prefix_line)s", "")
    .replace("<ADDR>", r"(?P<address>[0-9a-f.:]+)")
)


async def test_each_failure_is_one_line_that_names_the_client_s_own_address(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with connect(PEOPLE, replace(QUICK, login_delay=0.0)) as client:
        for login in NASTY:
            await client.ask(plain(login, "wrong"))
    lines = [LineFormatter().format(record) for record in caplog.records]
    told = [line for line in lines if " smtp authentication " in line]
    assert len(told) == len(NASTY)
    for line in told:
        match = PATTERN.fullmatch(line)
        assert match is not None, line
        assert match["address"] == "127.0.0.1"
    assert not any(PATTERN.search(line) for line in lines if line not in told)


async def test_a_login_that_succeeds_is_told_in_a_line_that_bans_nobody(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with connect(PEOPLE) as client:
        assert (await client.ask(plain("user", "secret"))).startswith("235")
    (line,) = [record.getMessage() for record in caplog.records if " authentication " in record.getMessage()]
    assert line.endswith('smtp authentication user="user" address=127.0.0.1 result=ok')
    assert not PATTERN.search(line)
