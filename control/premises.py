"""Where a command has to do itself what a daemon does that is one process.

As root, the daemon's process that has the spool is another user behind walls, and reaches no file beside the spool. Root
reads and writes such files for it.
"""

from __future__ import annotations

import os

from spool.layout import Layout


def is_walled(layout: Layout) -> bool:
    """Whether the spool is that of another user, and this is root."""
    try:
        return os.geteuid() == 0 and os.stat(layout.spool_dir).st_uid != 0
    except FileNotFoundError:
        return False
