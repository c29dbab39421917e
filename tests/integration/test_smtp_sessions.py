"""Many clients, slow clients, clients in the way of a shutdown; and what the log says of them."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from ingress.errors import ListenError
from ingress.openings import Opening, bind
from policy.config import Auth, Listener, ListenerTls
from spool.message import Submission
from spool.writer import SpoolWriter
from tests.tools.certificates import CertificateAuthority
from tests.tools.dialog import Client
from tests.tools.loops import BOTH
from tests.tools.smtp_client import begin, connected, give, greet, unwelcome
from tests.tools.smtp_server import HOST, PEOPLE, QUICK, Server, Setting, opening, smtp_server, with_limits
from tests.tools.spooled import take

pytestmark = pytest.mark.anyio


@pytest.fixture(params=BOTH)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


async def nobody_left(server: Server) -> None:
    with anyio.fail_after(5):
        while server.ingress.sessions:  # noqa: ASYNC110 -- the server tells nobody
            await anyio.sleep(0.01)


# -- how many ---------------------------------------------------------------------------------------------------------


async def test_beyond_the_limit_clients_are_told_to_come_again(spool: SpoolWriter) -> None:
    async with smtp_server(spool, with_limits(connections=1)) as server:
        async with connected(server), unwelcome(server) as second:
            assert (await second.line()).startswith("421 4.3.2 ")
            assert await second.line() == ""
        await nobody_left(server)
        async with connected(server):
            pass


async def test_loopback_is_exempt_from_the_limit_for_one_address(spool: SpoolWriter) -> None:
    setting = with_limits(connections_per_address=1)
    async with smtp_server(spool, setting) as server, connected(server), connected(server):
        assert server.ingress.sessions == 2


async def test_one_address_cannot_have_all_connections(spool: SpoolWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingress.listener.is_loopback", lambda address: False)
    async with smtp_server(spool, with_limits(connections_per_address=1)) as server:
        async with connected(server), unwelcome(server) as second:
            assert (await second.line()).startswith("421 4.7.0 ")
        await nobody_left(server)
        async with connected(server):
            pass


async def test_one_user_cannot_have_all_connections_by_the_socket(spool: SpoolWriter, tmp_path: Path) -> None:
    setting = with_limits(connections_per_user=1)
    setting = replace(setting, listener=Listener("", 0), path=str(tmp_path / "submission.sock"))
    async with smtp_server(spool, setting) as server:
        async with connected(server), unwelcome(server) as second:
            assert await second.line() == "421 4.7.0 Too many connections of this user"
        await nobody_left(server)
        async with connected(server):
            pass


# -- how slow ---------------------------------------------------------------------------------------------------------


async def test_a_drop_now_and_then_does_not_make_a_message_endless(spool: SpoolWriter) -> None:
    async with smtp_server(spool, with_limits(data_total=0.3)) as server, connected(server) as client:
        await begin(client)
        with anyio.fail_after(5):
            while not (said := await client.silence()):
                await client.send(b"x")
    assert said.startswith("421 4.4.2 ")


async def test_a_client_that_reads_no_replies_is_cut_off(spool: SpoolWriter) -> None:
    async def ask_for_ever(client: Client) -> None:
        while True:
            await client.send(b"HELP\r\n" * 10_000)

    async with smtp_server(spool, with_limits(idle=0.3)) as server, connected(server) as client:
        with anyio.fail_after(5), pytest.raises(anyio.BrokenResourceError):
            await ask_for_ever(client)
        await nobody_left(server)


async def test_a_handshake_that_does_not_come_is_not_waited_for(spool: SpoolWriter, tmp_path: Path) -> None:
    tls = CertificateAuthority(tmp_path).issue(HOST).server_context()
    listener = Listener("127.0.0.1", 0, tls=ListenerTls.IMPLICIT)
    setting = Setting(listener, replace(QUICK, handshake=0.2), tls)
    async with smtp_server(spool, setting) as server, unwelcome(server) as client:
        assert await client.line() == ""
        await nobody_left(server)


async def test_a_flood_of_commands_lets_others_have_their_turn(spool: SpoolWriter) -> None:
    async with smtp_server(spool) as server, connected(server) as flooder, connected(server) as other:
        await flooder.send(b"NOOP\r\n" * 20_000)
        with anyio.fail_after(2):
            assert (await other.ask("NOOP")).startswith("250 ")
        for _ in range(20_000):
            assert await flooder.line() == "250 2.0.0 Ok"


async def test_a_burst_of_commands_is_answered_in_one_piece(spool: SpoolWriter) -> None:
    async with smtp_server(spool) as server, await anyio.connect_tcp("127.0.0.1", server.port) as stream:
        await stream.receive()
        await stream.send(b"EHLO c.example\r\nMAIL FROM:<>\r\n" + b"RCPT TO:<bob@here.example>\r\n" * 20 + b"DATA\r\n")
        assert (await stream.receive()).count(b"\r\n") == 8 + 1 + 20 + 1


async def test_the_answer_to_a_wrong_password_takes_its_time(spool: SpoolWriter, tmp_path: Path) -> None:
    tls = CertificateAuthority(tmp_path).issue(HOST).server_context()
    listener = Listener("127.0.0.1", 0, tls=ListenerTls.IMPLICIT, auth=Auth.REQUIRED, credentials=PEOPLE)
    setting = Setting(listener, replace(QUICK, login_delay=0.2), tls)
    async with smtp_server(spool, setting) as server, unwelcome(server) as client:
        await client.secure()
        await client.line()
        await greet(client)
        for failures in (1, 2):
            started = anyio.current_time()
            assert (await client.ask("AUTH PLAIN AHVzZXIAd3Jvbmc=")).startswith("535 ")
            # uvloop counts whole milliseconds, and may miss one at either end.
            assert anyio.current_time() - started > 0.2 * failures - 0.002


async def test_what_a_client_sends_ahead_waits_in_the_kernel(spool: SpoolWriter) -> None:
    async with smtp_server(spool) as server, connected(server) as client:
        await greet(client)
        await client.ask("MAIL FROM:<ann@example.com>")
        await client.send(b"RCPT TO:<slow@here.example>\r\n")
        with anyio.move_on_after(0.5) as scope:
            await client.send(b"NOOP\r\n" * 10_000_000)
        assert scope.cancelled_caught, "somebody took 60 MB"
        server.policy.gate.set()


# -- the end ----------------------------------------------------------------------------------------------------------


async def test_a_shutdown_says_goodbye_to_silent_clients(spool: SpoolWriter) -> None:
    async with smtp_server(spool) as server, connected(server) as client:
        await greet(client)
        server.ingress.stop()
        assert (await client.line()).startswith("421 4.3.2 ")
        assert await client.line() == ""


async def test_a_shutdown_waits_for_the_message_that_is_coming(spool: SpoolWriter) -> None:
    async with smtp_server(spool) as server, connected(server) as client:
        await begin(client)
        await client.send(b"Subject: x\r\n")
        server.ingress.stop()
        await anyio.sleep(0.1)
        assert (await give(client, b"\r\n")).startswith("250 ")
        assert (await client.line()).startswith("421 4.3.2 ")
    assert len(await take(spool)) == 1


async def test_a_shutdown_does_not_wait_for_ever(spool: SpoolWriter) -> None:
    async with smtp_server(spool, with_limits(grace=0.2)) as server, connected(server) as client:
        await begin(client)
        server.ingress.stop()
        assert await client.line() == ""
    assert await take(spool) == []


async def test_a_client_hears_that_its_message_is_taken_even_when_the_grace_is_over(
    spool: SpoolWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept, written = spool.accept, anyio.Event()

    async def late(submission: Submission) -> None:
        await accept(submission)
        await written.wait()

    monkeypatch.setattr(spool, "accept", late)
    async with smtp_server(spool, with_limits(grace=0.1)) as server, connected(server) as client:
        await begin(client)
        await client.send(b"Subject: x\r\n\r\n.\r\n")
        server.ingress.stop()
        await anyio.sleep(0.3)
        written.set()
        assert (await client.line()).startswith("250 ")
    assert len(await take(spool)) == 1


async def test_during_a_shutdown_nobody_is_let_in(spool: SpoolWriter) -> None:
    async with smtp_server(spool) as server, connected(server) as client:
        await begin(client)
        port = server.port
        server.ingress.stop()
        await anyio.sleep(0.05)
        with pytest.raises(OSError, match="connect"):
            await anyio.connect_tcp("127.0.0.1", port)
        await client.close()


async def test_a_reload_keeps_the_socket_and_changes_what_is_offered(spool: SpoolWriter) -> None:
    async with smtp_server(spool) as server, connected(server) as old:
        await server.ingress.reopen([Opening(Listener("127.0.0.1", 0, no_dsn=True), None)])
        assert "DSN" in await offers(old)
        async with connected(server) as new:
            assert "DSN" not in await offers(new)


async def test_a_reload_opens_and_closes_listeners(spool: SpoolWriter) -> None:
    async with smtp_server(spool) as server:
        port = server.port
        await server.ingress.reopen([opening(Listener("127.0.0.2", 0))])
        async with connected(server):
            assert isinstance(server.address, tuple)
            assert server.address[0] == "127.0.0.2"
        with pytest.raises(OSError, match="connect"):
            await anyio.connect_tcp("127.0.0.1", port)


async def test_while_it_is_paused_clients_are_told_to_come_again(spool: SpoolWriter) -> None:
    async with smtp_server(spool) as server, connected(server) as old:
        server.ingress.is_paused = True
        async with unwelcome(server) as client:
            assert (await client.line()).startswith("421 4.3.2 ")
        server.ingress.is_paused = False
        assert (await old.ask("NOOP")).startswith("250 ")
        async with connected(server):
            pass


async def offers(client: Client) -> set[str]:
    await client.send(b"EHLO client.example\r\n")
    return {line[4:].partition(" ")[0] for line in await client.reply()}


# -- where ------------------------------------------------------------------------------------------------------------


def test_an_address_that_is_taken_is_named_with_the_reason() -> None:
    with bind(Listener("127.0.0.1", 0), "") as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=f"cannot listen on 127.0.0.1 port {port}: Address already in use"):
            bind(Listener("127.0.0.1", port), "")


def test_a_socket_of_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    bind(Listener("", 0), path).close()
    bind(Listener("", 0), path).close()


def test_a_socket_where_somebody_listens_is_left_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with bind(Listener("", 0), path) as alive:
        alive.listen()
        with pytest.raises(ListenError, match="Address already in use"):
            bind(Listener("", 0), path)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(ListenError, match="Address already in use"):
        bind(Listener("", 0), str(path))
    assert path.read_text() == "precious"


async def test_an_ipv6_client_is_greeted(spool: SpoolWriter) -> None:
    async with smtp_server(spool, Setting(Listener("::1", 0))) as server, connected(server) as client:
        assert "Hello c.example [::1]" in await client.ask("HELO c.example")


# -- the log ----------------------------------------------------------------------------------------------------------


async def test_a_session_is_told_in_the_log(spool: SpoolWriter, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="ingress")
    async with smtp_server(spool) as server:
        async with connected(server) as client:
            await begin(client)
            await give(client, b"Subject: x\r\n\r\n")
            await client.ask('EHLO "\x7f\\ x')
            await client.ask('EHLO "\\ x')
            await client.ask("QUIT")
        await nobody_left(server)
    (claimed,) = await take(spool)
    lines = [re.sub(r"^[0-9a-f]{16} ", "SID ", record.getMessage()) for record in caplog.records]
    assert lines == [
        "SID smtp connected address=127.0.0.1 host=localhost",
        f"SID smtp message msgid={claimed.message.id} size={claimed.message.size} nrcpt=1 proto=ESMTP",
        f"SID smtp envelope evpid={claimed.envelope.id} from=<ann@example.com> to=<bob@here.example>",
        'SID smtp bad-input result="500 5.5.2 Syntax error: control character or malformed UTF-8 in command"',
        'SID smtp failed-command command="EHLO \\"\\\\ x" '
        'result="501 5.5.4 Invalid command arguments: Invalid domain name"',
        "SID smtp disconnected reason=quit",
    ]


async def test_a_password_is_in_no_line_of_the_log(
    spool: SpoolWriter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    tls = CertificateAuthority(tmp_path).issue(HOST).server_context()
    listener = Listener("127.0.0.1", 0, tls=ListenerTls.IMPLICIT, auth=Auth.REQUIRED, credentials=PEOPLE)
    async with smtp_server(spool, Setting(listener, tls=tls)) as server, unwelcome(server) as client:
        await client.secure()
        assert (await client.line()).startswith("220 ")
        await greet(client)
        await client.ask("AUTH PLAIN AHVzZXIAd3Jvbmc=")
        await client.ask("AUTH LOGIN dXNlcg==")
        await client.ask("d3Jvbmc=")
        await client.ask("AUTH GSSAPI d3Jvbmc=")
        await client.ask("d3Jvbmc=")
        await client.ask("AUTH PLAIN AHVzZXIAd3Jvbmc= d3Jvbmc=")
        await client.ask("AUTH PLAIN AHVzZXIAc2VjcmV0")
    assert 'authentication user="user" address=127.0.0.1 result=permfail' in caplog.text
    assert 'authentication user="user" address=127.0.0.1 result=ok' in caplog.text
    assert "smtp tls ciphers=TLSv1.3:" in caplog.text
    for secret in ("d3Jvbmc", "AHVzZXIA", "wrong", "secret"):
        assert secret not in caplog.text
