"""Telling systemd how the daemon stands (sd_notify), when ``NOTIFY_SOCKET`` says that it listens.

Failure: none that anybody hears; a manager that has gone away must not disturb the mail.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time


def tell_manager(*lines: str) -> None:
    """Send ``lines`` such as ``READY=1``; nothing happens without a manager."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    # An abstract socket is written with @ in the environment and with NUL in the kernel.
    address = "\0" + path[1:] if path.startswith("@") else path
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as there:
        there.connect(address)
        there.send("\n".join(lines).encode(), socket.MSG_DONTWAIT)


def tell_ready() -> None:
    """The daemon stands."""
    tell_manager("READY=1")


def tell_reloading() -> None:
    """A reload begins; `tell_ready` ends it. The manager compares the time with its own clock (sd_notify(3))."""
    tell_manager("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def tell_stopping() -> None:
    """The end begins."""
    tell_manager("STOPPING=1")
