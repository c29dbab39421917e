"""The process that asks PAM: ``python -I -m control.pam DESCRIPTOR [FOLDER]``.

The descriptor is its end of a pair of packet sockets (`policy.login_frames`); the folder holds PAM's service files, where
it is not the system's. Each question is asked in a child of its own, because a module may hang, crash or keep what it has
heard.

Guarantees: at most `MAX_CHILDREN` questions at once; each is answered within `PATIENCE`, by the end of its child if need be,
and whatever a module has started ends with it. Nothing is logged. A password is wiped here once the child has it, and its
child ends with the answer. No core is dumped, and nobody may look into the memory.

Failure: `Verdict.TROUBLE` for a child that ended without an answer. A packet that is no question is not answered. It ends
when everybody who could ask has gone.
"""

from __future__ import annotations

import ctypes
import os
import resource
import selectors
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from control.pam.library import ask, load
from policy.login_frames import MAX_QUESTION, Question, Verdict, answer

#: Each takes some 2 MB and, while it hashes, a core; more at once help nobody.
MAX_CHILDREN: Final = 8
#: Seconds for one question: a directory server far away answers in a few, and clients wait some thirty.
PATIENCE: Final = 15.0

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
#: Orphans of our children become ours.
_PR_SET_CHILD_SUBREAPER: Final = 36


@dataclass(frozen=True, slots=True)
class Asking:
    """A child at work."""

    ticket: bytes
    pid: int
    #: Where it says one octet.
    mouth: int
    deadline: float


class Helper:
    """See the module."""

    def __init__(self, end: socket.socket, folder: bytes, patience: float = PATIENCE) -> None:
        self._end = end
        self._folder = folder
        self._patience = patience
        self._selector = selectors.DefaultSelector()
        self._children: dict[int, Asking] = {}
        self._is_listening = False

    def serve(self) -> None:
        """Until nobody is there to ask."""
        while True:
            self._listen(len(self._children) < MAX_CHILDREN)
            for key, _ in self._selector.select(self._time_left()):
                if key.fd == self._end.fileno():
                    if not self._take():
                        return
                else:
                    self._hear(self._children[key.fd])
            now = time.monotonic()
            for late in [child for child in self._children.values() if child.deadline <= now]:
                self._end_child(late, Verdict.TROUBLE)

    def close(self) -> None:
        """End every child that is at work."""
        for child in list(self._children.values()):
            self._end_child(child, Verdict.TROUBLE)
        self._selector.close()

    def _listen(self, wanted: bool) -> None:
        if wanted and not self._is_listening:
            self._selector.register(self._end, selectors.EVENT_READ)
        elif self._is_listening and not wanted:
            self._selector.unregister(self._end)
        self._is_listening = wanted

    def _time_left(self) -> float | None:
        if not self._children:
            return None
        return max(0.0, min(child.deadline for child in self._children.values()) - time.monotonic())

    def _take(self) -> bool:
        """The next question; false when nobody is left."""
        # One octet more than is right shows a packet that is too long.
        packet = bytearray(MAX_QUESTION + 1)
        try:
            size = self._end.recv_into(packet)
        except OSError:
            return False
        if size:
            with suppress(ValueError):
                question = Question.read(memoryview(packet)[:size])
                self._begin(question)
                _wipe(question.password)
        _wipe(packet)
        return size > 0

    def _begin(self, question: Question) -> None:
        ear, mouth = os.pipe()
        try:
            pid = os.fork()
        except OSError:
            os.close(ear)
            os.close(mouth)
            self._say(question.ticket, Verdict.TROUBLE)
            return
        if pid == 0:
            os._exit(self._be_child(question, mouth))
        os.close(mouth)
        child = Asking(question.ticket, pid, ear, time.monotonic() + self._patience)
        self._children[ear] = child
        self._selector.register(ear, selectors.EVENT_READ)

    def _be_child(self, question: Question, mouth: int) -> int:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        self._selector.close()
        self._end.close()
        for other in self._children:
            os.close(other)
        try:
            verdict = ask(question, self._folder)
        except Exception:
            # Nobody reads what it would say.
            return 1
        os.write(mouth, bytes((verdict.value,)))
        return 0

    def _hear(self, child: Asking) -> None:
        said = os.read(child.mouth, 1)
        self._end_child(child, Verdict(said[0]) if said else Verdict.TROUBLE)

    def _end_child(self, child: Asking, verdict: Verdict) -> None:
        self._selector.unregister(child.mouth)
        os.close(child.mouth)
        del self._children[child.mouth]
        _end(child.pid)
        self._end_strays()
        self._say(child.ticket, verdict)

    def _end_strays(self) -> None:
        """End what modules have started: it is our child once theirs has ended."""
        at_work = {child.pid for child in self._children.values()}
        while strays := _children_of_ours() - at_work:
            for pid in strays:
                _end(pid)

    def _say(self, ticket: bytes, verdict: Verdict) -> None:
        # Who does not listen has given up already, or is gone.
        with suppress(OSError):
            self._end.send(answer(ticket, verdict), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _children_of_ours() -> set[int]:
    with suppress(OSError), open(f"/proc/self/task/{os.getpid()}/children") as file:
        return {int(pid) for pid in file.read().split()}
    return set()


def _wipe(octets: bytearray | bytes) -> None:
    if isinstance(octets, bytearray):
        octets[:] = bytes(len(octets))


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def main(arguments: Sequence[str], patience: float = PATIENCE) -> int:
    """Answer until nobody is left; the exit status."""
    descriptor, *folder = arguments
    # The supervisor's terminal ends the supervisor, and the supervisor this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    load()
    helper = Helper(socket.socket(fileno=int(descriptor)), os.fsencode(folder[0]) if folder else b"", patience)
    try:
        helper.serve()
    finally:
        helper.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
