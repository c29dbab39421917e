"""Logins by real clients, and fail2ban that reads of those that failed."""

from __future__ import annotations

import logging
import re
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from control.journal import LineFormatter
from policy import scram
from policy.config import Auth, Listener, ListenerTls
from policy.credentials import encrypt
from policy.tables.inline import InlineTable
from spool.layout import layout
from spool.writer import SpoolWriter
from tests.tools.certificates import CertificateAuthority
from tests.tools.dialog import Client
from tests.tools.logins import NASTY, plain
from tests.tools.smtp_server import QUICK, Server, Setting, smtp_server

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("peers")]

#: ``user`` has the password ``pencil``.
VERIFIERS = InlineTable.of_mapping("creds", {"user": str(scram.make("pencil"))})
FILTER = Path(__file__).parents[2] / "packaging/fail2ban/filter.d/mailspool.conf"


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[SpoolWriter]:
    writer = await SpoolWriter.open(layout(str(tmp_path)))
    yield writer
    await writer.aclose()


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority(tmp_path)


def setting(authority: CertificateAuthority, tls: ListenerTls = ListenerTls.OFFERED) -> Setting:
    listener = Listener("127.0.0.1", 0, tls=tls, auth=Auth.REQUIRED, credentials=VERIFIERS)
    return Setting(listener, QUICK, tls=authority.issue("localhost").server_context())


async def run(*command: str) -> subprocess.CompletedProcess[str]:
    """A program to its end."""

    def done() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL
        )

    return await anyio.to_thread.run_sync(done)


def typed_into(program: Sequence[str], text: str) -> str:
    """What a program says to somebody at a terminal, who does not hang up."""
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(text)
        process.stdin.flush()
        return process.stdout.read()


async def gsasl(server: Server, authority: CertificateAuthority, mechanism: str, password: str) -> str:
    """What gsasl and the server said."""
    done = await run(
        "gsasl", "--smtp", f"--connect=localhost:{server.port}", "--starttls", f"--x509-ca-file={authority.path}",
        f"--mechanism={mechanism}", "--authentication-id=user", "--authorization-id=", f"--password={password}",
        "--no-cb", "--verbose",
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "PLAIN", "LOGIN"])
async def test_gsasl_logs_in(spool: SpoolWriter, authority: CertificateAuthority, mechanism: str) -> None:
    async with smtp_server(spool, setting(authority)) as server:
        said = await gsasl(server, authority, mechanism, "pencil")
        assert "235 2.0.0 Authentication succeeded" in said, said
        assert "535 5.7.8" in await gsasl(server, authority, mechanism, "pen")


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
async def test_swaks_logs_in(spool: SpoolWriter, authority: CertificateAuthority, mechanism: str) -> None:
    async with smtp_server(spool, setting(authority, ListenerTls.IMPLICIT)) as server:
        done = await run(
            "swaks", "--server", "127.0.0.1", "--port", str(server.port), "--tls-on-connect", "--auth", mechanism,
            "--auth-user", "user", "--auth-password", "pencil", "--to", "a@b.example", "--quit-after", "AUTH",
        )  # fmt: skip
        assert "235 2.0.0 Authentication succeeded" in done.stdout, done.stdout


async def test_the_login_of_the_arch_wiki_by_openssl(spool: SpoolWriter, authority: CertificateAuthority) -> None:
    people = InlineTable.of_mapping("creds", {"username": encrypt("password")})
    wanted = setting(authority)
    wanted = replace(wanted, listener=replace(wanted.listener, credentials=people, no_dsn=False))
    async with smtp_server(spool, wanted) as server:
        program = (
            "openssl",
            "s_client",
            "-connect",
            f"127.0.0.1:{server.port}",
            "-starttls",
            "smtp",
            "-quiet",
            "-crlf",
        )
        typed = "ehlo test.domain.tld\nAUTH PLAIN\ndXNlcm5hbWUAdXNlcm5hbWUAcGFzc3dvcmQ=\nQUIT\n"
        said = (await anyio.to_thread.run_sync(typed_into, program, typed)).splitlines()
    assert "250-SIZE 36700160" in said
    assert "250-AUTH PLAIN LOGIN" in said
    # The challenge is a code, a blank and nothing.
    assert said[said.index("334 ") :] == ["334 ", "235 2.0.0 Authentication succeeded", "221 2.0.0 Bye"]


async def test_fail2ban_bans_who_guesses_and_nobody_whom_a_login_names(
    spool: SpoolWriter, authority: CertificateAuthority, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO)
    trust = ssl.create_default_context(cafile=authority.path)
    trust.check_hostname = False
    async with smtp_server(spool, setting(authority, ListenerTls.IMPLICIT)) as server:
        for login in (*NASTY, "user"):
            client = Client(await anyio.connect_tcp("127.0.0.1", server.port), trust)
            try:
                await client.secure()
                await client.line()
                await client.ask("EHLO client.example")
                await client.ask(plain(login, "pencil"))
            finally:
                await client.close()
    lines = [LineFormatter().format(record) for record in caplog.records]
    journal = tmp_path / "mail.log"
    journal.write_text("".join(f"Nov 23 12:00:00 box smtpd[77]: {line}\n" for line in lines))
    # Where an administrator puts it: beside what fail2ban's own filters share.
    installed = tmp_path / "filter.d"
    shutil.copytree("/etc/fail2ban/filter.d", installed)
    shutil.copy(FILTER, installed)
    filter_file = str(installed / FILTER.name)
    read = await run("fail2ban-regex", str(journal), filter_file)
    (matched,) = re.findall(r"^Failregex: (\d+) total", read.stdout, re.M)
    assert int(matched) == len(NASTY), read.stdout
    addresses = await run("fail2ban-regex", "-o", "ip", str(journal), filter_file)
    assert addresses.stdout.split() == ["127.0.0.1"] * len(NASTY)
