"""The cradle: a process that forks the roles, so that they share the code they have in common and inherit no secret.

Started as ``python -I -m control.separated.cradle DESCRIPTOR``, as root, before the supervisor has anything to hide. Four
processes that were each started by themselves would take 40 MB each; forked from one they share most of it. The supervisor
has threads and the configuration, so it never forks.

Guarantees: it has one thread and reads nothing but the supervisor's orders: a role, whom it becomes, and its bond. A child
gets that descriptor and the standard ones. What it answers is the child's process id and a descriptor that tells of its end.

Failure: an order that cannot be carried out is answered with the reason. It ends when the supervisor does; its children do
not end with it.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import Any

from control.separated.accounts import Account, Role
from control.separated.grounds import Grounds
from control.separated.life import live, prepare
from control.walls.privileges import OF_CRADLE, keep_capabilities
from delivery.wire import Hangup, Wire


def main(arguments: Sequence[str]) -> int:
    """Fork roles until the supervisor hangs up; the exit status."""
    (descriptor,) = arguments
    # Nobody asks how a child ended; ignored, it leaves no zombie.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # Those who end the daemon from a terminal mean the supervisor, which sees to the rest.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Nothing that is read here ever becomes garbage, and looking for it takes as long as reading a tenth of it.
    gc.disable()
    prepare()
    keep_capabilities(OF_CRADLE)
    gc.freeze()
    with closing(Wire(socket.socket(fileno=int(descriptor)))) as control, suppress(Hangup):
        while True:
            order = control.receive_json()
            _fork(control, order, control.take_descriptor())
    return 0


def _fork(control: Wire, order: dict[str, Any], bond: int) -> None:
    try:
        pid = os.fork()
    except OSError as error:
        os.close(bond)
        control.send_json({"trouble": error.strerror})
        return
    if pid == 0:
        os._exit(_child(control, order, bond))
    os.close(bond)
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        control.send_json({"trouble": "it ended at once"})
        return
    control.send(b'{"pid":%d}' % pid, pidfd)
    os.close(pidfd)


def _child(control: Wire, order: dict[str, Any], bond: int) -> int:
    control.close()
    gc.enable()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    account = Account(order["name"], order["uid"], order["gid"])
    grounds = Grounds(order["spool_dir"], tuple(order["databases"]))
    return live(Role(order["role"]), account, grounds, socket.socket(fileno=bond), to_syslog=order["to_syslog"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
