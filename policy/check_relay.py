"""Rules by which anybody could send mail to anywhere.

Guarantees: a warning only, see `policy.open_relay`.
"""

from __future__ import annotations

from policy.build.workbench import Workbench
from policy.config import Config
from policy.open_relay import open_relay


def check_relays(bench: Workbench, config: Config) -> None:
    """Warn of the first rule that makes an open relay of this machine."""
    found = open_relay(config)
    if found is None:
        return
    statement = bench.script.rules[config.rules.index(found.rule)]
    bench.warn(
        statement.place,
        f'this makes {found}; "match auth from any" is for those who have logged in, "match from src" for known networks',
    )
