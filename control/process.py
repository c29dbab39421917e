"""What a process has to be before it becomes the daemon, and where its log may go.

Imports little: as root, what forks the roles is started first of all, and reads its code while this process reads its own.
"""

from __future__ import annotations

import os
import resource
from typing import Final

#: Where the machine's log daemon listens.
SYSLOG_SOCKET: Final = "/dev/log"
#: Descriptors that a process may have: connections, deliveries, files. Not more, because some programs that are started
#: close every number up to the limit.
DESCRIPTORS: Final = 65536


def prepare_process() -> None:
    """File modes, descriptors and no core dumps, in which passwords and keys would be: for all that come of this process."""
    os.umask(0o022)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if most == resource.RLIM_INFINITY else min(DESCRIPTORS, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def has_syslog() -> bool:
    """Whether this machine has a log daemon."""
    return os.path.exists(SYSLOG_SOCKET)
