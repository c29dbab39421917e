"""Listings and copies while the daemon is stopped, straight from the spool, for root and the spool's owner.

Failure: `control.client.ControlError` with a sentence; `NotAllowed` when the files belong to somebody else.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing

import anyio

from control.client import ControlError, NotRunning, RequestRefused
from control.listings import ListingRequest, Viewer, rows
from control.protocol import AnyAnswer, Export, ShowMessage
from spool.errors import SpoolError, SpoolForbidden, SpoolInUse
from spool.filter import FilterError
from spool.ids import IdSyntaxError
from spool.layout import Layout
from spool.listing import QueueReader


class NotAllowed(ControlError):
    """Only root and the spool's owner may read it while the daemon is stopped."""

    status = os.EX_NOPERM

    def __init__(self, what: str = "read it") -> None:
        super().__init__(f"smtpd is stopped, and then only root and the owner of the spool may {what}")


def verify_spool(layout: Layout, *, repairs: bool, tell: Callable[[AnyAnswer], None]) -> None:
    """Tell what the daemon would answer to `control.protocol.Verify`."""
    from control.verifying import verify_stopped

    _tell(lambda: verify_stopped(layout, repairs=repairs), tell, "look through it")


def back_up_spool(layout: Layout, path: str, tell: Callable[[AnyAnswer], None]) -> None:
    """Tell what the daemon would answer to `control.protocol.Backup`."""
    from control.backing import back_up_stopped

    _tell(lambda: back_up_stopped(layout, path), tell, "copy it")


def back_up_beside_daemon(layout: Layout, path: str, tell: Callable[[AnyAnswer], None]) -> None:
    """The same as root, while a daemon runs that cannot write there; it waits for nothing."""
    from control.backing import back_up_beside

    _tell(lambda: back_up_beside(layout, path), tell, "copy it")


def _tell(rows: Callable[[], AsyncGenerator[AnyAnswer]], tell: Callable[[AnyAnswer], None], what: str) -> None:
    async def look() -> None:
        async with aclosing(rows()) as found:
            async for row in found:
                tell(row)

    try:
        anyio.run(look)
    except SpoolForbidden:
        raise NotAllowed(what) from None
    except SpoolInUse:
        raise NotRunning from None
    except SpoolError as error:
        raise ControlError(str(error)) from None


def ask_spool(layout: Layout, request: ListingRequest) -> Iterator[AnyAnswer]:
    """What the daemon would answer, but for its `Done`."""
    return _asked(layout, isinstance(request, ShowMessage), lambda reader: rows(reader, request, Viewer()))


def export_spool(layout: Layout, request: Export) -> Iterator[AnyAnswer]:
    """The same for what leaves."""
    from control.exporting import export

    return _asked(layout, True, lambda reader: export(reader, request))


def _asked(
    layout: Layout, needs_keys: bool, answers: Callable[[QueueReader], Iterator[AnyAnswer]]
) -> Iterator[AnyAnswer]:
    try:
        reader = QueueReader.stopped(layout.spool_dir)
    except SpoolForbidden:
        raise NotAllowed from None
    except SpoolInUse:
        # A daemon that is starting or stopping holds the spool and does not answer.
        raise NotRunning from None
    except SpoolError as error:
        raise ControlError(str(error)) from None
    try:
        if needs_keys:
            from control.sealing import keys_at_hand

            reader.open_with(keys_at_hand(layout))
        yield from answers(reader)
    except (SpoolError, IdSyntaxError, FilterError) as error:
        raise RequestRefused(str(error)) from None
    finally:
        reader.close()
