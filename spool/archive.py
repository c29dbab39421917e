"""The archive in which chosen mail moves house: a tar of one description in JSON and one body for each message.

::

    mailspool-archive.json     what this is: format, version, a random name, when
    ID.json                    a message as `Moved` says it
    ID.body                    its body in wire form
    ...
    end.json                   how many there were, and the SHA-256 of every octet before this member

Only plain members of POSIX ustar are written and read: a link, a device, a path, a long name or a sparse file makes the
archive a wrong one. Nothing is ever unpacked under a name of the archive's.

Guarantees: `check` reads a whole archive in little memory and lets only one through that is whole and unaltered.

Failure: `ArchiveError`, which says at which octet what was found.

POSIX.1-2017 pax (ustar interchange format). mailspool-archive(5).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, BinaryIO, Final, Literal, TypeAlias, TypeVar

import msgspec

from spool.errors import SpoolError
from spool.outcome import Stage
from spool.state import Event, Kind

#: The version that is written; others are refused.
VERSION: Final = 1
#: Octets of a block of a tar.
BLOCK: Final = 512
#: Octets of a description: some ten thousand recipients with their history.
MAX_DESCRIPTION: Final = 32 * 1024 * 1024
#: Octets read at a time.
CHUNK: Final = 64 * 1024

_FIRST: Final = "mailspool-archive.json"
_LAST: Final = "end.json"
_MAGIC: Final = b"ustar\x0000"
_NAME = re.compile(r"[0-9a-v]{20}\.(json|body)")

T = TypeVar("T")
#: No control characters but a tab, which a command may have.
Text: TypeAlias = Annotated[
    str, msgspec.Meta(max_length=64 * 1024, pattern=r"\A[^\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]*\Z")
]
#: A part of an address, which goes into commands and fields of others.
Part: TypeAlias = Annotated[str, msgspec.Meta(max_length=255, pattern=r"\A[^\x00-\x1f\x7f-\x9f\u2028\u2029]*\Z")]
#: Wall time, seconds since 1970.
Time: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1e11)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]
Number: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=1 << 30)]
StateName: TypeAlias = Literal["ready", "held", "damaged"]
ResultName: TypeAlias = Literal["delivered", "deferred", "failed"]
RetName: TypeAlias = Literal["", "FULL", "HDRS"]
Wish: TypeAlias = Literal["success", "failure", "delay"]


class ArchiveError(SpoolError):
    """This is no archive that can be imported."""


class _Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What JSON says; anything that is not named here makes it wrong."""


class Header(_Words, frozen=True, kw_only=True):
    """The first member."""

    format: Literal["mailspool-archive"] = "mailspool-archive"
    version: int = VERSION
    #: What it is called, so that it is taken once.
    name: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
    made: Time


class End(_Words, frozen=True, kw_only=True):
    """The last member."""

    messages: Count
    envelopes: Count
    sha256: str


class MovedClient(_Words, frozen=True, kw_only=True):
    """Who handed the message over: see `spool.message.Client`."""

    address: Text
    host: Text
    helo: Text
    protocol: Text
    login: Text
    uid: Count | None


class MovedRecipient(_Words, frozen=True, kw_only=True):
    """A recipient as given at RCPT; envelopes name it by its number."""

    number: Number
    local: Part
    domain: Part
    orcpt: Text
    notify: list[Wish]
    notify_given: bool


class MovedOutcome(_Words, frozen=True, kw_only=True):
    """What came of an attempt."""

    result: ResultName
    code: Annotated[int, msgspec.Meta(ge=0, le=999)]
    status: Text
    text: Text
    remote: Text
    stage: Stage
    dsn_passed_on: bool


class MovedDestination(_Words, frozen=True, kw_only=True):
    """Where an envelope ends: see `spool.message.Destination`."""

    local: Part
    domain: Part
    user: Text
    extension: Text
    target: Text


class MovedLine(_Words, frozen=True, kw_only=True):
    """What a report says of one recipient."""

    recipient: Number
    destination: MovedDestination
    event: Event
    at: Time
    deadline: Time
    outcome: MovedOutcome


class MovedEnvelope(_Words, frozen=True, kw_only=True):
    """An envelope as it stood."""

    ordinal: Number
    kind: Kind
    state: StateName
    #: None for a report.
    recipient: Number | None
    destination: MovedDestination
    action: Text
    key: Text
    due: Time
    deadline: Time
    warn_at: Time | None
    attempts: Count
    #: A copy may be where it was delivered to when the old house stopped.
    was_in_flight: bool
    last_try: Time | None
    error: Text
    report: list[MovedLine]


