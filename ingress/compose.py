"""What ``sendmail`` does to a message before it hands it on: the header read, mended and completed, the body in wire
form.

A leading ``From `` line, Bcc and Return-Path go; From, To and Date come where they are missing; Message-ID, and the
domain of an address without one, are left to the daemon, which knows the name of the server. A body with lines longer
than SMTP carries is encoded, as long as nothing says how it is encoded already.

Guarantees: what comes out has CRLF at the end of its lines, no other CR or LF, no NUL, and a header that ends in an
empty line. A bare CR ends a line in a body; in a header it becomes a blank, so that it cannot begin another field.

Failure: `BadMessage`.

RFC 5322 3.6 (fields), 2.1.1 (line length); RFC 2045 6.7 (quoted-printable). Imports little: see `ingress.enqueue`.
"""

import time

from ingress.mailboxes import BadAddress, mailboxes
from ingress.source import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Octets of header that are held in memory: ten thousand recipients fit.
MAX_HEADER = 1024 * 1024
#: Octets of a line without its end that SMTP carries (RFC 5321 4.5.3.1.6).
MAX_LINE = 998
#: A line that has no colon by then is no field: names are shorter.
MAX_NAME = 200
#: Octets of a line of quoted-printable (RFC 2045 6.7).
_ENCODED_LINE = 76
#: Characters of one encoded word's content, so that the whole stays below 75 octets (RFC 2047 2) in base64.
_WORD_OCTETS = 45

_NAME_OCTETS = bytes(octet for octet in range(33, 127) if octet != ord(":"))
_KNOWN = frozenset((
    b"bcc", b"cc", b"content-transfer-encoding", b"content-type", b"date", b"from", b"in-reply-to", b"message-id",
    b"mime-version", b"received", b"references", b"reply-to", b"return-path", b"sender", b"subject", b"to",
))  # fmt: skip
_DROPPED = frozenset((b"bcc", b"resent-bcc", b"return-path"))
_RECIPIENTS = (b"to", b"cc", b"bcc")
_RESENT_RECIPIENTS = (b"resent-to", b"resent-cc", b"resent-bcc")
_ATOM_SPECIALS = b'()<>[]:;@\\,."'


class BadMessage(ValueError):
    """The message cannot be sent as it is."""


class Header:
    """The fields of a header in their order: the name in lower case, and the whole field with LF at the end of each line."""

    __slots__ = ("fields",)

    def __init__(self, *fields: tuple[bytes, bytes]) -> None:
        self.fields = list(fields)

    def has(self, name: bytes) -> bool:
        """Whether there is a field of this name."""
        return any(name == known for known, _ in self.fields)

    def values(self, name: bytes) -> "Iterator[bytes]":
        """What the fields of this name hold."""
        return (field.partition(b":")[2] for known, field in self.fields if known == name)

    def recipients(self) -> list[bytes]:
        """The addresses of To, Cc and Bcc; of their Resent- counterparts where there is one (RFC 5322 3.6.6)."""
        resent = any(map(self.has, _RESENT_RECIPIENTS))
        found = []
        for name in _RESENT_RECIPIENTS if resent else _RECIPIENTS:
            for value in self.values(name):
                try:
                    found += mailboxes(value)
                except BadAddress as error:
                    raise BadMessage(f"{name.decode().capitalize()}: {error}") from None
        return list(filter(None, found))

    def author(self) -> bytes:
        """The first address of From; empty when there is none that can be read."""
        try:
            return next((address for value in self.values(b"from") for address in mailboxes(value)), b"")
        except BadAddress:
            return b""

    def add_author(self, address: bytes, name: str) -> None:
        """Add From."""
        self._add("From", _phrase(name) + b"<" + address + b">" if name else address)

    def add_addressee(self) -> None:
        """Add To where nobody is named: old programs take a message without one for broken."""
        if not any(map(self.has, (b"to", b"cc", b"resent-to", b"resent-cc"))):
            self._add("To", b"undisclosed-recipients:;")

    def add_date(self, now: float) -> None:
        """Add Date where it is missing; ``now`` is wall time."""
        if not self.has(b"date"):
            self._add("Date", time.strftime("%a, %d %b %Y %H:%M:%S %z", time.localtime(now)).encode())

    def _add(self, name: str, value: bytes) -> None:
        self.fields.append((name.lower().encode(), b"%s: %s\n" % (name.encode(), value)))

    def can_be_encoded(self) -> bool:
        """Whether the body may be encoded: nobody said how it is, and it is no container of other bodies (RFC 2045 6.4)."""
        if self.has(b"content-transfer-encoding"):
            return False
        kind = b"".join(self.values(b"content-type")).strip().lower()
        return not kind.startswith((b"multipart/", b"message/"))

    def add_encoding(self) -> None:
        """Say that the body is quoted-printable."""
        if not self.has(b"mime-version"):
            self._add("MIME-Version", b"1.0")
        if not self.has(b"content-type"):
            self._add("Content-Type", b"text/plain; charset=utf-8")
        self._add("Content-Transfer-Encoding", b"quoted-printable")

    def encode(self) -> bytes:
        """The header in wire form, with the empty line that ends it, without what nobody else may see."""
        kept = b"".join(field for name, field in self.fields if name not in _DROPPED)
        return kept.replace(b"\r", b" ").replace(b"\n", b"\r\n") + b"\r\n"


