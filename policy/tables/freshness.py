"""Tables whose content takes long to get: it is got in a thread before they are asked.

Guarantees: a lookup after `freshen` answers from what the table holds, without waiting.

Failure: none of its own; what went wrong is for the lookup to report.
"""

from __future__ import annotations

from collections.abc import Iterable

import anyio.to_thread

from policy.tables.table import Table


async def freshen(tables: Iterable[Table]) -> None:
    """Have every stale one of ``tables`` read anew: a million aliases take a second, and that must not be everybody's."""
    for table in tables:
        if table.is_stale:
            # Who gives up need not wait for it, and a daemon that is stopped does not.
            await anyio.to_thread.run_sync(table.refresh, abandon_on_cancel=True)