class MovedAttempt(_Words, frozen=True, kw_only=True):
    """A line of the history."""

    ordinal: Number
    sender: Text
    recipient: Text
    destination: Text
    event: Event
    started: Time
    ended: Time
    route: Text
    outcome: MovedOutcome


class Moved(_Words, frozen=True, kw_only=True):
    """A message with those of its envelopes that move."""

    id: Annotated[str, msgspec.Meta(pattern="^[0-9a-v]{20}$")]
    sender_local: Part
    sender_domain: Part
    arrived: Time
    received: Time
    #: Of the body in wire form.
    size: Count
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    eight_bit: bool
    smtputf8: bool
    envid: Text
    ret: RetName
    client: MovedClient
    #: The highest that was ever used.
    last_ordinal: Number
    recipients: list[MovedRecipient]
    envelopes: Annotated[list[MovedEnvelope], msgspec.Meta(min_length=1)]
    history: list[MovedAttempt]


class Writer:
    """Writes an archive through ``write``."""

    def __init__(self, write: Callable[[bytes], object], header: Header) -> None:
        self._write = write
        self._made = int(header.made)
        self._digest = hashlib.sha256()
        self._messages = self._envelopes = 0
        self._member(_FIRST, _document(header))

    def add(self, moved: Moved, body: Iterator[bytes]) -> None:
        """A message; ``body`` are the octets that it describes."""
        self._member(f"{moved.id}.json", _document(moved))
        self._put(_block(f"{moved.id}.body", moved.size, self._made))
        for piece in body:
            self._put(piece)
        self._put(bytes(-moved.size % BLOCK))
        self._messages += 1
        self._envelopes += len(moved.envelopes)

    def end(self) -> None:
        """Nothing more comes."""
        end = End(messages=self._messages, envelopes=self._envelopes, sha256=self._digest.hexdigest())
        self._member(_LAST, _document(end))
        self._put(bytes(2 * BLOCK))

    def _member(self, name: str, content: bytes) -> None:
        self._put(_block(name, len(content), self._made) + content + bytes(-len(content) % BLOCK))

    def _put(self, data: bytes) -> None:
        self._digest.update(data)
        self._write(data)


@dataclass(frozen=True, slots=True)
class Found:
    """A message of an archive, and where its body lies in the file."""

    moved: Moved
    place: int


