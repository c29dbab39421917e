"""The nursery: a process that forks agents, so that the daemon, which has threads, never forks.

Started as ``python -I -m delivery.nursery DESCRIPTOR``, as root; the descriptor is its end of a socket pair. Everything that
an agent needs is imported here, once: an agent starts in milliseconds instead of a hundred, and shares most of its memory.

Guarantees: it has one thread and reads nothing but the daemon's orders: a user, and a descriptor for the agent to serve. An
agent gets that descriptor and no other. What it answers is the agent's process id and a descriptor that tells of its end.

Failure: an order that cannot be carried out is answered with the reason. It ends when the daemon does.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import Any

from delivery.agent import Post, live
from delivery.identity import Identity
from delivery.wire import Hangup, Wire
from spool.files import Ops, SystemOps
from spool.seal import prepare_to_open


def main(arguments: Sequence[str], ops: Ops) -> int:
    """Fork agents until the daemon hangs up; the exit status."""
    (descriptor,) = arguments
    # Nobody asks how an agent ended; ignored, it leaves no zombie.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()
    with closing(Wire(socket.socket(fileno=int(descriptor)))) as control, suppress(Hangup):
        while True:
            order = control.receive_json()
            _fork(control, order, control.take_descriptor(), ops)
    return 0


def _fork(control: Wire, order: dict[str, Any], end: int, ops: Ops) -> None:
    if order["opens"]:
        # Once for all agents from here on; one that has become its user may not be able to read our libraries.
        prepare_to_open()
    try:
        pid = os.fork()
    except OSError as error:
        os.close(end)
        control.send_json({"trouble": error.strerror})
        return
    if pid == 0:
        os._exit(_child(control, order, end, ops))
    os.close(end)
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        control.send_json({"trouble": "it ended at once"})
        return
    control.send(b'{"pid":%d}' % pid, pidfd)
    os.close(pidfd)


def _child(control: Wire, order: dict[str, Any], end: int, ops: Ops) -> int:
    try:
        control.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        who = Identity(order["name"], order["uid"], order["gid"], tuple(order["groups"]), order["home"])
        live(Post(who, order["duty"], order["mail_dir"]), Wire(socket.socket(fileno=end)), ops)
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], SystemOps()))
