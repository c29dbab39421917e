"""A spool of OpenSMTPD, read and never touched: its messages and envelopes, opened and unpacked.

Guarantees: no link is followed, nothing is written, and what is read of a file is bounded, also when it is packed.

Failure: `OldSpoolError` for one file, with what is wrong with it; `OSError` when the folder itself cannot be read.

The layout and the envelope (version 3) are those of OpenSMTPD 6.4 to 7.8; AES-256-GCM and gzip as ``queue encryption`` and
``queue compression`` write them.
"""

from __future__ import annotations

import os
import re
import stat
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from spool.seal import SealKey, open_plain

#: The version of an envelope that is understood.
VERSION: Final = "3"
#: Octets of an envelope, and of a message, unpacked.
MAX_ENVELOPE: Final = 64 * 1024
MAX_MESSAGE: Final = 512 * 1024 * 1024
#: An encrypted file: this octet, then nonce, sealed octets, tag.
_SEALED: Final = b"\x01"
_NONCE: Final = 12
_TAG: Final = 16
_GZIP: Final = b"\x1f\x8b"
#: zlib's word for the largest window, in a gzip wrapper.
_GZIP_WINDOW: Final = 31
_BUCKET = re.compile(r"[0-9a-f]{2}")
_MESSAGE = re.compile(r"[0-9a-f]{8}")
_ENVELOPE = re.compile(r"[0-9a-f]{16}")
_LINE = re.compile(r"([a-z-]+):[ \t]*(.*)")
_NAMES: Final = """
version dispatcher tag type smtpname helo hostname username errorline sockaddr sender rcpt dest ctime last-try last-bounce
ttl retry flags dsn-notify dsn-ret dsn-envid dsn-orcpt esc-class esc-code mda-exec mda-subaddress mda-user
bounce-ttl bounce-delay bounce-type
"""
_FIELDS: Final = frozenset(_NAMES.split())


class OldSpoolError(Exception):
    """One file is not what OpenSMTPD writes."""


@dataclass(frozen=True, slots=True)
class OldMessage:
    """A message of the old spool, its envelopes by name."""

    id: str
    folder: str
    envelopes: Sequence[str]


class OldSpool:
    """The spool in ``folder``; ``keys`` are tried for what is encrypted."""

    def __init__(self, folder: str, keys: Sequence[SealKey] = ()) -> None:
        self._folder = folder
        self._keys = keys

    def messages(self) -> Iterator[OldMessage]:
        """What is queued, by message id."""
        queue = f"{self._folder}/queue"
        for bucket in sorted(filter(_BUCKET.fullmatch, os.listdir(queue))):
            for message in sorted(filter(_MESSAGE.fullmatch, os.listdir(f"{queue}/{bucket}"))):
                folder = f"{queue}/{bucket}/{message}"
                yield OldMessage(message, folder, sorted(filter(_ENVELOPE.fullmatch, os.listdir(folder))))

    def offline(self) -> int:
        """How many messages ``sendmail`` left while nobody listened."""
        try:
            return len(os.listdir(f"{self._folder}/offline"))
        except FileNotFoundError:
            return 0

    def body(self, message: OldMessage) -> bytes:
        """The message in wire form."""
        content = self._unpacked(f"{message.folder}/message", MAX_MESSAGE)
        return re.sub(rb"\r?\n", b"\r\n", content)

    def envelope(self, message: OldMessage, name: str) -> Mapping[str, str]:
        """What an envelope says, by field."""
        content = self._unpacked(f"{message.folder}/{name}", MAX_ENVELOPE)
        try:
            lines = content.decode().split("\n")
        except UnicodeDecodeError:
            raise OldSpoolError("neither text nor anything that the keys open") from None
        fields = dict(_field(line) for line in lines if line)
        if fields.get("version") != VERSION:
            raise OldSpoolError(f"version {fields.get('version', 'unknown')!a} where {VERSION} was expected")
        if missing := {"helo", "hostname", "type", "ctime", "sender", "rcpt", "dest"} - fields.keys():
            raise OldSpoolError(f"no {', '.join(sorted(missing))}")
        return fields

    def _unpacked(self, path: str, limit: int) -> bytes:
        content = _read(path, limit)
        if content.startswith(_SEALED) and len(content) > 1 + _NONCE + _TAG:
            content = self._opened(content)
        if not content.startswith(_GZIP):
            return content
        unpacking = zlib.decompressobj(_GZIP_WINDOW)
        try:
            content = unpacking.decompress(content, limit)
        except zlib.error as error:
            raise OldSpoolError(f"its gzip is damaged: {error}") from None
        if not unpacking.eof:
            raise OldSpoolError("its gzip is cut off, or holds too much")
        return content

    def _opened(self, content: bytes) -> bytes:
        for key in self._keys:
            opened = open_plain(key, content[1 : 1 + _NONCE], content[1 + _NONCE :])
            if opened is not None:
                return opened
        raise OldSpoolError("it is encrypted, and no key of queue encryption opens it")


def _field(line: str) -> tuple[str, str]:
    found = _LINE.fullmatch(line)
    if found is None or found[1] not in _FIELDS:
        raise OldSpoolError(f"{line[:40]!a} is no field of an envelope")
    return found[1], found[2]


def _read(path: str, limit: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise OldSpoolError(error.strerror) from error
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OldSpoolError("it is no plain file")
        if found.st_size > limit:
            raise OldSpoolError(f"{found.st_size} octets, more than the {limit} allowed")
        return file.read()
