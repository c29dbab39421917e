"""What can be done about a finding of `spool.inspection` without losing anything.

Guarantees: nothing is deleted. What an envelope is meanwhile (in flight, set aside, gone) is respected.

Failure: `OSError` when a file cannot be moved.
"""

from __future__ import annotations

import os
from typing import Final

from spool.aside import set_aside_row
from spool.inspection import Finding, Remedy
from spool.orphans import is_orphan, move_orphan
from spool.rows import STATE_CODE
from spool.state import State
from spool.store import SQL, Transaction

#: Envelopes in these states are not on their way anywhere, and can be set aside.
_AT_REST: Final = frozenset({STATE_CODE[State.READY], STATE_CODE[State.HELD]})


def repair(tx: Transaction, finding: Finding) -> bool:
    """Apply the finding's remedy; whether there was something to be done."""
    match finding.remedy:
        case Remedy.SET_ASIDE:
            return _set_aside(tx, finding)
        case Remedy.LOOK_AGAIN:
            tx.lanes.add(finding.row)
            tx.made_due = True
            return True
        case Remedy.MOVE:
            return _move(tx, finding.name)
        case Remedy.NONE:
            return False


def _set_aside(tx: Transaction, finding: Finding) -> bool:
    found = tx.execute(SQL["state_of"], (finding.row,)).fetchone()
    if found is None or found[0] not in _AT_REST:
        return False
    set_aside_row(tx, finding.row, finding.trouble)
    tx.lanes.add(found[1])
    return True


def _move(tx: Transaction, path: str) -> bool:
    if not os.path.lexists(path) or not is_orphan(tx.bodies, tx.connection, os.path.basename(path)):
        return False
    move_orphan(tx.bodies, path)
    return True
