"""One message after the other, each when the one before has arrived: ``python -m bench.alone ADDRESS PORT SINK COUNT``.

Prints the milliseconds of each, from its connection to its end at the sink, as a JSON list.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time

PATIENCE = 60.0


class Sink(threading.Thread):
    """A next hop with PIPELINING that says when it has a message."""

    def __init__(self, address: str, port: int) -> None:
        super().__init__(daemon=True)
        self._listening = socket.create_server((address, port))
        self.taken = threading.Event()
        self.start()

    def run(self) -> None:
        """Serve each connection in a thread of its own."""
        while True:
            connection, _ = self._listening.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            connection.sendall(b"220 sink ESMTP\r\n")
            in_data = False
            for line in lines:
                if in_data and line != b".\r\n":
                    continue
                if in_data:
                    self.taken.set()
                in_data = not in_data and line[:4].upper() == b"DATA"
                connection.sendall(_reply(line, in_data))


def _reply(line: bytes, in_data: bool) -> bytes:
    if in_data:
        return b"354 go on\r\n"
    return b"250-sink\r\n250 PIPELINING\r\n" if line[:4].upper() == b"EHLO" else b"250 fine\r\n"


def send(address: str, port: int) -> None:
    """One small message in a session of its own."""
    with socket.create_connection((address, port), PATIENCE) as connection, connection.makefile("rb") as replies:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for said in (
            b"", b"EHLO load.example\r\n", b"MAIL FROM:<load@load.example>\r\n", b"RCPT TO:<bob@far.example>\r\n",
            b"DATA\r\n", b"Subject: alone\r\n\r\nhello\r\n.\r\n", b"QUIT\r\n",
        ):  # fmt: skip
            connection.sendall(said)
            while (reply := replies.readline())[3:4] == b"-":
                pass
            if reply[:1] not in (b"2", b"3"):
                raise RuntimeError(f"{said!r} was answered {reply!r}")


def main(address: str, port: str, sink_port: str, count: str) -> None:
    """Measure and print."""
    sink, times = Sink(address, int(sink_port)), []
    for _ in range(int(count)):
        sink.taken.clear()
        started = time.monotonic()
        send(address, int(port))
        if not sink.taken.wait(PATIENCE):
            raise RuntimeError("a message does not arrive")
        times.append((time.monotonic() - started) * 1000)
    print(json.dumps(times))


if __name__ == "__main__":
    main(*sys.argv[1:])
