"""The audit of OpenSMTPD that Qualys published in October 2015, attack by attack.

What it found, in our words, and what stands against it here:

- a hard link to another's file in the offline queue was read as a message, and its first line (a password's hash,
  say) was told to the attacker; a link also had the file's flags changed. Here a file of the drop is opened without
  following anything, and is read only as a regular file with one name.
- a fifo there, or a directory, a socket, a device, was opened and waited for: the daemon stood still. Here opening
  never waits.
- very large files there, and thousands of them, filled memory and spool. Here a message has its maximum, and is read
  in pieces.
- connections to the control socket that were opened and never used took all descriptors, and the daemon ended itself.
  Here they are counted by user, silent ones are let go, and one connection's frame is bounded.
- a line end in the sender or a recipient of ``smtpctl`` or ``sendmail`` became a line of the envelope. Here the lines
  of a drop file are commands that are parsed like a stranger's.
- a line without its end was read beyond the buffer (``fgetln``). Here a file that ends in the middle of a line is
  one.
- .forward as a fifo, a link, another's file: `tests.attacks` of mailboxes and .forward try those.
- a remote client drove the session, the filters or TLS through states that nobody had thought of: memory was used
  after it was freed. Here every order of commands is answered, and a session's end is one place.
- one process believed another: `tests/unit/test_channel.py` and the fuzzed frames try those.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import pytest

from ingress.dropfile import first_lines, last_line
from spool.layout import Layout, layout
from tests.tools.besieged import Besieged, besieged
from tests.tools.daemon import wait_for
from tests.tools.stranger import Stranger

#: One daemon serves all of them.
pytestmark = pytest.mark.xdist_group("attacks: qualys")

CONFIGURATION = """\
smtp max-message-size 100000
listen on 127.0.0.1 port $port
action in maildir "/Maildir" virtual { "@" = "root" }
action onward relay host "smtp+notls://127.0.0.1:$sink"
match from any for domain "here.example" action in
match for any action onward
"""
START = first_lines(b"MAIL FROM:<ann@onward.example>", [b"RCPT TO:<bob@onward.example>"])


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Besieged]:
    with besieged(tmp_path_factory.mktemp("qualys"), CONFIGURATION) as house:
        yield house
        assert house.daemon.process is not None
        assert house.daemon.process.poll() is None


def places(house: Besieged) -> Layout:
    return layout(str(house.daemon.root))


def drop(house: Besieged) -> Path:
    return Path(places(house).drop_dir)


def whole(content: bytes, start: bytes = START) -> bytes:
    """A file of the drop with this message."""
    octets = start + content
    return octets + last_line(len(octets), crc32(octets))


def name(letter: str) -> str:
    return letter * 24


def still_works(house: Besieged, mark: str) -> None:
    """Mail of others flows as ever."""
    house.daemon.sendmail("-i", "bob@onward.example", message=f"Subject: {mark}\n\nx\n")
    house.relayed(f"Subject: {mark}".encode())


# -- the offline queue ------------------------------------------------------------------------------------------------


def test_links_fifos_sockets_and_folders_in_the_drop_are_no_messages(house: Besieged) -> None:
    secret = house.daemon.root / "secret"
    secret.write_bytes(whole(b"Subject: not for you\r\n\r\nx\r\n"))
    secret.chmod(0o600)
    mode, flags = secret.stat().st_mode, secret.stat().st_mtime_ns
    os.link(secret, drop(house) / name("a"))
    (drop(house) / name("b")).symlink_to(secret)
    (drop(house) / name("c")).symlink_to("/dev/zero")
    os.mkfifo(drop(house) / name("d"))
    (drop(house) / name("e")).mkdir()
    with socket.socket(socket.AF_UNIX) as planted:
        planted.bind(str(drop(house) / name("f")))
    still_works(house, "after the links")
    wait_for(lambda: not list(drop(house).glob("[a-f]*")), "all of it to be set aside")
    assert not any(b"not for you" in message.body for message in house.messages)
    assert "not for you" not in house.daemon.log
    assert (secret.stat().st_mode, secret.stat().st_mtime_ns) == (mode, flags)


def test_a_file_that_is_far_too_large_is_not_read_into_memory(house: Besieged) -> None:
    before = house.daemon.resident_kib()
    path = drop(house) / name("1")
    with path.open("wb") as file:
        # Two gigabytes of nothing, which cost no disk.
        file.write(START)
        file.truncate(2 << 30)
    head = drop(house) / name("2")
    head.write_bytes(b"mailspool drop 1\nMAIL FROM:<>\n" + b"RCPT TO:<a@onward.example>\n" * 200_000)
    still_works(house, "after the giant")
    assert house.daemon.resident_kib() - before < 40_000
    path.unlink(missing_ok=True)
    head.unlink(missing_ok=True)


LINES = [
    [b"MAIL FROM:<ann@onward.example>\r", b"RCPT TO:<bob@onward.example>\r"],
    [b"MAIL FROM:<ann@onward.example>\0", b"RCPT TO:<bob@onward.example>"],
    [b"MAIL FROM:<ann@onward.example> X=1", b"RCPT TO:<bob@onward.example>"],
    [b"MAIL FROM:<ann\x1b[2J@onward.example>", b"RCPT TO:<bob@onward.example>"],
    [b"MAIL FROM:<ann@onward.example>", b"DATA"],
    [b"MAIL FROM:<ann@onward.example>", b"RCPT TO:<bob@onward.example>\rRCPT TO:<eve@onward.example>"],
    [b"RCPT TO:<bob@onward.example>", b"MAIL FROM:<ann@onward.example>"],
    [b"type: mda", b"mda-exec: touch /tmp/canary-2015"],
]


def test_no_line_of_a_drop_file_is_more_than_a_command(house: Besieged) -> None:
    before = len(house.messages)
    paths = [drop(house) / (f"{number:x}" * 24) for number in range(len(LINES))]
    for path, lines in zip(paths, LINES, strict=True):
        start = b"mailspool drop 1\n" + b"".join(line + b"\n" for line in lines) + b"\n"
        path.write_bytes(whole(b"Subject: x\r\n\r\n", start))
    wait_for(lambda: not any(path.exists() for path in paths), "the files to be set aside")
    assert len(house.messages) == before


def test_a_file_that_ends_in_the_middle_of_a_line_is_not_read_beyond_its_end(house: Besieged) -> None:
    for number, cut in enumerate([1, 16, 17, 60, 90, -1, -3], 1):
        (drop(house) / (f"{number}" * 24)).write_bytes(whole(b"Subject: cut\r\n\r\nx\r\n")[:cut])
    still_works(house, "after the cuts")
    assert not any(b"Subject: cut\r\n" in message.body for message in house.messages)
    for path in drop(house).iterdir():
        path.unlink()


# -- the control socket -----------------------------------------------------------------------------------------------


def test_connections_that_are_never_used_take_nothing_from_others(house: Besieged) -> None:
    silent = []
    try:
        for _ in range(200):
            probe = socket.socket(socket.AF_UNIX)
            probe.settimeout(5)
            silent.append(probe)
            try:
                probe.connect(places(house).control_socket)
            except OSError:
                break
        still_works(house, "beside the silent")
    finally:
        for probe in silent:
            probe.close()
    wait_for(lambda: house.daemon.run("smtpctl", "show", "stats").returncode == 0, "the socket to be free again")


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\0",
        b"\xff\xff\xff\xff",
        struct.pack("!I", 1 << 31),
        b"\0\0\0\x05hello",
        b"GET / HTTP/1.0\r\n\r\n",
        bytes(70_000),
    ],
    ids=range(7),
)
def test_nonsense_on_the_control_socket_ends_that_connection(house: Besieged, frame: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(10)
        probe.connect(places(house).control_socket)
        try:
            probe.sendall(frame)
            probe.shutdown(socket.SHUT_WR)
            while probe.recv(65536):
                pass
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert "MTA running" in house.daemon.smtpctl("show", "status")


def test_connections_to_the_submission_socket_are_as_bounded_as_others(house: Besieged) -> None:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(10)
        probe.connect(places(house).submission_socket)
        assert probe.recv(1000).startswith(b"220 ")
        probe.sendall(b"x" * 100_000)
        said = b""
        try:
            while piece := probe.recv(65536):
                said += piece
        except ConnectionResetError:
            pass
        assert said.startswith(b"500 5.5.2 ") or said == b""


# -- the session ------------------------------------------------------------------------------------------------------

COMMANDS = [
    "EHLO a.example",
    "HELO a.example",
    "MAIL FROM:<>",
    "RCPT TO:<a@here.example>",
    "DATA",
    "RSET",
    "STARTTLS",
    "AUTH PLAIN",
]


def test_every_order_of_commands_has_its_answers(house: Besieged) -> None:
    for first in COMMANDS:
        for second in COMMANDS:
            with Stranger(house.daemon.port) as client:
                client.hello()
                for command in ("MAIL FROM:<>", first, second, "NOOP"):
                    said = client.ask(command)
                    assert said[0] in "2345", (first, second, said)
                    if said.startswith("354"):
                        assert client.ask("Subject: x\r\n\r\n.")[0] in "25"


def test_clients_that_vanish_at_every_octet_leave_nothing(house: Besieged) -> None:
    script = b"EHLO a.example\r\nMAIL FROM:<>\r\nRCPT TO:<a@here.example>\r\nDATA\r\nSubject: vanish\r\n\r\nx\r\n.\r\n"
    for size in range(0, len(script) - 5, 3):
        with Stranger(house.daemon.port) as client:
            client.send(script[:size])
    wait_for(lambda: "smtp.session=0\n" in house.daemon.smtpctl("show", "stats"), "every session to end")
    time.sleep(0.05)
    assert not any(b"Subject: vanish" in message for message in house.mailbox())


def test_a_line_of_any_length_has_an_answer_or_an_end(house: Besieged) -> None:
    for size in (510, 2046, 2047, 2048, 4096, 12_288, 65_536, 1_000_000):
        with Stranger(house.daemon.port) as client:
            client.reply()
            try:
                client.send(b"NOOP " + b"x" * size + b"\r\n")
                assert client.reply()[:4] in ("250 ", "500 ")
            except (ConnectionResetError, BrokenPipeError):
                assert size > 10_000
    still_works(house, "after the lines")
