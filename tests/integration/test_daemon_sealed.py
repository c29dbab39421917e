"""A whole daemon with compression and encryption at rest: deliveries, changes of keys, and keys that are missing."""

from __future__ import annotations

import os
import pty
import signal
import smtplib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from spool.seal import SealKey
from tests.tools.daemon import BIN, Daemon, free_port, wait_for

pytestmark = pytest.mark.reliability("7 at rest")

KEY, OTHER = "0123456789abcdef0123456789ABCDEF", "fedcba9876543210fedcba9876543210"
FINGERPRINT = SealKey(KEY.encode()).fingerprint
RULES = """
listen on 127.0.0.1 port $port
action "in" maildir "/Maildir" virtual { "@" = "root" }
action "out" relay host "smtp+notls://127.0.0.1:9"
match from any for domain "in.example" action "in"
match from any for any action "out"
"""
BOTH = 'queue compression\nqueue encryption "/etc/smtpd/queue.key"\n'
MESSAGE = "From: ann@out.example\nSubject: the merger\n\n" + "nothing to see here\n" * 50
LARGE = "From: ann@out.example\nSubject: the large merger\n\n" + "nothing to see here, many times\n" * 20_000


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path, BOTH + RULES, tables={"queue.key": KEY, "other.key": OTHER}) as daemon:
        yield daemon


def send(daemon: Daemon, recipient: str, message: str) -> None:
    with smtplib.SMTP("127.0.0.1", daemon.port, timeout=20) as client:
        client.sendmail("ann@in.example", [recipient], message.replace("\n", "\r\n"))


def delivered(daemon: Daemon) -> list[bytes]:
    return [path.read_bytes() for path in sorted((daemon.root / "Maildir/new").glob("*"))]


def on_disk(daemon: Daemon) -> bytes:
    return b"".join(path.read_bytes() for path in (daemon.root / "var/spool").rglob("*") if path.is_file())


def test_sealed_mail_is_delivered_as_it_came(daemon: Daemon) -> None:
    send(daemon, "bob@in.example", MESSAGE)
    send(daemon, "bob@in.example", LARGE)
    wait_for(lambda: len(delivered(daemon)) == 2, "two messages")
    bodies = {content.partition(b"\n\n")[2] for content in delivered(daemon)}
    assert bodies == {text.encode().partition(b"\n\n")[2] for text in (MESSAGE, LARGE)}


def test_what_waits_cannot_be_read_on_disk_but_is_shown(daemon: Daemon) -> None:
    for message in (MESSAGE, LARGE):
        send(daemon, "bob@away.example", message)
    first, second = daemon.wait_queue(2)
    assert b"away.example" in on_disk(daemon), "envelopes are not encrypted"
    assert b"merger" not in on_disk(daemon)
    assert b"nothing to see" not in on_disk(daemon)
    shown = [daemon.smtpctl("show", "message", each["id"].partition(".")[0]) for each in (first, second)]
    assert all("merger" in text for text in shown)
    assert f"queue.key.{FINGERPRINT}=2" in daemon.smtpctl("show", "stats")


def test_a_report_quotes_sealed_mail(daemon: Daemon) -> None:
    nobody = 'action "none" mda "/bin/false" virtual { "@" = "root" }\n'
    nobody += 'match from any for domain "none.example" action "none"\n'
    daemon.configure(BOTH + RULES.replace('match from any for domain "in', nobody + 'match from any for domain "in'))
    daemon.reload()
    send(daemon, "bob@none.example", MESSAGE)
    wait_for(lambda: len(delivered(daemon)) == 1, "the report")
    assert b"the merger" in delivered(daemon)[0]


def test_the_keys_of_the_configuration_open_a_stopped_spool(daemon: Daemon) -> None:
    for message in (MESSAGE, LARGE):
        send(daemon, "bob@away.example", message)
    first, second = daemon.wait_queue(2)
    assert daemon.stop() == 0
    for envelope in (first, second):
        assert "merger" in daemon.smtpctl("show", "message", envelope["id"].partition(".")[0])
    assert "nothing is wrong" in daemon.smtpctl("verify")
    backup = daemon.run("smtpctl", "backup", str(daemon.root / "copy"))
    assert (backup.returncode, "not at hand" in backup.stdout + backup.stderr) == (0, False)
    daemon.configure(RULES)
    without = daemon.run("smtpctl", "verify", "--repair")
    assert f"key {FINGERPRINT}: it is not at hand, so 2 bodies could not be looked into" in without.stdout
    daemon.configure(BOTH + RULES)
    assert "nothing is wrong" in daemon.smtpctl("verify", "--repair")


def test_a_key_is_changed_by_a_reload_while_mail_waits(daemon: Daemon) -> None:
    send(daemon, "bob@away.example", MESSAGE)
    daemon.configure(BOTH.replace("queue.key", "other.key").rstrip() + ' old "/etc/smtpd/queue.key"\n' + RULES)
    daemon.reload()
    send(daemon, "bob@away.example", MESSAGE)
    stats = daemon.smtpctl("show", "stats")
    assert f"queue.key.{FINGERPRINT}=1" in stats
    assert f"queue.key.{SealKey(OTHER.encode()).fingerprint}=1" in stats
    for envelope in daemon.wait_queue(2):
        assert "merger" in daemon.smtpctl("show", "message", envelope["id"].partition(".")[0])


