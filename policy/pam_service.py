"""PAM's service file and library, looked for when a configuration wants the system's users.

Guarantees: what is there is only looked for; nothing of it is read. libpam itself stays out of this process.

pam.d(5).
"""

from __future__ import annotations

import os
from typing import Final

from spool.layout import Layout

SERVICE: Final = "smtpd"
#: Where an administrator's service files are, and behind them those of packages.
_ETC: Final = "/etc/pam.d"
_USR: Final = "/usr/lib/pam.d"


def service_folder(places: Layout) -> str:
    """The folder that PAM is told to take service files from; empty when it is the system's."""
    return places.root + _ETC if places.root else ""


def missing_service(places: Layout) -> str:
    """The service file that should be there, when none is; empty when one is."""
    folder = service_folder(places)
    wanted = [f"{each}/{SERVICE}" for each in ([folder] if folder else [_ETC, _USR])]
    return "" if any(os.path.isfile(path) for path in wanted) else wanted[0]
