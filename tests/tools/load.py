"""SMTP clients that write down exactly what they were promised."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


@dataclass(slots=True)
class Ledger:
    """Tokens by how far their messages came. Every token is sent once, whatever becomes of it."""

    #: The final dot was sent.
    tried: set[str] = field(default_factory=set)
    #: Its 250 was read.
    acknowledged: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Load:
    """Sessions that send one message after the other until the server goes away."""

    port: int
    recipient: str
    ledger: Ledger
    sessions: int = 20
    size: int = 4000

    async def run(self, label: str) -> None:
        """Send until every connection has broken; tokens begin with ``label``."""
        await asyncio.gather(*(self._session(f"{label}-{number}") for number in range(self.sessions)))

    async def _session(self, label: str) -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return
        try:
            await _expect(reader, b"220")
            await _say(writer, reader, b"EHLO load.example\r\n")
            count = 0
            while True:
                count += 1
                await self._message(reader, writer, f"{label}-{count}")
        except (OSError, EOFError):
            return
        finally:
            writer.close()

    async def _message(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str) -> None:
        await _say(writer, reader, b"MAIL FROM:<load@load.example>\r\n")
        await _say(writer, reader, b"RCPT TO:<" + self.recipient.encode() + b">\r\n")
        await _say(writer, reader, b"DATA\r\n")
        self.ledger.tried.add(token)
        await _say(writer, reader, self._content(token))
        self.ledger.acknowledged.add(token)

    def _content(self, token: str) -> bytes:
        lines = b"all work and no play\r\n" * (self.size // 22)
        return (
            f"Subject: {token}\r\nX-Token: {token}\r\n\r\n".encode() + lines + b"end-" + token.encode() + b"\r\n.\r\n"
        )


async def _say(writer: asyncio.StreamWriter, reader: asyncio.StreamReader, line: bytes) -> None:
    writer.write(line)
    await writer.drain()
    await _expect(reader, b"354" if line.startswith(b"DATA") else b"250")


async def _expect(reader: asyncio.StreamReader, code: bytes) -> None:
    while True:
        line = await reader.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        assert line.startswith(code), line
        if line[3:4] == b" ":
            return
