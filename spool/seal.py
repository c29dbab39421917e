"""Compression and encryption at rest: how the octets of a body become those on disk, and become a body again.

A body is compressed, then encrypted, each if the configuration asks for it. Encryption is AES-256-GCM in frames of `FRAME`
octets, under a key that is derived (HKDF-SHA256) from the operator's key, a random salt and the message's id: it opens this
body and no other. A frame's number and whether it is the last are its nonce, and are authenticated with the message's id and
the kind of compression. What a row says of it all is a `Seal`; its key is named by a fingerprint, which gives nothing away.

Guarantees: memory is bounded whatever the size. Octets that were altered, cut off, moved to another place or another body
do not open. Never more than the accepted size is given out, whatever compressed octets would become.

Failure: `KeyMissing` when the key is not at hand; `BodyDamaged` when sealed octets are not what was written.

RFC 5116 (AEAD), RFC 5869 (HKDF), RFC 8878 (zstd), RFC 1952 (gzip).
"""

from __future__ import annotations

import enum
import hashlib
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from spool.errors import BodyDamaged, KeyMissing

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

#: Octets of a key: AES-256.
KEY_SIZE: Final = 32
#: Octets of a salt: two bodies never share one.
SALT_SIZE: Final = 32
#: Octets that are encrypted at a time. A small body is one frame.
FRAME: Final = 64 * 1024
#: What GCM adds to each.
TAG_SIZE: Final = 16
#: Hexadecimal digits of a fingerprint: a few keys are told apart, nothing is proved.
FINGERPRINT_SIZE: Final = 8

#: The level of zstd: the third takes twice the time and saves a twentieth.
ZSTD_LEVEL: Final = 1
#: How far back zstd looks, as a power of 2: what each open body costs in memory.
ZSTD_WINDOW_LOG: Final = 17
#: The level of gzip, as gzip(1) has it.
GZIP_LEVEL: Final = 6
#: zlib's word for the largest window, in a gzip wrapper.
_GZIP_WINDOW: Final = 31

_ABOUT_KEYS: Final = b"mailspool queue key\0"
_ABOUT_BODIES: Final = b"mailspool body 1\0"


class Compression(enum.Enum):
    """How octets are made fewer. The values are what rows say."""

    NONE = ""
    ZSTD = "zstd"
    GZIP = "gzip"


@dataclass(frozen=True, slots=True)
class SealKey:
    """A key of the operator's. It is in no text that is made of this value."""

    octets: bytes = field(repr=False)
    #: What it is called in rows and in words.
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        if len(self.octets) != KEY_SIZE:
            raise ValueError(f"a key of {len(self.octets)} octets where {KEY_SIZE} are needed")
        digest = hashlib.sha256(_ABOUT_KEYS + self.octets).hexdigest()
        object.__setattr__(self, "fingerprint", digest[:FINGERPRINT_SIZE])


@dataclass(frozen=True, slots=True)
class Seal:
    """How one body was sealed, as its row says it."""

    compression: Compression = Compression.NONE
    #: The fingerprint of the key; empty when it is not encrypted.
    key: str = ""
    salt: bytes = b""


#: A body that lies on disk as it was accepted.
OPEN: Final = Seal()


@dataclass(frozen=True, slots=True)
class Sealing:
    """How new bodies are sealed, and the keys that open those that are there."""

    compression: Compression = Compression.NONE
    #: Seals what comes; None leaves it unencrypted.
    key: SealKey | None = None
    #: Keys from before, which only open.
    old: tuple[SealKey, ...] = ()

    @property
    def fingerprints(self) -> frozenset[str]:
        """The keys that are at hand."""
        return frozenset(key.fingerprint for key in (self.key, *self.old) if key)

    def begin(self, name: str) -> Sealer:
        """Seal the body of the message of that id."""
        return self.commission(name).sealer()

    def commission(self, name: str) -> Commission:
        """What another process needs to seal the body of the message of that id, and no other."""
        if not self.key:
            return Commission(Seal(self.compression), Opening(self.compression))
        seal = Seal(self.compression, self.key.fingerprint, os.urandom(SALT_SIZE))
        return Commission(seal, Opening(self.compression, _body_key(self.key, seal, name), _bound(seal, name)))

    def opening(self, seal: Seal, name: str) -> Opening | None:
        """What opens the body of that message; None when it lies open. Raises `KeyMissing`."""
        if seal == OPEN:
            return None
        if not seal.key:
            return Opening(seal.compression)
        for key in (self.key, *self.old):
            if key and key.fingerprint == seal.key:
                return Opening(seal.compression, _body_key(key, seal, name), _bound(seal, name))
        raise KeyMissing(seal.key)