def read_header(source: Source) -> Header:
    """Take the header from ``source``, up to and with the empty line after it.

    What begins like fields but knows none that a message has is a body without a header.
    """
    reader = _HeaderReader()
    while not reader.ended:
        piece = source.read()
        reader.feed(piece)
        if reader.octets > MAX_HEADER and not reader.ended:
            if reader.is_header():
                raise BadMessage(f"header longer than {MAX_HEADER} octets")
            break
    fields, rest = reader.result()
    source.give_back(rest)
    return Header(*fields)


class _HeaderReader:
    """Lines become fields, until one is none."""

    def __init__(self) -> None:
        self.ended = False
        self.octets = 0
        self._fields: list[tuple[bytes, bytearray]] = []
        self._raw = bytearray()
        self._position = 0
        self._first = True

    def feed(self, piece: bytes) -> None:
        self.octets += len(piece)
        self._raw += piece
        while not self.ended:
            end = self._raw.find(b"\n", self._position)
            if end < 0:
                self._judge_unfinished(last=not piece)
                return
            self._take(bytes(self._raw[self._position : end + 1]))

    def _judge_unfinished(self, last: bool) -> None:
        line = bytes(self._raw[self._position :])
        if last:
            if line:
                self._take(line + b"\n")
            self.ended = True
        elif len(line) > MAX_NAME and not line[:1].isspace() and not _field_name(line):
            self.ended = True

    def _take(self, line: bytes) -> None:
        name = _field_name(line)
        if self._first and line.startswith(b"From "):
            pass
        elif line == b"\n":
            self.ended = True
        elif line[:1] in b" \t" and self._fields:
            self._fields[-1][1].extend(line)
        elif name:
            self._fields.append((name, bytearray(line)))
        else:
            self.ended = True
            return
        self._first = False
        self._position += len(line)

    def is_header(self) -> bool:
        """Whether a field that messages have is among those seen."""
        return any(name in _KNOWN or name.startswith((b"x-", b"resent-")) for name, _ in self._fields)

    def result(self) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """The fields, and what was read beyond them."""
        if self.is_header():
            return [(name, bytes(field)) for name, field in self._fields], bytes(self._raw[self._position :])
        return [], bytes(self._raw.removeprefix(b"\n"))


def _field_name(line: bytes) -> bytes:
    """The name in lower case when ``line`` begins a field; empty otherwise. Blanks before the colon: RFC 5322 4.5.8."""
    name, colon, _ = line.partition(b":")
    name = name.rstrip(b" \t")
    return name.lower() if colon and not name.translate(None, _NAME_OCTETS) else b""


def wire_form(source: Source) -> "Iterator[bytes]":
    """The rest of ``source`` with CRLF at the end of each line, the last one too."""
    ended = True
    while piece := source.read():
        ended = piece.endswith((b"\n", b"\r"))
        yield piece.replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    if not ended:
        yield b"\r\n"


class LineWatch:
    """Looks at the pieces of a body in wire form: the longest line, and octets above 127."""

    __slots__ = ("_current", "eight_bit", "longest")

    def __init__(self) -> None:
        self.longest = 0
        self.eight_bit = False
        self._current = 0

    def see(self, piece: bytes) -> None:
        """Take note of the next piece."""
        lengths = list(map(len, piece.split(b"\r\n")))
        lengths[0] += self._current
        self._current = lengths[-1]
        self.longest = max(self.longest, *lengths)
        self.eight_bit = self.eight_bit or not piece.isascii()


def quoted_printable(pieces: "Iterable[bytes]") -> "Iterator[bytes]":
    """A body in wire form, encoded; a line that is cut by the end of a piece goes on after a soft line break."""
    from binascii import b2a_qp  # only long lines need it

    for piece in pieces:
        encoded = b2a_qp(piece, quotetabs=False, istext=True, header=False)
        # It breaks lines with LF when the piece holds no line end to go by.
        encoded = encoded.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        yield encoded if encoded.endswith(b"\r\n") else _soft_break(encoded)


def _soft_break(encoded: bytes) -> bytes:
    """``encoded`` with its last line to be continued; one that leaves no room for the ``=`` gives its last octet away."""
    if len(encoded) - (encoded.rfind(b"\n") + 1) < _ENCODED_LINE:
        return encoded + b"=\r\n"
    last = -3 if encoded[-3:-2] == b"=" else -1
    return encoded[:last] + b"=\r\n" + encoded[last:] + b"=\r\n"


def _phrase(name: str) -> bytes:
    """A name before an angle bracket: bare, quoted (RFC 5322 3.2.4) or as encoded words (RFC 2047 5)."""
    text = name.encode(errors="replace").translate(None, bytes(range(32)) + b"\x7f").strip()
    if not text.isascii():
        return b"\n ".join(map(_encoded_word, _split_utf8(text))) + b" "
    if text.translate(None, _ATOM_SPECIALS) == text:
        return text + b" "
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'" '


def _encoded_word(text: bytes) -> bytes:
    from binascii import b2a_base64  # only names beyond ASCII need it

    return b"=?utf-8?B?" + b2a_base64(text, newline=False) + b"?="


def _split_utf8(text: bytes) -> "Iterator[bytes]":
    while text:
        end = _WORD_OCTETS
        while end < len(text) and text[end] & 0xC0 == 0x80:
            end -= 1
        yield text[:end]
        text = text[end:]
