"""STARTTLS injection: CVE-2011-0411 (Postfix) and its family, up to "NO STARTTLS" of 2021, and CVE-2024-34083 (aiosmtpd).

The attack on a server: somebody between client and server appends commands to the client's STARTTLS, in the same segment.
A server that buffers what it has read obeys them after the handshake, as if they had come from the client inside TLS. The
attack on a client is its mirror image: a reply appended to the server's 220 counts as the answer to the first command inside
TLS; or what was said before TLS still counts inside; or the offer is taken away, and the client goes on in plain text.

The walls here: what was buffered is thrown away at the switch, on both sides, and the session begins afresh (RFC 3207 4.2);
a client that must have TLS sends nothing without, and one that need not knows nothing worth to be stolen.
"""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from policy.config import Relay, RelayTls
from spool.outcome import Deferred, Delivered, Stage
from tests.tools.certificates import CertificateAuthority
from tests.tools.daemon import Daemon
from tests.tools.recording_sink import Act, RecordingSink
from tests.tools.relaying import BRIEF, Secrets, house, to_host
from tests.tools.smtp_server import HASH
from tests.tools.stranger import Stranger

CONFIGURATION = """\
pki box.example.net cert "/etc/smtpd/crt"
pki box.example.net key "/etc/smtpd/key"
table creds "/etc/smtpd/creds"
listen on 127.0.0.1 port $port tls pki box.example.net auth-optional <creds>
action in maildir "/Maildir" virtual { "@" = "root" }
match from any for any action in
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def daemon(authority: CertificateAuthority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    issued = authority.issue("127.0.0.1")
    files = {"crt": Path(issued.cert).read_text(), "key": Path(issued.key).read_text(), "creds": f"user {HASH}\n"}
    with Daemon(tmp_path_factory.mktemp("starttls"), CONFIGURATION, tables=files) as daemon:
        yield daemon


# -- the server -------------------------------------------------------------------------------------------------------

INJECTED = [
    b"NOOP\r\n",
    b"RSET\r\nNOOP\r\n",
    b"EHLO evil.example\r\nMAIL FROM:<evil@evil.example>\r\nRCPT TO:<bob@here.example>\r\nDATA\r\n",
    b"NOO",
    b"AUTH PLAIN\r\n",
    b"\r\n",
    b"x" * 5000,
]


@pytest.mark.parametrize("injected", INJECTED, ids=range(len(INJECTED)))
def test_cve_2011_0411_what_follows_starttls_in_plain_text_is_never_obeyed(daemon: Daemon, injected: bytes) -> None:
    with Stranger(daemon.port) as client:
        client.hello()
        client.send(b"STARTTLS\r\n" + injected)
        assert client.reply().startswith("220 ")
        client.secure()
        assert client.falls_silent()
        # Not even half a command is left of it, and nobody has said EHLO.
        assert client.ask("MAIL FROM:<ann@client.example>").startswith("503 ")
        assert client.ask("EHLO client.example").startswith("250-")
        assert client.ask("MAIL FROM:<ann@client.example>").startswith("250 ")
        assert client.ask("RCPT TO:<bob@here.example>").startswith("250 ")


def test_a_transaction_from_before_tls_is_forgotten(daemon: Daemon) -> None:
    with Stranger(daemon.port) as client:
        client.hello()
        client.ask("MAIL FROM:<evil@evil.example>")
        client.ask("RCPT TO:<evil@here.example>")
        assert client.ask("STARTTLS").startswith("220 ")
        client.secure()
        assert client.ask("DATA").startswith("503 ")
        client.ask("EHLO client.example")
        assert client.ask("DATA").startswith("503 ")


def test_what_follows_auth_is_no_answer_to_its_challenge_of_another_session(daemon: Daemon) -> None:
    """AUTH may be pipelined by nobody: what came with it is its answer and nothing else, and is never logged or obeyed."""
    with Stranger(daemon.port) as client:
        client.hello()
        client.ask("STARTTLS")
        client.secure()
        client.ask("EHLO client.example")
        client.send(b"AUTH PLAIN\r\n*\r\nNOOP\r\n")
        assert client.reply() == "334 "
        assert client.reply().startswith("501 5.7.0")
        assert client.reply() == "250 2.0.0 Ok"


def test_a_password_is_not_asked_for_before_tls(daemon: Daemon) -> None:
    with Stranger(daemon.port) as client:
        assert "AUTH" not in client.hello()
        assert client.ask("AUTH PLAIN AHVzZXIAc2VjcmV0").startswith("538 ")
    assert "AHVzZXIAc2VjcmV0" not in daemon.log


def test_a_client_that_begins_tls_twice_is_refused(daemon: Daemon) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with smtplib.SMTP("127.0.0.1", daemon.port, timeout=10) as client:
        client.starttls(context=context)
        client.ehlo()
        assert not client.has_extn("starttls")
        assert client.docmd("STARTTLS")[0] == 503


# -- the client -------------------------------------------------------------------------------------------------------

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("attacks: starttls")]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


RESPONSES = [
    b"220 go\r\n250-evil.example\r\n250-AUTH PLAIN LOGIN\r\n250 SIZE 1\r\n",
    b"220 go\r\n250 2.0.0 Ok\r\n250 2.0.0 Ok\r\n250 2.0.0 Ok\r\n354 go\r\n250 2.0.0 Ok\r\n",
    b"220 go\r\n550 5.7.1 never\r\n",
    b"220 go\r\n25",
]


@pytest.mark.parametrize("said", RESPONSES, ids=range(len(RESPONSES)))
@pytest.mark.parametrize("tls", [RelayTls.REQUIRED, RelayTls.OPPORTUNISTIC])
async def test_replies_injected_before_the_handshake_count_for_nothing(
    authority: CertificateAuthority, said: bytes, tls: RelayTls
) -> None:
    """What was appended to 220 either ends the connection, or is forgotten: no command is answered by it."""
    server = authority.issue("127.0.0.1").server_context()
    async with RecordingSink(tls=server) as sink:
        sink.on("STARTTLS", Act(said))
        action = Relay(name="relay", hosts=(to_host(sink.port, tls),), ca=authority.path)
        async with house(action, timeouts=BRIEF) as sender:
            outcome = await sender.outcome()
        if isinstance(outcome, Delivered):
            (message,) = sink.messages
            assert outcome.reply.text != "Ok"
            assert message.peer.tls or tls is RelayTls.OPPORTUNISTIC
        else:
            assert isinstance(outcome, Deferred)
            assert sink.messages == []


async def test_offers_from_before_tls_are_forgotten(authority: CertificateAuthority) -> None:
    """A plain EHLO that offers AUTH and a tiny SIZE is a lie of somebody in between; the one inside TLS counts."""
    server = authority.issue("127.0.0.1").server_context()
    async with RecordingSink(tls=server, users={"user": "secret"}) as sink:
        sink.on("EHLO", Act(b"250-evil.example\r\n250-STARTTLS\r\n250-AUTH X-STEAL\r\n250 SIZE 1\r\n"))
        action = Relay(
            name="relay",
            hosts=(to_host(sink.port, RelayTls.REQUIRED, "isp"),),
            auth=Secrets({"isp": "user:secret"}),
            ca=authority.path,
        )
        async with house(action, timeouts=BRIEF) as sender:
            assert isinstance(await sender.outcome(), Delivered)
        assert sink.messages[0].peer.user == "user"


@pytest.mark.parametrize(
    "answer",
    [
        Act(b"250-evil.example\r\n250 PIPELINING\r\n"),
        Act(b"250 evil.example\r\n"),
        Act(b"500 what?\r\n"),
    ],
    ids=["without the offer", "without any", "EHLO refused"],
)
async def test_an_offer_that_somebody_took_away_stops_who_must_have_tls(
    authority: CertificateAuthority, answer: Act
) -> None:
    server = authority.issue("127.0.0.1").server_context()
    async with RecordingSink(tls=server, users={"user": "secret"}) as sink:
        sink.on("EHLO", answer, times=None)
        action = Relay(
            name="relay",
            hosts=(to_host(sink.port, RelayTls.REQUIRED, "isp"),),
            auth=Secrets({"isp": "user:secret"}),
            ca=authority.path,
        )
        async with house(action, timeouts=BRIEF) as sender:
            outcome = await sender.outcome()
        assert isinstance(outcome, Deferred)
        assert outcome.stage is Stage.TLS
        said = [command.split()[0] for peer in sink.peers for command in peer.commands]
        assert not {"AUTH", "MAIL", "RCPT", "DATA"} & set(said)


async def test_a_starttls_that_is_refused_stops_who_must_have_it(authority: CertificateAuthority) -> None:
    server = authority.issue("127.0.0.1").server_context()
    async with RecordingSink(tls=server) as sink:
        sink.on("STARTTLS", Act("454 4.7.0 not now"), times=None)
        action = Relay(name="relay", hosts=(to_host(sink.port, RelayTls.REQUIRED),), ca=authority.path)
        async with house(action, timeouts=BRIEF) as sender:
            assert isinstance(await sender.outcome(), Deferred)
        assert sink.messages == []


async def test_a_greeting_that_comes_with_more_is_not_read_as_the_answer_to_ehlo() -> None:
    """Response smuggling from the first octet: answers that come before their questions."""
    async with RecordingSink() as sink:
        sink.on("connect", Act(b"220 hello\r\n250-x\r\n250 AUTH PLAIN\r\n250 Ok\r\n250 Ok\r\n354 go\r\n250 taken\r\n"))
        action = Relay(name="relay", hosts=(to_host(sink.port, RelayTls.NEVER),))
        async with house(action, timeouts=BRIEF) as sender:
            outcome = await sender.outcome()
        if isinstance(outcome, Delivered):
            assert len(sink.messages) == 1
            assert outcome.reply.text != "taken"
