"""Spools with very many envelopes, made by a few statements through the real tables in a fraction of the time of accepts.

    build(tmp_path, Multitude(1_000_000, destinations=100_000))

Every message has a body, one recipient and one envelope, which was tried and deferred; its lane's route has failed.
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from spool.bodies import checksum
from spool.clock import SystemClock
from spool.files import SystemOps
from spool.layout import layout
from spool.opening import close_spool, open_spool

BODY = b"Subject: one of many\r\n\r\n" + b"A line of a message that nobody can take.\r\n" * 8
#: What every one of these waits for.
ERROR = "451 4.4.1 connect: connection refused"

_SERIES = "WITH RECURSIVE series (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < :count)"
_LANES = f"""{_SERIES}
INSERT INTO lane (action, key, next_due, not_before, failures, last_failure, last_error)
SELECT :action, CASE WHEN :destinations = 1 THEN 'dead.example' ELSE 'dead' || n || '.example' END,
    :now, :now + ((n - 1) * 7919 % 900 - 300) * 1000, 5, :now - 60000, :error
FROM series
"""
_MESSAGES = f"""{_SERIES}
INSERT INTO message (
    id, name, sender_local, sender_domain, arrived, received_at, size, body_kind, envid, ret,
    address, host, helo, protocol, login, uid, checksum, file, last_ordinal
)
SELECT n, lower(printf('%08x%012x', n / 4000, n * 2654435761 % 281474976710656)), 'list' || (n % 50), 'example.org',
    :now - (n * 13 % 86400) * 1000, :wall - n * 13 % 86400, :size, 0, '', '',
    '192.0.2.1', 'client.example.org', 'client.example.org', 'ESMTP', '', NULL, :checksum, NULL, 1
FROM series
"""
_RECIPIENTS = """
INSERT INTO recipient (message, number, local, domain, orcpt, notify, notify_given)
SELECT id, 1, 'user' || id, 'given.example', '', 6, 0 FROM message
"""
_ENVELOPES = f"""{_SERIES}, home (first) AS (SELECT min(id) FROM lane WHERE action = :action)
INSERT INTO envelope (
    message, ordinal, recipient, local, domain, user, extension, target, lane, kind, state, due, deadline,
    warn_at, attempts, last_try, error
)
SELECT n, 1, 1, 'user' || n, (SELECT key FROM lane WHERE id = first + n % :destinations), '', '', '',
    first + n % :destinations, 0, 0, :now - n % 3600000, :now + 96 * 3600000 - n % 3600000,
    :now + 4 * 3600000, 5, :now - 60000, CASE n % 3 WHEN 0 THEN :error ELSE '' END
FROM series, home
"""


@dataclass(frozen=True)
class Multitude:
    """So many envelopes for so many dead destinations of one action."""

    envelopes: int
    destinations: int = 1
    action: str = "out"


def build(root: Path, what: Multitude) -> None:
    """Make the spool of a daemon below ``root``; it has been stopped in good order."""
    spool = open_spool(layout(str(root)).spool_dir, SystemClock(), SystemOps())
    connection = spool.store.connection
    try:
        connection.execute("BEGIN")
        _fill(connection, what, spool.store.clock.now())
        connection.execute("COMMIT")
    finally:
        close_spool(spool)


def _fill(connection: sqlite3.Connection, what: Multitude, now: int) -> None:
    common = {"now": now, "error": ERROR, "action": what.action, "destinations": what.destinations}
    connection.execute(_LANES, {**common, "count": what.destinations})
    body = {"size": len(BODY), "checksum": checksum(BODY), "wall": time.time()}
    connection.execute(_MESSAGES, {**common, **body, "count": what.envelopes})
    connection.execute("INSERT INTO body SELECT id, ? FROM message", (BODY,))
    connection.execute(_RECIPIENTS)
    connection.execute(_ENVELOPES, {**common, "count": what.envelopes})
