"""An ext4 file system in a file, whose power can be cut: nothing that is not on disk reaches it any more.

Failure: pytest's skip where such a thing cannot be mounted (it needs root, and loop devices).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

#: _IOR('X', 125, __u32), see ext4(5) and the kernel's fs/ext4/ext4.h; its flag "do not even write the journal".
_EXT4_IOC_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = struct.pack("I", 2)
_MEBIBYTES = 256


class Ext4:
    """A file system at ``place``."""

    def __init__(self, image: Path, place: Path) -> None:
        self.place = place
        self._image = image

    def mount(self) -> None:
        """Attach it, its journal replayed."""
        subprocess.run(["mount", "-o", "loop", str(self._image), str(self.place)], check=True, capture_output=True)

    def cut_power(self) -> None:
        """From now on every access fails, and what is not on disk never will be."""
        descriptor = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _EXT4_IOC_SHUTDOWN, _NO_LOG_FLUSH)
        finally:
            os.close(descriptor)

    def unmount(self) -> None:
        """Detach it, whoever still has files open there."""
        subprocess.run(["umount", "-l", str(self.place)], check=True)


@contextmanager
def ext4(folder: Path) -> Iterator[Ext4]:
    """A new one below ``folder``, mounted."""
    if os.geteuid() or shutil.which("mkfs.ext4") is None:
        pytest.skip("only root can mount a file system, and mkfs.ext4 makes it")
    image, place = folder / "image", folder / "mounted"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(_MEBIBYTES << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    disk = Ext4(image, place)
    try:
        disk.mount()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no loop device can be mounted here: {error.stderr.decode()}")
    try:
        yield disk
    finally:
        disk.unmount()
