"""What an accepted message is in the spool, and what policy was asked about it."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from ingress.limits import MAX_HEADER
from policy.config import Auth, Listener, ListenerTls
from spool.address import NULL_SENDER, Address
from spool.bodies import SMALL_BODY
from spool.message import BodyKind, Client, Notify, Ret
from spool.writer import SpoolWriter
from tests.tools.certificates import CertificateAuthority
from tests.tools.smtp_client import HELLO, begin, connected, give, greet
from tests.tools.smtp_server import HOST, PEOPLE, Setting, smtp_server
from tests.tools.spooled import HandClock, sole, take

pytestmark = pytest.mark.anyio

HEADER = b"From: ann@example.com\r\nDate: today\r\nMessage-ID: <x@y>\r\n"


async def test_a_message_is_kept_with_a_received_field_and_nothing_else_is_changed(
    spool: SpoolWriter, clock: HandClock
) -> None:
    content = HEADER + b"\r\n.dot\r\n..\r\n\xfe\x01\r\n"
    async with smtp_server(spool) as server, connected(server) as client:
        await begin(client)
        reply = await give(client, HEADER + b"\r\n..dot\r\n...\r\n\xfe\x01\r\n")
    claimed = await sole(spool)
    assert reply == f"250 2.0.0 {claimed.message.id} Message accepted for delivery"
    received, rest = re.match(rb"(Received: .*?\r\n)(?![ \t])(.*)", claimed.body.read(), re.DOTALL).groups()  # type: ignore[union-attr]
    assert rest == content
    assert received.decode().split("\r\n\t")[:3] == [
        f"Received: from {HELLO} (localhost [127.0.0.1])",
        f"by {HOST} (Mailspool) with ESMTP id {claimed.message.id}",
        "for <bob@here.example>;",
    ]


async def test_everything_that_was_said_of_a_message_is_kept(spool: SpoolWriter, clock: HandClock) -> None:
    async with smtp_server(spool) as server, connected(server) as client:
        await greet(client)
        await client.ask("MAIL FROM:<ann@example.com> RET=HDRS ENVID=QQ+2B SMTPUTF8 BODY=7BIT")
        await client.ask("RCPT TO:<bob@here.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Bob@There")
        await client.ask("DATA")
        await give(client, HEADER + "\r\ngrün\r\n".encode())
    claimed = await sole(spool)
    message, recipient = claimed.message, claimed.envelope.recipient
    assert message.return_path == Address("ann", "example.com")
    assert (message.ret, message.envid) == (Ret.HDRS, "QQ+2B")
    assert message.body_kind == BodyKind.SMTPUTF8 | BodyKind.EIGHT_BIT
    assert message.client == Client(address="127.0.0.1", host="localhost", helo=HELLO, protocol="UTF8SMTP")
    assert (message.arrived, message.received_at) == (spool.clock.now(), clock.wall())
    assert message.size == len(claimed.body.read())
    assert (recipient.notify, recipient.notify_given) == (Notify.SUCCESS | Notify.FAILURE, True)
    assert recipient.orcpt == "rfc822;Bob@There"


async def test_with_two_recipients_received_names_neither(spool: SpoolWriter) -> None:
    async with smtp_server(spool) as server, connected(server) as client:
        await begin(client, "bob@here.example", "eve@here.example")
        await give(client, HEADER + b"\r\n")
    bodies = [claimed.body.read() for claimed in await take(spool)]
    assert len(bodies) == 2
    assert not any(b"for <" in body for body in bodies)


async def test_one_recipient_may_end_in_several_envelopes(spool: SpoolWriter) -> None:
    async with smtp_server(spool) as server, connected(server) as client:
        await begin(client, "two@here.example")
        await give(client, HEADER + b"\r\n")
    assert len(await take(spool)) == 2


async def test_a_message_of_this_machine_gets_the_date_and_message_id_it_lacks(spool: SpoolWriter) -> None:
    async with smtp_server(spool) as server, connected(server) as client:
        await begin(client)
        await give(client, b"Subject: x\r\nBcc: eve@here.example\r\n\r\n")
    claimed = await sole(spool)
    fields = claimed.body.read().partition(b"Subject: x\r\n")[2].split(b"\r\n")
    assert fields[0].startswith(b"Date: ")
    assert fields[1:] == [f"Message-ID: <{claimed.message.id}@{HOST}>".encode(), b"", b""]


async def test_a_masked_listener_does_not_say_who_the_client_is(spool: SpoolWriter) -> None:
    setting = Setting(Listener("127.0.0.1", 0, mask_src=True, hostname="front.example", tag="FRONT"))
    async with smtp_server(spool, setting) as server, connected(server) as client:
        await begin(client)
        await give(client, HEADER + b"\r\n")
        (facts, _) = server.policy.asked[0]
    assert facts.tag == "FRONT"
    assert (await sole(spool)).body.read().startswith(b"Received: by front.example (Mailspool) with ESMTP id ")


async def test_rules_are_asked_with_all_that_is_known(spool: SpoolWriter, tmp_path: Path) -> None:
    tls = CertificateAuthority(tmp_path).issue(HOST).server_context()
    listener = Listener("127.0.0.1", 0, tls=ListenerTls.OFFERED, auth=Auth.OPTIONAL, credentials=PEOPLE)
    async with smtp_server(spool, Setting(listener, tls=tls)) as server, connected(server) as client:
        await client.ask("STARTTLS")
        await client.secure()
        await greet(client)
        await client.ask("AUTH PLAIN AHVzZXIAc2VjcmV0")
        await client.ask("MAIL FROM:<>")
        await client.ask("RCPT TO:<bob@here.example>")
        await client.ask("DATA")
        await give(client, HEADER + b"\r\n")
        (facts, recipient) = server.policy.asked[0]
    assert (facts.source, facts.mail_from, facts.helo) == ("127.0.0.1", NULL_SENDER, HELLO)
    assert (facts.tls, facts.login) == (True, "user")
    assert recipient.address == Address("bob", "here.example")
    message = (await sole(spool)).message
    assert (message.client.protocol, message.client.login) == ("ESMTPSA", "user")


async def test_the_local_socket_tells_who_the_user_is(spool: SpoolWriter, tmp_path: Path) -> None:
    path = str(tmp_path / "submission.sock")
    setting = Setting(Listener("", 0), path=path)
    async with smtp_server(spool, setting) as server, connected(server) as client:
        assert os.stat(path).st_mode & 0o777 == 0o666
        await begin(client)
        await give(client, HEADER + b"\r\n")
        (facts, _) = server.policy.asked[0]
    assert (facts.source, facts.login) == ("local", "")
    claimed = await sole(spool)
    assert claimed.message.client == Client(host="localhost", uid=os.getuid(), helo=HELLO, protocol="ESMTP")
    assert claimed.body.read().startswith(f"Received: from {HELLO} (localhost [local])\r\n".encode())


async def test_a_large_message_is_kept_octet_for_octet(spool: SpoolWriter) -> None:
    lines = [b"%06d " % number + b"x" * 900 + b"\r\n" for number in range(4 * SMALL_BODY // 900)]
    content = HEADER + b"\r\n" + b"".join(lines)
    async with smtp_server(spool) as server, connected(server) as client:
        await begin(client)
        await give(client, content)
    claimed = await sole(spool)
    assert claimed.body.read().endswith(content)
    assert claimed.message.size == claimed.body.size


async def test_a_header_that_comes_in_drops_is_finished_like_any(spool: SpoolWriter) -> None:
    async with smtp_server(spool) as server, connected(server) as client:
        await begin(client)
        for octet in HEADER + b"Bcc: eve\r\n\r\nbody\r\n":
            await client.send(bytes([octet]))
        await give(client, b"")
    assert (await sole(spool)).body.read().endswith(HEADER + b"\r\nbody\r\n")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"Received: x\r\n" * 101 + b"\r\n", "554 5.4.6"),
        (b"X: y\r\n" * (MAX_HEADER // 6 + 1) + b"\r\n", "552 5.3.4"),
        (b"no header\r\n", "550 5.7.1"),
        (HEADER + b"\r\n" + b"x" * 70_000 + b"\r\n", "554 5.6.0"),
    ],
)
async def test_what_cannot_be_accepted_is_refused_after_the_dot(spool: SpoolWriter, content: bytes, code: str) -> None:
    async with smtp_server(spool) as server, connected(server) as client:
        await begin(client)
        assert (await give(client, content)).startswith(code)
        assert (await client.ask("NOOP")).startswith("250 ")
    assert await take(spool) == []


async def test_a_refused_large_message_leaves_no_file(spool: SpoolWriter, place: object, tmp_path: Path) -> None:
    async with smtp_server(spool, Setting(max_message_size=3 * SMALL_BODY)) as server, connected(server) as client:
        await begin(client)
        reply = await give(client, HEADER + b"\r\n" + (b"x" * 998 + b"\r\n") * (4 * SMALL_BODY // 1000))
    assert reply.startswith("552 5.3.4")
    assert [path for path in (tmp_path / "var").rglob("msg/*/*") if path.is_file()] == []


async def test_a_reload_changes_the_next_transaction_not_the_present(spool: SpoolWriter) -> None:
    async with smtp_server(spool) as server, connected(server) as client:
        await begin(client)
        server.config = replace(server.config, max_message_size=10)
        assert (await give(client, HEADER + b"\r\n")).startswith("250 ")
        assert (await client.ask("MAIL FROM:<ann@example.com> SIZE=100")).startswith("552 ")


async def test_recipients_that_become_a_crowd_do_not_become_one_each_without_end(spool: SpoolWriter) -> None:
    async with smtp_server(spool) as server, connected(server) as client:
        await greet(client)
        await client.ask("MAIL FROM:<ann@example.com>")
        crowd = [await client.ask("RCPT TO:<crowd@here.example>") for _ in range(3)]
    assert [reply[:9] for reply in crowd] == ["250 2.1.5", "250 2.1.5", "452 4.5.3"]
    # Nor is policy bothered any more.
    assert len(server.policy.asked) == 2
