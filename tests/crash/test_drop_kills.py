"""Mail that is left in the drop while nobody listens: whoever dies on the way, what exited 0 arrives, whole and once."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from tests.tools.daemon import BIN, Daemon, wait_for
from tests.tools.scorecard import Cases

pytestmark = [
    pytest.mark.reliability("1 instants"),
    pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace"),
    pytest.mark.timeout(600),
]

CONFIGURATION = 'listen on socket\naction "in" maildir "/Maildir"\nmatch for local action "in"\n'
#: The calls of ``sendmail`` after which something is different on the disk.
CALLS = ("openat", "write", "fsync", "close")
#: Calls at the end of its life that are tried; those before only load the interpreter.
LAST, MANY_LAST = 3, 25


def message(token: str) -> str:
    return f"Subject: {token}\n\n" + "all work and no play\n" * 300 + f"end-{token}\n"


def killed(call: str, nth: int) -> list[str]:
    return ["strace", "-qq", "-o", os.devnull, "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={nth}"]


def sendmail(daemon: Daemon, token: str, under: list[str]) -> int:
    environment = {**os.environ, "SMTPD_ROOT": str(daemon.root)}
    command = [*under, str(BIN / "sendmail"), "-f", "root", getpass.getuser()]
    return subprocess.run(
        command, input=message(token), text=True, capture_output=True, env=environment, check=False
    ).returncode


def calls_of(daemon: Daemon, call: str) -> int:
    trace = daemon.root / "trace"
    sendmail(daemon, f"untouched-{call}", ["strace", "-qq", "-o", str(trace), "-e", f"trace={call}"])
    return len(trace.read_text().splitlines())


def arrived(daemon: Daemon) -> Counter[str]:
    """Tokens of what is whole; a torn one counts as something else."""
    new = daemon.root / "Maildir/new"
    texts = [path.read_text() for path in new.iterdir()] if new.exists() else []
    tokens = [text.partition("Subject: ")[2].partition("\n")[0] for text in texts]
    return Counter(
        token if f"end-{token}\n" in text else f"torn {token}" for token, text in zip(tokens, texts, strict=True)
    )


def test_sendmail_that_is_killed_at_any_call_leaves_a_whole_message_or_none(
    tmp_path: Path, thorough: bool, cases: Cases
) -> None:
    daemon = Daemon(tmp_path, CONFIGURATION)
    with daemon:
        pass
    promised: set[str] = set()
    tried: set[str] = set()
    for call in CALLS:
        count = calls_of(daemon, call)
        promised.add(f"untouched-{call}")
        for nth in range(max(1, count - (MANY_LAST if thorough else LAST) + 1), count + 1):
            cases.tried()
            token = f"{call}-{nth}"
            tried.add(token)
            if sendmail(daemon, token, killed(call, nth)) == 0:
                promised.add(token)
    with daemon:
        wait_for(lambda: promised <= set(arrived(daemon)), "what was promised")
    found = arrived(daemon)
    assert set(found) <= promised | tried
    assert set(found.values()) == {1}


@pytest.mark.parametrize("call", ["fdatasync", "unlink,unlinkat"])
def test_a_daemon_that_dies_while_it_takes_a_message_from_the_drop_takes_it_once(tmp_path: Path, call: str) -> None:
    daemon = Daemon(tmp_path, CONFIGURATION, arguments=("-d", "-P", "smtp"))
    daemon.start()
    assert sendmail(daemon, "once", []) == 0
    assert daemon.process is not None
    process = daemon.process
    strace = ["strace", "-f", "-qq", "-o", os.devnull, "-p", str(process.pid)]
    with subprocess.Popen([*strace, "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when=1"]) as tracer:
        wait_for(lambda: "TracerPid:\t0\n" not in Path(f"/proc/{process.pid}/status").read_text(), "strace to be there")
        daemon.run("smtpctl", "resume", "smtp")
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        tracer.terminate()
    assert process.poll() == -9
    daemon.arguments = ("-d",)
    with daemon:
        if daemon.run("smtpctl", "show", "status").stdout.count("SMTP paused"):
            daemon.smtpctl("resume", "smtp")
        wait_for(lambda: arrived(daemon)["once"], "the message")
        wait_for(lambda: not any(Path(daemon.root / "var/spool/smtpd/drop").iterdir()), "an empty drop")
    assert arrived(daemon) == Counter({"once": 1})
