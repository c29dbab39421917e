"""What root does for the roles that are not root: agents for users, and the mailboxes in the mail directory.

A thread serves each role, from a wire of its own (`control.separated.agents` is the other side). The role may have been
taken over by a stranger, so whom an agent becomes is looked up here, by the name alone, and what it may do is bounded by
what the role is for.

Guarantees: ingress and queue get agents that look at a .forward and do nothing else. No agent has other rights than the user
of that name; one that is root does no more than put mail into root's mailbox or Maildir. No path is taken from a role but
that of a mailbox in the mail directory, which is made for the user that it is called for.

Failure: an order that is refused, or cannot be carried out, is answered with the reason. Nonsense ends the wire.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from control.separated.accounts import Role
from delivery.identity import Identity, NoSuchUser, identity_of
from delivery.recruits import Duty, Recruiter, shared_group
from delivery.wire import Hangup, Wire

#: Agents that one role may have at a time: those at work, those that are kept, and some that are ending.
MAX_AGENTS: Final = 200

#: What each role's agents may be for.
DUTIES: Final = {
    Role.QUEUE: frozenset({Duty.LOOK}),
    Role.INGRESS: frozenset({Duty.LOOK}),
    Role.DELIVERY: frozenset({Duty.LOOK, Duty.DELIVER}),
}

_log: Final = logging.getLogger("control.daemon")


class Forbidden(Exception):
    """No honest role asks for that."""


class Errands:
    """Runs those of one role. ``virtual`` knows the users of the configuration's own tables, by name and uid."""

    def __init__(
        self, role: Role, recruiter: Recruiter, mail_dir: str, virtual: Callable[[str, int], Identity | None]
    ) -> None:
        self._role = role
        self._recruiter = recruiter
        self._mail_dir = mail_dir
        self._virtual = virtual
        #: Descriptors of the agents that have not ended, by process id.
        self._agents: dict[int, int] = {}

    def serve(self, end: socket.socket) -> None:
        """Until the role hangs up; for a thread. Its agents end when it has: their sockets close."""
        wire = Wire(end)
        try:
            while True:
                self._handle(wire, wire.receive_json())
        except Hangup:
            pass
        except (Forbidden, KeyError, TypeError, ValueError) as error:
            _log.error("the %s process asks for what it may not have: %s", self._role.value, error)
        finally:
            wire.close()
            for pidfd in self._agents.values():
                os.close(pidfd)

    def _handle(self, wire: Wire, order: dict[str, Any]) -> None:
        try:
            if "recruit" in order:
                self._recruit(wire, order)
            elif "kill" in order:
                self._kill(int(order["kill"]))
                wire.send_json({})
            elif "prepare" in order:
                wire.send_json({"group": self._prepare(order["prepare"], order["paths"])})
            else:
                raise Forbidden(f"an order that is none: {sorted(order)}")
        except OSError as error:
            wire.send_json({"trouble": error.strerror or str(error), "errno": error.errno})

    def _recruit(self, wire: Wire, order: dict[str, Any]) -> None:
        duty = Duty(order["duty"])
        end = wire.take_descriptor()
        try:
            if duty not in DUTIES[self._role]:
                raise Forbidden(f"an agent that may {duty.value}")
            self._forget_ended()
            if len(self._agents) >= MAX_AGENTS:
                raise OSError(None, f"{MAX_AGENTS} agents are running")
            who = self._identity(order["recruit"])
            pid, pidfd = self._recruiter.fork(who, duty, end, opens=bool(order["opens"]), is_for_stranger=True)
        finally:
            os.close(end)
        self._agents[pid] = pidfd
        wire.send(b'{"pid":%d}' % pid, pidfd)

    def _identity(self, asked: dict[str, Any]) -> Identity:
        """The user of that name; of the groups that were asked for, the mail directory's is added."""
        name, uid = str(asked["name"]), int(asked["uid"])
        found = self._known(name, uid)
        if (found.uid, found.gid, found.home) != (uid, int(asked["gid"]), str(asked["home"])):
            raise OSError(None, f"the user {name} is another one by now")
        group = _shared_group(self._mail_dir) if self._role is Role.DELIVERY else None
        return found if group is None or group not in asked["groups"] else found.with_group(group)

    def _known(self, name: str, uid: int) -> Identity:
        try:
            found = identity_of(name)
        except NoSuchUser:
            found = None
        if found is not None and found.uid == uid:
            return found
        virtual = self._virtual(name, uid)
        if virtual is None or virtual.uid == 0:
            raise OSError(None, f"there is no user {name} with uid {uid}")
        return virtual

    def _prepare(self, asked: dict[str, Any], paths: Sequence[str]) -> int | None:
        if self._role is not Role.DELIVERY:
            raise Forbidden("a mailbox")
        who = self._identity(asked)
        own = [path for path in paths if path == f"{self._mail_dir}/{who.name}"]
        prepared = self._recruiter.prepare(who, own)
        return _shared_group(self._mail_dir) if own and prepared.groups else None

    def _kill(self, pid: int) -> None:
        pidfd = self._agents.get(pid)
        if pidfd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)

    def _forget_ended(self) -> None:
        for pid, pidfd in list(self._agents.items()):
            try:
                signal.pidfd_send_signal(pidfd, 0)
            except ProcessLookupError:
                os.close(self._agents.pop(pid))


def _shared_group(mail_dir: str) -> int | None:
    with suppress(OSError):
        return shared_group(mail_dir)
    return None
