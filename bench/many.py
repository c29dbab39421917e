"""Messages for many destinations: ``python -m bench.many PORT MESSAGES SESSIONS DESTINATIONS RECIPIENTS``.

Message number n goes to ``dX.example`` with X = n modulo DESTINATIONS, to so many recipients there. Prints the seconds until
the last 250, as a JSON list.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator

from bench.houses import ADDRESS

BODY = b"Subject: one of many\r\n\r\n" + b"all work and no play makes\r\n" * 145 + b".\r\n"


class Session:
    """Sends one message after the other, the commands of each in one write."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, domain: str, recipients: int) -> None:
        """One message; returns with its 250."""
        names = b"".join(b"RCPT TO:<user%d@%s>\r\n" % (number, domain.encode()) for number in range(recipients))
        self._writer.write(b"MAIL FROM:<load@load.example>\r\n" + names + b"DATA\r\n")
        for _ in range(recipients + 2):
            await self.reply()
        self._writer.write(BODY)
        await self.reply()

    async def reply(self) -> None:
        """The next one; an error if it refuses."""
        while (line := await self._reader.readline())[3:4] == b"-":
            pass
        if line[:1] not in (b"2", b"3"):
            raise RuntimeError(f"the answer was {line!r}")

    async def begin(self) -> None:
        """Greet."""
        await self.reply()
        self._writer.write(b"EHLO load.example\r\n")
        await self.reply()

    def end(self) -> None:
        """Hang up."""
        self._writer.close()


async def _sends(port: int, numbers: Iterator[int], destinations: int, recipients: int) -> None:
    session = Session(*await asyncio.open_connection(ADDRESS, port))
    await session.begin()
    for number in numbers:
        await session.send(f"d{number % destinations}.example", recipients)
    session.end()


async def main(port: int, messages: int, sessions: int, destinations: int, recipients: int) -> None:
    """Send all and print."""
    started, numbers = time.monotonic(), iter(range(messages))
    await asyncio.gather(*(_sends(port, numbers, destinations, recipients) for _ in range(sessions)))
    print(json.dumps([time.monotonic() - started]))


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
