"""Files of the drop, which anybody on the machine can put there with anything in them.

The first octet of an input tells whether the file is made whole with the last line that such a file has (even), so that what
stands in it counts, or left as it is.

Such a file is a message, or it is said why not; a message is clean, and what was in the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from zlib import crc32

from ingress.dropdoor import DropFolder, Unfit
from ingress.dropfile import first_lines, last_line
from ingress.dropped import Dropped, Unfinished
from ingress.headers import header_end
from ingress.replay import Later, replay
from ingress.transaction import House
from policy.config import Config
from spool.serving import require_clean
from tests.fuzz.arena import Arena
from tests.fuzz.shelf import Shelf, admit
from tests.fuzz.target import require

_HOST: Final = "mx.here.example"
_NAME: Final = "0123456789abcdef01234567"
_MESSAGE: Final = b"Subject: x\r\n\r\n.hello\r\n"
_MOST: Final = 2000


class Drops:
    """See the module."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
        self._door = DropFolder(self._folder.name, "")
        self._config = Config("smtpd.conf", _HOST, (), {}, (), max_message_size=_MOST)
        self._arena = Arena()

    def seeds(self) -> Iterable[bytes]:
        """What ``sendmail`` leaves."""
        ordinary = first_lines(b"MAIL FROM:<ann> RET=HDRS", [b"RCPT TO:<bob>", "RCPT TO:<jürgen>".encode()])
        yield b"\0" + ordinary + _MESSAGE
        yield b"\1" + ordinary + _MESSAGE + last_line(len(ordinary) + len(_MESSAGE), crc32(ordinary + _MESSAGE))
        utf8 = first_lines(b"MAIL FROM:<> SMTPUTF8", ["RCPT TO:<jürgen@x.example> NOTIFY=NEVER".encode()])
        yield b"\0" + utf8 + b"no header\r\n"
        yield b"\0" + first_lines(b"MAIL FROM:<a@b>", [b"RCPT TO:<nobody>", b"RCPT TO:<nobody@x>"]) + _MESSAGE
        yield b"\0" + first_lines(b"MAIL FROM:<>", [b"RCPT TO:<nobody>"]) + _MESSAGE
        yield b"\0" + first_lines(b"MAIL FROM:<a@b>", [b"RCPT TO:<later>"]) + _MESSAGE
        yield b"\0" + ordinary + b"X: y\r\n\r\nbare\n\rx" + b"z" * 3000
        yield b"\0" + ordinary + b"X: y\n\nmore\r\n.\r\nrest"

    def attempt(self, octets: bytes) -> None:
        """See `Target`."""
        content = octets[1:]
        if octets and not octets[0] & 1:
            content += last_line(len(content), crc32(content))
        path = Path(self._folder.name) / _NAME
        path.write_bytes(content)
        shelf = Shelf()

        async def play() -> None:
            try:
                with Dropped(self._door.open(_NAME)) as dropped:
                    await replay(House(lambda: self._config, admit, shelf), dropped, _NAME)
            except (Unfit, Unfinished, Later) as error:
                require(str(error).isprintable(), f"not printable: {str(error)!r}")
                require(not shelf.taken, "taken, and not")

        self._arena.run(play)
        require(len(shelf.taken) <= 1, "taken twice")
        for submission in shelf.taken:
            require_clean(submission)
            require(submission.drop == _NAME, "another's")
            require(submission.envelopes or submission.refused, "for nobody")
            body = submission.body
            assert isinstance(body, bytes)
            end = header_end(body)
            require(end, f"no header: {body!r}")
            text = body[end:].removeprefix(b"\r\n")
            require(text in content + b"\r\n", f"not what was there: {text!r}")
            require(
                body.count(b"\r\n") == body.count(b"\r") == body.count(b"\n") and b"\0" not in body, f"bare: {body!r}"
            )

    def close(self) -> None:
        """See `Target`."""
        self._arena.close()
        self._folder.cleanup()


def make() -> Drops:
    """For `tests.fuzz.target.load`."""
    return Drops()
