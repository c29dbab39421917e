"""What keeps the spool from being written, in words for the operator: one line in the log when it begins, one when it ends.

Guarantees: a trouble that lasts is said once, however many clients it meets; while it lasts, `Troubles.now` says it.

Failure: none of its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from spool.errors import SpoolFull, SpoolUnavailable

_log: Final = logging.getLogger(__name__)
#: Seconds without a failure after which a trouble counts as over.
QUIET: Final = 5.0


class Troubles:
    """Those of the spool in one folder."""

    def __init__(self, spool_dir: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._spool_dir = spool_dir
        self._monotonic = monotonic
        self._failed_at = 0.0
        self._room = ""
        self._write = ""

    def now(self) -> list[str]:
        """All that there are."""
        return [trouble for trouble in (self._room, self._write) if trouble]

    def short_of_room(self, complaint: str) -> None:
        """So little room is left that new mail is refused; an empty ``complaint`` says that there is enough."""
        if complaint and not self._room:
            self._room = f"disk nearly full: {complaint}; {self._refused('452')} until {self._make_room()}"
            _log.error("%s", self._room)
        elif self._room and not complaint:
            self._room = ""
            _log.info("info: there is room on the disk again: new mail is accepted")

    def failed(self, error: SpoolFull | SpoolUnavailable) -> None:
        """A transaction was not written."""
        self._failed_at = self._monotonic()
        if self._write:
            return
        if isinstance(error, SpoolFull):
            self._write = f"disk full: {error.strerror}; {self._refused('452')} until {self._make_room()}"
        else:
            self._write = (
                f"the spool cannot be written: {error.strerror}; {self._refused('451')}: see whether {self._spool_dir} is "
                "mounted read-only, or its state.db open in another program"
            )
        _log.error("%s", self._write)

    def worked(self) -> None:
        """A transaction was written; on the edge of a full disk some are and some are not."""
        if self._write and self._monotonic() >= self._failed_at + QUIET:
            self._write = ""
            _log.info("info: the spool can be written again")

    def _refused(self, code: str) -> str:
        return f"mail is refused with {code}"

    def _make_room(self) -> str:
        return f"room is made on the file system of {self._spool_dir}"
