"""What goes wrong under a running daemon: what its clients are told, what its operator sees, and that the rest goes on."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import smtplib
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.tools.daemon import Daemon, wait_for
from tests.tools.scorecard import Cases

pytestmark = [pytest.mark.reliability("2 faults"), pytest.mark.timeout(600)]

CONFIGURATION = """\
listen on 127.0.0.1 port $port
action "in" maildir "/Maildir"
action "away" relay host "smtp+notls://127.0.0.1:9"
match for local action "in"
match from any for any action "away"
"""
MESSAGE = "Subject: x\r\n\r\nx\r\n"
LARGE = "Subject: large\r\n\r\n" + "all work and no play\r\n" * 20_000
ME = f"{getpass.getuser()}@localhost"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


@contextmanager
def mounted(place: Path, options: str) -> Iterator[None]:
    place.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.decode()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


class Daemons:
    """Makes daemons, and ends those that a failed test has left."""

    def __init__(self) -> None:
        self._made: list[Daemon] = []

    def at(self, root: Path, *arguments: str) -> Daemon:
        """One below ``root``, not started yet."""
        daemon = Daemon(root, CONFIGURATION, arguments=("-d", *arguments))
        self._made.append(daemon)
        return daemon

    def end(self) -> None:
        """Nobody is left."""
        for daemon in self._made:
            if daemon.process is not None:
                daemon.kill()


@pytest.fixture
def daemons() -> Iterator[Daemons]:
    daemons = Daemons()
    yield daemons
    daemons.end()


def spool_of(daemon: Daemon) -> Path:
    return daemon.root / "var/spool/smtpd"


def send(daemon: Daemon, recipient: str = "bob@example.org", message: str = MESSAGE) -> tuple[int, str]:
    """What the client was told in the end; 0 when it was cut off."""
    try:
        with smtplib.SMTP("127.0.0.1", daemon.port, timeout=20) as client:
            client.sendmail("ann@example.org", [recipient], message)
    except smtplib.SMTPRecipientsRefused as error:
        code, text = error.recipients[recipient]
        return code, text.decode()
    except smtplib.SMTPResponseException as error:
        return error.smtp_code, str(error.smtp_error)
    except OSError:
        return 0, ""
    return 250, ""


def arrived(daemon: Daemon) -> int:
    new = daemon.root / "Maildir/new"
    return len(list(new.iterdir())) if new.exists() else 0


def fill(folder: Path) -> Path:
    """Nothing more fits into this file system."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"z" * 4096):
            pass
    return filler


# -- no room --------------------------------------------------------------------------------------------------------------


@needs_root
def test_on_a_full_disk_clients_come_back_later_and_the_operator_reads_why(tmp_path: Path, daemons: Daemons) -> None:
    daemon = daemons.at(tmp_path)
    with mounted(spool_of(daemon), "size=24m"):
        daemon.start()
        filler = fill(spool_of(daemon))
        assert send(daemon)[0] == 452
        assert send(daemon)[0] == 452
        status = daemon.smtpctl("show", "status")
        assert "disk nearly full: " in status
        assert "mail is refused with 452 until room is made on the file system of " in status
        filler.unlink()
        wait_for(lambda: send(daemon)[0] == 250, "mail to be accepted again")
        assert "disk" not in daemon.smtpctl("show", "status")
        assert daemon.log.count("disk nearly full") == 1
        assert "there is room on the disk again" in daemon.log
        assert daemon.stop() == 0


@needs_root
def test_on_a_full_disk_what_is_queued_is_delivered_once(tmp_path: Path, daemons: Daemons) -> None:
    daemon = daemons.at(tmp_path, "-P", "mda")
    with mounted(spool_of(daemon), "size=24m"):
        daemon.start()
        for _ in range(5):
            assert send(daemon, ME)[0] == 250
        wait_for(lambda: (spool_of(daemon) / "reserve").exists(), "the reserve")
        filler = fill(spool_of(daemon))
        daemon.smtpctl("resume", "mda")
        time.sleep(1)
        filler.unlink()
        wait_for(lambda: arrived(daemon) == 5, "the mail")
        wait_for(lambda: daemon.queue() == [], "an empty queue")
        assert arrived(daemon) == 5
        daemon.stop()


