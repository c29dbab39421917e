"""PAM's service file and library, looked for when a configuration wants the system's users.

Guarantees: nothing of the service file is read here, and nothing of PAM runs.

pam.d(5).
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

from spool.layout import Layout

#: The library's name on Linux; anything else is another PAM, whose numbers are others.
LIBRARY: Final = "libpam.so.0"
SERVICE: Final = "smtpd"
#: Where an administrator's service files are, and behind them those of packages.
_ETC: Final = "/etc/pam.d"
_USR: Final = "/usr/lib/pam.d"


def missing(places: Layout) -> str:
    """What PAM lacks, and what is expected, as the rest of a sentence; empty when all is there."""
    path = missing_service(places)
    if path:
        return f"which has no such service; expected {path}"
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return f"which is not on this machine; expected {LIBRARY}"
    return ""


def service_folder(places: Layout) -> str:
    """The folder that PAM is told to take service files from; empty when it is the system's."""
    return places.root + _ETC if places.root else ""


def missing_service(places: Layout) -> str:
    """The service file that should be there, when none is; empty when one is."""
    folder = service_folder(places)
    wanted = [f"{each}/{SERVICE}" for each in ([folder] if folder else [_ETC, _USR])]
    return "" if any(os.path.isfile(path) for path in wanted) else wanted[0]
