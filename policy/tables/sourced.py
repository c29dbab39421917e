"""Tables whose text comes from a `policy.tables.sources.Source`: a credential, the environment, a program.

Guarantees: a lookup answers from what was read last and never waits; `SourcedTable.refresh` reads anew, in a thread of the
caller's. A source that fails, or gives a text that is no table, leaves the last good content in force for `KEPT_SECONDS`:
a vault that is restarted stops no mail. The log says so once for each reason.

Failure: `TableUnavailable` when the content is older than that, or was never there: a daemon starts without its vault.
`TableSyntaxError` from `load` and `serving` alone.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from policy.errors import TableUnavailable
from policy.quoting import quoted
from policy.tables.format import Fault, TableSyntaxError, parse_table
from policy.tables.patterns import Patterns
from policy.tables.secret import LoneSecret, lone_secret
from policy.tables.service import CREDENTIALS, SECRETS, Service
from policy.tables.sources import Source
from policy.tables.table import Content, Shape

#: How long content is good whose source fails: longer than a restart takes, shorter than a revoked secret should live.
KEPT_SECONDS: Final = 1800.0
#: How soon a source that failed is asked again.
RETRY_SECONDS: Final = 30.0

_NOTHING: Final = Content({}, Shape.EITHER)

_log = logging.getLogger("policy.tables")


class SourcedTable:
    """The table ``name`` in the text of ``source``. ``load`` it before the first lookup."""

    def __init__(self, name: str, source: Source, now: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._source = source
        self._now = now
        self._refreshing = threading.Lock()
        self._wanted = Shape.EITHER
        self._services: tuple[Service, ...] = ()
        self._text = ""
        self._content: Content | LoneSecret = _NOTHING
        #: When the content was read, and when the source was asked last.
        self._read_at = self._asked_at = now()
        self._failure = ""

    def __repr__(self) -> str:
        return f"<SourcedTable {self.name}>"

    @property
    def written(self) -> str:
        """Its source."""
        return quoted(self._source.written)

    @property
    def is_secret(self) -> bool:
        """Whether it is asked for passwords only, and so by nobody who expands an address."""
        return set(self._services) <= {SECRETS, CREDENTIALS}

    @property
    def shape(self) -> Shape:
        """What its entries are; one secret may be used as either, until it is known what for."""
        return self._content.shape if isinstance(self._content, Content) else Shape.EITHER

    def load(self) -> None:
        """Read the source for the first time. Raises `TableSyntaxError`.

        Raises `TableUnavailable` too, after which the table can be used all the same: it is asked again later.
        """
        try:
            text = _decoded(self._source.read())
        except TableUnavailable as error:
            self._failure, self._read_at = str(error), -math.inf
            raise TableUnavailable(f"table {self.name}: {error}") from error
        self._take(text)

    def serving(self, shape: Shape, service: Service) -> SourcedTable:
        """This table, for that use too. Raises `TableSyntaxError` when its text cannot serve it."""
        if shape is not Shape.EITHER:
            self._wanted = shape
        self._services = (*self._services, service)
        self._content = self._understood(self._text)
        return self

    @property
    def is_stale(self) -> bool:
        """Whether the source should be asked again."""
        lifetime = self._source.lifetime
        if lifetime is None or self._refreshing.locked():
            return False
        return self._now() - self._asked_at >= (RETRY_SECONDS if self._failure else lifetime)

    @property
    def trouble(self) -> str:
        """Why the source could not be read when it was asked last."""
        kept = "" if self._read_at == -math.inf else "; its old content is kept for now"
        return f"table {self.name}: {self._failure}{kept}" if self._failure else ""

    def refresh(self) -> None:
        """Ask the source again. Whoever comes meanwhile goes on with what is there."""
        if not self._refreshing.acquire(blocking=False):
            return
        try:
            self._asked_at = self._now()
            self._take(_decoded(self._source.read()))
        except TableUnavailable as error:
            self._complain(str(error))
        except TableSyntaxError as error:
            self._complain(f"line {error.line}: {error}")
        finally:
            self._refreshing.release()

    def content(self) -> Content | LoneSecret:
        """All of it, as it was read last. Raises `TableUnavailable`."""
        return self._current()

    def lookup(self, key: str) -> str | None:
        """The value of ``key``, or None."""
        content = self._current()
        return content.value_for(key) if isinstance(content, LoneSecret) else content.entries.get(key.lower())

    def keys(self) -> Iterable[str]:
        """All keys; one secret has none."""
        return self._entries().entries.keys()

    def patterns(self) -> Patterns:
        """The keys that stand for more than themselves."""
        return self._entries().patterns

    def _entries(self) -> Content:
        content = self._current()
        return content if isinstance(content, Content) else _NOTHING

    def _current(self) -> Content | LoneSecret:
        if self._failure and self._now() - self._read_at > KEPT_SECONDS:
            raise TableUnavailable(f"table {self.name}: {self._failure}")
        return self._content

    def _take(self, text: str) -> None:
        self._content = self._understood(text)
        self._text = text
        self._read_at = self._asked_at = self._now()
        self._failure = ""

    def _understood(self, text: str) -> Content | LoneSecret:
        if set(self._services) <= {SECRETS} and (secret := lone_secret(text)):
            return secret
        content = parse_table(text, [service.fault for service in self._services])
        if not content.shape.serves(self._wanted):
            raise TableSyntaxError(Fault(1, f"this is {content.shape.value}, expected {self._wanted.value}"))
        return content

    def _complain(self, reason: str) -> None:
        if self._failure != reason:
            self._failure = reason
            _log.warning("%s", self.trouble)


def _decoded(data: bytes) -> str:
    return data.decode(errors="surrogateescape")
