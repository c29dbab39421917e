r"""What has broken aiosmtpd, whose framing of SMTP this server still builds on.

CVE-2024-27305 (before 1.4.5): a bare LF around the dot ended a message; `tests.attacks.test_smuggling` tries every such
sequence. CVE-2024-34083 (before 1.4.6): commands sent behind STARTTLS were obeyed inside TLS;
`tests.attacks.test_starttls_injection` tries that. Here is the rest: NUL, backslash and control characters in paths, which
its handlers passed on to file names and to other servers, and whatever its own verbs and parsers would do with them.

The wall: none of its verbs, no parser of its addresses and none of its handlers are in use; what is, is our own
(`tests/unit/test_ingress_verbs.py` holds that).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tools.besieged import Besieged, besieged
from tests.tools.stranger import Stranger

#: One daemon serves all of them.
pytestmark = pytest.mark.xdist_group("attacks: aiosmtpd")

CONFIGURATION = """\
listen on 127.0.0.1 port $port
action in maildir "/Maildir" virtual { "@" = "root" }
match from any for any action in
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Besieged]:
    with besieged(tmp_path_factory.mktemp("aiosmtpd"), CONFIGURATION) as house:
        yield house


CONTROLS = [*range(32), 127]


@pytest.mark.parametrize(
    "verb", ["EHLO {}", "MAIL FROM:<a{}@x.example>", "RCPT TO:<a{}@x.example>", "RCPT TO:<a@x{}.example>"]
)
def test_no_control_character_stands_in_any_command(house: Besieged, verb: str) -> None:
    for octet in CONTROLS:
        with Stranger(house.daemon.port) as client:
            client.hello()
            client.ask("MAIL FROM:<ok@x.example>")
            said = client.ask(verb.format(chr(octet)).encode())
            assert said.startswith("50"), (octet, said)


@pytest.mark.parametrize("quoted", ['"a{}b"', '"a\\{}b"', '"{}"'])
def test_nor_in_a_quoted_one(house: Besieged, quoted: str) -> None:
    with Stranger(house.daemon.port) as client:
        client.hello()
        client.ask("MAIL FROM:<ok@x.example>")
        for octet in (0, 9, 11, 12, 27, 31, 127):
            assert client.ask(f"RCPT TO:<{quoted.format(chr(octet))}@x.example>".encode()).startswith("50")


@pytest.mark.parametrize(
    "octets",
    [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xc2\x85", b"\xe2\x80\xa8", b"\xc2\x9b31m"],
    ids=["no UTF-8", "overlong NUL", "surrogate", "beyond Unicode", "NEL", "line separator", "CSI"],
)
def test_nor_one_that_unicode_hides(house: Besieged, octets: bytes) -> None:
    with Stranger(house.daemon.port) as client:
        client.hello()
        assert client.ask(b"MAIL FROM:<a" + octets + b"@x.example> SMTPUTF8")[:2] in ("50", "55")
        assert client.ask(b"EHLO x" + octets + b".example").startswith("50")


@pytest.mark.parametrize(
    "path",
    [
        "<a\\b@x.example>",
        "<\\@x.example>",
        '<"a\\">',
        '<"a\\"@x.example>',
        '<"a"b@x.example>',
        '<"a" @x.example>',
        "<a@x.example\\>",
        "<a@x\\.example>",
        "<a@../../etc>",
        "<a@x.example/../..>",
        "<a@x..example>",
        "<a@-x.example>",
        "<a b@x.example>",
        "<a@x.example> <b@x.example>",
        "<a@x.example>SIZE=1",
        "<(comment)a@x.example>",
        "<a@(comment)x.example>",
    ],
)
def test_a_path_that_two_readers_could_read_differently_is_refused(house: Besieged, path: str) -> None:
    with Stranger(house.daemon.port) as client:
        client.hello()
        assert client.ask(f"MAIL FROM:{path}")[:2] in ("50", "55")
        client.ask("MAIL FROM:<ok@x.example>")
        assert client.ask(f"RCPT TO:{path}")[:2] in ("50", "55")


def test_what_is_quoted_is_in_the_mailbox_as_data_on_one_line(house: Besieged) -> None:
    local = '"a\\\\b\\"c ../../x <y> %{rcpt} $(z)"'
    with Stranger(house.daemon.port) as client:
        client.begin("root@x.example", sender=f"{local}@evil.example")
        assert client.ask("Subject: quoted\r\n\r\nx\r\n.").startswith("250 ")
    first = house.delivered(b"Subject: quoted").split(b"\n")[0]
    assert first == f"Return-Path: <{local}@evil.example>".encode()


@pytest.mark.parametrize(
    "name", ["evil\\r\\nX-Injected: 1", "x) by trusted (127.0.0.1", "x;id", "x>", "a b", "[999.1.1.1]", "[IPv6:::1%lo]"]
)
def test_a_greeting_is_a_name_and_nothing_more_in_the_trace(house: Besieged, name: str) -> None:
    with Stranger(house.daemon.port) as client:
        client.reply()
        assert client.ask(f"EHLO {name}").startswith("501 ")


def test_a_field_in_the_wrong_place_is_no_field(house: Besieged) -> None:
    """What the client says in commands never becomes a header field, and its header stays its own."""
    with Stranger(house.daemon.port) as client:
        client.begin("root@x.example", sender='"x\\"> Bcc: all"@evil.example')
        assert client.ask("Subject: fields\r\n\r\nX-Injected: in the text\r\n.").startswith("250 ")
    header = house.delivered(b"Subject: fields").partition(b"\n\n")[0]
    assert b"\nX-Injected" not in header
    assert b"\nBcc" not in header
