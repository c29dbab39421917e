"""Text from outside, made fit for a line of the log.

Guarantees: what `quoted` returns is one line of bounded length, and nothing in it ends its quotes.
"""

from __future__ import annotations

from typing import Final

from spool.reply import printable

#: Characters that are kept: enough for any command that was meant seriously.
MAX_QUOTED: Final = 200


def quoted(text: object) -> str:
    """``text`` in double quotes."""
    return '"' + printable(str(text), MAX_QUOTED).replace("\\", "\\\\").replace('"', '\\"') + '"'
