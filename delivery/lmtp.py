"""LMTP: messages for local users, given to a server that keeps their mailboxes, over TCP or a Unix socket.

Guarantees: every recipient has the server's own answer after the dot; connections are kept for the next messages. A kept
connection that proves dead before it answered MAIL is replaced by a fresh one at once, which is no attempt.

Failure: outcomes, and `Damaged` for a body that is. Trouble before MAIL says something of the server, so it closes the lane.

RFC 2033; smtpd.conf(5): recipients are user names, or the expanded addresses with ``rcpt-to``.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import anyio
from anyio import to_thread

from delivery.commands import Parcel, Unsendable, check_parcel, mail_command, rcpt_command
from delivery.connect import Race, in_turn
from delivery.content import was_delivered_to
from delivery.deposit import failed
from delivery.handshake import Handshake
from delivery.hop import Hop, Unreachable, unconnected
from delivery.ledger import Ledger
from delivery.planning import local_header
from delivery.pool import Connection, Pool
from delivery.routes import addresses_of
from delivery.timeouts import Timeouts
from delivery.tls import TlsTerms
from delivery.transaction import Commands, Transaction, Untouched
from policy.config import Config, Lmtp, RelayTls
from spool.address import Address
from spool.bodies import Body
from spool.errors import BodyDamaged
from spool.message import Claimed
from spool.outcome import Attempt, Damaged, Deferred, Delivered, Failed, Outcome, Stage

#: Where ``lmtp host`` goes without a port, as in OpenSMTPD.
DEFAULT_PORT: Final = 25

_LOOP: Final = failed("5.4.6", "Loop detected")


@dataclass(frozen=True, slots=True)
class PrefixedBody:
    """A body with a header in front of it, in wire form."""

    header: bytes
    body: Body

    @property
    def size(self) -> int:
        """See `Body`."""
        return len(self.header) + self.body.size

    def chunks(self) -> Iterator[bytes]:
        """See `Body`."""
        yield self.header
        yield from self.body.chunks()

    def read(self) -> bytes:
        """See `Body`."""
        return self.header + self.body.read()


class LmtpClient:
    """See the module. ``now`` is spool time in milliseconds."""

    def __init__(self, config: Callable[[], Config], now: Callable[[], int], timeouts: Timeouts | None = None) -> None:
        self._config = config
        self._now = now
        self._timeouts = timeouts or Timeouts()
        self._pool = Pool(self._timeouts)

    async def deliver(self, items: Sequence[Claimed], action: Lmtp) -> Sequence[Attempt | Damaged]:
        """Try all of them: one result for each, in order."""
        ledger = Ledger(items, self._now)
        hop = self._hop(action.destination)
        groups: dict[tuple[str, bytes], list[Claimed]] = {}
        for one in items:
            groups.setdefault((one.message.id, local_header(one)), []).append(one)
        try:
            for group in groups.values():
                await self._give(hop, group, action, ledger)
        except Unreachable as trouble:
            for one in ledger.waiting():
                ledger.settle(one, f"lmtp:{action.destination}", trouble.outcome)
        return ledger.results()

    async def aclose(self) -> None:
        """Say goodbye. Nothing is being delivered any more."""
        await self._pool.aclose()

    def _hop(self, destination: str) -> Hop:
        host, port = host_and_port(destination)
        return Hop(host, port, RelayTls.LMTP, TlsTerms(verified=False), self._config().server_name)

    async def _give(self, hop: Hop, group: Sequence[Claimed], action: Lmtp, ledger: Ledger) -> None:
        async with self._pool.place(hop):
            kept = self._pool.take(hop)
            if kept is not None and await self._transact(kept, group, action, ledger) is None:
                return
            fresh = await self._connect(hop)
            self._pool.add(fresh)
            untouched = await self._transact(fresh, group, action, ledger)
            if untouched is not None:
                outcome = Deferred(untouched.reply, fresh.channel.remote, Stage.CONNECT)
                raise Unreachable(outcome) from untouched

    async def _connect(self, hop: Hop) -> Connection:
        if hop.host.startswith("/"):
            connection, remote = await _connect_unix(hop, self._timeouts), hop.host
        else:
            race = Race(hop, in_turn(await addresses_of(hop)), self._timeouts)
            connection, address = await race.run()
            remote = hop.host if hop.host == address else f"{hop.host} [{address}]"
        greeted = await Handshake(hop, remote, None, self._timeouts).run(connection)
        return Connection(secrets.token_hex(8), hop, greeted.channel, None, "-")

    async def _transact(
        self, connection: Connection, group: Sequence[Claimed], action: Lmtp, ledger: Ledger
    ) -> Untouched | None:
        route = f"lmtp:{action.destination}"
        try:
            for one, outcome in await self._converse(connection, group, action):
                ledger.settle(one, route, outcome)
        except Untouched as untouched:
            return untouched
        except BodyDamaged as damage:
            for one in group:
                ledger.spoil(one, str(damage))
        except Unsendable as refusal:
            for one in group:
                ledger.settle(one, route, Failed(refusal.reply, connection.channel.remote, Stage.MAIL))
        finally:
            self._pool.give_back(connection)
        return None

    async def _converse(
        self, connection: Connection, group: Sequence[Claimed], action: Lmtp
    ) -> list[tuple[Claimed, Outcome]]:
        looping, group = await to_thread.run_sync(_parted, group)
        results: list[tuple[Claimed, Outcome]] = [(one, _LOOP) for one in looping]
        if not group:
            return results
        channel, first = connection.channel, group[0]
        body = PrefixedBody(local_header(first).replace(b"\n", b"\r\n"), first.body)
        parcel = check_parcel(Parcel(first.message, first.message.return_path, body), channel.offers)
        rcpts = [_rcpt(one, action) for one in group]
        mail = mail_command(parcel, channel.offers, utf8=parcel.needs_utf8(rcpts))
        commands = [
            rcpt_command(rcpt, one.envelope.recipient, channel.offers) for one, rcpt in zip(group, rcpts, strict=True)
        ]
        outcomes = await Transaction(channel, Commands(mail, commands), body, self._timeouts).run()
        connection.messages += 1
        final = (_final(outcome, dsn=channel.offers.dsn) for outcome in outcomes)
        return results + list(zip(group, final, strict=True))


def _parted(group: Sequence[Claimed]) -> tuple[list[Claimed], list[Claimed]]:
    """Those whose address the message was delivered to before, and the others."""
    parts: tuple[list[Claimed], list[Claimed]] = ([], [])
    for one in group:
        parts[not was_delivered_to(one.body, str(one.envelope.destination.address))].append(one)
    return parts


def _rcpt(one: Claimed, action: Lmtp) -> Address:
    destination = one.envelope.destination
    return destination.address if action.rcpt_to or not destination.user else Address(destination.user, "")


def _final(outcome: Outcome, *, dsn: bool) -> Outcome:
    """A success here is a final delivery, about which we report ourselves, unless the server does (RFC 3461 5.2)."""
    if not isinstance(outcome, Delivered):
        return outcome
    return replace(outcome, dsn_passed_on=True) if dsn else replace(outcome, remote="")


def host_and_port(destination: str) -> tuple[str, int]:
    """The host, without brackets, and its port; of a Unix socket the path, and 0."""
    if destination.startswith("/"):
        return destination, 0
    host, colon, port = destination.rpartition(":")
    if not colon or port.endswith("]"):
        return destination.strip("[]"), DEFAULT_PORT
    return host.strip("[]"), int(port)


async def _connect_unix(hop: Hop, timeouts: Timeouts) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        with anyio.fail_after(timeouts.connect):
            await asyncio.get_running_loop().sock_connect(connection, hop.host)
    except OSError as error:
        connection.close()
        why = f"no answer within {timeouts.connect:g} s" if isinstance(error, TimeoutError) else error.strerror
        raise unconnected(f"{hop.host}: {why}", hop.host) from error
    except BaseException:
        connection.close()
        raise
    return connection
