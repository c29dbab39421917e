"""Users in a file of the form of passwd(5): ``name:hash:uid:gid:gecos:home:shell``, for virtual users and their logins.

Guarantees: as `policy.tables.file`: read again when it has changed, and broken content keeps the old. An account without a
password, or a locked one, is no login.

Failure: `TableSyntaxError` from `load` and `serving` alone; no message quotes a line, for a hash stands in it.

passwd(5); table-passwd(5) of OpenSMTPD.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from policy.quoting import quoted
from policy.tables.file import FileTable
from policy.tables.format import MAX_FAULTS, Fault, TableSyntaxError
from policy.tables.service import ANY, CREDENTIALS, STRING, USERINFO, Service
from policy.tables.services import userinfo_of
from policy.tables.table import Content, Shape

#: name, hash, uid, gid, gecos, home; the shell may be missing.
_FIELDS: Final = 6
#: What stands in the place of a hash that no password has.
_LOCKED: Final = ("!", "*")
_MIN_HASH: Final = 3


def _name(fields: list[str]) -> str:
    return fields[0]


def _hash(fields: list[str]) -> str:
    return "" if fields[1].startswith(_LOCKED) or len(fields[1]) < _MIN_HASH else fields[1]


def _userinfo(fields: list[str]) -> str:
    return ":".join((fields[2], fields[3], fields[5]))


_VALUES: Final[Mapping[Service, Callable[[list[str]], str]]] = {
    ANY: _name,
    STRING: _name,
    CREDENTIALS: _hash,
    USERINFO: _userinfo,
}


class PasswdTable(FileTable):
    """The users in the file ``path``, for one use. ``load`` it before the first lookup."""

    def __init__(self, name: str, path: str, service: Service = ANY) -> None:
        super().__init__(name, path)
        self._service = service

    @property
    def written(self) -> str:
        """Its path."""
        return quoted(f"passwd:{self.path}")

    def serving(self, _shape: Shape, service: Service) -> PasswdTable:
        """The same file for that use. Raises `TableSyntaxError` when accounts have nothing for it."""
        if service not in _VALUES:
            raise TableSyntaxError(Fault(1, "accounts serve for logins (auth), users (userbase) and names (tag) alone"))
        table = PasswdTable(self.name, self.path, service)
        table.load()
        return table

    def _parse(self, text: str) -> Content:
        entries: dict[str, str] = {}
        faults = []
        for found in _accounts(text, self._service):
            if isinstance(found, Fault):
                faults.append(found)
                if len(faults) == MAX_FAULTS:
                    break
            elif found[1]:
                entries[found[0].lower()] = found[1]
        if faults:
            raise TableSyntaxError(*faults)
        # The names alone are a list; whatever else is asked is a mapping.
        return Content(entries, Shape.EITHER, tuple(entries))


def _accounts(text: str, service: Service) -> Iterator[tuple[str, str] | Fault]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.rstrip("\r").split(":")
        if len(fields) < _FIELDS or not fields[0] or not line.isprintable():
            yield Fault(number, "no account: expected name:hash:uid:gid:gecos:home:shell")
            continue
        value = _VALUES[service](fields)
        if service is USERINFO and userinfo_of(fields[0], value) is None:
            yield Fault(number, "no user: uid and gid are numbers, and a home begins with /")
        else:
            yield fields[0], value
