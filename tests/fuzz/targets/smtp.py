"""The SMTP dialogue: a real session, and octets as strangers send and networks cut them.

The first octet of an input chooses a listener, the second how the rest is cut. In the listeners that have TLS the octet
0xF5, which no text holds, is where the client begins it.

Nothing but well-formed replies and a close may come; what is accepted was sent whole, and its envelope is clean; without
TLS, whose beginning throws away what was read already, the way the octets are cut changes nothing.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import anyio
from anyio.abc import TaskGroup

from ingress import replies
from ingress.dialogue import Dialogue, Service
from ingress.headers import header_end
from ingress.limits import Limits
from ingress.names import UNNAMED, Names, PeerName
from ingress.proxied import ProxiedServer, Room
from ingress.screening import by_phase
from ingress.session import Session
from ingress.transaction import House
from policy.authenticator import TableLogins
from policy.config import Auth, Config, Listener, ListenerTls
from policy.filters import Filter
from spool.message import Client, Submission
from spool.serving import require_clean
from tests.fuzz.arena import Arena
from tests.fuzz.caller import Caller
from tests.fuzz.replies import Said, read_replies
from tests.fuzz.shelf import Shelf, admit
from tests.fuzz.target import require
from tests.tools.certificates import CertificateAuthority
from tests.tools.configured import Configured
from tests.tools.proxying import header
from tests.tools.smtp_server import PEOPLE

HOST: Final = "mx.here.example"
TLS_BEGINS: Final = b"\xf5"
_STRANGER: Final = "192.0.2.7"
_ORDINARY: Final = Limits(login_delay=0.0, linger=2.0, failed_logins=2)
_TIGHT: Final = replace(_ORDINARY, command_line=64, auth_line=100, bad_commands=4, refused_recipients=2)
#: Turns of the loop in which a session has answered all that it was sent.
_TURN: Final = 50
_READY: Final = b"220 2.0.0 Ready to start TLS\r\n"
_FAULTS: Final = frozenset(
    f"{reply.status} {reply.text}".encode()
    for reply in (
        replies.TOO_BIG, replies.BARE_CR_OR_LF, replies.NUL_IN_MESSAGE, replies.TEXT_LINE_TOO_LONG, replies.MALFORMED,
        replies.HEADER_TOO_BIG, replies.LOOP,
    )
)  # fmt: skip
_END: Final = re.compile(rb"(?=\r\n\.\r\n)")
_MESSAGE_ID: Final = re.compile(rb"[0-9A-Za-z]+ Message accepted")
#: Octets of a dialogue that is worth mutating.
_LONGEST_SEED: Final = 2000
_DIALOGS: Final = Path(__file__).parents[2] / "dialogs"

_FILTERS: Final = r"""
filter "a" phase ehlo match helo { "bad.example" } reject "550 5.7.1 no"
filter "b" phase ehlo match helo { "old.example" } rewrite "new.example"
filter "c" phase mail-from match mail-from { "@old.example" } rewrite "<ann@new.example>"
filter "d" phase mail-from match mail-from { "@out.example" } disconnect "421 4.7.0 out"
filter "e" phase rcpt-to match rcpt-to { "x@here.example" } rewrite "<\"y z\"@here.example>"
filter "f" phase rcpt-to match rcpt-to { "junk@here.example" } junk
filter "g" phase data match ! helo { "new.example", "c.example" } reject "451 4.7.1 later"
listen on socket filter { a, b, c, d, e, f, g }
match for any reject
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """A listener, and who comes to it."""

    listener: Listener
    limits: Limits = _ORDINARY
    #: What the configuration allows of messages, recipients and octets.
    most: int = 1000
    is_proxied: bool = False


