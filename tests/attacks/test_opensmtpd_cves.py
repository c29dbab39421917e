"""What has broken OpenSMTPD since 2020, tried on this daemon.

CVE-2020-7247. The sender ``;sleep 66;`` with no domain passed the check of MAIL and stood in a command line that a shell ran
as root. Here an address is refused unless RFC 5321 allows every character of it, a command is an argument vector that no
shell reads again, and root is never delivered to by a command.

CVE-2020-8794. A server's reply whose last line had no text was read beyond its end; the rest, line ends and all, went into
the envelope's file, where it became fields of the envelope: the command of a delivery, run as root when it was read again.
Here a reply is a value of bounded length without control characters before anybody has it, and an envelope is a row of typed
columns, not lines.

CVE-2020-8793. Who could write to the offline queue hard-linked another's file into it; the daemon read it as a message, and
complained of its first line to the attacker. Here what has a second name, another owner or is no regular file is never read.

CVE-2020-35679. Each lookup in a table of regular expressions leaked what it had compiled. Here expressions are compiled once
a table.

CVE-2020-35680. Filters and the session lost track of one another when a client did not go on as expected; the process read
through a null pointer. Here a filter is asked and answers within one step of the session.

CVE-2023-29323. A client with a scoped IPv6 address (``fe80::1%lo``) was written down in a form that could not be read back,
and the process ended itself. Here an address has one plain form, without its zone, and no form of it raises.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingress.dropfile import first_lines, last_line
from ingress.peer import client_of
from policy.config import Facts
from policy.ruleset import match
from spool.address import Address
from spool.layout import layout
from tests.tools.besieged import Besieged, besieged
from tests.tools.configured import Configured
from tests.tools.daemon import wait_for
from tests.tools.proxying import header
from tests.tools.recording_sink import Act
from tests.tools.stranger import Stranger

#: One daemon serves all of them.
pytestmark = pytest.mark.xdist_group("attacks: opensmtpd")

#: Nothing is delivered by a command as root.
USER = "games" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
CONFIGURATION = """\
filter "names" phase ehlo match helo "liar.example" reject "550 No"
filter "froms" phase mail-from match mail-from "@spam.example" reject "550 No"
filter "rcpts" phase rcpt-to match rcpt-to "junk@commands.example" junk
filter "all" chain { names, froms, rcpts }
listen on 127.0.0.1 port $port filter all
listen on 127.0.0.1 port $proxied proxy-v2
action run mda "/bin/sh SCRIPT %{sender} %{rcpt} %{user.username}" virtual { "@" = "USER" }
action shell mda "cat >FOLDER/shell.$$; echo \\"$SENDER|$RECIPIENT\\" >>FOLDER/shell" virtual { "@" = "USER" }
action onward relay host "smtp+notls://127.0.0.1:$sink"
match from any for domain "commands.example" action run
match from any for domain "shell.example" action shell
match from any for domain "onward.example" action onward
match for any action onward
"""
SCRIPT = """\
cd FOLDER || exit 75
for argument; do echo "$argument"; done >"run.$$"
env >"env.$$"
cat >"body.$$"
mv "run.$$" "done.$$"
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where commands write what they were given."""
    folder = Path(tempfile.mkdtemp(prefix="mailspool-attacks-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def proxied() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def house(folder: Path, proxied: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Besieged]:
    (folder / "script").write_text(SCRIPT.replace("FOLDER", str(folder)))
    text = CONFIGURATION.replace("$proxied", str(proxied)).replace("SCRIPT", str(folder / "script"))
    text = text.replace("FOLDER", str(folder)).replace("USER", USER)
    with besieged(tmp_path_factory.mktemp("opensmtpd"), text) as house:
        yield house
        assert house.daemon.process is not None
        assert house.daemon.process.poll() is None


# -- CVE-2020-7247 ----------------------------------------------------------------------------------------------------

PAYLOADS = [
    ";{};",
    ";{};@x.example",
    "|{}",
    "`{}`@x.example",
    "$({})@x.example",
    "${{IFS}};{};",
    "a;{};b@x.example",
    "-oX{}@x.example;",
    "\\n{}\\n@x.example",
]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_cve_2020_7247_an_address_of_shell_commands_is_none(house: Besieged, folder: Path, payload: str) -> None:
    canary = folder / "canary-7247"
    attack = payload.format(f"touch${{IFS}}{canary}")
    with Stranger(house.daemon.port) as client:
        client.hello()
        # RFC 5321 allows |, `, $, { and } in a local part, and no blank, ; or parenthesis.
        if client.ask(f"MAIL FROM:<{attack}>").startswith("250"):
            client.ask("RSET")
        client.ask("MAIL FROM:<mallory@stranger.example>")
        client.ask(f"RCPT TO:<{attack}>")
    assert not canary.exists()


@pytest.mark.parametrize("domain", ["commands.example", "shell.example"])
def test_cve_2020_7247_a_quoted_address_is_data_to_every_command(house: Besieged, folder: Path, domain: str) -> None:
    canary = folder / f"canary-{domain}"
    for number, payload in enumerate(PAYLOADS):
        attack = payload.format(f"touch {canary}").partition("@")[0]
        written = attack.replace("\\", "\\\\").replace('"', '\\"')
        with Stranger(house.daemon.port) as client:
            client.begin(f'"{written}"@{domain}', sender=f'"{written}"@evil.example')
            assert client.ask(f"Subject: {domain} {number}\r\n\r\nx\r\n.").startswith("250 ")
    wait_for(lambda: house.daemon.queue() == [], "every delivery")
    assert not canary.exists()
    if domain == "shell.example":
        # The operator's own shell syntax reads addresses out of the environment, where they are as they were.
        assert f'";touch {canary};"@evil.example|' in (folder / "shell").read_text()
        return
    ran = [path.read_text().splitlines() for path in folder.glob("done.*")]
    assert len(ran) == len(PAYLOADS)
    # One argument for each that was written, and no character in it that a shell would read.
    assert all(len(arguments) == 3 and arguments[2] == USER for arguments in ran)
    assert not any(set(";|`$()&<>'\"\\ ") & set(argument) for arguments in ran for argument in arguments)


# -- CVE-2020-8794 ----------------------------------------------------------------------------------------------------

INJECTED = b"type: mda\nmda-exec: touch /tmp/canary-8794\nmda-user: root\n"


@pytest.mark.parametrize(
    "words",
    [
        b"553-\n\n" + INJECTED + b"\n553\r\n",
        b"553-no\r\n553",
        b"553\r\n",
        b"553-\r\n553-" + INJECTED.replace(b"\n", b"\r\n553-") + b"\r\n553\r\n",
        b"553 no\0\x0b\x0c\x1b\x85" + INJECTED.replace(b"\n", b"\r") + b"\r\n",
        b"553" + b"-" * 70000 + b"\r\n",
        b"55\r\n",
        b"\r\n",
    ],
    ids=range(8),
)
def test_cve_2020_8794_no_reply_becomes_a_part_of_an_envelope(house: Besieged, words: bytes) -> None:
    house.sink.on("RCPT", Act(words, cut=True), containing="envelope@")
    with Stranger(house.daemon.port) as client:
        client.begin("envelope@onward.example", sender="ann@onward.example")
        assert client.ask("Subject: x\r\n\r\nx\r\n.").startswith("250 ")
    wait_for(lambda: not house.sink.act_at("RCPT", "envelope@").reply, "the reply to be said")
    wait_for(lambda: all(row["error"] for row in house.daemon.queue()), "the attempt to be recorded")
    for row in house.daemon.queue():
        assert row["recipient"] in ("envelope@onward.example", "ann@onward.example")
        assert row["action"] == "onward"
        assert "\n" not in row["error"]
        assert "\r" not in row["error"]
        assert len(row["error"]) < 1100
    house.daemon.smtpctl("remove", "all")


# -- CVE-2020-8793 ----------------------------------------------------------------------------------------------------


def test_cve_2020_8793_nobody_else_s_file_is_read_out_of_the_drop(house: Besieged) -> None:
    drop = Path(layout(str(house.daemon.root)).drop_dir)
    secret = house.daemon.root / "secret"
    start = first_lines(b"MAIL FROM:<ann@onward.example>", [b"RCPT TO:<bob@onward.example>"])
    # Even one that would be a message.
    content = start + b"Subject: a secret of root\r\n\r\nx\r\n"
    secret.write_bytes(content + last_line(len(content), zlib.crc32(content)))
    os.link(secret, drop / ("a" * 24))
    (drop / ("b" * 24)).symlink_to(secret)
    os.mkfifo(drop / ("c" * 24))
    (drop / ("d" * 24)).mkdir()
    with socket.socket(socket.AF_UNIX) as planted:
        planted.bind(str(drop / ("e" * 24)))
    house.daemon.sendmail("bob@onward.example", message="Subject: after the planted\n\nx\n")
    house.relayed(b"after the planted")
    wait_for(lambda: not any(drop.glob("[a-f]*")), "what was planted to be set aside")
    assert not any(b"a secret of root" in message.body for message in house.messages)
    assert "a secret of root" not in house.daemon.log
    assert "root:" not in house.daemon.log


# -- CVE-2020-35679 ---------------------------------------------------------------------------------------------------


def test_cve_2020_35679_lookups_by_regular_expressions_leave_nothing_behind(tmp_path: Path) -> None:
    configured = Configured(tmp_path)
    configured.write("patterns", "^([a-z]+)@(.*)\\\\.example$\n^x{2,5}@\n(a|b|c)*d@\n")
    text = 'table patterns "/etc/smtpd/patterns"\n'
    config = configured.load(text + "listen on lo\nmatch from any mail-from regex <patterns> for any reject\n")
    facts = Facts("192.0.2.1", Address("ann", "other.test"))

    def look_up(count: int) -> None:
        for number in range(count):
            match(config, facts, Address(f"user{number}", f"d{number}.test"))

    look_up(100)
    tracemalloc.start()
    try:
        look_up(3000)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 64 * 1024


# -- CVE-2020-35680 ---------------------------------------------------------------------------------------------------

STEPS = [
    "EHLO ok.example",
    "HELO liar.example",
    "EHLO liar.example",
    "MAIL FROM:<a@ok.example>",
    "MAIL FROM:<a@spam.example>",
    "RCPT TO:<junk@commands.example>",
    "RCPT TO:<b@nowhere.example>",
    "DATA",
    "x\r\n.",
    "RSET",
    "HELP",
    "NOOP",
    "VRFY x",
    "QUIT",
]


def test_cve_2020_35680_filters_stand_every_order_and_every_end(house: Besieged) -> None:
    assert house.daemon.process is not None
    for first in STEPS:
        for second in STEPS:
            with Stranger(house.daemon.port) as client:
                client.send(f"EHLO ok.example\r\n{first}\r\n{second}\r\nMAIL FROM:<a@ok.example>\r\n".encode())
                # Gone in the middle of it, whatever that was.
    with Stranger(house.daemon.port) as client:
        assert client.hello().startswith("250")
    wait_for(lambda: "smtp.session=0\n" in house.daemon.smtpctl("show", "stats"), "every session to end")
    assert house.daemon.process.poll() is None


# -- CVE-2023-29323 ---------------------------------------------------------------------------------------------------


class Scoped(asyncio.BaseTransport):
    """A connection from a link-local address."""

    def __init__(self, name: tuple[object, ...]) -> None:
        super().__init__({"peername": name})


@pytest.mark.parametrize(
    "name",
    [("fe80::1%lo", 4711, 0, 1), ("fe80::1%25", 1, 0, 25), ("fe80::1%a-very-long-interface-name-of-somebody", 1, 0, 2)],
)
def test_cve_2023_29323_a_scoped_address_has_a_plain_form(name: tuple[object, ...]) -> None:
    assert client_of(Scoped(name)).address == "fe80::1"


def test_cve_2023_29323_a_link_local_client_is_served_and_written_down(house: Besieged, proxied: int) -> None:
    with Stranger(proxied, "127.0.0.1") as client:
        client.send(header("fe80::1"))
        client.begin("bob@onward.example")
        assert client.ask("Subject: link-local\r\n\r\nx\r\n.").startswith("250 ")
    assert b"([IPv6:fe80::1])" in house.relayed(b"link-local").body


#: Runs where the loopback has a link-local address.
INSIDE = """
import socket, sys
from pathlib import Path
from tests.tools.daemon import Daemon

