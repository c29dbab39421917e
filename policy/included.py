"""Lists in files of their own: ``:include:/path`` on the right of an alias.

Guarantees: a line that makes no sense is complained about and passed over; it takes none of the others with it.

Failure: `TableUnavailable` for a file that cannot be read, or is larger than `MAX_OCTETS`.

aliases(5) of OpenSMTPD.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from typing import Final

from policy.errors import TableUnavailable
from policy.target import Target, TargetSyntaxError, parse_targets

#: Octets of one included list.
MAX_OCTETS: Final = 1 << 20

_log = logging.getLogger("policy.expand")


def read_list(path: str) -> Iterator[Target]:
    """The targets in the file ``path``, line by line."""
    for number, raw in enumerate(_read_text(path).split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        try:
            yield from parse_targets(line)
        except TargetSyntaxError:
            # Whoever may write aliases need not be able to read this file: its lines do not go into the log.
            _log.warning("%s:%d: no list of targets; the line is ignored", path, number)


def _read_text(path: str) -> str:
    try:
        # Without O_NONBLOCK a FIFO in the list's place would stop us for ever.
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise TableUnavailable(f"{path} is not a regular file")
            data = file.read(MAX_OCTETS + 1)
    except OSError as error:
        raise TableUnavailable(f"{path}: {error.strerror}") from error
    if len(data) > MAX_OCTETS:
        raise TableUnavailable(f"{path} is larger than {MAX_OCTETS} octets")
    return data.decode(errors="surrogateescape")