def _stages(filters: tuple[Filter, ...]) -> tuple[Stage, ...]:
    plain = Listener("127.0.0.1", 25)
    logins = replace(plain, auth=Auth.OPTIONAL, credentials=PEOPLE, received_auth=True)
    return (
        Stage(plain),
        Stage(plain, _TIGHT, most=2),
        Stage(replace(logins, tls=ListenerTls.OFFERED)),
        Stage(replace(logins, tls=ListenerTls.IMPLICIT, masquerade=True)),
        Stage(replace(logins, tls=ListenerTls.REQUIRED, auth=Auth.REQUIRED, port=587), _TIGHT),
        Stage(replace(plain, filters=filters)),
        Stage(replace(plain, proxy_v2=True), is_proxied=True),
        Stage(replace(plain, no_dsn=True, mask_src=True, port=587)),
    )


class _NoNames(Names):
    def known(self, address: str) -> PeerName | None:
        return UNNAMED


class Smtp:
    """See the module."""

    def __init__(self) -> None:
        with TemporaryDirectory() as folder:
            here = CertificateAuthority(Path(folder)).issue(HOST)
            self._tls = here.server_context()
            filters = Configured(Path(folder)).load(_FILTERS).listeners[0].filters
        self._trust = ssl.create_default_context()
        self._trust.check_hostname = False
        self._trust.verify_mode = ssl.CERT_NONE
        self._stages = _stages(filters)
        self._arena = Arena()

    def seeds(self) -> Iterable[bytes]:
        """The dialogues of the tests, at each listener that they make sense at."""
        for path in sorted(_DIALOGS.glob("*.dialog")):
            octets = _client_of(path)
            if not octets:
                continue
            for number, stage in enumerate(self._stages):
                if stage.is_proxied:
                    yield bytes([number, 0]) + header("198.51.100.9") + octets
                elif stage.listener.tls is not ListenerTls.NONE or TLS_BEGINS not in octets:
                    yield bytes([number, 0]) + octets

    def attempt(self, octets: bytes) -> None:
        """See `Target`."""
        if len(octets) < 2:
            return
        stage, cut, said = self._stages[octets[0] % len(self._stages)], octets[1], octets[2:]
        first = self._play(stage, said, cut)
        if cut and stage.listener.tls is ListenerTls.NONE and not stage.is_proxied:
            second = self._play(stage, said, 0)
            require(_merged(first) == _merged(second), f"it depends on how it was cut:\n{first}\n{second}")

    def close(self) -> None:
        """See `Target`."""
        self._arena.close()

    def _play(self, stage: Stage, said: bytes, cut: int) -> list[Said]:
        shelf = Shelf()
        heard: list[bytes] = []

        async def play() -> None:
            async with anyio.create_task_group() as tasks:
                if stage.is_proxied:
                    caller = await self._behind_a_proxy(stage, shelf, tasks)
                else:
                    near, far = socket.socketpair()
                    await asyncio.get_running_loop().connect_accepted_socket(
                        lambda: self._session(stage, shelf, tasks), far
                    )
                    caller = Caller(near)
                await self._converse(stage, caller, said, cut)
                heard.append(_before_tls(bytes(caller.heard)))
                heard.append(bytes(caller.heard_inside))

        self._arena.run(play)
        count = sum(len(_MESSAGE_ID.findall(part)) for part in heard)
        has_tls = stage.listener.tls is not ListenerTls.NONE
        _judge(shelf.taken, said.replace(TLS_BEGINS, b"") if has_tls else said, count)
        return [reply for part in heard for reply in read_replies(_MESSAGE_ID.sub(b"ID Message accepted", part))]

    async def _converse(self, stage: Stage, caller: Caller, said: bytes, cut: int) -> None:
        has_tls, is_implicit = stage.listener.tls is not ListenerTls.NONE, stage.listener.tls is ListenerTls.IMPLICIT
        first, mark, rest = said.partition(TLS_BEGINS) if has_tls else (said, b"", b"")
        caller.is_ciphered = is_implicit
        await caller.say(first, cut)
        if mark:
            await caller.settle(_TURN)
            if is_implicit or _READY in caller.heard:
                await caller.secure(self._trust)
            await caller.say(rest.replace(TLS_BEGINS, b""), cut)
        await caller.finish()

    async def _behind_a_proxy(self, stage: Stage, shelf: Shelf, tasks: TaskGroup) -> Caller:
        listening = socket.create_server(("127.0.0.1", 0))
        near = socket.socket()
        near.setblocking(False)
        server = ProxiedServer(
            listening,
            lambda client: self._session(stage, shelf, tasks, client),
            _believe_everybody,
            Room(stage.limits, 1),
            tasks,
        )
        await asyncio.get_running_loop().sock_connect(near, listening.getsockname())
        caller = Caller(near)
        # The connection is taken within a turn or two.
        await caller.settle()
        server.close()
        return caller

    def _session(self, stage: Stage, shelf: Shelf, tasks: TaskGroup, client: Client | None = None) -> Session:
        most = stage.most
        config = Config(
            "smtpd.conf", HOST, (stage.listener,), {}, (),
            max_message_size=most, max_mails=most, max_recipients=most,
        )  # fmt: skip
        tls = self._tls if stage.listener.tls is not ListenerTls.NONE else None
        service = Service(
            house=House(lambda: config, admit, shelf),
            listener=stage.listener,
            host=HOST,
            limits=stage.limits,
            logins=TableLogins(stage.listener.credentials, anyio.CapacityLimiter(1))
            if stage.listener.credentials
            else None,
            names=_NoNames(),
            tls=tls,
            filters=by_phase(stage.listener.filters),
        )

        def arrived(session: Dialogue) -> None:
            tasks.start_soon(session.serve)

        return Session(service, arrived, client or Client(address=_STRANGER))