class Archive:
    """An archive in a file that can be read from any place."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self._place = 0
        self._digest = hashlib.sha256()
        self.header = self._header()

    def check(self) -> End:
        """Read all of it; raises `ArchiveError` for the first thing that is wrong."""
        messages = envelopes = 0
        seen: set[str] = set()
        while True:
            start, before = self._place, self._digest.hexdigest()
            name, size = self._next()
            if name == _LAST:
                end = self._decode(End, start, name, self._small(name, size))
                break
            moved = self._moved(start, name, size)
            if moved.id in seen:
                raise self._wrong(start, f"message {moved.id} a second time")
            seen.add(moved.id)
            self._check_body(moved)
            messages += 1
            envelopes += len(moved.envelopes)
        if (end.messages, end.envelopes) != (messages, envelopes):
            raise self._wrong(
                start, f"{messages} messages and {envelopes} envelopes where {end.messages} and {end.envelopes} were"
            )
        if end.sha256 != before:
            raise self._wrong(start, "the octets before this are not those that were written")
        if self._read(2 * BLOCK) != bytes(2 * BLOCK) or self._place != self._size:
            raise self._wrong(self._place, "something after the end")
        return end

    def messages(self) -> Iterator[Found]:
        """The messages of an archive that was checked."""
        self._place = 0
        self._header()
        while True:
            start = self._place
            name, size = self._next()
            if name == _LAST:
                return
            moved = self._moved(start, name, size)
            self._body_member(moved)
            yield Found(moved, self._place)
            self._place += moved.size + -moved.size % BLOCK

    def body(self, found: Found) -> Iterator[bytes]:
        """The octets of a message's body; raises `ArchiveError` when they are not what was described."""
        return self._octets(found.moved, found.place)

    # -- pieces -------------------------------------------------------------------------------------------------------

    def _header(self) -> Header:
        name, size = self._next()
        if name != _FIRST:
            raise self._wrong(0, f"{name!a} where {_FIRST} was expected: this is no archive of Mailspool")
        header = self._decode(Header, 0, name, self._small(name, size))
        if header.version != VERSION:
            raise self._wrong(0, f"version {header.version}; this program knows version {VERSION}")
        return header

    def _moved(self, start: int, name: str, size: int) -> Moved:
        if not name.endswith(".json"):
            raise self._wrong(start, f"{name!a} where the description of a message or {_LAST} was expected")
        moved = self._decode(Moved, start, name, self._small(name, size))
        if name != f"{moved.id}.json":
            raise self._wrong(start, f"{name} describes message {moved.id}")
        if trouble := _contradiction(moved):
            raise self._wrong(start, f"message {moved.id}: {trouble}")
        return moved

    def _body_member(self, moved: Moved) -> None:
        start = self._place
        name, size = self._next()
        if (name, size) != (f"{moved.id}.body", moved.size):
            raise self._wrong(
                start, f"{name!a} with {size} octets where {moved.id}.body with {moved.size} was expected"
            )

    def _check_body(self, moved: Moved) -> None:
        self._body_member(moved)
        for piece in self._octets(moved, self._place):
            self._digest.update(piece)
        self._place += moved.size
        self._padding(moved.size)

    def _octets(self, moved: Moved, place: int) -> Iterator[bytes]:
        start, left = place, moved.size
        digest = hashlib.sha256()
        while left:
            piece = os.pread(self._file.fileno(), min(left, CHUNK), place)
            if not piece:
                raise self._wrong(self._size, f"the end of the file in the body of message {moved.id}")
            digest.update(piece)
            left -= len(piece)
            place += len(piece)
            if not left and digest.hexdigest() != moved.sha256:
                break
            yield piece
        if digest.hexdigest() != moved.sha256:
            raise self._wrong(start, f"the body of message {moved.id} is not the one that was exported")

    def _small(self, name: str, size: int) -> bytes:
        if size > MAX_DESCRIPTION:
            raise self._wrong(self._place, f"{name} has {size} octets, more than the {MAX_DESCRIPTION} allowed")
        content = self._read(size)
        self._padding(size)
        return content

    def _padding(self, size: int) -> None:
        if any(self._read(-size % BLOCK)):
            raise self._wrong(self._place, "something between two members")

    def _next(self) -> tuple[str, int]:
        """Name and size of the next member."""
        start = self._place
        block = self._read(BLOCK)
        name = block[:100].rstrip(b"\0").decode("ascii", "replace")
        size = _octal(block[124:136])
        if size is None or block != _block(name, size, _octal(block[136:148]) or 0):
            raise self._wrong(start, "no header of a plain file")
        if name not in (_FIRST, _LAST) and not _NAME.fullmatch(name):
            raise self._wrong(start, f"{name!a} is no name of a member")
        return name, size

    def _read(self, octets: int) -> bytes:
        data = os.pread(self._file.fileno(), octets, self._place) if octets else b""
        if len(data) < octets:
            raise self._wrong(self._size, "the end of the file: it was cut off")
        self._place += octets
        self._digest.update(data)
        return data

    def _decode(self, kind: type[T], start: int, name: str, content: bytes) -> T:
        try:
            return msgspec.json.decode(content, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._wrong(start, f"{name}: {error}") from None

    def _wrong(self, place: int, what: str) -> ArchiveError:
        return ArchiveError(f"at octet {place}: {what}")


def _contradiction(moved: Moved) -> str:
    """What no spool could have written; empty when there is nothing."""
    numbers = {recipient.number for recipient in moved.recipients}
    ordinals = [envelope.ordinal for envelope in moved.envelopes]
    if len(numbers) != len(moved.recipients) or len(set(ordinals)) != len(ordinals):
        return "a number is there twice"
    if max(ordinals) > moved.last_ordinal:
        return "an envelope is beyond the last one"
    for envelope in moved.envelopes:
        named = {line.recipient for line in envelope.report}
        if not envelope.kind.is_report:
            named |= {envelope.recipient or 0}
        elif not envelope.report or envelope.recipient is not None:
            return f"report {envelope.ordinal} is about nobody"
        if not named <= numbers:
            return f"envelope {envelope.ordinal} names a recipient that is not there"
    return ""


def _document(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"


def _octal(field: bytes) -> int | None:
    digits = field.rstrip(b"\0 ")
    return int(digits, 8) if re.fullmatch(rb"[0-7]{1,11}", digits) else None


def _block(name: str, size: int, made: int) -> bytes:
    """The header of a plain file that belongs to nobody."""
    if size >= 8**11:
        raise ArchiveError(f"{name} has {size} octets: a tar of this kind holds none of 8 GiB or more")
    fields = name.encode("ascii", "replace").ljust(100, b"\0") + b"0000600\x00" + 2 * b"0000000\x00"
    fields += b"%011o\0%011o\0" % (size, made)
    rest = (b"0" + bytes(100) + _MAGIC + bytes(64) + 2 * b"0000000\x00").ljust(BLOCK - 156, b"\0")
    checksum = sum(fields) + 8 * ord(" ") + sum(rest)
    return fields + b"%06o\0 " % checksum + rest
