"""What ``smtpctl verify`` prints, and how it ends.

Guarantees: a line for each finding, with what to do about it; last what was looked at.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Final, TextIO

from control import printing
from control.protocol import AnyAnswer, FindingRow, VerifiedRow

_PROMISE: Final = {
    "none": "",
    "set-aside": "smtpctl verify --repair sets it aside and tells its sender",
    "look-again": "smtpctl verify --repair has it look again",
    "move": "smtpctl verify --repair moves it to orphan/",
}
_REPAIRED: Final = {
    "set-aside": "set aside, its sender is told",
    "look-again": "looked again",
    "move": "moved to orphan/",
}


class Report:
    """Prints rows as they come."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._findings = 0
        self._seen: VerifiedRow | None = None

    def take(self, row: AnyAnswer) -> None:
        """Print a finding, or remember how far the look has come."""
        match row:
            case FindingRow():
                self._findings += 1
                print(printing.json_line(row) if self._as_json else finding_line(row))
            case VerifiedRow():
                self._seen = row
                _show_progress(row, sys.stderr)

    def end(self) -> int:
        """Print what was looked at; 0 when nothing is wrong, 1 otherwise."""
        if self._seen is not None:
            for line in [printing.json_line(self._seen)] if self._as_json else summary(self._seen, self._findings):
                print(line)
        return 1 if self._findings else os.EX_OK


def finding_line(row: FindingRow) -> str:
    """What is wrong, where, and what to do or what was done."""
    remedy = _REPAIRED.get(row.remedy, "") if row.repaired else _PROMISE.get(row.remedy, "")
    return printing.one_line(f"{row.subject}: {row.trouble}" + (f" ({remedy})" if remedy else ""))


def summary(seen: VerifiedRow, findings: int) -> Iterator[str]:
    """What was looked at, and what waits for somebody's decision."""
    messages = f"{_count(seen.messages, 'message')} ({_count(seen.octets, 'octet')})"
    what = f"{messages}, {_count(seen.envelopes, 'envelope')}, {_count(seen.lanes, 'lane')}"
    yield f"{what}: {_count(findings, 'finding') if findings else 'nothing is wrong'}"
    if seen.set_aside:
        yield f"set aside: {_count(seen.set_aside, 'envelope')}; see smtpctl show queue, then release or remove them"
    if seen.orphans:
        yield f"without a message, in orphan/: {_count(seen.orphans, 'file')}; look at them, then delete them"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _show_progress(seen: VerifiedRow, terminal: TextIO) -> None:
    if terminal.isatty():
        terminal.write(f"\r{seen.envelopes} envelopes\r")
        terminal.flush()
