"""What is read from, added to and taken from a header."""

from __future__ import annotations

import time

import pytest

from ingress import headers
from ingress.headers import Trace
from spool.address import Address
from spool.ids import MessageId
from spool.message import Client

ID = MessageId("0123456789abcdefghij")
CLIENT = Client(address="192.0.2.7", helo="client.example", protocol="ESMTPS")
FIELDS = b"From: a@example.org\r\nSubject: two\r\n lines\r\n"


@pytest.mark.parametrize(
    ("content", "end"),
    [
        (FIELDS + b"\r\nbody\r\n", len(FIELDS)),
        (FIELDS, len(FIELDS)),
        (FIELDS + b"no field\r\nA: b\r\n", len(FIELDS)),
        (b"\r\nbody\r\n", 0),
        (b"", 0),
        (b"Old : style\r\n\r\n", 13),
        (b"A:\r\n\r\n", 4),
        (b"hello\r\n", None),
        (b" folded\r\n", None),
        (b"From ann Mon Nov 23 10:00:00 2026\r\nA: b\r\n", None),
        (b": nameless\r\n", None),
        (b"N\xe4me: x\r\n", None),
    ],
)
def test_a_header_ends_at_the_first_line_that_is_no_field(content: bytes, end: int | None) -> None:
    assert headers.header_end(content) == end


def test_a_hostile_header_is_searched_in_one_pass() -> None:
    content = b"a:" + b" \t" * 100_000 + b"\r\n" + b" \r\n" * 20_000 + b"x" * 100_000
    started = time.process_time()
    headers.header_end(content)
    headers.hops(content)
    headers.without_bcc(b"bcc" * 60_000)
    assert time.process_time() - started < 1


def test_received_fields_are_counted_in_any_case_and_old_style() -> None:
    assert headers.hops(b"Received: a\r\nRECEIVED: b\r\n c\r\nreceived : d\r\nX-Received: e\r\n") == 3


def test_the_word_received_elsewhere_is_no_hop() -> None:
    assert headers.hops(b"Subject: received: nothing\r\n Received: folded\r\n") == 0


def test_bcc_fields_go_with_all_their_lines() -> None:
    header = b"To: a@b\r\nBcc: x@y,\r\n z@y\r\nSubject: s\r\nbCC : w@y\r\n"
    assert headers.without_bcc(header) == b"To: a@b\r\nSubject: s\r\n"


def test_a_field_whose_name_begins_with_bcc_stays() -> None:
    assert headers.without_bcc(b"Bcc-Note: x\r\n") == b"Bcc-Note: x\r\n"


def test_missing_date_and_message_id_are_added_at_the_end() -> None:
    wall = 1_795_351_597.5
    completed = headers.complete(FIELDS, ID, "mx.example", wall)
    added = completed.removeprefix(FIELDS).split(b"\r\n")
    assert added[0].startswith(b"Date: ")
    assert added[1:] == [b"Message-ID: <0123456789abcdefghij@mx.example>", b""]


def test_a_date_and_a_message_id_that_are_there_stay_alone() -> None:
    header = b"DATE: yesterday\r\nmessage-id : <x@y>\r\n"
    assert headers.complete(header, ID, "mx.example", 0) == header


def test_the_date_is_the_wall_clock_s_in_the_form_of_rfc_5322(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    headers._date.cache_clear()
    assert headers.complete(b"Message-ID: x\r\n", ID, "h", 1_795_351_597.9).endswith(
        b"Date: Sun, 22 Nov 2026 12:46:37 +0000\r\n"
    )
    monkeypatch.undo()
    time.tzset()
    headers._date.cache_clear()


def test_received_names_the_only_recipient() -> None:
    trace = Trace(CLIENT, "mx.example", ID, tls="TLSv1.3:X:256", recipient=Address("bob", "example.org"))
    lines = headers.received(trace, 0).split(b"\r\n")
    assert lines[:3] == [
        b"Received: from client.example ([192.0.2.7])",
        b"\tby mx.example (Mailspool) with ESMTPS id 0123456789abcdefghij (TLSv1.3:X:256)",
        b"\tfor <bob@example.org>;",
    ]
    assert lines[3].startswith(b"\tThu, 01 Jan 1970 ")


def test_received_names_no_recipient_among_several() -> None:
    assert b"for <" not in headers.received(Trace(CLIENT, "mx.example", ID), 0)


def test_a_masked_client_is_not_named() -> None:
    masked = headers.received(Trace(CLIENT, "mx.example", ID, masked=True), 0)
    assert masked.startswith(b"Received: by mx.example (Mailspool) with ESMTPS id ")
    assert b"192.0.2.7" not in masked
    assert b"client.example" not in masked


def test_an_ipv6_client_is_a_tagged_literal_behind_its_confirmed_name() -> None:
    client = Client(address="2001:db8::1", host="six.example", helo="h", protocol="ESMTP")
    assert headers.received(Trace(client, "mx", ID), 0).startswith(
        b"Received: from h (six.example [IPv6:2001:db8::1])\r\n"
    )


@pytest.mark.parametrize(
    ("esmtp", "tls", "authenticated", "smtputf8", "name"),
    [
        (False, False, False, False, "SMTP"),
        (True, False, False, False, "ESMTP"),
        (True, True, False, False, "ESMTPS"),
        (True, True, True, False, "ESMTPSA"),
        (True, False, False, True, "UTF8SMTP"),
        (True, True, True, True, "UTF8SMTPSA"),
    ],
)
def test_protocols_have_their_registered_names(
    esmtp: bool, tls: bool, authenticated: bool, smtputf8: bool, name: str
) -> None:
    assert headers.protocol(esmtp, tls, authenticated, smtputf8) == name


def test_the_socket_and_loopback_addresses_are_this_machine() -> None:
    assert all(map(headers.is_loopback, ["local", "127.0.0.1", "127.9.9.9", "::1"]))
    assert not any(map(headers.is_loopback, ["192.0.2.1", "2001:db8::1"]))