class Readable(Protocol):
    """Something that octets are taken from."""

    def read(self, octets: int, /) -> bytes:
        """At most so many, and none only at the end."""


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class Sealer:
    """One body on its way to the disk."""

    def __init__(self, seal: Seal, compressor: _Compressor | None, encrypting: _Encrypting | None) -> None:
        self.seal = seal
        self._compressor = compressor
        self._encrypting = encrypting

    def update(self, data: bytes) -> bytes:
        """What is to be written for ``data``, perhaps nothing yet."""
        if self._compressor:
            data = self._compressor.compress(data)
        return self._encrypting.update(data) if self._encrypting else data

    def finish(self) -> bytes:
        """What is to be written at the end."""
        data = self._compressor.flush() if self._compressor else b""
        return self._encrypting.finish(data) if self._encrypting else data


@dataclass(frozen=True, slots=True)
class Opening:
    """What opens one body: nothing of it opens another."""

    compression: Compression
    #: The key of this body alone; empty when it is not encrypted.
    key: bytes = field(default=b"", repr=False)
    #: What its frames are bound to.
    bound: bytes = b""

    def opened(self, source: Readable) -> Opened:
        """The body out of the octets of ``source``."""
        return Opened(self, source)


@dataclass(frozen=True, slots=True)
class Commission:
    """One body, to be sealed by whoever has this."""

    seal: Seal
    opening: Opening

    def sealer(self) -> Sealer:
        """Begin."""
        opening = self.opening
        encrypting = _Encrypting(opening.key, opening.bound) if opening.key else None
        return Sealer(self.seal, _COMPRESSORS[opening.compression](), encrypting)


class Opened:
    """A body that is read out of sealed octets. Raises `BodyDamaged`, whose text names no file."""

    def __init__(self, opening: Opening, source: Readable) -> None:
        self._inner: Readable = _Decrypting(opening.key, opening.bound, source) if opening.key else source
        self._reader = _DECOMPRESSORS[opening.compression](self._inner)

    def read(self, octets: int) -> bytes:
        """At most so many, and none only at the end."""
        try:
            return self._reader.read(octets)
        except _damage() as error:
            raise BodyDamaged("its sealed octets are not those that were written") from error

    def end(self) -> None:
        """The body must be at its end, to the last octet that lies on disk."""
        if self.read(1) or self._inner.read(1):
            raise BodyDamaged("it goes on behind its end")


class _Encrypting:
    """Frames are made as soon as more is known to follow: the last one says that it is the last."""

    def __init__(self, key: bytes, bound: bytes) -> None:
        self._cipher = _cipher(key)
        self._bound = bound
        self._number = 0
        self._waiting = bytearray()

    def update(self, data: bytes) -> bytes:
        self._waiting += data
        frames = []
        while len(self._waiting) > FRAME:
            frames.append(self._frame(bytes(self._waiting[:FRAME]), is_last=False))
            del self._waiting[:FRAME]
        return b"".join(frames)

    def finish(self, data: bytes) -> bytes:
        frames = self.update(data)
        return frames + self._frame(bytes(self._waiting), is_last=True)

    def _frame(self, data: bytes, *, is_last: bool) -> bytes:
        nonce = _nonce(self._number, is_last=is_last)
        self._number += 1
        return self._cipher.encrypt(nonce, data, self._bound)


