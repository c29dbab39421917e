"""``smtpd --migrate FILE``: a configuration of the grammar before OpenSMTPD 6.4, printed anew.

Failure: exit status 1 when the file cannot be read, or when something in it has no counterpart or is not supported: that is
a comment in what is printed, and an error with its place on standard error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Final

from policy.errors import ConfigError, Finding
from policy.lexer import Source
from policy.migrate.support import without_unsupported
from policy.migrate.translation import migrate
from policy.parser import load_source, read_source
from spool.layout import Layout

_EX_TROUBLE: Final = 1


def print_migrated(path: str, layout: Layout, macros: Mapping[str, str]) -> int:
    """Print the configuration at ``path`` in the present grammar; the exit status."""

    def errors(source: Source) -> tuple[Finding, ...]:
        try:
            load_source(source, layout, macros)
        except ConfigError as error:
            return error.findings
        return ()

    try:
        migration = migrate(read_source(path), macros)
    except OSError as error:
        _say(f"smtpd: {path}: {error.strerror}")
        return _EX_TROUBLE
    if migration.is_changed:
        without_unsupported(migration, errors)
    else:
        _say(f"smtpd: nothing in {path} is of the grammar before OpenSMTPD 6.4: it is printed as it is")
    # Octets that are no UTF-8 leave as they came.
    sys.stdout.buffer.write(migration.text.encode(errors="surrogateescape"))
    sys.stdout.buffer.flush()
    for trouble in sorted(migration.troubles, key=lambda each: (each.line, each.column)):
        _say(str(trouble))
    return _EX_TROUBLE if migration.troubles else os.EX_OK


def _say(line: str) -> None:
    print(line, file=sys.stderr)
