"""The text of a table file: one entry a line.

The first line that is neither empty nor a comment decides: with a blank or a colon in it the file is a mapping, otherwise a
list; a comment ``# @list`` before it decides for a list. A key in brackets may hold colons, as IPv6 addresses do. A line
has no continuation, and no comment behind its value.

Guarantees: keys and values hold no control character but a tab.

Failure: `TableSyntaxError` with the line.

table(5) of OpenSMTPD; ``key : value`` gives the value without the colon here.
"""

from __future__ import annotations

import re
from typing import Final

from policy.errors import PolicyError
from policy.tables.table import Content, Shape

_MAPPING_LINE: Final = re.compile(r"(\[[^\]]*\]|[^\[\s:][^\s:]*)(?>[ \t]*:(?=[ \t]|$)|:|[ \t])[ \t]*(\S.*)")
_LOOKS_LIKE_MAPPING: Final = re.compile(r"[ \t:]")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_LIST_MARK: Final = "# @list"


class TableSyntaxError(PolicyError):
    """A line of a table file is not an entry. ``line`` counts from 1. The message never quotes it: it may be secret."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def parse_table(text: str) -> Content:
    """The entries of a table file; of a key that stands there twice, the last."""
    shape = Shape.EITHER
    entries: dict[str, str] = {}
    suspect = bool(_CONTROL.search(text))
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line[0] == "#":
            if line == _LIST_MARK and shape is Shape.EITHER:
                shape = Shape.LIST
            continue
        if suspect:
            _refuse_control(number, line)
        if shape is Shape.EITHER:
            shape = _shape_of(line)
        key, value = (line, line.lower()) if shape is Shape.LIST else _entry(number, line)
        entries[key.lower()] = value
    return Content(entries, shape)


def _shape_of(line: str) -> Shape:
    rest = line[line.find("]") + 1 :] if line[0] == "[" else line
    return Shape.MAPPING if _LOOKS_LIKE_MAPPING.search(rest) else Shape.LIST


def _entry(number: int, line: str) -> tuple[str, str]:
    match = _MAPPING_LINE.fullmatch(line)
    if match is None:
        reason = 'a "[" without "]"' if line[0] == "[" and "]" not in line else "a key without a value"
        raise TableSyntaxError(
            number, f"{reason}, in a table whose first entry has one: expected KEY VALUE or KEY: VALUE"
        )
    return match.group(1), match.group(2)


def _refuse_control(number: int, line: str) -> None:
    if bad := _CONTROL.search(line):
        code = ord(bad.group())
        what = (
            f"octet 0x{code & 0xFF:02x}, which is not UTF-8" if 0xD800 <= code <= 0xDFFF else f"character 0x{code:02x}"
        )
        raise TableSyntaxError(number, f"{what}, cannot stand in a table")
