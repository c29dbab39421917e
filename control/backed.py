"""What ``smtpctl backup`` prints, and how it ends.

Guarantees: the last line says what the copy holds, and is printed only when there is one.

Failure: `ControlError` for a path that cannot be sent to a daemon.
"""

from __future__ import annotations

import os
import sys

from control import printing
from control.client import ControlError
from control.protocol import AnyAnswer, BackupRow, FindingRow


def absolute(path: str) -> str:
    """The path as a daemon, which runs elsewhere, has to hear it."""
    found = os.path.abspath(path)
    if not found.isprintable():
        raise ControlError(f"{path!a}: control characters and other encodings than UTF-8 are not for this command")
    return found


class Report:
    """Prints rows as they come."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._damaged = 0

    def take(self, row: AnyAnswer) -> None:
        """Print damage, and what the copy holds."""
        match row:
            case FindingRow():
                self._damaged += 1
                print(printing.json_line(row) if self._as_json else f"{row.subject}: {row.trouble}")
            case BackupRow(is_made=True):
                print(printing.json_line(row) if self._as_json else backup_line(row))

    def end(self) -> int:
        """0 when everything in the copy is whole, 1 otherwise."""
        if self._damaged:
            print("smtpctl: the copy has this damage because the spool has it; see smtpctl verify", file=sys.stderr)
        return 1 if self._damaged else os.EX_OK


def backup_line(row: BackupRow) -> str:
    """What the copy holds, and how long it took."""
    held = [
        printing.counted(row.messages, "message"),
        printing.counted(row.envelopes, "envelope"),
        printing.counted(row.octets, "octet"),
    ]
    if row.drops:
        held.append(f"{printing.counted(row.drops, 'file')} of the drop")
    return f"{row.path}: {', '.join(held)}, {row.seconds:.1f} seconds"
