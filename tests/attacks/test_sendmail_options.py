"""``sendmail`` with options of its elders, by which web forms have read and written files: CVE-2016-10033 and others.

The attack: a web program passes a sender to ``sendmail -f`` without care (PHP's ``mail()``), and the sender brings options
of its own: ``-X file`` writes the session into a file that the web server then runs, ``-OQueueDirectory=/tmp`` puts the mail
where the attacker reads it, ``-C file`` reads a configuration as somebody else and quotes its lines in errors, ``-be`` and
``-D`` test and trace. In days of set-user-ID they did so as root.

The wall: this program has no privilege to lend, its value options that mean a file do nothing at all, and what it says in an
error is what it was given, never what it has read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.besieged import Besieged, besieged

#: One daemon serves all of them.
pytestmark = pytest.mark.xdist_group("attacks: sendmail options")

CONFIGURATION = """\
listen on 127.0.0.1 port $port
action onward relay host "smtp+notls://127.0.0.1:$sink"
match for any action onward
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Besieged]:
    with besieged(tmp_path_factory.mktemp("options"), CONFIGURATION) as house:
        yield house


@pytest.mark.parametrize(
    "options",
    [
        ("-X{}/log",),
        ("-X", "{}/log"),
        ("-OQueueDirectory={}",),
        ("-O", "QueueDirectory={}"),
        ("-OLogFile={}/log", "-oQ{}"),
        ("-C{}/secret",),
        ("-C", "{}/secret"),
        ("-D{}/log",),
        ("-ba", "-D", "{}/log"),
        ("-be", "${{run{{/bin/touch {}/log}}}}"),
        ("-bt",),
        ("-bd",),
        ("-bH",),
        ("-d0-99.127",),
        ("-p{}/log",),
        ("-L{}/log",),
        ("-A{}/secret",),
    ],
    ids=repr,
)
def test_no_option_reads_or_writes_a_file(house: Besieged, tmp_path: Path, options: tuple[str, ...]) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the first line of a secret\n")
    words = [option.format(tmp_path) for option in options]
    done = house.daemon.run("sendmail", *words, "-i", "bob@onward.example", stdin="Subject: x\n\nx\n")
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
    assert "first line" not in done.stdout + done.stderr
    # Taken as mail or refused as nonsense, and nothing between.
    assert done.returncode in (0, 64)


@pytest.mark.parametrize(
    "sender",
    [
        "x -X/tmp/log y@evil.example",
        '"x\\" -X/tmp/log "@evil.example',
        "x@evil.example\nBcc: all@onward.example",
        "x@evil.example\r\nRCPT TO:<all@onward.example>",
        "<x@evil.example> SIZE=1",
        "x@evil.example> NOTIFY=NEVER <",
        "-X/tmp/log",
    ],
)
def test_a_sender_stays_one_sender(house: Besieged, sender: str) -> None:
    before = len(house.messages)
    done = house.daemon.run("sendmail", "-f", sender, "-i", "bob@onward.example", stdin=f"Subject: {before}\n\nx\n")
    if done.returncode:
        assert done.returncode in (64, 65)
        return
    message = house.relayed(f"Subject: {before}".encode())
    assert message.rcpts == ("TO:<bob@onward.example>",)
    assert "\nBcc" not in message.body.decode()
    assert not Path("/tmp/log").exists()


@pytest.mark.parametrize(
    "recipient",
    ["bob@onward.example\nDATA", "bob@onward.example\r\nDATA", "a> <b@onward.example"],
)
def test_a_recipient_stays_one_recipient(house: Besieged, recipient: str) -> None:
    before = len(house.messages)
    done = house.daemon.run("sendmail", "-i", "--", recipient, stdin="Subject: x\n\nx\n")
    assert done.returncode in (64, 65, 67)
    assert len(house.messages) == before


@pytest.mark.parametrize("name", ["Ann\nBcc: all@onward.example", "Ann\r\n\r\nbody", "Ann\x0b\x1b[2J"])
def test_a_full_name_stays_in_its_field(house: Besieged, name: str) -> None:
    mark = f"name {len(house.messages)}"
    done = house.daemon.run("sendmail", "-F", name, "-i", "bob@onward.example", stdin=f"Subject: {mark}\n\nx\n")
    if done.returncode:
        assert done.returncode in (64, 65)
        return
    header = house.relayed(mark.encode()).body.partition(b"\r\n\r\n")[0]
    assert b"\r\nBcc" not in header
    assert b"\x1b" not in header
    assert b"Subject: " in header
