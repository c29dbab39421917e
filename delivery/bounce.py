"""Makes the report that a report envelope stands for, and finds out where it goes.

The return path is resolved by policy like the recipient of a local submission with a null sender; what comes back is a
submission for the spool. Nothing is stored here.

Guarantees: the report has a null return path and asks for no reports about itself (RFC 3461 6.1), so none ever follows it.

Failure: an outcome of the report envelope: `Deferred` while policy cannot be asked, `Failed` when it refuses the sender.

RFC 5321 4.5.5 (null return path), RFC 3461 6 (sending reports), 4.3 (RET).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import anyio.to_thread
import idna

from delivery.dsn import Dsn, Occasion, Original, compose
from policy.admit import Admitted, Refused, admit
from policy.config import REPORT_FACTS, Config
from policy.errors import TableUnavailable
from policy.forward import NO_FORWARDS, Forwards
from policy.tables.passwd import Users
from spool.address import NULL_SENDER
from spool.bodies import Body, SmallBody
from spool.clock import SpoolClock
from spool.errors import BodyDamaged
from spool.ids import MessageId, new_message_id
from spool.message import Claimed, Client, Message, Notify, Recipient, Ret, Submission
from spool.outcome import Deferred, Failed
from spool.reply import Reply
from spool.report import ReportLine
from spool.state import Kind

#: Octets up to which a message is returned as a whole: a report stays small enough to travel with its row, and nobody can
#: use us to send large mail to others.
WHOLE_MESSAGE: Final = 48 * 1024
#: Octets of a header that are returned.
HEADER: Final = 16 * 1024


class Reporter:
    """See the module."""

    def __init__(
        self, config: Callable[[], Config], clock: SpoolClock, users: Users, forwards: Forwards = NO_FORWARDS
    ) -> None:
        self._config = config
        self._clock = clock
        self._users = users
        self._forwards = forwards

    async def report(self, claimed: Claimed, lines: Sequence[ReportLine]) -> Submission | Deferred | Failed:
        """The report about ``lines`` to the sender of ``claimed``'s message."""
        if not lines:
            return Failed(Reply(550, "5.3.5", "the spool does not say what to report"))
        config = self._config()
        decision = await self._admit(config, claimed.message)
        if not isinstance(decision, Admitted):
            return decision
        original = await _read_original(claimed)
        name = new_message_id(int(self._clock.clock.wall() * 1000))
        occasion = Occasion(
            claimed.envelope.kind,
            claimed.message,
            lines,
            original,
            _ascii_name(config.server_name),
            name,
            self._clock.clock.wall(),
            self._clock.wall_at,
        )
        dsn = compose(occasion)
        return Submission(self._message(name, dsn), dsn.content, decision.envelopes)

    async def _admit(self, config: Config, message: Message) -> Admitted | Deferred | Failed:
        sender = Recipient(message.return_path, notify=Notify.NEVER, notify_given=True)
        try:
            decision = await admit(config, REPORT_FACTS, sender, self._users, self._forwards)
        except TableUnavailable as error:
            return Deferred(Reply(451, "4.3.0", f"the sender cannot be looked up: {error}"))
        if isinstance(decision, Refused):
            reply = decision.reply.saying(f"{decision.reply.text} ({decision.reason})")
            return Failed(reply) if reply.is_permanent else Deferred(reply)
        return decision

    def _message(self, name: MessageId, dsn: Dsn) -> Message:
        clock = self._clock
        return Message(
            name, NULL_SENDER, clock.now(), clock.clock.wall(), len(dsn.content), dsn.body_kind, client=Client()
        )


async def _read_original(claimed: Claimed) -> Original | None:
    """What the sender gets back; None when the body is damaged, which is no reason to tell him nothing."""
    message, body = claimed.message, claimed.body
    wants_whole = claimed.envelope.kind is Kind.FAILED and message.ret is Ret.FULL and body.size <= WHOLE_MESSAGE
    try:
        if isinstance(body, SmallBody):
            content = _beginning(body)
        else:
            content = await anyio.to_thread.run_sync(_beginning, body)
    except BodyDamaged:
        return None
    return Original(content, is_whole=True) if wants_whole else Original(header_of(content), is_whole=False)


def _beginning(body: Body) -> bytes:
    """Enough for whatever is returned. The body is read to its end, because only then it is known to be undamaged."""
    content = b""
    for chunk in body.chunks():
        if len(content) < WHOLE_MESSAGE:
            content += chunk
    return content[:WHOLE_MESSAGE]


def header_of(content: bytes) -> bytes:
    """The header of a message: at most `HEADER` octets of whole lines."""
    if content.startswith(b"\r\n"):
        return b""
    header, ended, _ = content.partition(b"\r\n\r\n")
    header += b"\r\n" if ended else b""
    if len(header) <= HEADER:
        return header
    whole, ended, _ = header[:HEADER].rpartition(b"\r\n")
    return whole + ended


def _ascii_name(server: str) -> str:
    """The name of this server as other programs read it."""
    if server.isascii():
        return server
    try:
        return idna.encode(server, uts46=True).decode()
    except idna.IDNAError:
        return "localhost"
