"""Strangers for `bench.strangers`: ``python -m bench.crowd PORT IDLE SLOW [TRUST]``.

It says ``here`` when all have come, and lets them go at the end of its input. They come from all over 127.0.0.0/8, as one
address may not have so many connections.
"""

from __future__ import annotations

import asyncio
import getpass
import resource
import ssl
import sys
from typing import Final

#: Connections that are opened at a time.
AT_ONCE: Final = 50
_MAIL: Final = b"MAIL FROM:<slow@s.example>\r\nRCPT TO:<%s@localhost>\r\nDATA\r\n" % getpass.getuser().encode()
_TEXT: Final = b"Subject: slow\r\n\r\n" + b"all work and no play makes\r\n" * 100


async def expect(reader: asyncio.StreamReader, code: bytes) -> None:
    """A whole reply, with this code."""
    while (line := await reader.readline())[3:4] == b"-":
        pass
    assert line.startswith(code), line


class _Crowd:
    def __init__(self, port: int, tls: ssl.SSLContext | None) -> None:
        self._port = port
        self._tls = tls
        self._kept: list[object] = []

    async def idle(self, count: int) -> None:
        for start in range(0, count, AT_ONCE):
            await asyncio.gather(*(self._connect(number) for number in range(start, min(start + AT_ONCE, count))))

    async def slow(self, count: int) -> None:
        """Those who need a second for an octet."""
        for number in range(count):
            reader, writer = await self._connect(number)
            if number % 2:
                writer.write(_MAIL)
                for code in (b"250", b"250", b"354"):
                    await expect(reader, code)
            self._kept.append(asyncio.create_task(_drip(writer, _TEXT if number % 2 else b"NOOP slowly\r\n")))

    async def _connect(self, number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        source = f"127.{1 + number % 7}.{1 + number // 200 % 200}.{1 + number % 200}"
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self._port, local_addr=(source, 0), ssl=self._tls, limit=4096
        )
        self._kept.append(writer)
        await expect(reader, b"220")
        writer.write(b"EHLO stranger.example\r\n")
        await expect(reader, b"250")
        return reader, writer


async def _drip(writer: asyncio.StreamWriter, octets: bytes) -> None:
    while True:
        for octet in octets:
            writer.write(bytes([octet]))
            await asyncio.sleep(1)


async def _run(port: int, idle: int, slow: int, tls: ssl.SSLContext | None) -> None:
    crowd = _Crowd(port, tls)
    await crowd.idle(idle)
    await crowd.slow(slow)
    print("here", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def main() -> None:
    """The command."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    port, idle, slow = map(int, sys.argv[1:4])
    tls = None
    if len(sys.argv) > 4 and sys.argv[4]:
        tls = ssl.create_default_context(cafile=sys.argv[4])
        tls.check_hostname = False
    asyncio.run(_run(port, idle, slow, tls))


if __name__ == "__main__":
    main()
