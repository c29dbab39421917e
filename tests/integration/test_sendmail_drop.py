"""sendmail, with a daemon that is not there or cannot take a message now: everything is left in the drop."""

from __future__ import annotations

import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ingress.dropfile import MAX_MEMORY
from tests.tools.mailer import COMMAND, Mailer
from tests.tools.recording_sink import Act

MESSAGE = "From: ann@example.org\nTo: bob@example.org\nDate: today\n\nhello\n"
ON_THE_WIRE = MESSAGE.replace("\n", "\r\n").encode()


@pytest.fixture
def mailer(tmp_path: Path) -> Mailer:
    return Mailer(tmp_path)


def test_without_a_daemon_the_message_is_left_with_all_that_belongs_to_it(mailer: Mailer) -> None:
    done = mailer.send(["-N", "never", "-R", "hdrs", "-V", "x y", "-f", "me@x", "bob", "grün@x"], MESSAGE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (left,) = mailer.left()
    assert left.mail == "MAIL FROM:<me@x> RET=HDRS ENVID=x+20y SMTPUTF8"
    assert left.rcpts == ("RCPT TO:<bob> NOTIFY=NEVER", "RCPT TO:<grün@x> NOTIFY=NEVER")
    assert left.body == ON_THE_WIRE


def test_a_socket_that_nobody_listens_to_is_no_daemon(mailer: Mailer) -> None:
    with mailer.daemon():
        pass
    assert mailer.send(["bob"], MESSAGE).returncode == 0
    assert len(mailer.left()) == 1


@pytest.mark.parametrize(
    ("instant", "reply"),
    [
        ("connect", "421 4.3.2 shutting down"),
        ("connect", "554 5.3.2 no service"),
        ("EHLO", "421 4.3.0 no"),
        ("EHLO", "502 5.5.1 no"),
        ("MAIL", "451 4.3.0 table is down"),
        ("RCPT", "451 4.3.0 table is down"),
        ("RCPT", "452 4.5.3 too many recipients"),
        ("DATA", "451 4.3.0 no"),
        ("dot", "452 4.3.1 disk full"),
        ("MAIL", "gibberish"),
        ("connect", "220" + "x" * 100_000),
    ],
)
def test_a_daemon_that_says_not_now_finds_the_message_later(mailer: Mailer, instant: str, reply: str) -> None:
    with mailer.daemon() as daemon:
        daemon.on(instant, Act(reply))
        assert mailer.send(["ann", "bob"], MESSAGE).returncode == 0
    assert daemon.messages == []
    (left,) = mailer.left()
    assert left.rcpts == ("RCPT TO:<ann>", "RCPT TO:<bob>")


@pytest.mark.parametrize("instant", ["connect", "EHLO", "MAIL", "RCPT", "DATA"])
def test_a_daemon_that_dies_before_the_dot_loses_nothing(mailer: Mailer, instant: str) -> None:
    with mailer.daemon() as daemon:
        daemon.on(instant, Act(b"", cut=True))
        assert mailer.send(["bob"], MESSAGE).returncode == 0
    assert daemon.messages == []
    assert [left.body for left in mailer.left()] == [ON_THE_WIRE]


def test_a_daemon_that_dies_after_the_dot_may_have_it_twice_but_not_never(mailer: Mailer) -> None:
    with mailer.daemon() as daemon:
        daemon.on("dot", Act(b"", cut=True))
        assert mailer.send(["bob"], MESSAGE).returncode == 0
    assert [left.body for left in mailer.left()] == [ON_THE_WIRE]


def test_a_daemon_that_dies_after_its_last_yes_is_not_told_again(mailer: Mailer) -> None:
    with mailer.daemon() as daemon:
        daemon.on("QUIT", Act(b"", cut=True))
        assert mailer.send(["bob"], MESSAGE).returncode == 0
    assert len(daemon.messages) == 1
    assert mailer.left() == []


def test_a_daemon_without_a_greeting_is_absent_after_five_seconds(mailer: Mailer) -> None:
    with mailer.daemon() as daemon:
        daemon.on("connect", Act(delay=30))
        before = time.monotonic()
        assert mailer.send(["bob"], MESSAGE).returncode == 0
        assert 4.5 < time.monotonic() - before < 10
    assert len(mailer.left()) == 1


def test_a_large_message_is_left_whole_when_the_daemon_dies_in_it(mailer: Mailer) -> None:
    text = "x" * 70 + "\n"
    with mailer.daemon() as daemon:
        daemon.on("body", Act(b"", cut=True))
        assert mailer.send(["bob"], MESSAGE + text * (2 * MAX_MEMORY // 70)).returncode == 0
    (left,) = mailer.left()
    assert left.body == ON_THE_WIRE + (text.replace("\n", "\r\n") * (2 * MAX_MEMORY // 70)).encode()


def test_a_large_message_of_one_line_is_left_encoded_and_once(mailer: Mailer) -> None:
    assert mailer.send(["bob"], MESSAGE + "x" * (2 * MAX_MEMORY)).returncode == 0
    (left,) = mailer.left()
    assert b"Content-Transfer-Encoding: quoted-printable" in left.body


def test_memory_does_not_grow_with_the_message(mailer: Mailer) -> None:
    process = mailer.start("bob")
    assert process.stdin is not None
    process.stdin.write(MESSAGE.encode() + (b"y" * 70 + b"\n") * 1_000_000)
    process.stdin.flush()
    status = Path(f"/proc/{process.pid}/status").read_text()
    process.communicate()
    assert process.returncode == 0
    (peak,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    assert peak < 20_000, f"{peak} KiB for a message of 70,000"


def test_mail_that_cannot_be_left_either_is_to_be_tried_again(mailer: Mailer) -> None:
    mailer.drop.rmdir()
    done = mailer.send(["bob"], MESSAGE)
    assert done.returncode == 75
    assert str(mailer.drop) in done.stderr
    assert "No such file or directory" in done.stderr


def test_a_full_file_system_leaves_nothing_behind(mailer: Mailer) -> None:
    process = subprocess.run(
        [COMMAND, "bob"],
        input=(MESSAGE + "x\n" * 10_000).encode(),
        env=mailer.environment(),
        capture_output=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    assert process.returncode == 75
    assert b"File too large" in process.stderr
    assert list(mailer.drop.iterdir()) == []


def test_a_sendmail_that_is_killed_leaves_nothing_that_counts_as_a_message(mailer: Mailer) -> None:
    process = mailer.start("bob")
    assert process.stdin is not None
    process.stdin.write(MESSAGE.encode() + b"x\n" * MAX_MEMORY)
    process.stdin.flush()
    deadline = time.monotonic() + 10
    while not any(path.stat().st_size for path in mailer.drop.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (path,) = mailer.drop.iterdir()
    assert not path.read_bytes().rpartition(b"\n")[0].rpartition(b"\n")[2].startswith(b"end ")


def test_closed_standard_descriptors_do_no_harm(mailer: Mailer) -> None:
    command = f"exec {COMMAND} bob <&- >&- 2>&-"
    done = subprocess.run(["sh", "-c", command], env=mailer.environment(), check=False)
    assert done.returncode == 0
    (left,) = mailer.left()
    assert left.body.endswith(b"\r\n\r\n")
