"""The agent: a process that becomes the recipient, makes deposits and reads the .forward while the daemon wants it.

Forked by the nursery (`delivery.nursery`), with one end of a socket pair.

Guarantees: before it reads the first frame it has the user's uid, gid and groups, all of them checked, and no way back; a
session of its own; an empty environment; umask 077; no core dumps. It holds no descriptor but this socket, the standard ones
and the bodies of its deposits.

Failure: when the daemon is gone it ends at once, between two steps of a deposit. An exception that nobody foresaw is told to
the daemon, then it ends: another agent starts afresh.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from delivery.deposit import Abandoned, Deposit, Method, Refused, Result, ToCommand, ToMaildir, ToMbox, deferred
from delivery.forward_file import look_at, pack_answer
from delivery.frames import pack_intent, pack_result, receive_deposits
from delivery.identity import Identity
from delivery.local import make_deposits
from delivery.wire import Hangup, Wire
from spool.files import Ops
from spool.intent import MboxIntent

#: The duty of those who make deposits; `delivery.recruits.Duty` has its fellow.
DELIVER: Final = "deliver"


#: What an agent, and a command of its user's, may take; soft and hard. A core dump holds somebody's mail. The daemon itself
#: may have tens of thousands of descriptors, which some programs close one by one when they start.
LIMITS: Final = {resource.RLIMIT_CORE: (0, 0), resource.RLIMIT_NOFILE: (1024, 4096)}


class RemoteDesk:
    """The daemon at the other end of the socket."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def fileno(self) -> int:
        """The socket: between deposit and result the daemon says nothing, so whatever is readable is its end."""
        return self._wire.socket.fileno()

    def wait(self, seconds: float) -> None:
        """See `Desk`."""
        if select.select([self], [], [], seconds)[0]:
            raise Abandoned

    def commit(self, intents: Sequence[MboxIntent]) -> None:
        """See `Desk`."""
        self._wire.send_json({"intents": [pack_intent(intent) for intent in intents]})
        try:
            refusal = self._wire.receive_json()["refused"]
        except Hangup:
            raise Abandoned from None
        if refusal:
            raise Refused(deferred("4.3.0", refusal))


def become(who: Identity) -> None:
    """Turn this process into that user for good; raises `PermissionError` when that is not wholly so."""
    os.setsid()
    os.umask(0o077)
    os.chdir("/")
    for limit, (soft, hard) in LIMITS.items():
        _, allowed = resource.getrlimit(limit)
        most = hard if allowed == resource.RLIM_INFINITY else min(hard, allowed)
        resource.setrlimit(limit, (min(soft, most), most))
    if os.geteuid() == 0:
        os.setgroups(who.groups)
        os.setresgid(who.gid, who.gid, who.gid)
        os.setresuid(who.uid, who.uid, who.uid)
    if os.getresuid() != (who.uid,) * 3 or os.getresgid() != (who.gid,) * 3:
        raise PermissionError(f"this process could not become {who.name}")
    if set(os.getgroups()) - {who.gid} != set(who.groups) - {who.gid}:
        raise PermissionError(f"this process could not take the groups of {who.name}")
    if who.uid and _can_return():
        raise PermissionError(f"this process could become root again after {who.name}")


def _can_return() -> bool:
    try:
        os.setuid(0)
    except PermissionError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Post:
    """Who an agent is, and what it may be asked to do by a process that a stranger may have taken over."""

    who: Identity
    #: A `delivery.recruits.Duty`.
    duty: str
    #: Where root's mailbox is, if root may deliver to no other; empty where whoever asks is root too.
    mail_dir: str

    def refusal(self, deposit: Deposit) -> str:
        """Why this is none of its duty; empty when it is."""
        if self.duty != DELIVER:
            return f"the agent of {self.who.name} only looks at the .forward"
        if self.who.uid == 0 and self.mail_dir and not self._is_roots_own(deposit.method):
            return "as root nothing is delivered but to root's mailbox, or a Maildir in root's home"
        return ""

    def _is_roots_own(self, method: Method) -> bool:
        match method:
            case ToMbox(path=path):
                return path == f"{self.mail_dir}/root"
            case ToMaildir(path=path):
                return os.path.normpath(path).startswith(f"{self.who.home}/")
            case ToCommand():
                return False


def serve(post: Post, wire: Wire, ops: Ops) -> None:
    """Make deposits, and look at the .forward, until the daemon hangs up."""
    desk = RemoteDesk(wire)
    while True:
        order = wire.receive_json()
        if isinstance(order, dict):
            wire.send_json(pack_answer(look_at(post.who.home, os.getuid())))
            continue
        deposits, descriptors = receive_deposits(wire, order)
        wire.send_json({"begun": True})
        try:
            results = _made(post, deposits, ops, desk)
        except (Abandoned, Hangup):
            raise Hangup("abandoned") from None
        except Exception:
            wire.send_json({"trouble": traceback.format_exc()})
            raise
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        wire.send_json({"results": [pack_result(result) for result in results]})


def _made(post: Post, deposits: Sequence[Deposit], ops: Ops, desk: RemoteDesk) -> Sequence[Result]:
    refusals = [post.refusal(one) for one in deposits]
    if any(refusals):
        return [deferred("4.3.5", refusal or "it came with what is refused") for refusal in refusals]
    return make_deposits(deposits, ops, desk)


def live(post: Post, wire: Wire, ops: Ops) -> None:
    """Become the user and serve; raises `PermissionError`, and whatever nobody foresaw."""
    with contextlib.closing(wire), contextlib.suppress(Hangup):
        become(post.who)
        serve(post, wire, ops)
