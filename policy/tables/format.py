"""The text of a table file: one entry a line.

The first line that is neither empty nor a comment decides: with a blank or a colon in it the file is a mapping, otherwise a
list; a comment ``# @list`` before it decides for a list. A key in brackets may hold colons, as IPv6 addresses do. A line
has no continuation, and no comment behind its value.

Guarantees: keys and values hold no control character but a tab.

Failure: `TableSyntaxError` with every line that is none.

table(5) of OpenSMTPD; ``key : value`` gives the value without the colon here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from policy.errors import PolicyError
from policy.tables.table import Content, Shape

_MAPPING_LINE: Final = re.compile(r"(\[[^\]]*\]|[^\[\s:][^\s:]*)(?>[ \t]*:(?=[ \t]|$)|:|[ \t])[ \t]*(\S.*)")
_LOOKS_LIKE_MAPPING: Final = re.compile(r"[ \t:]")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_LIST_MARK: Final = "# @list"

#: Faults of one file that are told: who reads more begins with the first anyway.
MAX_FAULTS: Final = 100


class TableSyntaxError(PolicyError):
    """Lines of a table file that are no entries. The text never quotes them: they may be secret.

    ``faults`` are all of them that were found (at most `MAX_FAULTS`), each with its line, which counts from 1; text and
    ``line`` are those of the first.
    """

    def __init__(self, *faults: Fault) -> None:
        super().__init__(faults[0].message)
        self.line = faults[0].line
        self.faults = faults


class Entry(NamedTuple):
    """A line that is an entry, as it is written; of a list, key and value are the same. (A tuple: there may be millions.)"""

    line: int
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Fault:
    """A line that is none, and why."""

    line: int
    message: str


#: What is wrong with an entry for one use of a table: a key, its value, and the reason; None for a good one.
EntryFault: TypeAlias = Callable[[str, str], str | None]


def any_entry(_key: str, _value: str) -> str | None:
    """No entry is wrong."""
    return None


def parse_table(text: str, entry_faults: Sequence[EntryFault] = ()) -> Content:
    """The entries of a table file; of a key that stands there twice, the last. None may have one of ``entry_faults``."""
    reader = TableReader(text)
    entries = {}
    texts = []
    faults = []
    for found in reader:
        if isinstance(found, Entry):
            entries[found.key.lower()] = found.value
            if reader.shape is Shape.LIST:
                texts.append(found.key)
            if entry_faults and (wrong := _first_fault(found, entry_faults)):
                faults.append(wrong)
        else:
            faults.append(found)
        if len(faults) == MAX_FAULTS:
            break
    if faults:
        raise TableSyntaxError(*faults)
    return Content(entries, reader.shape, texts)


class TableReader:
    """A table file line by line; comments and empty lines are left out. ``shape`` is known once it is read."""

    def __init__(self, text: str) -> None:
        self.shape = Shape.EITHER
        self._text = text

    def __iter__(self) -> Iterator[Entry | Fault]:
        suspect = bool(_CONTROL.search(self._text))
        for number, raw in enumerate(self._text.split("\n"), 1):
            line = raw.strip()
            if not line or line[0] == "#":
                if line == _LIST_MARK and self.shape is Shape.EITHER:
                    self.shape = Shape.LIST
                continue
            if self.shape is Shape.EITHER:
                self.shape = _shape_of(line)
            if suspect and (bad := _CONTROL.search(line)):
                yield Fault(number, _describe(ord(bad.group())))
            elif self.shape is Shape.LIST:
                yield Entry(number, line, line)
            else:
                yield _entry(number, line)


def _first_fault(entry: Entry, entry_faults: Sequence[EntryFault]) -> Fault | None:
    reasons = (fault(entry.key, entry.value) for fault in entry_faults)
    return next((Fault(entry.line, reason) for reason in reasons if reason), None)


def _shape_of(line: str) -> Shape:
    rest = line[line.find("]") + 1 :] if line[0] == "[" else line
    return Shape.MAPPING if _LOOKS_LIKE_MAPPING.search(rest) else Shape.LIST


def _entry(number: int, line: str) -> Entry | Fault:
    match = _MAPPING_LINE.fullmatch(line)
    if match is not None:
        return Entry(number, match.group(1), match.group(2))
    reason = 'a "[" without "]"' if line[0] == "[" and "]" not in line else "a key without a value"
    return Fault(number, f"{reason}, in a table whose first entry has one: expected KEY VALUE or KEY: VALUE")


def _describe(control: int) -> str:
    if 0xD800 <= control <= 0xDFFF:
        return f"octet 0x{control & 0xFF:02x}, which is not UTF-8, cannot stand in a table"
    return f"character 0x{control:02x}, cannot stand in a table"
