"""What an SMTP server says, held against the grammar of RFC 5321 4.2 and RFC 2034."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from tests.fuzz.target import require

#: RFC 5321 4.5.3.1.5; EHLO's lines and a challenge are below it too.
_LINE: Final = re.compile(rb"([2-5][0-9]{2})([ -])([^\x00-\x1f\x7f]{0,506})")
_STATUS: Final = re.compile(rb"([245])\.[0-9]{1,3}\.[0-9]{1,3} ")


@dataclass(frozen=True, slots=True)
class Said:
    """One reply: its code and the text of its lines."""

    code: int
    lines: tuple[bytes, ...]


def read_replies(octets: bytes) -> list[Said]:
    """The replies that ``octets`` are. Raises `Finding` for what is no reply, or not whole."""
    require(octets.endswith(b"\r\n") or not octets, f"not a whole reply: {octets[-200:]!r}")
    found, lines, before = [], list[bytes](), 0
    for line in octets.split(b"\r\n")[:-1]:
        match = _LINE.fullmatch(line)
        require(match, f"not a line of a reply: {line!r}")
        assert match is not None
        code = int(match[1])
        require(not lines or before == code, f"two codes in one reply: {line!r}")
        before = code
        status = _STATUS.match(match[3])
        require(not status or status[1] == match[1][:1], f"code and status do not match: {line!r}")
        try:
            line.decode()
        except UnicodeDecodeError:
            require(False, f"not UTF-8: {line!r}")
        lines.append(match[3])
        if match[2] == b" ":
            found.append(Said(code, tuple(lines)))
            lines = []
    require(not lines, f"a reply without its last line: {lines!r}")
    return found
