"""Certificates and keys as octets: read where they lie, or carried by somebody who may read them.

OpenSSL takes a key out of a file only; `in_memory` gives it one that is nowhere on a disk, so that a process without the
right to a key's file, or to any, uses it all the same.

Guarantees: no other process can open what `in_memory` names, and it is gone when it is closed.

Failure: `OSError`, as for a file that is not there.

memfd_create(2), proc(5).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol


class PemSource(Protocol):
    """Where the content of files comes from."""

    def stamp(self, path: str) -> object:
        """Something that differs when the file has changed; None when there is none."""

    def read(self, path: str) -> bytes:
        """What is in it. Raises `OSError`."""


class PemFiles:
    """The files themselves."""

    def stamp(self, path: str) -> object:
        """See `PemSource`."""
        try:
            found = os.stat(path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def read(self, path: str) -> bytes:
        """See `PemSource`."""
        with open(path, "rb") as file:
            return file.read()


@dataclass(frozen=True, slots=True)
class CarriedPem:
    """What somebody has read for us; ``present`` gives what was carried here last."""

    present: Callable[[], Mapping[str, bytes]]

    def stamp(self, path: str) -> object:
        """See `PemSource`."""
        return self.present().get(path)

    def read(self, path: str) -> bytes:
        """See `PemSource`."""
        try:
            return self.present()[path]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "could not be read when the configuration was", path) from None


@contextmanager
def in_memory(octets: bytes) -> Iterator[str]:
    """A path to ``octets``, for as long as this lasts."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(octets)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
