"""A hostile server that we relay to: greeting, EHLO, STARTTLS, AUTH, and a transaction, against whatever it says.

The first octet of an input chooses how we come to it, the second how what it says is cut. 0xFF is where it waits for us to
speak, 0xFE where it begins TLS.

Every recipient gets an outcome; "delivered" is said only when the server took the message; what we send is whole lines of
what we meant; nothing of the server's is unprintable by then.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from delivery.client import Broken, Channel
from delivery.handshake import Handshake
from delivery.hop import Hop, Login, Unreachable
from delivery.timeouts import Timeouts
from delivery.tls import TlsTerms
from delivery.transaction import Commands, Transaction, Untouched
from policy.config import RelayTls
from spool.bodies import SmallBody
from spool.outcome import Deferred, Delivered, Failed
from spool.reply import Reply
from tests.fuzz.arena import Arena
from tests.fuzz.caller import Caller
from tests.fuzz.target import require
from tests.tools.certificates import CertificateAuthority

_WAITS: Final = b"\xff"
_TLS_BEGINS: Final = b"\xfe"
_MARK: Final = re.compile(rb"([\xff\xfe])")
#: Turns in which we have said what there is to say.
_TURN: Final = 30
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_BODY: Final = b"Subject: x\r\n\r\n.hello\r\n"
_COMMANDS: Final = Commands(
    b"MAIL FROM:<ann@example.com>", [b"RCPT TO:<bob@example.org>", b"RCPT TO:<carl@example.org>"]
)
#: Everything that we may ever say; AUTH's answers are base64.
_OURS: Final = re.compile(
    rb"(?:(?:(?:EHLO|HELO|LHLO) box\.example|STARTTLS|AUTH (?:PLAIN|LOGIN)(?: [A-Za-z0-9+/=]+)?|\*|[A-Za-z0-9+/=]+|"
    rb"MAIL FROM:<ann@example\.com>|RCPT TO:<(?:bob|carl)@example\.org>|RSET|DATA|Subject: x|\.\.hello|\.|QUIT|)\r\n)*"
)
_TERMS: Final = TlsTerms(verified=False)
_PATIENT: Final = Timeouts()

_GREETING: Final = b"220 mx.example.org ESMTP\r\n\xff"
_EHLO: Final = (
    b"250-mx.example.org\r\n250-PIPELINING\r\n250-SIZE 1000000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 DSN\r\n\xff"
)
_PLAIN: Final = b"250 mx.example.org\r\n\xff"
_TLS: Final = b"250-mx.example.org\r\n250 STARTTLS\r\n\xff220 go\r\n\xfe"
_AUTH: Final = b"250-mx.example.org\r\n250 AUTH PLAIN LOGIN\r\n\xff235 2.7.0 in\r\n\xff"
_LOGIN: Final = (
    b"250-mx.example.org\r\n250 AUTH LOGIN\r\n\xff334 VXNlcm5hbWU6\r\n\xff334 UGFzc3dvcmQ6\r\n\xff235 in\r\n\xff"
)
_TAKEN: Final = b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n\xff250 2.0.0 taken\r\n250 2.0.0 taken\r\n\xff"
_STEPS: Final = b"250 ok\r\n\xff250 ok\r\n\xff550-5.1.1 no\r\n550 5.1.1 such\r\n\xff354 go\r\n\xff250 taken\r\n\xff"


class Relaying:
    """See the module."""

    def __init__(self) -> None:
        with TemporaryDirectory() as folder:
            self._server = CertificateAuthority(Path(folder)).issue("mx.example.org").server_context()
        self._client = ssl.create_default_context()
        self._client.check_hostname = False
        self._client.verify_mode = ssl.CERT_NONE
        hop = Hop("mx.example.org", 25, RelayTls.NEVER, _TERMS, "box.example")
        login = Login("creds", "user", "secret")
        self._hops = (
            hop,
            replace(hop, tls=RelayTls.OPPORTUNISTIC),
            replace(hop, tls=RelayTls.LMTP),
            replace(hop, tls=RelayTls.REQUIRED, login=login),
            replace(hop, tls=RelayTls.IMPLICIT, login=login),
            replace(hop, tls=RelayTls.REQUIRED),
        )
        self._arena = Arena()

    def seeds(self) -> Iterable[bytes]:
        """Servers as they should be, and some that say no."""
        for number in range(3):
            for cut in (0, 3):
                yield bytes([number, cut]) + _GREETING + _EHLO + _TAKEN
                yield bytes([number, cut]) + _GREETING + _PLAIN + _STEPS
        yield b"\1\0" + _GREETING + _TLS + _WAITS + _EHLO + _TAKEN
        yield b"\3\0" + _GREETING + _TLS + _WAITS + _AUTH + _STEPS
        yield b"\3\0" + _GREETING + _TLS + _WAITS + _LOGIN + _STEPS
        yield b"\4\0\xfe" + _GREETING + _AUTH + _STEPS
        yield b"\5\0" + _GREETING + _TLS + _WAITS + _EHLO + _TAKEN
        for words in (
            b"554 go away\r\n",
            b"421 busy\r\n",
            b"220-a\r\n221 b\r\n",
            b"220 " + b"x" * 3000,
            b"HTTP/1.1 400\r\n",
        ):
            yield b"\0\0" + words
        yield b"\0\0" + _GREETING + b"500 what?\r\n\xff250 hello\r\n\xff" + _STEPS
        yield b"\0\0" + _GREETING + _PLAIN + b"451 4.7.1 later\r\n\xff221 bye\r\n"
        yield b"\0\0" + _GREETING + _EHLO + b"250 ok\r\n550 no\r\n550 no\r\n354 go\r\n\xff250 taken\r\n"

    def attempt(self, octets: bytes) -> None:
        """See `Target`."""
        if len(octets) < 2:
            return
        hop, cut, said = self._hops[octets[0] % len(self._hops)], octets[1], octets[2:]

        async def play() -> None:
            near, far = socket.socketpair()
            server = Caller(near)
            serving = asyncio.get_running_loop().create_task(self._serve(server, said, cut))
            try:
                outcomes = await self._relay(hop, far)
            finally:
                await serving
            plain, tls_begins, _ = bytes(server.heard).partition(b"STARTTLS\r\n")
            heard = (b"" if hop.tls is RelayTls.IMPLICIT else plain + tls_begins) + server.heard_inside
            _judge(outcomes, said, heard, hop)

        self._arena.run(play)

    def close(self) -> None:
        """See `Target`."""
        self._arena.close()

    async def _serve(self, server: Caller, said: bytes, cut: int) -> None:
        for part in _MARK.split(said):
            if part == _WAITS:
                await server.settle(_TURN)
            elif part == _TLS_BEGINS and not server.is_ciphered:
                await server.secure(self._server, is_server=True)
            elif part and part != _TLS_BEGINS:
                await server.say(part, cut)
        await server.finish()

    async def _relay(self, hop: Hop, far: socket.socket) -> list[Reply | Deferred | Delivered | Failed]:
        context = None if hop.tls in (RelayTls.NEVER, RelayTls.LMTP) else self._client
        try:
            greeted = await Handshake(hop, "mx.example.org (192.0.2.1)", context, _PATIENT).run(far)
        except Unreachable as error:
            return [error.outcome]
        channel = greeted.channel
        try:
            outcomes = await Transaction(channel, _COMMANDS, SmallBody(_BODY), _PATIENT).run()
        except Untouched as error:
            return [error.reply]
        else:
            require(len(outcomes) == len(_COMMANDS.rcpts), f"{len(outcomes)} outcomes")
            return [*outcomes]
        finally:
            await _end(channel)


def make() -> Relaying:
    """For `tests.fuzz.target.load`."""
    return Relaying()


async def _end(channel: Channel) -> None:
    try:
        channel.quit(1.0)
        await asyncio.sleep(0)
        channel.abort()
    except Broken as error:
        require(not _CONTROL.search(str(error)), f"not printable: {str(error)!r}")
    require(not _CONTROL.search(channel.why_closed), f"not printable: {channel.why_closed!r}")


def _judge(outcomes: Iterable[object], said: bytes, heard: bytes, hop: Hop) -> None:
    # A line that a change of hands cuts in two, by TLS or by the channel that takes over, is two lines.
    plain = _MARK.sub(b"", said) + b"\n" + _MARK.sub(b"\n", said)
    for outcome in outcomes:
        reply = outcome if isinstance(outcome, Reply) else getattr(outcome, "reply", None)
        require(isinstance(reply, Reply), f"no reply: {outcome!r}")
        assert isinstance(reply, Reply)
        require(not _CONTROL.search(str(reply)), f"not printable: {str(reply)!r}")
        if isinstance(outcome, Delivered):
            require(re.search(rb"(?:^|\n)354", plain), "delivered without 354")
            require(b"..hello\r\n.\r\n" in heard, f"delivered without the whole message: {heard!r}")
            require(reply.is_positive, f"delivered, and {reply}")
        if isinstance(outcome, Failed):
            require(re.search(rb"(?:^|\n)5", plain), f"failed by itself: {reply}")
    require(_OURS.fullmatch(heard), f"we said {heard!r}")
    if b"AUTH" in heard and hop.login is not None:
        require(_TLS_BEGINS in said, "credentials outside TLS")