text = 'listen on :: port $port\\naction in maildir "/Maildir" virtual { "@" = "root" }\\n'
text += "match from any for any action in\\n"
with Daemon(Path(sys.argv[1]), text) as daemon:
    zone = socket.if_nametoindex("lo")
    with socket.socket(socket.AF_INET6) as client:
        client.bind(("fe80::66", 0, 0, zone))
        client.connect(("fe80::66", daemon.port, 0, zone))
        client.recv(1000)
        client.sendall(b"EHLO x.example\\r\\nMAIL FROM:<a@x.example>\\r\\nRCPT TO:<b@x.example>\\r\\nDATA\\r\\n"
                       b"Subject: x\\r\\n\\r\\n.\\r\\nQUIT\\r\\n")
        said = b""
        while piece := client.recv(1000):
            said += piece
    assert b"[fe80::66]" in said, said
    assert b"Message accepted" in said, said
"""


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="a network of its own needs root and ip(8)")
def test_cve_2023_29323_a_client_at_a_scoped_address_is_served(tmp_path: Path) -> None:
    setup = 'ip link set lo up && ip -6 addr add fe80::66/64 dev lo nodad && exec "$0" -c "$1" "$2"'
    command = ["unshare", "-n", "sh", "-c", setup, sys.executable, INSIDE, str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done
