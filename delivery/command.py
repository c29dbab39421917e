"""Delivery to a program: its argument vector and environment are exactly those of the deposit, its input the message.

Guarantees: no shell sees an argument, unless the operator's text has no address in it and is shell syntax (see
`delivery.words`). The program gets descriptors 0, 1 and 2, a session of its own, and nobody else's environment. When its
time is over, or nobody waits for it any more, its whole process group is ended. It sees the end of its input only after the
whole body has proved sound.

Failure: what the exit status says: 0 is success; 71 (EX_OSERR), 75 (EX_TEMPFAIL), a signal, or success before all input was
read are temporary; every other status is permanent. A program that cannot be started is temporary: the operator can mend it.
The reason is the last line that the program wrote.

sysexits(3head).
"""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final

from delivery.content import unix_lines
from delivery.deposit import (
    Abandoned,
    Deposit,
    Desk,
    Result,
    ToCommand,
    deferred,
    delivered,
    failed,
)
from delivery.trouble import trouble
from spool.errors import BodyDamaged
from spool.files import Ops
from spool.outcome import Damaged, Stage

#: Octets of its output that are kept: the last line is what we want.
MAX_OUTPUT: Final = 4096
#: Characters of the reason in a report.
MAX_REASON: Final = 300
#: Seconds between a polite signal and the last one.
GRACE: Final = 5.0

#: sysexits(3head): the status, in words, and as an enhanced status (RFC 3463).
_WORDS: Final = {
    64: ("command line usage error", "5.3.5"),
    65: ("data format error", "5.6.0"),
    66: ("cannot open input", "5.3.0"),
    67: ("user unknown", "5.1.1"),
    68: ("host name unknown", "5.1.2"),
    69: ("service unavailable", "5.3.0"),
    70: ("internal software error", "5.3.0"),
    71: ("system error", "4.3.0"),
    72: ("critical system file missing", "5.3.0"),
    73: ("cannot create output file", "5.2.0"),
    74: ("input/output error", "5.3.0"),
    75: ("temporary failure", "4.3.0"),
    76: ("remote error in protocol", "5.5.0"),
    77: ("permission denied", "5.7.0"),
    78: ("local configuration error", "5.3.5"),
}
_TEMPORARY: Final = frozenset({71, 75})


def deliver(deposits: Sequence[Deposit], ops: Ops, desk: Desk) -> list[Result]:
    """Run the programs one after the other; one result for each."""
    return [_deliver(deposit, ops, desk) for deposit in deposits]


def _deliver(deposit: Deposit, ops: Ops, desk: Desk) -> Result:
    method = deposit.method
    assert isinstance(method, ToCommand)
    try:
        process = _start(method)
    except OSError as error:
        return deferred("4.3.5", f"cannot run {method.arguments[0]}: {error.strerror}", Stage.ROUTE)
    ops.reached("command.started")
    try:
        return _Run(process, method.limit, desk).feed(deposit)
    except OSError as error:
        return trouble(error)
    finally:
        _end(process)


def _start(method: ToCommand) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - the operator's program; arguments are never parsed again
        method.arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(method.environment),
        cwd=method.folder if os.path.isdir(method.folder) else "/",
        start_new_session=True,
        umask=0o077,
        bufsize=0,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Nothing of it is left; harmless when it has ended by itself."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    if process.poll() is None:
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    # Its process group has its id (a new session), and it is ours to signal as long as it was not waited for.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


class _Run:
    """One running program: feeds it, listens to it, watches the clock and the desk."""

    def __init__(self, process: subprocess.Popen[bytes], limit: float, desk: Desk) -> None:
        self._process = process
        self._limit = limit
        self._deadline = time.monotonic() + limit
        self._desk = desk
        self._output = b""
        self._pidfd = -1
        self._has_read_all = False
        self._timed_out = False

    def feed(self, deposit: Deposit) -> Result:
        """Until it has ended."""
        pieces = chain((deposit.header,), unix_lines(deposit.body.chunks()))
        self._pidfd = os.pidfd_open(self._process.pid)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._pidfd, selectors.EVENT_READ)
                selector.register(self._desk, selectors.EVENT_READ)
                self._converse(selector, pieces)
        except BodyDamaged as damage:
            _signal(self._process, signal.SIGKILL)
            return Damaged(deposit.envelope, str(damage))
        finally:
            os.close(self._pidfd)
        return self._verdict(self._process.wait())

    def _converse(self, selector: selectors.BaseSelector, pieces: Iterator[bytes]) -> None:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        os.set_blocking(stdin.fileno(), False)
        os.set_blocking(stdout.fileno(), False)
        selector.register(stdin, selectors.EVENT_WRITE)
        selector.register(stdout, selectors.EVENT_READ)
        waiting = memoryview(b"")
        while True:
            ready = {key.fileobj for key, _ in selector.select(max(0.0, self._deadline - time.monotonic()))}
            if stdout in ready and not self._listen(stdout.fileno()):
                selector.unregister(stdout)
            if self._pidfd in ready:
                self._listen(stdout.fileno())
                return
            if self._desk in ready:
                self._terminate()
                raise Abandoned
            if stdin in ready:
                waiting = self._talk(selector, waiting, pieces)
            if time.monotonic() >= self._deadline:
                self._timed_out = True
                self._terminate()
                return

    def _talk(self, selector: selectors.BaseSelector, waiting: memoryview, pieces: Iterator[bytes]) -> memoryview:
        stdin = self._process.stdin
        assert stdin is not None
        while not waiting:
            piece = next(pieces, None)
            if piece is None:
                self._has_read_all = True
                selector.unregister(stdin)
                stdin.close()
                return waiting
            waiting = memoryview(piece)
        try:
            return waiting[os.write(stdin.fileno(), waiting) :]
        except BlockingIOError:
            return waiting
        except BrokenPipeError:
            selector.unregister(stdin)
            stdin.close()
            return memoryview(b"")

    def _listen(self, descriptor: int) -> bool:
        """Take in what it wrote; False at the end of that."""
        try:
            while piece := os.read(descriptor, MAX_OUTPUT):
                self._output = (self._output + piece)[-MAX_OUTPUT:]
        except BlockingIOError:
            return True
        return False

    def _terminate(self) -> None:
        """Ask, then insist; the process is not waited for before, so that its group's id stays its own."""
        _signal(self._process, signal.SIGTERM)
        select.select([self._pidfd], [], [], GRACE)
        _signal(self._process, signal.SIGKILL)

    def _verdict(self, status: int) -> Result:
        reason = _last_line(self._output)
        if self._timed_out:
            return deferred("4.3.0", f"terminated; timeout after {self._limit:g} seconds")
        if status < 0:
            return deferred("4.3.0", f"terminated; signal {-status}")
        if status == 0:
            return delivered("Delivered to command") if self._has_read_all else _PREMATURE
        words, code = _WORDS.get(status, ("", "5.3.0"))
        text = ": ".join(part for part in (words, reason or f"exited abnormally (status {status})") if part)
        return deferred(code, text) if status in _TEMPORARY else failed(code, text)


_PREMATURE: Final = deferred("4.3.0", "mda exited prematurely")


def _last_line(output: bytes) -> str:
    """In double quotes, printable; empty when there was none."""
    lines = [line for line in output.decode("utf-8", "backslashreplace").splitlines() if line.strip()]
    if not lines:
        return ""
    text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in lines[-1].strip())
    return f'"{text[:MAX_REASON]}"'
