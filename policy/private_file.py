"""Whether a file that holds a secret, or is trusted, is safe from others."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator


def doubts(path: str, status: os.stat_result, allowed: int) -> Iterator[str]:
    """What is wrong with the owner, kind and mode of the file at ``path``; ``allowed`` are the bits it may have at most."""
    if not stat.S_ISREG(status.st_mode):
        yield f"{path} is not a regular file"
    if status.st_uid not in (0, os.geteuid()):
        yield f'{path} belongs to uid {status.st_uid}, who could exchange it: expected root ("chown root {path}")'
    mode = stat.S_IMODE(status.st_mode)
    if mode & ~allowed:
        found = f"{path} has mode {mode:04o}, which lets in too many"
        yield f'{found}: at most {allowed:04o} is allowed ("chmod {mode & allowed:04o} {path}")'
