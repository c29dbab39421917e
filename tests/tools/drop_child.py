"""A process that leaves mail in a drop as ``sendmail`` does, without end, and tells what is there; to be killed.

    python -m tests.tools.drop_child DIRECTORY

A line ``dropped NAME`` is written when the file is finished.
"""

from __future__ import annotations

import os
import sys

from ingress.dropfile import DropFile, first_lines

START = first_lines(b"MAIL FROM:<ann@example.org>", [b"RCPT TO:<bob@example.org>"])
BODY = b"Subject: x\r\n\r\n" + b"all work and no play\r\n" * 200


def leave(directory: str) -> str:
    """One message; the name of its file."""
    file = DropFile(directory, START)
    file.write(BODY)
    file.finish()
    return os.path.basename(file._path)


def main(directory: str) -> None:
    while True:
        os.write(1, f"dropped {leave(directory)}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