async def _believe_everybody(_address: str) -> bool:
    return True


def make() -> Smtp:
    """For `tests.fuzz.target.load`."""
    return Smtp()


def _merged(said: Iterable[Said]) -> list[Said]:
    """With all faults of a message as one: which of several is seen first depends on the pieces that it comes in."""
    return [Said(550, ()) if each.lines[0] in _FAULTS else each for each in said]


def _before_tls(heard: bytes) -> bytes:
    """What was said in plain text: after this reply come the octets of a handshake."""
    before, ready, _ = heard.partition(_READY)
    return before + ready


def _judge(taken: Iterable[Submission], said: bytes, accepted: int) -> None:
    """Raise `Finding` unless these messages, and no others, were sent whole and accepted."""
    # As if each had its dots unstuffed.
    plain = (b"\r\n" + said).replace(b"\r\n.", b"\r\n")
    count = 0
    for submission in taken:
        count += 1
        require_clean(submission)
        body = submission.body
        assert isinstance(body, bytes)
        require(body.endswith(b"\r\n"), f"the last line has no end: {body!r}")
        require(b"\0" not in body and body.count(b"\r\n") == body.count(b"\r") == body.count(b"\n"), f"bare: {body!r}")
        end = header_end(body)
        require(end, f"no header: {body!r}")
        text = body[end:].removeprefix(b"\r\n")
        require(text + b"\r\n" in plain, f"not what was sent: {text!r}")
        require(submission.envelopes, "for nobody")
    require(count == accepted, f"{accepted} replies for {count} messages")
    require(count <= len(_END.findall(b"\r\n" + said)), "more messages than ends")


def _client_of(path: Path) -> bytes:
    """What the client of a dialogue says."""
    octets = b""
    for line in path.read_text().splitlines():
        verb, _, text = line.partition(":")
        text = text.removeprefix(" ")
        if verb == "c":
            octets += text.encode() + b"\r\n"
        elif verb == "send":
            octets += text.encode("latin-1").decode("unicode_escape").encode("latin-1")
        elif verb.strip() == "tls":
            octets += TLS_BEGINS
    return octets if len(octets) <= _LONGEST_SEED else b""
