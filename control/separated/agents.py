"""How a role without rights has agents: root's process orders them, and hands their sockets over.

The frames are JSON on a `delivery.wire.Wire`; `control.separated.errands` is the other side.

Guarantees: as `delivery.recruits`.

Failure: `OSError` with root's reason, when it refuses or has gone.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final

from delivery.agents import AgentHands
from delivery.hands import Commit
from delivery.identity import Identity
from delivery.recruits import Duty, Recruit
from delivery.wire import Hangup, Wire
from spool.errors import SpoolUnavailable
from spool.intent import MboxIntent

#: Seconds that root may take for an errand: the start of the nursery included, and a mail directory that is slow.
PATIENCE: Final = 60.0


class RemoteRecruiter:
    """`delivery.recruits.Recruits`, through root's process; safe from every thread."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(True)
        end.settimeout(PATIENCE)
        self._wire = Wire(end)
        self._lock = threading.Lock()

    def recruit(self, who: Identity, duty: Duty, opens: bool = False) -> Recruit:
        """See `Recruits`."""
        near, far = socket.socketpair()
        try:
            with far, self._lock:
                order = {"recruit": asdict(who), "duty": duty.value, "opens": opens}
                answer = self._ask(order, far.fileno())
                return Recruit(answer["pid"], self._wire.take_descriptor(), Wire(near), opens, duty, self)
        except BaseException:
            near.close()
            raise

    def kill(self, recruit: Recruit) -> None:
        """See `Recruits`. Another errand may be under way, and the loop does not wait for it."""
        threading.Thread(target=self._kill, args=(recruit.pid,), daemon=True).start()

    def _kill(self, pid: int) -> None:
        with self._lock, suppress(OSError):
            self._ask({"kill": pid})

    def prepare(self, who: Identity, paths: Sequence[str]) -> Identity:
        """See `Recruits`."""
        with self._lock:
            answer = self._ask({"prepare": asdict(who), "paths": list(paths)})
        return who if answer["group"] is None else who.with_group(answer["group"])

    def close(self) -> None:
        """See `Recruits`."""
        self._wire.close()

    def _ask(self, order: dict[str, Any], descriptor: int | None = None) -> dict[str, Any]:
        try:
            self._wire.send_json(order, descriptor)
            answer: dict[str, Any] = self._wire.receive_json()
        except (Hangup, TimeoutError) as error:
            raise OSError(None, f"root's process does not answer: {error}") from error
        if "trouble" in answer:
            raise OSError(answer.get("errno"), answer["trouble"])
        return answer


def hands_of(end: socket.socket, commit: Commit) -> AgentHands:
    """Those who deliver to users."""
    return AgentHands(commit, RemoteRecruiter(end))


def lookers_of(end: socket.socket) -> AgentHands:
    """Those who look at .forward files, and do nothing else."""
    return AgentHands(_nothing, RemoteRecruiter(end), looks_with=Duty.LOOK)


async def _nothing(_: Sequence[MboxIntent]) -> None:
    raise SpoolUnavailable(None, "nobody delivers from here")