class _Decrypting:
    """A frame is given out when it was authenticated, and the one before the end only when an end is there."""

    def __init__(self, key: bytes, bound: bytes, source: Readable) -> None:
        self._cipher = _cipher(key)
        self._bound = bound
        self._source = source
        self._number = 0
        self._next = self._take()
        self._has_ended = False
        self._open = memoryview(b"")

    def read(self, octets: int) -> bytes:
        while not self._open and not self._has_ended:
            self._open = memoryview(self._frame())
        piece = bytes(self._open[:octets])
        self._open = self._open[octets:]
        return piece

    def _frame(self) -> bytes:
        frame, self._next = self._next, self._take()
        self._has_ended = not self._next
        nonce = _nonce(self._number, is_last=self._has_ended)
        self._number += 1
        return self._cipher.decrypt(nonce, frame, self._bound)

    def _take(self) -> bytes:
        """The octets of a whole frame, fewer only at the end."""
        pieces: list[bytes] = []
        missing = FRAME + TAG_SIZE
        while missing and (piece := self._source.read(missing)):
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)


class _Gunzipping:
    def __init__(self, source: Readable) -> None:
        self._source = source
        self._stream = zlib.decompressobj(_GZIP_WINDOW)

    def read(self, octets: int) -> bytes:
        while not self._stream.eof:
            waiting = self._stream.unconsumed_tail or self._source.read(FRAME)
            piece = self._stream.decompress(waiting, octets)
            if piece or not waiting:
                return piece
        if self._stream.unused_data:
            raise BodyDamaged("it goes on behind its end")
        return b""


def _nonce(number: int, *, is_last: bool) -> bytes:
    # The key is that of one body, and no two frames of it have the same number.
    return number.to_bytes(11, "big") + bytes([is_last])


def _bound(seal: Seal, name: str) -> bytes:
    return _ABOUT_BODIES + seal.compression.value.encode() + b"\0" + name.encode()


def _body_key(key: SealKey, seal: Seal, name: str) -> bytes:
    # Where nothing is encrypted, 8 MB of code need not be read.
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(hashes.SHA256(), KEY_SIZE, seal.salt, _bound(seal, name)).derive(key.octets)


def _cipher(key: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


def _zstd_compressor() -> _Compressor:
    import zstandard

    parameters = zstandard.ZstdCompressionParameters.from_level(ZSTD_LEVEL, window_log=ZSTD_WINDOW_LOG)
    return zstandard.ZstdCompressor(compression_params=parameters).compressobj()


def _zstd_reader(source: Readable) -> Readable:
    import zstandard

    unpacker = zstandard.ZstdDecompressor(max_window_size=1 << ZSTD_WINDOW_LOG)
    return unpacker.stream_reader(source, read_size=FRAME)  # type: ignore[arg-type]  # it only reads from it


def _damage() -> tuple[type[Exception], ...]:
    """What the libraries raise for octets that are not theirs; asked only when something was raised."""
    import zstandard
    from cryptography.exceptions import InvalidTag

    return zlib.error, zstandard.ZstdError, InvalidTag


def prepare_to_open() -> None:
    """Load what opening takes: a process that is about to become another user may not be able to read it afterwards."""
    _damage()
    _cipher(bytes(KEY_SIZE))


_COMPRESSORS: Final[dict[Compression, Callable[[], _Compressor | None]]] = {
    Compression.NONE: lambda: None,
    Compression.ZSTD: _zstd_compressor,
    Compression.GZIP: lambda: zlib.compressobj(GZIP_LEVEL, wbits=_GZIP_WINDOW),
}
_DECOMPRESSORS: Final[dict[Compression, Callable[[Readable], Readable]]] = {
    Compression.NONE: lambda source: source,
    Compression.ZSTD: _zstd_reader,
    Compression.GZIP: _Gunzipping,
}


def seal_whole(sealing: Sealing, name: str, content: bytes) -> tuple[Seal, bytes]:
    """A small body, sealed in one go."""
    sealer = sealing.begin(name)
    sealed = sealer.update(content)
    return sealer.seal, sealed + sealer.finish()


def open_plain(key: SealKey, nonce: bytes, sealed: bytes) -> bytes | None:
    """What another program sealed with AES-256-GCM under the key itself; None when this key does not open it."""
    from cryptography.exceptions import InvalidTag

    try:
        return _cipher(key.octets).decrypt(nonce, sealed, None)
    except InvalidTag:
        return None
