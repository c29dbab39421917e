"""A daemon from its start to its end: readiness, a second one, signals, the background."""

from __future__ import annotations

import os
import signal
import smtplib
import socket
import subprocess
from pathlib import Path

import pytest

from tests.tools.daemon import BIN, Daemon, wait_for
from tests.tools.folders import public_folder

CONFIGURATION = """\
listen on 127.0.0.1 port $port
action "inbox" maildir "/Maildir" virtual { "@" = "root" }
action "away" relay host "smtp+notls://127.0.0.1:9"
match from any for domain "away.example" action "away"
match from any for any action "inbox"
"""
MESSAGE = "Subject: hello\r\n\r\nhello\r\n"


def greeting(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        return client.recv(100)


def test_it_says_ready_when_everything_is_bound(tmp_path: Path) -> None:
    with Daemon(tmp_path, CONFIGURATION) as daemon:
        assert greeting(daemon.port).startswith(b"220 box.example.net ")
        assert daemon.smtpctl("show", "status") == "MDA running\nMTA running\nSMTP running\n"
        assert (tmp_path / "var/spool/smtpd/drop").stat().st_mode & 0o7777 == 0o1733
        assert (tmp_path / "var/spool/smtpd").stat().st_mode & 0o777 == 0o711


def test_parts_can_start_paused_beside_those_that_were_paused_before(tmp_path: Path) -> None:
    with Daemon(tmp_path, CONFIGURATION) as daemon:
        daemon.smtpctl("pause", "mda")
    daemon.arguments = ("-d", "-P", "mta", "-P", "smtp")
    with daemon:
        assert daemon.smtpctl("show", "status") == "MDA paused\nMTA paused\nSMTP paused\n"
        daemon.smtpctl("resume", "smtp")
        assert daemon.smtpctl("show", "status") == "MDA paused\nMTA paused\nSMTP running\n"


def test_a_stop_leaves_no_socket_and_a_clean_spool(tmp_path: Path) -> None:
    with Daemon(tmp_path, CONFIGURATION) as daemon:
        daemon.sendmail("-i", "bob@away.example", message="Subject: x\n\nx\n")
        daemon.wait_queue(1)
    assert list((tmp_path / "var/run").iterdir()) == []
    assert len(daemon.queue()) == 1
    with daemon:
        assert "unclean" not in daemon.log


def test_a_second_daemon_on_the_same_spool_says_which_process_has_it(tmp_path: Path) -> None:
    with Daemon(tmp_path, CONFIGURATION) as daemon:
        assert daemon.process is not None
        second = subprocess.run(
            [
                str(BIN / "smtpd"),
                "--one-process",
                *daemon.arguments,
                "--root",
                str(tmp_path),
                "-D",
                f"port={daemon.port}",
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert second.returncode == os.EX_TEMPFAIL
        assert f"is in use by process {daemon.process.pid}" in second.stderr
        assert greeting(daemon.port).startswith(b"220 ")


def test_a_port_in_use_is_named_and_ends_the_start(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, CONFIGURATION)
    with socket.create_server(("127.0.0.1", daemon.port)):
        assert daemon.launch().wait(30) == 1
    assert f"cannot listen on 127.0.0.1 port {daemon.port}: Address already in use" in daemon.log
    assert "another program listens there" in daemon.log


def test_a_message_in_transmission_is_finished_before_the_stop(tmp_path: Path) -> None:
    with Daemon(tmp_path, CONFIGURATION) as daemon:
        client = smtplib.SMTP("127.0.0.1", daemon.port, timeout=10)
        client.ehlo()
        client.mail("ann@example.org")
        client.rcpt("bob@away.example")
        client.putcmd("DATA")
        assert client.getreply()[0] == 354
        client.send(b"Subject: half\r\n\r\n")
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGTERM)
        wait_for(lambda: not _listens(daemon.port), "the listener to close")
        client.send(b"the other half\r\n.\r\n")
        assert client.getreply()[0] == 250
        client.close()
        assert daemon.process.wait(30) == 0
    assert daemon.queue()[0]["destination"] == "bob@away.example"


def test_asked_twice_it_breaks_off_what_is_under_way(tmp_path: Path) -> None:
    with Daemon(tmp_path, CONFIGURATION) as daemon, socket.create_connection(("127.0.0.1", daemon.port), 10) as client:
        client.sendall(b"EHLO x\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n")
        wait_for(lambda: b"354 " in client.recv(4096), "the go-ahead")
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGTERM)
        wait_for(lambda: not _listens(daemon.port), "the listener to close")
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(10) == 0
    assert daemon.queue() == []


def test_the_service_manager_is_told_of_start_reload_and_stop(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, CONFIGURATION)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        daemon.launch({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert manager.recv(100) == b"READY=1"
        daemon.reload()
        assert manager.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert manager.recv(100) == b"READY=1"
        assert daemon.stop() == 0
        assert manager.recv(100) == b"STOPPING=1"


def test_an_interrupt_is_a_clean_stop(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, CONFIGURATION)
    daemon.start()
    assert daemon.end(signal.SIGINT) == 0


def test_killed_and_started_again_it_still_has_what_it_promised(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, CONFIGURATION)
    daemon.start()
    with smtplib.SMTP("127.0.0.1", daemon.port, timeout=10) as client:
        client.sendmail("ann@example.org", ["bob@away.example"], MESSAGE)
    daemon.kill()
    with daemon:
        (envelope,) = daemon.queue()
        assert envelope["destination"] == "bob@away.example"


def test_in_the_background_the_command_returns_when_the_daemon_stands(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, CONFIGURATION, arguments=())
    assert daemon.launch().wait(30) == 0
    assert greeting(daemon.port).startswith(b"220 ")
    pid = int((tmp_path / "var/spool/smtpd/lock").read_text())
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the daemon to end")


def test_in_the_background_a_failed_start_is_told_by_the_exit_status(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, CONFIGURATION, arguments=())
    with socket.create_server(("127.0.0.1", daemon.port)):
        assert daemon.launch().wait(30) == 1
    assert "Address already in use" in daemon.log


def start_as_nobody(daemon: Daemon) -> subprocess.CompletedProcess[str]:
    """Start it as a user who owns nothing; what is imported was read before, because Python itself may be out of reach."""
    for path in daemon.folder.iterdir():
        path.chmod(0o644)
    code = (
        "import os, sys, control.__main__ as it, control.background, control.daemon, control.together, uvloop\n"
        "import encodings.idna, anyio._backends._asyncio\n"
        "os.setuid(65534); sys.exit(it.smtpd())"
    )
    command = [str(BIN / "python"), "-c", code, "-d", "--root", str(daemon.root), "-D", f"port={daemon.port}"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_spool_of_somebody_else_is_refused_with_its_path() -> None:
    with public_folder() as root:
        done = start_as_nobody(Daemon(root, CONFIGURATION))
    assert done.returncode == 1
    assert done.stderr.startswith(f"smtpd: {root}/var")
    assert "Permission denied" in done.stderr


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.skipif(
    any(not folder.stat().st_mode & 0o001 for folder in BIN.parents), reason="another user cannot enter this folder"
)
def test_a_port_that_needs_root_says_so() -> None:
    with public_folder() as root:
        for folder in ("var/spool/smtpd", "var/run"):
            (root / folder).mkdir(parents=True)
            os.chown(root / folder, 65534, 65534)
        done = start_as_nobody(Daemon(root, CONFIGURATION, port=25))
    assert done.returncode == 1
    assert "cannot listen on 127.0.0.1 port 25: Permission denied (a port below 1024 needs root)" in done.stderr


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