def test_mail_waits_for_its_key_and_goes_on_with_it(daemon: Daemon) -> None:
    daemon.smtpctl("pause", "mda")
    send(daemon, "bob@in.example", MESSAGE)
    daemon.configure(RULES)
    daemon.reload()
    daemon.smtpctl("resume", "mda")
    wait_for(lambda: daemon.queue()[0]["state"] == "held", "the envelope to be held")
    (envelope,) = daemon.queue()
    assert envelope["error"] == f"sealed with key {FINGERPRINT}, which this daemon does not have"
    assert f"messages that wait for key {FINGERPRINT}, which this daemon does not have: 1\n" in daemon.smtpctl(
        "show", "status"
    )
    assert delivered(daemon) == []
    daemon.configure('queue encryption old "/etc/smtpd/queue.key"\n' + RULES)
    daemon.reload()
    wait_for(lambda: len(delivered(daemon)) == 1, "the message")
    daemon.wait_log("1 envelopes waited for their key")


def test_a_reload_with_a_key_that_cannot_be_used_changes_nothing(daemon: Daemon) -> None:
    daemon.write("queue.key", "too short")
    daemon.reload()
    daemon.wait_log("line 1 has 9 characters: a key is 32 characters or 64 hexadecimal digits")
    send(daemon, "bob@away.example", MESSAGE)
    assert f"queue.key.{FINGERPRINT}=1" in daemon.smtpctl("show", "stats")
    assert daemon.stop() == 0


def test_a_backup_holds_mail_as_it_was_sealed(daemon: Daemon) -> None:
    for message in (MESSAGE, LARGE):
        send(daemon, "bob@away.example", message)
    copy = daemon.root / "copy"
    daemon.smtpctl("backup", str(copy))
    octets = b"".join(path.read_bytes() for path in copy.rglob("*") if path.is_file())
    assert len(octets) > 10_000
    assert b"merger" not in octets


def test_the_key_is_never_in_the_log(daemon: Daemon) -> None:
    send(daemon, "bob@in.example", MESSAGE)
    daemon.smtpctl("trace", "all")
    daemon.configure(f"queue encryption {KEY}\n" + RULES)
    daemon.reload()
    daemon.configure(f"queue encryption {KEY}x\n" + RULES)
    daemon.reload()
    send(daemon, "bob@in.example", MESSAGE)
    assert daemon.stop() == 0
    assert "was not reloaded" in daemon.log
    assert KEY not in daemon.log
    assert KEY.encode().hex() not in daemon.log


def test_a_killed_daemon_delivers_what_was_sealed(daemon: Daemon) -> None:
    daemon.smtpctl("pause", "mda")
    send(daemon, "bob@in.example", LARGE)
    daemon.kill()
    daemon.start()
    daemon.smtpctl("resume", "mda")
    wait_for(lambda: len(delivered(daemon)) == 1, "the message")


def test_the_key_comes_from_standard_input_and_stays_for_reloads(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, "queue encryption stdin\n" + RULES)
    command = [str(BIN / "smtpd"), "-d", "--one-process", "--root", str(tmp_path), "-D", f"port={daemon.port}"]
    with (tmp_path / "log").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=log)
    daemon.process = process
    assert process.stdin
    process.stdin.write(KEY.encode() + b"\n")
    process.stdin.flush()
    daemon.wait_log(f"sealed with key {FINGERPRINT}")
    wait_for(lambda: daemon.run("smtpctl", "show", "status").returncode == 0, "smtpd to be ready")
    daemon.reload()
    send(daemon, "bob@in.example", MESSAGE)
    wait_for(lambda: len(delivered(daemon)) == 1, "the message")
    assert daemon.stop() == 0
    process.stdin.close()


def test_the_key_is_asked_for_at_the_terminal(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, "queue encryption\n" + RULES)
    pid, terminal = pty.fork()
    if not pid:
        os.execv(BIN / "smtpd", ["smtpd", "-d", "--one-process", "--root", str(tmp_path), "-D", f"port={daemon.port}"])
    said = b""
    while b"queue key: " not in said:
        said += os.read(terminal, 1000)
    os.write(terminal, KEY.encode() + b"\n")
    wait_for(lambda: daemon.run("smtpctl", "show", "status").returncode == 0, "smtpd to be ready")
    said += os.read(terminal, 10_000)
    os.kill(pid, signal.SIGTERM)
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    assert f"sealed with key {FINGERPRINT}" in said.decode()
    assert KEY not in said.decode()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("queue encryption\n", "smtpd: there is no terminal to ask for the key of the queue at"),
        ("queue encryption stdin\n", "smtpd: standard input: no key is in it"),
    ],
)
def test_without_anybody_to_ask_the_daemon_does_not_start(tmp_path: Path, line: str, complaint: str) -> None:
    daemon = Daemon(tmp_path, line + RULES, port=free_port())
    done = subprocess.run(
        [str(BIN / "smtpd"), "-d", "--one-process", "--root", str(tmp_path), "-D", f"port={daemon.port}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1
    assert complaint in done.stderr
