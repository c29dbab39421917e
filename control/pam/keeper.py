"""Keeps the helper that asks PAM: starts it when it is needed first, and anew when it has died.

Guarantees: `end` stays the same for good: who asks through it need not know that the helper is another one now. What a
helper was asked when it died is not answered.

Failure: a helper that dies again and again is started ever more slowly, and each death is logged.
"""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Final

from policy.config import Auth, Config

#: Isolated: no variable of ours and nothing in the present folder changes what it imports.
COMMAND: Final = (sys.executable, "-I", "-m", "control.pam")
#: Seconds until it is started again: the first time, and at most.
FIRST_PAUSE: Final = 0.1
LAST_PAUSE: Final = 30.0
#: Seconds that it has to end in.
FAREWELL: Final = 5.0

_log: Final = logging.getLogger("control.daemon")


class PamKeeper:
    """See the module. ``folder`` holds PAM's service files; empty means the system's."""

    def __init__(self, folder: str = "", command: Sequence[str] = COMMAND) -> None:
        #: What questions go through, for those who ask.
        self.end, self._far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._arguments = [str(self._far.fileno()), *([folder] if folder else [])]
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._over = threading.Event()

    def start_for(self, config: Config) -> None:
        """`start` it where a listener lets the system's users log in."""
        if any(each.auth is not Auth.NONE and each.credentials is None for each in config.listeners):
            self.start()

    def start(self) -> None:
        """See to it that there is one. Raises `OSError`."""
        if self._thread is None:
            self._launch()
            self._thread = threading.Thread(target=self._keep, name="keeper of PAM", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End it, and let nobody ask any more."""
        self._over.set()
        if self._process is not None:
            self._process.terminate()
        if self._thread is not None:
            self._thread.join(FAREWELL)
        self.end.close()
        self._far.close()

    def _launch(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [*self._command, *self._arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[self._far.fileno()],
            env={},
            cwd="/",
        )

    def _keep(self) -> None:
        pause = FIRST_PAUSE
        while self._process is not None:
            status = self._process.wait()
            if self._over.is_set():
                return
            _log.error("the process that asks PAM has ended with %d: another takes its place", status)
            if self._over.wait(pause):
                return
            pause = min(2 * pause, LAST_PAUSE)
            try:
                self._launch()
            except OSError as error:
                _log.error("the process that asks PAM could not be started: %s", error)
