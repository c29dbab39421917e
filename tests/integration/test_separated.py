"""The daemon in several processes: each role as its own user, and what happens when one dies."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.separated.accounts import USERS, Role
from spool.layout import layout
from tests.tools.daemon import Daemon, wait_for
from tests.tools.folders import public_folder
from tests.tools.roles import family, process_of

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become others"),
    pytest.mark.skipif(
        not all(user in {entry.pw_name for entry in pwd.getpwall()} for user in USERS.values()),
        reason="the daemon's users are not on this machine",
    ),
]

BIN = Path(sys.executable).parent
KEPT = Path(__file__).parents[1] / "spools" / "version-1"
USER = "games"
SECRET = "a-very-secret-word"
CONFIGURATION = """\
table aliases file:/etc/smtpd/aliases
table secrets file:/etc/smtpd/secrets
listen on socket
listen on 127.0.0.1 port $port
action "inbox" mbox alias <aliases>
action "away" relay host "smtps://label@127.0.0.1:9" auth <secrets>
match from any for domain "away.example" action "away"
match from any for any action "inbox"
"""
TABLES = {"aliases": f"root: {USER}\n", "secrets": f"label user:{SECRET}\n"}
LARGE = ("a line of text, and another\r\n" * 5000)[: 120 * 1024]


def started(root: Path) -> Daemon:
    return Daemon(root, CONFIGURATION, tables=TABLES, one_process=False)


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    """For tests that leave it as it was."""
    with public_folder() as root, started(root) as daemon:
        yield daemon


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with public_folder() as root:
        daemon = started(root)
        daemon.start()
        yield daemon
        if daemon.process is not None:
            daemon.stop()


def send(daemon: Daemon, text: str, recipient: str = f"{USER}@example.org") -> None:
    with smtplib.SMTP("127.0.0.1", daemon.port, timeout=30) as client:
        client.sendmail("ann@example.org", [recipient], f"Subject: x\r\n\r\n{text}\r\n")


def mailbox(daemon: Daemon) -> Path:
    return daemon.root / "var/mail" / USER


def wait_arrived(daemon: Daemon, text: str) -> None:
    def has_arrived() -> bool:
        return mailbox(daemon).exists() and text in mailbox(daemon).read_text()

    wait_for(has_arrived, f"{text!r} in the mailbox:\n{daemon.log}")


@pytest.mark.parametrize("role", Role)
def test_each_role_is_a_user_of_its_own_with_no_way_back(shared: Daemon, role: Role) -> None:
    account = pwd.getpwnam(USERS[role])
    status = Path(f"/proc/{process_of(shared, role)}/status").read_text()
    assert re.search(r"^Uid:((\t\d+){4})$", status, re.M)[1].split() == [str(account.pw_uid)] * 4  # type: ignore[index]
    assert re.search(r"^Gid:((\t\d+){4})$", status, re.M)[1].split() == [str(account.pw_gid)] * 4  # type: ignore[index]
    assert re.search(r"^Groups:\s*(\d*)\s*$", status, re.M)[1] in ("", str(account.pw_gid))  # type: ignore[index]


def test_the_spool_belongs_to_the_queue_alone(shared: Daemon) -> None:
    spool = shared.root / "var/spool/smtpd"
    owner = pwd.getpwnam(USERS[Role.QUEUE]).pw_uid
    found = {path: path.stat() for path in spool.iterdir() if not path.name.startswith("drop")}
    assert {status.st_uid for status in found.values()} == {owner}
    assert all(status.st_mode & 0o077 == 0 for status in found.values())


def test_mail_reaches_a_mailbox_that_belongs_to_its_user(shared: Daemon) -> None:
    send(shared, "by smtp")
    wait_arrived(shared, "by smtp")
    assert mailbox(shared).stat().st_uid == pwd.getpwnam(USER).pw_uid


def test_a_large_message_reaches_the_mailbox_whole(shared: Daemon) -> None:
    send(shared, LARGE + "the end of it")
    wait_arrived(shared, "the end of it")
    assert LARGE.replace("\r\n", "\n") in mailbox(shared).read_text()


def test_mail_that_was_left_in_the_drop_is_taken(shared: Daemon) -> None:
    shared.smtpctl("pause", "smtp")
    shared.sendmail("-i", f"{USER}@example.org", message="Subject: x\n\nfrom the drop\n")
    assert list((shared.root / "var/spool/smtpd/drop").iterdir())
    shared.smtpctl("resume", "smtp")
    wait_arrived(shared, "from the drop")
    wait_for(lambda: not list((shared.root / "var/spool/smtpd/drop").iterdir()), "the drop to be empty")


def test_what_is_no_message_in_the_drop_is_set_aside_by_root(shared: Daemon) -> None:
    (shared.root / "var/spool/smtpd/drop/nonsense").write_text("nonsense")
    wait_for(lambda: "drop.damaged=1" in shared.smtpctl("show", "stats"), "the file to be set aside")
    (kept,) = (shared.root / "var/spool/smtpd/drop-damaged").iterdir()
    assert (kept.read_text(), kept.stat().st_uid) == ("nonsense", 0)


def test_a_changed_table_counts_though_ingress_cannot_read_it(shared: Daemon) -> None:
    shared.write("aliases", f"root: {USER}\nnewcomer: {USER}\n")
    shared.smtpctl("update", "table", "aliases")
    send(shared, "to the newcomer", "newcomer@example.org")
    wait_arrived(shared, "to the newcomer")


def test_a_reload_reaches_every_role(shared: Daemon) -> None:
    shared.configure(CONFIGURATION.replace('"away.example"', '{ "away.example", "more.example" }'))
    shared.reload()
    send(shared, "x", "bob@more.example")
    wait_for(lambda: any(one["destination"] == "bob@more.example" for one in shared.queue()), "the envelope")
    shared.smtpctl("remove", "--domain", "more.example")


def test_a_new_listener_and_an_old_one_change_with_a_reload(shared: Daemon) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        other: int = probe.getsockname()[1]
    shared.configure(CONFIGURATION + f"listen on 127.0.0.1 port {other}\n")
    shared.reload()
    with socket.create_connection(("127.0.0.1", other), 10) as client:
        assert client.recv(4) == b"220 "
    shared.configure(CONFIGURATION)
    shared.reload()

    def is_closed() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", other)) != 0

    wait_for(is_closed, "the listener to close")


def memory_of(pid: int) -> Iterator[bytes]:
    """What a process has in its memory."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            span, rights, *_ = line.split()
            if not rights.startswith("rw"):
                continue
            start, end = (int(number, 16) for number in span.split("-"))
            try:
                memory.seek(start)
                yield memory.read(end - start)
            except (OSError, OverflowError):
                continue


