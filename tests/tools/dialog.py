r"""Scripted SMTP dialogues: one file for each corner of the protocol.

    # what this shows
    with: tls=tls auth=auth max_message_size=1000 bad_commands=3
    filter: "f" phase helo match src "127.0.0.1" reject "550 no"
    c: EHLO client.example          the client sends a line
    s: 250-mx.here.example Hello    the server sends a line that begins so
    s: ... 250                      the server sends the rest of a reply with this code
    send: NOOP\nNOOP\r\n            the client sends these octets; escapes as in Python's bytes
    tls                             both begin TLS
    end                             the client sends no more, and reads on
    closed                          the server has closed the connection, and said nothing more
    quiet                           the server says nothing for a moment
    spooled: 1                      so many messages were accepted by now

The listener has the filters that are declared, in their order.
``with`` names fields of `Listener` (``tls`` and ``auth`` by their values), of `Setting` and of `Limits`.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from anyio.abc import ByteStream
from anyio.streams.tls import TLSStream

from ingress.limits import Limits
from policy.config import Auth, Listener, ListenerTls
from policy.filters import Filter
from tests.tools.configured import Configured
from tests.tools.smtp_server import PEOPLE, Setting

#: How long a server is waited for that should say something, and one that should not; seconds.
PATIENCE = 5.0
MOMENT = 0.15

_LIMITS = {field.name for field in fields(Limits)}
_LISTENER = {field.name for field in fields(Listener)}


@dataclass(frozen=True)
class Step:
    """One line of a dialogue."""

    number: int
    verb: str
    text: str


@dataclass(frozen=True)
class Dialog:
    """One file."""

    path: Path
    setting: Setting
    steps: tuple[Step, ...]


def read_dialog(path: Path, tls: ssl.SSLContext) -> Dialog:
    """Read a dialogue; its server shows the certificate of ``tls`` where it is told to."""
    setting, steps, filters = Setting(), [], []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        verb, _, text = line.partition(":")
        if not line.strip() or line.startswith("#"):
            continue
        if verb == "with":
            for word in text.split():
                setting = _changed(setting, *word.split("=", 1))
        elif verb == "filter":
            filters.append(f"filter{text}\n")
        else:
            steps.append(Step(number, verb.strip(), text.removeprefix(" ")))
    if filters:
        setting = replace(setting, listener=replace(setting.listener, filters=_filters(filters)))
    if setting.listener.tls is not ListenerTls.NONE:
        setting = replace(setting, tls=tls)
    return Dialog(path, setting, tuple(steps))


def _filters(lines: list[str]) -> tuple[Filter, ...]:
    names = ", ".join(line.split()[1] for line in lines)
    text = "".join(lines) + f"listen on socket filter {{ {names} }}\nmatch for any reject\n"
    with TemporaryDirectory() as folder:
        return Configured(Path(folder)).load(text).listeners[0].filters


def _changed(setting: Setting, name: str, value: str) -> Setting:
    if name == "tls":
        return replace(setting, listener=replace(setting.listener, tls=ListenerTls(value)))
    if name == "auth":
        return replace(setting, listener=replace(setting.listener, auth=Auth(value), credentials=PEOPLE))
    if name in _LISTENER:
        kind = type(getattr(setting.listener, name))
        change = {name: value == "yes" if kind is bool else kind(value)}
        return replace(setting, listener=replace(setting.listener, **change))  # type: ignore[arg-type]
    if name in _LIMITS:
        kind = type(getattr(setting.limits, name))
        return replace(setting, limits=replace(setting.limits, **{name: kind(value)}))
    return replace(setting, **{name: int(value)})  # type: ignore[arg-type]


class Client:
    """The client's side of a connection, line by line."""

    def __init__(self, stream: ByteStream, trust: ssl.SSLContext) -> None:
        self._stream = stream
        self._trust = trust
        self._buffer = b""

    async def send(self, data: bytes) -> None:
        await self._stream.send(data)

    async def line(self) -> str:
        """The next line without its end; an empty text when the server has closed."""
        with anyio.fail_after(PATIENCE):
            while b"\r\n" not in self._buffer:
                try:
                    self._buffer += await self._stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    return ""
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line.decode()

    async def reply(self) -> list[str]:
        """The lines of a whole reply."""
        lines = [await self.line()]
        while lines[-1][3:4] == "-":
            lines.append(await self.line())
        return lines

    async def ask(self, command: str) -> str:
        """Send a command; the last line of its reply."""
        await self.send(command.encode() + b"\r\n")
        return (await self.reply())[-1]

    async def silence(self) -> str:
        """What the server says in a moment in which it should say nothing."""
        with anyio.move_on_after(MOMENT):
            return self._buffer.decode() or (await self._stream.receive()).decode()
        return ""

    async def secure(self) -> None:
        """The client's half of a TLS handshake."""
        assert self._buffer == b"", "the server said something between 220 and the handshake"
        self._stream = await TLSStream.wrap(
            self._stream, server_side=False, ssl_context=self._trust, standard_compatible=False
        )

    async def end(self) -> None:
        """Send no more."""
        await self._stream.send_eof()

    async def close(self) -> None:
        """Be gone."""
        await anyio.aclose_forcefully(self._stream)


async def play(dialog: Dialog, client: Client, spooled: Callable[[], Awaitable[int]]) -> None:
    """Take the client's part; an `AssertionError` names the line at which the server left its own."""
    if dialog.setting.listener.tls is ListenerTls.IMPLICIT:
        await client.secure()
    for step in dialog.steps:
        place = f"{dialog.path.name}:{step.number}"
        match step.verb:
            case "c":
                await client.send(step.text.encode() + b"\r\n")
            case "send":
                await client.send(step.text.encode("latin-1").decode("unicode_escape").encode("latin-1"))
            case "s":
                await _expect(client, step.text, place)
            case "tls":
                await client.secure()
            case "end":
                await client.end()
            case "closed":
                said = await client.line()
                assert said == "", f"{place}: not closed but {said!r}"
            case "quiet":
                said = await client.silence()
                assert said == "", f"{place}: not quiet but {said!r}"
            case "spooled":
                count = await spooled()
                assert count == int(step.text), f"{place}: {count} messages are in the spool"
            case _:
                raise AssertionError(f"{place}: {step.verb!r} is no step of a dialogue")


async def _expect(client: Client, text: str, place: str) -> None:
    if text.startswith("... "):
        lines = await client.reply()
        codes = {line[:3] for line in lines}
        assert codes == {text[4:]}, f"{place}: expected a reply {text[4:]}, got {lines}"
    else:
        line = await client.line()
        assert line.startswith(text), f"{place}: expected {text!r}, got {line!r}"
