"""What sendmail does to a message."""

from __future__ import annotations

import quopri
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.compose import (
    MAX_HEADER,
    BadMessage,
    Header,
    LineWatch,
    quoted_printable,
    read_header,
    wire_form,
)
from tests.unit.test_enqueue_source import Arriving


def composed(*pieces: bytes) -> tuple[bytes, bytes]:
    """The header and the body that come of a message which arrives in these pieces."""
    source = Arriving(pieces)
    header = read_header(source).encode()
    return header, b"".join(wire_form(source))


def header_of(message: bytes) -> Header:
    return read_header(Arriving((message,)))


@pytest.mark.parametrize(
    ("message", "header", "body"),
    [
        (b"Subject: x\n\nbody\n", b"Subject: x\r\n\r\n", b"body\r\n"),
        (b"Subject: x\r\n\r\nbody", b"Subject: x\r\n\r\n", b"body\r\n"),
        (b"Subject: x\n folded\nTo: a\n\n\nbody", b"Subject: x\r\n folded\r\nTo: a\r\n\r\n", b"\r\nbody\r\n"),
        (b"From ann Mon Nov 23\nSubject: x\n\nb", b"Subject: x\r\n\r\n", b"b\r\n"),
        (b"From here on\nall is text\n", b"\r\n", b"From here on\r\nall is text\r\n"),
        (b"plain text\n", b"\r\n", b"plain text\r\n"),
        (b"Error: disk full\nfree: 0\n", b"\r\n", b"Error: disk full\r\nfree: 0\r\n"),
        (b"Subject: x\nno field\n", b"Subject: x\r\n\r\n", b"no field\r\n"),
        (b"Subject : x\n\n", b"Subject : x\r\n\r\n", b""),
        (b"Subject: x", b"Subject: x\r\n\r\n", b""),
        (b"", b"\r\n", b""),
        (b"\nSubject: x\n", b"\r\n", b"Subject: x\r\n"),
        (b" leading blank\n", b"\r\n", b" leading blank\r\n"),
        (b"To: a\nbcc: b,\n c\nReturn-Path: <d>\nResent-Bcc: e\nCc: f\n\n", b"To: a\r\nCc: f\r\n\r\n", b""),
    ],
)
def test_header_and_body_are_told_apart(message: bytes, header: bytes, body: bytes) -> None:
    assert composed(message) == (header, body)


def test_a_bare_cr_in_a_header_begins_no_field() -> None:
    assert composed(b"Subject: x\rBcc: evil@example.org\n\n")[0] == b"Subject: x Bcc: evil@example.org\r\n\r\n"


def test_a_bare_cr_in_a_body_ends_a_line() -> None:
    assert composed(b"\n10%\r20%\rdone\n")[1] == b"10%\r\n20%\r\ndone\r\n"


_PARTS = [b"To: a\n", b"X: y", b"\n", b"\r", b" z", b"\0", b"Bcc: s", b"text", b"From x\n", b"\r\n"]


@given(st.lists(st.sampled_from(_PARTS), max_size=10))
def test_what_comes_out_is_fit_for_the_wire_however_it_arrived(parts: list[bytes]) -> None:
    whole = b"".join(parts)
    header, body = composed(*(bytes([octet]) for octet in whole))
    assert (header, body) == composed(whole)
    for text in (header, body):
        assert not re.search(rb"\r(?!\n)|(?<!\r)\n|\0", text)
    assert header.endswith(b"\r\n")
    assert b"\r\n\r\n" not in header[:-2]
    assert not body or body.endswith(b"\r\n")


