"""What a crowd of clients has taken goes back to the machine when the crowd has left.

The allocators of Python and of the C library keep what was freed for the next time, and after thousands of sessions that
is tens of megabytes. Most of a mail server's life there is no next time.

Guarantees: it costs some 20 ms, and at least `CROWD` clients must have come and left for it.

Failure: none; where the C library has nothing to be told (musl gives back by itself), only Python's part is given back.

malloc_trim(3).
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from typing import Final

#: Clients that left: what fewer have held is not worth the time.
CROWD: Final = 100


def give_back() -> None:
    """Now, all that is free."""
    # Python's own lists of free objects are emptied by a whole collection only.
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class Ebb:
    """Notices that a crowd has left: when half of those are gone who were there at the height of it."""

    def __init__(self, when: Callable[[], None] = give_back) -> None:
        self._when = when
        self._height = 0

    def rises(self, clients: int) -> None:
        """So many are there now, one of them new."""
        self._height = max(self._height, clients)

    def look(self, clients: int) -> None:
        """So many are there now; to be called now and then."""
        if self._height - clients >= CROWD and clients <= self._height // 2:
            self._height = clients
            self._when()
