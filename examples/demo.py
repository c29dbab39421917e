"""``make run``: the daemon as whoever you are, in a folder of its own, and what to type to see it work.

Everything lies below ``demo`` beside this checkout; taking that folder away undoes everything. Ctrl-C stops the daemon.
"""

from __future__ import annotations

import getpass
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(os.environ.get("DEMO_ROOT", Path(__file__).parents[1] / "demo"))
PORT: Final = int(os.environ.get("DEMO_PORT", "2525"))
BIN: Final = Path(sys.executable).parent

CONFIGURATION: Final = f"""\
# A demonstration: mail for anybody at all ends in one Maildir.
listen on 127.0.0.1 port {PORT}
action "inbox" maildir "/Maildir" virtual {{ "@" = "{getpass.getuser()}" }}
match from any for any action "inbox"
"""

INVITATION: Final = """\
smtpd runs in {root} and listens on 127.0.0.1 port {port}. In another terminal:

  # send a message with sendmail, and another by SMTP
  printf 'Subject: hello\\n\\nby sendmail\\n' | {bin}/sendmail --root {root} you@demo.example
  {bin}/python -c "import smtplib; smtplib.SMTP('127.0.0.1', {port}).sendmail('me@demo.example', 'you@demo.example', 'Subject: hello\\n\\nby SMTP\\n')"

  # look at the queue; it is empty when everything has arrived
  {bin}/mailq --root {root}

  # read the mailbox
  cat {root}/Maildir/new/*

Ctrl-C stops it.
"""  # noqa: E501 -- a command that is to be copied stays on one line


def main() -> int:
    """Start the daemon, invite, wait for its end; its exit status."""
    folder = ROOT / "etc/smtpd"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "smtpd.conf").write_text(CONFIGURATION)
    (folder / "mailname").write_text("demo.example\n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        name = f"mailspool-demo-{os.getpid()}"
        ready.bind(f"\0{name}")
        # For yourself alone, and root needs no users of the system for that.
        command = [str(BIN / "smtpd"), "-d", "--one-process", "--root", str(ROOT)]
        daemon = subprocess.Popen(command, env={**os.environ, "NOTIFY_SOCKET": f"@{name}"})
        if _wait_until_ready(ready, daemon):
            print(INVITATION.format(root=ROOT, port=PORT, bin=BIN), flush=True)
    # The terminal sends Ctrl-C to both of us: the daemon ends by it, we wait for that.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: daemon.terminate())
    return daemon.wait()


def _wait_until_ready(ready: socket.socket, daemon: subprocess.Popen[bytes]) -> bool:
    ready.settimeout(0.2)
    while daemon.poll() is None:
        try:
            return b"READY=1" in ready.recv(4096)
        except TimeoutError:
            continue
    return False


if __name__ == "__main__":
    sys.exit(main())
