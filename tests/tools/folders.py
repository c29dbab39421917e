"""Folders for tests in which other users take part."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def public_folder() -> Iterator[Path]:
    """A folder that any user may enter; those of pytest are closed to others."""
    path = Path(tempfile.mkdtemp(prefix="mailspool-test-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)
