r"""SMTP smuggling: CVE-2023-51764 (Postfix), CVE-2023-51765 (Sendmail), CVE-2023-51766 (Exim), CVE-2024-27305 (aiosmtpd).

The attack, as Timo Longin showed it in December 2023: two servers disagree about what ends a message. The first takes
``LF . LF`` (or ``CR LF . CR``, or one of a dozen others) for text and sends it on; the second takes it for the end, and what
the attacker wrote behind it for commands. So a stranger's text becomes a second message, which comes from a server that the
second one trusts, with a sender of the attacker's choice.

The walls here, one for each side of the pair. As the second server: nothing but CR LF . CR LF ends a message, a CR or LF
that stands alone refuses it, and the refused message is read to its real end before the next command is. As the first
server: every body goes through one stuffer, which lets nothing out that has a bare CR or LF, wherever it came from: SMTP,
``sendmail``, the drop, reports. BDAT is not offered.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingress.dropfile import DropFile, first_lines
from spool.layout import layout
from tests.tools.besieged import Besieged, besieged
from tests.tools.daemon import BIN
from tests.tools.recording_sink import Act, RecordingSink
from tests.tools.stranger import Stranger

#: One daemon serves all of them.
pytestmark = pytest.mark.xdist_group("attacks: smuggling")

CONFIGURATION = """\
listen on 127.0.0.1 port $port
action onward relay host "smtp+notls://127.0.0.1:$sink"
match from any for domain "onward.example" action onward
match for any action onward
"""

#: What some program somewhere takes for an end of line.
ENDS = (
    "\r\n",
    "\n",
    "\r",
    "\r\r\n",
    "\n\r",
    "\r\n\r",
    "\n\n",
    "\r\0\n",
    "\r\n\0",
    "\0\r\n",
    "\x0b",
    "\x0c",
    "\x85",
    "\u2028",
)
#: Every pair around a dot, but those that hold the one that is right.
DOTS = {before: [dotted for after in ENDS if "\r\n.\r\n" not in (dotted := f"{before}.{after}")] for before in ENDS}
#: And what is no dot to us, but to those who unstuff twice, or count wrong.
OTHERS = [
    "\r\n..\r\n",
    "\r\n.\0\r\n",
    "\r\n. \r\n",
    "\r\n.\t\r\n",
    "\r\n.\x7f\r\n",
    "\r\n\r\n.",
    "\n..\n",
    "\r\n.\r",
    "\n.\r\n",
]
#: Those that the advisories name, and their neighbours.
KNOWN = [f"{before}.{after}" for before in ("\n", "\r", "\r\r\n") for after in ("\n", "\r", "\r\n", "\r\r\n")] + OTHERS
#: Commands that the attacker would have somebody obey.
SMUGGLED = (
    "MAIL FROM:<admin@bank.example>\r\nRCPT TO:<victim@onward.example>\r\nDATA\r\n"
    "From: admin@bank.example\r\nSubject: smuggled\r\n\r\nsend money\r\n"
)
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Besieged]:
    with besieged(tmp_path_factory.mktemp("smuggling"), CONFIGURATION) as house:
        yield house


def is_unambiguous(raw: bytes) -> bool:
    """Whether every server reads the same one message out of what followed DATA."""
    return not _BARE.search(raw) and b"\0" not in raw and raw.endswith(b"\r\n.\r\n") and raw.count(b"\r\n.\r\n") == 1


@pytest.mark.parametrize("hidden", [*DOTS.values(), OTHERS], ids=ascii)
def test_what_is_no_end_to_us_is_none_to_the_next_server(house: Besieged, hidden: list[str]) -> None:
    taken = []
    with Stranger(house.daemon.port) as client:
        client.hello()
        for each in hidden:
            mark = f"first {each!a}"
            for command in ("MAIL FROM:<mallory@stranger.example>", "RCPT TO:<bob@onward.example>", "DATA"):
                assert client.ask(command)[0] in "23"
            client.send(f"Subject: x\r\n\r\n{mark}{each}{SMUGGLED}.\r\n".encode())
            said = client.reply()
            # One answer to one message, and the session is where it was.
            assert client.ask("NOOP") == "250 2.0.0 Ok"
            if said.startswith("250"):
                taken.append(mark)
            else:
                assert said.startswith("550 5.6.11 ")
        assert client.falls_silent(0.05)
    for mark in taken:
        message = house.relayed(mark.encode())
        assert message.rcpts == ("TO:<bob@onward.example>",)
        assert b"send money" in message.body
        assert is_unambiguous(message.raw)


@pytest.mark.parametrize("body", ["BODY=8BITMIME", "BODY=7BIT"])
def test_an_eight_bit_body_is_not_looked_at_less(house: Besieged, body: str) -> None:
    with Stranger(house.daemon.port) as client:
        client.hello()
        for hidden, code in (("\n.\n", "550 5.6.11"), ("\r\n.\r\r\n", "550 5.6.11"), ("\x85.\x85", "250 2.0.0")):
            client.ask(f"MAIL FROM:<mallory@stranger.example> {body}")
            client.ask("RCPT TO:<bob@onward.example>")
            client.ask("DATA")
            assert client.ask(f"Subject: x\r\n\r\n{body}{hidden}{SMUGGLED}.".encode()).startswith(code)
    message = house.relayed(body.encode())
    assert is_unambiguous(message.raw)
    assert "\x85.\x85".encode() in message.body


@pytest.mark.parametrize("hidden", ["\n.\n", "\r.\r", "\n.\r\n", "\r\n.\n"], ids=ascii)
def test_a_header_is_looked_at_like_the_text(house: Besieged, hidden: str) -> None:
    with Stranger(house.daemon.port) as client:
        client.begin("bob@onward.example")
        assert client.ask(f"Subject: x{hidden}{SMUGGLED}.".encode()).startswith("550 5.6.11")
        assert client.ask("NOOP") == "250 2.0.0 Ok"


def test_chunks_are_neither_offered_nor_taken(house: Besieged) -> None:
    with Stranger(house.daemon.port) as client:
        offers = client.hello()
        assert "CHUNKING" not in offers
        assert "BINARYMIME" not in offers
        client.ask("MAIL FROM:<mallory@stranger.example>")
        client.ask("RCPT TO:<bob@onward.example>")
        assert client.ask("BDAT 4 LAST").startswith("500 ")
        assert client.ask("MAIL FROM:<mallory@stranger.example> BODY=BINARYMIME").startswith("50")


def test_an_end_that_comes_in_pieces_is_the_same_end(house: Besieged) -> None:
    with Stranger(house.daemon.port) as client:
        client.begin("bob@onward.example")
        for octet in b"Subject: in pieces\r\n\r\nx\r\n..\r\n.\r\nNOOP\r\n":
            client.send(bytes([octet]))
        assert client.reply().startswith("250 2.0.0 ")
        assert client.reply() == "250 2.0.0 Ok"
    assert house.relayed(b"in pieces").body.endswith(b"x\r\n.\r\n")


# -- other ways in ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", KNOWN, ids=ascii)
def test_sendmail_brings_lines_in_and_nothing_between_them(house: Besieged, hidden: str) -> None:
    mark = f"sendmail {len(house.messages)} {hidden!a}"
    done = subprocess.run(
        [str(BIN / "sendmail"), "-i", "--root", str(house.daemon.root), "bob@onward.example"],
        input=f"Subject: x\n\n{mark}{hidden}{SMUGGLED}".encode(),
        capture_output=True,
        check=False,
        timeout=20,
    )
    if done.returncode == 0:
        message = house.relayed(mark.encode())
        assert message.rcpts == ("TO:<bob@onward.example>",)
        assert is_unambiguous(message.raw)
    else:
        assert done.returncode == 65, done


def leave(house: Besieged, content: str) -> None:
    """Put a message into the drop, as no ``sendmail`` would have written it."""
    file = DropFile(
        layout(str(house.daemon.root)).drop_dir,
        first_lines(b"MAIL FROM:<ann@onward.example>", [b"RCPT TO:<bob@onward.example>"]),
    )
    file.write(content.encode())
    file.finish()


def test_a_drop_file_brings_in_what_smtp_would(house: Besieged) -> None:
    bad = ("\n.\n", "\r.\r", "\n.\r\n", "\r\n.\n", "\r\n.\r", "\0")
    for hidden in bad:
        leave(house, f"Subject: dropped {hidden!a}\r\n\r\nx{hidden}{SMUGGLED}")
    leave(house, f"Subject: dropped with a dot\r\n\r\nx\r\n.\r\n{SMUGGLED}")
    for hidden in bad:
        # It is refused, which its sender is told by a report that holds the header alone.
        report = house.relayed(f"Subject: dropped {hidden!a}".encode())
        assert report.mail.startswith("FROM:<>")
        assert is_unambiguous(report.raw)
        assert b"send money" not in report.body
    message = house.relayed(b"dropped with a dot")
    assert message.rcpts == ("TO:<bob@onward.example>",)
    assert b"send money" in message.body
    assert is_unambiguous(message.raw)


def test_bs_is_a_session_like_every_other(house: Besieged) -> None:
    hidden = "\n.\n"
    script = (
        "EHLO here\r\nMAIL FROM:<ann@onward.example>\r\nRCPT TO:<bob@onward.example>\r\nDATA\r\n"
        f"Subject: x\r\n\r\nby bs{hidden}{SMUGGLED}.\r\nQUIT\r\n"
    )
    done = subprocess.run(
        [str(BIN / "sendmail"), "-bs", "--root", str(house.daemon.root)],
        input=script.encode(),
        capture_output=True,
        check=False,
        timeout=20,
    )
    lines = done.stdout.decode().split("\r\n")
    assert [line[:10] for line in lines if line[:3] in ("354", "550", "221")] == [
        "354 Enter ",
        "550 5.6.11",
        "221 2.0.0 ",
    ]


# -- other ways out ---------------------------------------------------------------------------------------------------


def test_what_a_hostile_server_says_does_not_end_the_report_about_it(house: Besieged) -> None:
    said = {
        "cr": b"550 5.1.1 no\r.\rMAIL FROM:<admin@bank.example>\r\n",
        "lines": b"550-5.1.1 no\r\n550-.\r\n550-MAIL FROM:<admin@bank.example>\r\n550 5.1.1 .\r\n",
        "controls": b"550 5.1.1 no\x0b.\x0c\x85\x1b[2J\x00end\r\n",
        "long": b"550 5.1.1 " + b"x" * 3000 + b"\r\n",
    }
    for name, words in said.items():
        house.sink.on("RCPT", Act(words), containing=f"{name}@")
        with Stranger(house.daemon.port) as client:
            client.begin(f"{name}@onward.example", sender="ann@onward.example")
            assert client.ask(f"Subject: to be returned {name}.\r\n\r\nx\r\n.").startswith("250 ")
    for name in said:
        report = house.relayed(f"to be returned {name}.".encode())
        assert report.mail.startswith("FROM:<>")
        assert is_unambiguous(report.raw)
        assert b"\r\nMAIL FROM" not in report.body
        assert not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", report.body)


def test_over_lmtp_a_message_is_one_message_too(tmp_path: Path) -> None:
    text = 'listen on 127.0.0.1 port $port\naction in lmtp "127.0.0.1:$sink"{}\nmatch from any for any action in\n'
    text = text.format(' virtual { "@" = "root" }')
    with besieged(tmp_path, text, sink=RecordingSink(lmtp=True)) as house, Stranger(house.daemon.port) as client:
        client.begin("root@onward.example")
        assert client.ask(f"Subject: x\r\n\r\ndots\r\n..\r\n...\r\n..{SMUGGLED}.").startswith("250 ")
        message = house.relayed(b"dots")
        assert len(message.rcpts) == 1
        assert is_unambiguous(message.raw)
        assert b"\r\n.\r\n..\r\n.MAIL FROM" in message.body
