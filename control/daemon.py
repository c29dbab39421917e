"""The composition root: decides which roles share a process, and what the process ends with.

As root each role has a process and a user of its own (`control.separated`); started by an ordinary user, or with
``--one-process``, all of them are one (`control.together`). The roles are the same in both (`control.roles`).

Failure: the exit status. What cannot start says why and ends with `StartError.status`; 74 when a write may be lost; 70 for a
fault of our own, after the spool was closed clean.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import anyio

from control.background import Starting
from control.notify import tell_ready
from control.process import prepare_process
from control.start import Start, StartError

_log: Final = logging.getLogger(__name__)


def run(start: Start, starting: Starting | None) -> int:
    """Be the daemon; its exit status. Whoever waits at ``starting`` hears whether it stands."""
    prepare_process()

    def ready() -> None:
        tell_ready()
        if starting is not None:
            starting.ready()

    try:
        anyio.run(partial(_chosen(start), start, ready), backend="asyncio", backend_options={"use_uvloop": True})
    except StartError as error:
        print(f"smtpd: {error}", file=sys.stderr)
        if start.journal.is_elsewhere:
            _log.error("cannot start: %s", error)
        status = error.status
    except Exception:
        _log.exception("smtpd ends by a fault of its own")
        status = os.EX_SOFTWARE
    else:
        return os.EX_OK
    if starting is not None:
        starting.failed(status)
    return status


def _chosen(start: Start) -> Callable[[Start, Callable[[], None]], Awaitable[None]]:
    # What the other one needs is not read.
    if os.geteuid() == 0 and not start.one_process:
        from control.separated.supervisor import serve as serve_separated

        return serve_separated
    from control.together import serve as serve_together

    return serve_together