def test_a_header_without_end_is_refused() -> None:
    with pytest.raises(BadMessage, match="header longer"):
        header_of(b"Subject: x\n" + b"Name: value\n" * (MAX_HEADER // 12 + 1))


def test_much_text_that_looks_like_a_header_is_a_body() -> None:
    text = b"12:00:01: event\n" * (MAX_HEADER // 16 + 1)
    assert composed(text, b"more\n") == (b"\r\n", text.replace(b"\n", b"\r\n") + b"more\r\n")


def test_a_long_line_at_the_beginning_is_a_body() -> None:
    line = b"x" * (2 * MAX_HEADER)
    assert composed(line, b"\n") == (b"\r\n", line + b"\r\n")


def test_recipients_are_those_of_to_cc_and_bcc() -> None:
    header = header_of(b"To: a, G: b, c;\nCc: (x) <d@e>\nBCC: f\nReply-To: g\nTo: h\n\n")
    assert header.recipients() == [b"a", b"b", b"c", b"h", b"d@e", b"f"]


def test_a_message_sent_again_goes_to_its_new_recipients_alone() -> None:
    assert header_of(b"To: a\nResent-To: b\nResent-Bcc: c\nBcc: d\n\n").recipients() == [b"b", b"c"]


def test_recipients_that_cannot_be_read_are_named() -> None:
    with pytest.raises(BadMessage, match=r"^Cc: "):
        header_of(b"To: a\nCc: <b\n\n").recipients()


@pytest.mark.parametrize(
    ("field", "author"),
    [(b"From: root (Cron Daemon)\n", b"root"), (b"From: A <a@b>, c@d\n", b"a@b"), (b"From: <a\n", b""), (b"", b"")],
)
def test_the_author_is_the_first_address_of_from(field: bytes, author: bytes) -> None:
    assert header_of(field + b"To: x\n\n").author() == author


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("", b"From: ann@b\r\n"),
        ("CronDaemon", b"From: CronDaemon <ann@b>\r\n"),
        ("Ann Lee", b"From: Ann Lee <ann@b>\r\n"),
        ('Lee, "Ann"', b'From: "Lee, \\"Ann\\"" <ann@b>\r\n'),
        ("Jürgen", b"From: =?utf-8?B?SsO8cmdlbg==?= <ann@b>\r\n"),
        ("a\r\nBcc: b", b'From: "aBcc: b" <ann@b>\r\n'),
    ],
)
def test_a_missing_author_is_added(name: str, field: bytes) -> None:
    header = Header()
    header.add_author(b"ann@b", name)
    assert header.encode() == field + b"\r\n"


def test_a_long_name_becomes_encoded_words_that_each_decode() -> None:
    header = Header()
    header.add_author(b"ann@b", "ü" * 100)
    words = re.findall(rb"=\?utf-8\?B\?[^?]+\?=", header.encode())
    assert len(words) > 1
    assert all(len(word) <= 75 for word in words)


def test_a_date_and_an_addressee_are_added_only_where_they_are_missing() -> None:
    empty, full = Header(), header_of(b"Date: d\nCc: x\n\n")
    for header in (empty, full):
        header.add_date(1_700_000_000)
        header.add_addressee()
    assert re.fullmatch(
        rb"Date: Tue, 14 Nov 2023 \d\d:13:20 [+-]\d{4}\r\nTo: undisclosed-recipients:;\r\n\r\n", empty.encode()
    )
    assert full.encode() == b"Date: d\r\nCc: x\r\n\r\n"


def test_the_longest_line_is_found_across_pieces() -> None:
    watch = LineWatch()
    for piece in (b"ab\r\ncde", b"fgh", b"\r\ni\r\n"):
        watch.see(piece)
    assert (watch.longest, watch.eight_bit) == (6, False)
    watch.see(b"\xff")
    assert watch.eight_bit


@given(st.lists(st.sampled_from([b"\xc3\xbc", b"=", b" ", b"\t", b"x" * 70, b".", b"\r\n"]), max_size=30), st.data())
def test_an_encoded_body_decodes_to_itself_in_short_lines(parts: list[bytes], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(parts)))
    pieces = [piece for piece in (b"".join(parts[:cut]), b"".join(parts[cut:]) + b"\r\n") if piece]
    encoded = b"".join(quoted_printable(pieces))
    assert quopri.decodestring(encoded.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n") == b"".join(pieces)
    # Two more than RFC 2045 6.7 allows: what binascii makes of a blank at the end of a full line.
    assert max(map(len, encoded.split(b"\r\n"))) <= 78
    assert encoded.isascii()


@pytest.mark.parametrize(
    ("fields", "may_be"),
    [
        (b"", True),
        (b"Content-Type: text/html\n", True),
        (b"Content-Transfer-Encoding: 8bit\n", False),
        (b"Content-Type: Multipart/mixed; boundary=x\n", False),
        (b"Content-Type: message/rfc822\n", False),
    ],
)
def test_only_a_body_of_which_nothing_is_said_is_encoded(fields: bytes, may_be: bool) -> None:
    assert header_of(fields + b"To: a\n\n").can_be_encoded() is may_be


def test_an_encoded_message_says_how() -> None:
    header = header_of(b"Mime-Version: 1.0\n\n")
    header.add_encoding()
    assert header.encode() == (
        b"Mime-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
    )