def knows(pid: int, secret: str) -> bool:
    return any(secret.encode() in piece for piece in memory_of(pid))


def test_a_password_for_the_smarthost_is_in_no_memory_but_that_of_those_who_need_it(shared: Daemon) -> None:
    assert shared.process is not None
    assert knows(shared.process.pid, SECRET)
    assert knows(process_of(shared, Role.DELIVERY), SECRET)
    assert not knows(process_of(shared, Role.INGRESS), SECRET)
    assert not knows(process_of(shared, Role.QUEUE), SECRET)


@pytest.mark.parametrize("role", Role)
def test_a_role_that_dies_is_started_again_and_nothing_is_lost(daemon: Daemon, role: Role) -> None:
    send(daemon, "waits", "bob@away.example")
    os.kill(process_of(daemon, role), signal.SIGKILL)
    daemon.wait_log(f"the {role.value} process has died: another takes its place")

    def is_taken() -> bool:
        try:
            send(daemon, f"after the {role.value}")
        except (OSError, smtplib.SMTPException):
            return False
        return True

    wait_for(is_taken, "mail to be taken again")
    wait_arrived(daemon, f"after the {role.value}")
    assert [one["destination"] for one in daemon.wait_queue(1)] == ["bob@away.example"]


def test_all_processes_end_with_the_daemon(daemon: Daemon) -> None:
    assert daemon.process is not None
    send(daemon, "so that there are agents")
    wait_arrived(daemon, "so that there are agents")
    pids = list(family(daemon.process.pid))
    assert len(pids) >= 6
    assert daemon.stop() == 0
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the processes to end")
    assert "Traceback" not in daemon.log


