"""SMTP replies: a code, an enhanced status and a text, paired once.

Guarantees: the text of a `Reply` holds no control character, so it may go to a peer, a log or a report as it is.

RFC 5321 4.2 (replies), RFC 3463 and RFC 5248 (enhanced status codes), RFC 2034 (their place in a reply).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

#: RFC 5321 4.5.3.1.5: a reply line is at most 512 octets with its CRLF.
MAX_REPLY_LINE: Final = 510
#: What is kept of a remote server's words: enough for any real diagnostic, and a bound on hostile ones.
MAX_TEXT: Final = 1000

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_STATUS = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})")
_REPLY = re.compile(r"([2-5]\d\d)(?: ([245]\.\d{1,3}\.\d{1,3}))?(?: (.*))?", re.DOTALL)


def printable(text: str, limit: int = MAX_TEXT) -> str:
    """``text`` on one line, control characters replaced by a blank, cut at ``limit`` characters."""
    # Nearly every text is plain, and to see that costs a tenth of looking for what is not.
    clean = (text if text.isascii() and text.isprintable() else _CONTROL.sub(" ", text)).strip()
    return clean if len(clean) <= limit else clean[: limit - 3] + "..."


@dataclass(frozen=True, slots=True)
class EnhancedStatus:
    """An enhanced mail system status code (RFC 3463 2): class, subject, detail."""

    klass: int
    subject: int
    detail: int

    def __str__(self) -> str:
        return f"{self.klass}.{self.subject}.{self.detail}"

    @classmethod
    def parse(cls, text: str) -> EnhancedStatus | None:
        """Read ``5.1.1``; None when ``text`` is something else."""
        match = _STATUS.fullmatch(text)
        return cls(*map(int, match.groups())) if match else None


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply of an SMTP server, ours or another's. ``status`` may be empty: not every reply carries one."""

    code: int
    status: str
    text: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", printable(self.text))

    def __str__(self) -> str:
        if self.status and self.text:
            return f"{self.code} {self.status} {self.text}"
        return " ".join(part for part in (str(self.code), self.status, self.text) if part)

    @classmethod
    def parse(cls, text: str) -> Reply | None:
        """Read what `str` made of a reply; None when ``text`` is something else."""
        match = _REPLY.fullmatch(text)
        return cls(int(match[1]), match[2] or "", match[3] or "") if match else None

    @property
    def is_positive(self) -> bool:
        """A 2yz reply: done."""
        return 200 <= self.code < 300

    @property
    def is_permanent(self) -> bool:
        """A 5yz reply: the same command will fail again."""
        return 500 <= self.code < 600

    def saying(self, text: str) -> Reply:
        """The same code and status with another text."""
        return Reply(self.code, self.status, text)

    def encode(self) -> bytes:
        """The reply as one line on the wire, UTF-8, cut to the length that RFC 5321 allows."""
        line = str(self).encode()
        if len(line) > MAX_REPLY_LINE:
            line = line[:MAX_REPLY_LINE].decode(errors="ignore").encode()
        return line + b"\r\n"
