"""A client that is nobody here: it comes from an address that no interface has, and sends what it likes, octet for octet."""

from __future__ import annotations

import socket
import ssl
from types import TracebackType
from typing import Self

#: On loopback, and yet none of this machine's own addresses: ``from local`` does not mean it.
ADDRESS = "127.0.0.66"
#: Seconds that a server is waited for.
PATIENCE = 20.0


class Stranger:
    """One connection. ``said`` is whatever the server has said that nobody has read."""

    def __init__(self, port: int, address: str = ADDRESS, to: str = "127.0.0.1") -> None:
        self._socket: socket.socket = socket.create_connection((to, port), PATIENCE, (address, 0))
        self.said = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, octets: bytes) -> None:
        """Send exactly this."""
        self._socket.sendall(octets)

    def reply(self) -> str:
        """The next reply, its lines joined with LF; empty when the server has closed."""
        lines: list[str] = []
        while not lines or lines[-1][3:4] == "-":
            while b"\r\n" not in self.said:
                try:
                    piece = self._socket.recv(65536)
                except ConnectionResetError:
                    piece = b""
                if not piece:
                    return "\n".join(lines)
                self.said += piece
            line, _, self.said = self.said.partition(b"\r\n")
            lines.append(line.decode())
        return "\n".join(lines)

    def ask(self, command: str | bytes) -> str:
        """Send a command; its reply."""
        self.send((command if isinstance(command, bytes) else command.encode()) + b"\r\n")
        return self.reply()

    def hello(self) -> str:
        """Read the greeting and say EHLO; the reply."""
        assert self.reply().startswith("220 ")
        return self.ask("EHLO stranger.example")

    def begin(self, *recipients: str, sender: str = "mallory@stranger.example") -> None:
        """EHLO, MAIL, RCPT and DATA, all of which must be taken."""
        assert self.hello().startswith("250")
        for command in (f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{recipient}>" for recipient in recipients)):
            assert (said := self.ask(command)).startswith("250 "), said
        assert self.ask("DATA").startswith("354 ")

    def secure(self) -> None:
        """Begin TLS with whatever certificate the server shows."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._socket = context.wrap_socket(self._socket)

    def rest(self) -> bytes:
        """Say no more; all that the server says until it closes."""
        self._socket.shutdown(socket.SHUT_WR)
        said, self.said = self.said, b""
        while piece := self._socket.recv(65536):
            said += piece
        return said

    def falls_silent(self, seconds: float = 0.2) -> bool:
        """Whether the server says nothing for a moment."""
        if self.said:
            return False
        self._socket.settimeout(seconds)
        try:
            self.said = self._socket.recv(65536)
            return False
        except TimeoutError:
            return True
        finally:
            self._socket.settimeout(PATIENCE)