def test_the_others_end_when_the_supervisor_is_killed(daemon: Daemon) -> None:
    assert daemon.process is not None
    pids = list(family(daemon.process.pid))
    daemon.kill()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the processes to end")


def test_a_spool_that_root_kept_before_is_handed_over(daemon: Daemon) -> None:
    daemon.stop()
    for path in [daemon.root / "var/spool/smtpd", *(daemon.root / "var/spool/smtpd").rglob("*")]:
        os.chown(path, 0, 0)
    daemon.start()
    send(daemon, "after that")
    wait_arrived(daemon, "after that")


def test_a_second_daemon_leaves_the_spool_of_the_first_alone(daemon: Daemon) -> None:
    second = Daemon(daemon.root, CONFIGURATION, one_process=False)
    assert second.launch().wait(30) == os.EX_TEMPFAIL
    assert "is in use by process" in daemon.log
    send(daemon, "still there")
    wait_arrived(daemon, "still there")


def test_one_process_of_root_leaves_the_spool_of_the_queue_alone(daemon: Daemon) -> None:
    daemon.stop()
    alone = Daemon(daemon.root, CONFIGURATION, one_process=True)
    assert alone.launch().wait(30) == 1
    assert "start smtpd without --one-process" in daemon.log


def test_a_spool_that_cannot_be_opened_ends_the_start_with_a_sentence(daemon: Daemon) -> None:
    daemon.stop()
    (daemon.root / "var/spool/smtpd/state.db").write_bytes(b"no database at all, and long enough to be looked at" * 100)
    assert daemon.launch().wait(60) == 1
    (complaint,) = [line for line in daemon.log.splitlines() if line.startswith("smtpd: ")]
    assert complaint.startswith(f"smtpd: {daemon.root}/var/spool/smtpd: ")
    assert "Traceback" not in daemon.log


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace makes the fsync fail")
def test_all_processes_end_when_a_write_may_be_lost(daemon: Daemon) -> None:
    assert daemon.process is not None
    process, pids = daemon.process, list(family(daemon.process.pid))
    inject = ["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO"]
    queue = str(process_of(daemon, Role.QUEUE))
    with subprocess.Popen(["strace", "-f", "-p", queue, *inject], stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        assert "attached" in strace.stderr.readline()
        with pytest.raises((OSError, smtplib.SMTPException)):
            send(daemon, "never acknowledged")
        assert process.wait(30) == os.EX_IOERR
        strace.stderr.read()
    assert "a write to the spool may be lost" in daemon.log
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the processes to end")


def test_a_stop_right_after_the_start_is_heard(daemon: Daemon) -> None:
    for _ in range(3):
        assert daemon.stop() == 0
        daemon.start()


def test_a_spool_of_an_earlier_version_is_led_upwards_behind_the_walls() -> None:
    with public_folder() as root:
        folder = Path(layout(str(root)).spool_dir).parent
        folder.mkdir(parents=True)
        with tarfile.open(KEPT / "spool.tar.gz") as archive:
            archive.extractall(folder, filter="tar")
        (folder / "spool").rename(folder / "smtpd")
        # Some of what waits there belongs to actions that this configuration has lost, which is told as an error.
        daemon = started(root)
        daemon.start()
        listed = subprocess.run([BIN / "mailq", "--root", root], check=True, capture_output=True, text=True).stdout
        assert daemon.stop() == 0, daemon.log
        assert listed.endswith("in 6 Requests.\n"), daemon.log
