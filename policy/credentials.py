"""Passwords of people who log in: verified against a table of hashes, and made for it.

The system's crypt(3) knows what its administrators' hashes are made of (yescrypt on Debian); what it does not know, libpass
may. A table may hold SCRAM verifiers (`policy.scram`) in place of hashes.

Guarantees: a login that does not exist takes as long as one that does and has a wrong password; hashes are compared in
constant time. A password is in no message.

Failure: `TableUnavailable` when the table cannot be asked, or what it holds for the login can be no hash.

crypt(5).
"""

from __future__ import annotations

import ctypes
import functools
import hmac
import itertools
import secrets
from typing import Final, Protocol, cast

import anyio
import anyio.to_thread

from policy import scram
from policy.errors import TableUnavailable
from policy.tables.table import Table

#: Nobody types more, and hashing takes time in proportion.
MAX_PASSWORD_OCTETS: Final = 512
#: Hashes at once: each takes a core for some 30 ms, and yescrypt 16 MB.
MAX_HASHING: Final = 2

#: Names of the library on glibc and libxcrypt systems; None is the C library itself, which has crypt(3) on musl.
_LIBRARIES: Final = ("libcrypt.so.1", "libcrypt.so.2", None)
#: Larger than struct crypt_data anywhere (131,232 octets in glibc's own).
_DATA_OCTETS: Final = 1 << 18
#: Room for a setting; libxcrypt's CRYPT_GENSALT_OUTPUT_SIZE is 192.
_SETTING_OCTETS: Final = 1 << 10
#: Entries that tell what a table is made of.
_LOOKED_AT: Final = 64
#: What a hash has at least; shorter values are slips.
_MIN_HASH: Final = 3
_YESCRYPT: Final = b"$y$"


async def authenticate(table: Table, login: str, password: str, limiter: anyio.CapacityLimiter) -> bool:
    """`check_login` in a thread; ``limiter`` is shared by everybody who hashes (`MAX_HASHING`)."""
    return await anyio.to_thread.run_sync(check_login, table, login, password, limiter=limiter)


def check_login(table: Table, login: str, password: str) -> bool:
    """Whether ``password`` is the one that ``table`` has a hash of. Takes a core for some 30 ms."""
    if table.is_stale:
        table.refresh()
    stored = table.lookup(login)
    if stored is None:
        verify(password, _hash_of_anybody(table))
        return False
    return verify(password, _hash_part(table, login, stored))


def verify(password: str, hashed: str) -> bool:
    """Whether ``hashed`` was made of ``password``. A hash of an unknown kind was made of none."""
    octets = password.encode(errors="surrogateescape")
    if len(octets) > MAX_PASSWORD_OCTETS or b"\0" in octets or not hashed.isascii():
        return False
    if scram.is_verifier(hashed):
        verifier = scram.read(hashed)
        return verifier is not None and verifier.fits(password)
    computed = _crypt(octets, hashed.encode())
    if computed is not None:
        return hmac.compare_digest(computed, hashed.encode())
    try:
        return _portable().verify(octets, hashed)
    except ValueError:
        # Not a hash, or one of a kind that nobody here knows.
        return False


def holds_verifiers(table: Table) -> bool:
    """Whether the table is one of SCRAM verifiers: its first entries tell. Raises `TableUnavailable`.

    Clients that could prove a password try nothing else, so that they are offered to where everybody has a verifier.
    """
    values = [table.lookup(key) or "" for key in itertools.islice(table.keys(), _LOOKED_AT)]
    return bool(values) and all(scram.is_verifier(_after_name(value)) for value in values)


def verifier_of(table: Table, login: str) -> scram.Verifier:
    """The SCRAM verifier of ``login``; one that nothing proves when it has none. Raises `TableUnavailable`."""
    if table.is_stale:
        table.refresh()
    key = next(iter(table.keys()), "")
    somebody = _after_name(table.lookup(key) or "")
    like = scram.read(somebody) or scram.Verifier(scram.ITERATIONS, bytes(16), b"", b"")
    # The key is as lasting as the first user's password, and as secret.
    nobody = scram.made_up(login.lower(), like, somebody.encode())
    stored = table.lookup(login)
    found = scram.read(_hash_part(table, login, stored)) if stored is not None else None
    return found or nobody


def encrypt(password: str) -> str:
    """A new hash of ``password``, of the best kind that this system's crypt(3) knows. `ValueError` when it is too long."""
    octets = password.encode(errors="surrogateescape")
    if len(octets) > MAX_PASSWORD_OCTETS or b"\0" in octets:
        raise ValueError(f"a password has at most {MAX_PASSWORD_OCTETS} octets, and no NUL")
    setting = _setting(_YESCRYPT)
    computed = _crypt(octets, setting) if setting else None
    return computed.decode() if computed else _portable().hash(octets)


def _hash_part(table: Table, login: str, stored: str) -> str:
    hashed = _after_name(stored)
    if len(hashed) < _MIN_HASH or (scram.is_verifier(hashed) and scram.read(hashed) is None):
        raise TableUnavailable(f'table {table.name}: the value of "{login}" is no password hash')
    return hashed


def _after_name(stored: str) -> str:
    """The hash of ``user:hash``. A verifier has colons of its own."""
    return stored if scram.is_verifier(stored) else stored.partition(":")[2] or stored


def _hash_of_anybody(table: Table) -> str:
    # Of the kind that the table's own users have, so that the time tells nothing.
    somebody = next(iter(table.keys()), "")
    stored = table.lookup(somebody) or ""
    return _after_name(stored) or _hash_of_nobody()


@functools.cache
def _hash_of_nobody() -> str:
    return encrypt(secrets.token_hex())


class _Context(Protocol):
    """The part of libpass that is used here; it brings no annotations of its own."""

    def hash(self, secret: bytes) -> str: ...

    def verify(self, secret: bytes, hash: str) -> bool: ...  # noqa: A002  # the library's name


@functools.cache
def _portable() -> _Context:
    # Importing it takes 50 ms, and most systems' crypt(3) leaves it nothing to do.
    from passlib.context import CryptContext  # type: ignore[import-untyped]

    return cast(_Context, CryptContext(["sha512_crypt", "sha256_crypt", "pbkdf2_sha512", "pbkdf2_sha256", "md5_crypt"]))


@functools.cache
def _library() -> ctypes.CDLL | None:
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name)
            library.crypt_r.restype = ctypes.c_char_p
        except (OSError, AttributeError):
            continue
        library.crypt_r.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p]
        return library
    return None


def _crypt(password: bytes, setting: bytes) -> bytes | None:
    """crypt_r(3); None when it knows no such kind of hash. The interpreter's lock is free meanwhile."""
    library = _library()
    if library is None:
        return None
    data = ctypes.create_string_buffer(_DATA_OCTETS)
    computed: bytes | None = library.crypt_r(password, setting, data)
    # What begins with a star is libxcrypt's way to say no.
    return None if computed is None or computed.startswith(b"*") else computed


def _setting(prefix: bytes) -> bytes | None:
    make = getattr(_library(), "crypt_gensalt_rn", None)
    if make is None:
        return None
    make.restype = ctypes.c_char_p
    output = ctypes.create_string_buffer(_SETTING_OCTETS)
    made: bytes | None = make(prefix, ctypes.c_ulong(0), None, 0, output, _SETTING_OCTETS)
    return None if made is None or made.startswith(b"*") else made