@needs_root
def test_without_inodes_clients_come_back_later_and_the_operator_reads_why(tmp_path: Path, daemons: Daemons) -> None:
    daemon = daemons.at(tmp_path)
    with mounted(spool_of(daemon), "size=64m,nr_inodes=400"):
        daemon.start()
        others = spool_of(daemon) / "others"
        others.mkdir()
        with suppress(OSError):
            for number in range(400):
                (others / str(number)).touch()
        assert send(daemon)[0] == 452
        assert "inodes are left" in daemon.smtpctl("show", "status")
        shutil.rmtree(others)
        wait_for(lambda: send(daemon, message=LARGE)[0] == 250, "mail to be accepted again")
        daemon.stop()


# -- no access ------------------------------------------------------------------------------------------------------------


def test_while_another_program_has_the_database_clients_come_back_later(tmp_path: Path, daemons: Daemons) -> None:
    daemon = daemons.at(tmp_path)
    daemon.start()
    with closing(sqlite3.connect(spool_of(daemon) / "state.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert send(daemon)[0] == 451
        assert "or its state.db open in another program" in daemon.smtpctl("show", "status")
        other.execute("ROLLBACK")
    assert send(daemon)[0] == 250
    assert daemon.log.count("the spool cannot be written: ") == 1
    assert daemon.stop() == 0


@needs_root
def test_a_read_only_spool_is_not_started_with(tmp_path: Path, daemons: Daemons) -> None:
    daemon = daemons.at(tmp_path)
    with daemon:
        send(daemon)
    place = spool_of(daemon)
    subprocess.run(["mount", "--bind", str(place), str(place)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
        assert daemon.launch().wait(20) not in (0, None)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
    assert "Read-only file system" in daemon.log
    with daemon:
        assert len(daemon.queue()) == 1


def test_without_descriptors_it_waits_and_then_goes_on(tmp_path: Path, daemons: Daemons) -> None:
    daemon = daemons.at(tmp_path, "-P", "mda")
    daemon.start()
    assert daemon.process is not None
    pid = daemon.process.pid
    assert send(daemon, ME)[0] == 250
    limit = len(os.listdir(f"/proc/{pid}/fd")) + 12
    subprocess.run(["prlimit", f"--pid={pid}", f"--nofile={limit}:{limit}"], check=True)
    crowd = [socket.create_connection(("127.0.0.1", daemon.port)) for _ in range(40)]
    wait_for(lambda: "Too many open files" in daemon.log, "a word about descriptors")
    for one in crowd:
        one.close()
    wait_for(lambda: send(daemon, ME)[0] == 250, "mail to be accepted again")
    daemon.smtpctl("resume", "mda")
    wait_for(lambda: arrived(daemon) == 2, "the mail")
    assert daemon.stop() == 0


# -- damage ---------------------------------------------------------------------------------------------------------------


def test_a_damaged_page_is_said_and_the_rest_goes_on(tmp_path: Path, daemons: Daemons) -> None:
    daemon = daemons.at(tmp_path)
    daemon.start()
    for _ in range(30):
        send(daemon)
    daemon.stop()
    damage_index(spool_of(daemon) / "state.db", "attempt_message")
    daemon.start()
    daemon.kill()
    daemon.start()
    wait_for(lambda: "the database is damaged" in daemon.smtpctl("show", "status"), "the finding")
    assert "put a backup in its place" in daemon.smtpctl("show", "status")
    assert send(daemon, ME)[0] == 250
    wait_for(lambda: arrived(daemon) == 1, "the mail")
    daemon.kill()


def damage_index(database: Path, index: str) -> None:
    """Its root page is nonsense."""
    with closing(sqlite3.connect(database)) as connection:
        page = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (index,)).fetchone()[0]
    with database.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xa5" * 512)


def test_a_log_that_was_cut_off_has_all_that_comes_before_the_cut(tmp_path: Path, daemons: Daemons) -> None:
    daemon = daemons.at(tmp_path)
    daemon.start()
    log = spool_of(daemon) / "state.db-wal"
    sizes = []
    for _ in range(6):
        assert send(daemon)[0] == 250
        sizes.append(log.stat().st_size)
    daemon.kill()
    os.truncate(log, sizes[2] + 100)
    with daemon:
        assert len(daemon.queue()) >= 3
        assert send(daemon)[0] == 250


@pytest.mark.parametrize("how", ["missing", "altered", "cut short"])
def test_a_damaged_body_is_shown_and_the_rest_goes_on(tmp_path: Path, daemons: Daemons, how: str) -> None:
    daemon = daemons.at(tmp_path, "-P", "mda")
    daemon.start()
    assert send(daemon, ME, LARGE)[0] == 250
    assert send(daemon, ME)[0] == 250
    (body,) = (path for path in (spool_of(daemon) / "msg").rglob("*") if path.is_file())
    if how == "missing":
        body.unlink()
    elif how == "altered":
        with body.open("r+b") as file:
            file.seek(1000)
            file.write(b"!")
    else:
        os.truncate(body, 1000)
    daemon.smtpctl("resume", "mda")
    wait_for(lambda: arrived(daemon) == 1, "the other message")
    wait_for(lambda: "set aside as damaged" in daemon.smtpctl("show", "status"), "the damage in the status")
    assert "envelope set aside" in daemon.log
    assert daemon.stop() == 0


def test_a_body_without_a_message_is_set_aside_and_shown(tmp_path: Path, daemons: Daemons) -> None:
    daemon = daemons.at(tmp_path)
    with daemon:
        pass
    (spool_of(daemon) / "msg/00/stray").write_bytes(b"x")
    with daemon:
        wait_for(lambda: "bodies without a message in " in daemon.smtpctl("show", "status"), "the orphan")


# -- every call -----------------------------------------------------------------------------------------------------------


@contextmanager
def injected(process: subprocess.Popen[bytes], calls: str, fault: str) -> Iterator[None]:
    """The running process meets a fault."""
    command = ["strace", "-f", "-q", "-o", os.devnull, "-e", f"trace={calls}", "-e", f"inject={calls}:{fault}"]

    def is_traced() -> bool:
        tasks = Path(f"/proc/{process.pid}/task").glob("*/status")
        return all("TracerPid:\t0\n" not in task.read_text() for task in tasks)

    with subprocess.Popen([*command, "-p", str(process.pid)]) as tracer:
        try:
            with suppress(OSError):
                wait_for(lambda: is_traced() or process.poll() is not None, "strace to be there")
            yield
        finally:
            tracer.terminate()


#: The system calls by which the database is written in one accept, and a large body is made durable. The body's own
#: writes cannot be told from those that wake the loop: see tests/crash/test_accept_faults.py.
WRITES = {"pwrite64": 14, "fdatasync": 1}
LARGE_WRITES = {"fsync": 2}
ONE_ACCEPT = [
    (message, call, nth, error)
    for message, writes in ((MESSAGE, WRITES), (LARGE, LARGE_WRITES))
    for call, count in writes.items()
    for nth in range(1, count + 1)
    for error in ("EIO", "ENOSPC")
]


@needs_strace
def test_whatever_write_of_an_accept_fails_the_client_is_told_the_truth(
    tmp_path: Path, daemons: Daemons, thorough: bool, cases: Cases
) -> None:
    told = []
    chosen = ONE_ACCEPT if thorough else ONE_ACCEPT[::13]
    for number, (message, call, nth, error) in enumerate(chosen):
        cases.tried()
        code, status, kept = one_accept(daemons, tmp_path / str(number), message, call, f"error={error}:when={nth}")
        told.append(code)
        name = f"{call} number {nth}, {error}: {code}, ended {status}, kept {kept}"
        if code == 250 and not kept:
            cases.failed(f"{name}: acknowledged and lost")
        if code not in (0, 250, 451, 452) or (code == 0) is not (status == os.EX_IOERR):
            cases.failed(f"{name}: the client was told something else")
    cases.note(f"{len(told)} accepts with a failing write: {count(told)}")


def one_accept(daemons: Daemons, root: Path, message: str, call: str, fault: str) -> tuple[int, int | None, bool]:
    """What the client was told, how the daemon ended, and whether the next start has the message."""
    daemon = daemons.at(root, "-v")
    daemon.start()
    process = daemon.process
    assert process is not None
    with injected(process, call, fault):
        code, _ = send(daemon, message=message)
        with suppress(subprocess.TimeoutExpired):
            process.wait(1 if code == 0 else 0.2)
    status = process.poll()
    if status is None:
        daemon.end(signal.SIGKILL)
    daemon.start()
    kept = len(daemon.queue()) == 1
    assert send(daemon)[0] == 250
    assert daemon.stop() == 0
    return code, status, kept


def count(codes: list[int]) -> str:
    """How often each was said."""
    words = {0: "cut off and ended"}
    return ", ".join(f"{codes.count(code)} {words.get(code, code)}" for code in sorted(set(codes)))
