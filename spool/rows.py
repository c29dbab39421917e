"""How the words of mail become rows, and rows become words again.

Guarantees: what was written is read back equal. Codes in the database are positions in the tables here: new members go to
the end, none ever moves.

Failure: `CorruptRow` for a row that says something impossible.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from spool.address import Address
from spool.ids import EnvelopeId, MessageId
from spool.lane import Lane
from spool.message import BodyKind, Client, Destination, Envelope, Message, Notify, Recipient, Ret
from spool.outcome import Deferred, Delivered, Failed, Outcome, Stage
from spool.reply import Reply
from spool.report import ReportLine
from spool.seal import Compression, Seal
from spool.state import Event, Kind, State

#: A row as SQLite gives it: the decoding here is what checks it.
Row: TypeAlias = tuple[Any, ...]

STATES: Final = dict(enumerate((State.READY, State.INFLIGHT, State.HELD, State.DAMAGED)))
KINDS: Final = dict(enumerate((Kind.MAIL, Kind.FAILED, Kind.DELAYED, Kind.DELIVERED, Kind.RELAYED, Kind.EXPANDED)))
EVENTS: Final = dict(enumerate((Event.DELIVERED, Event.DEFERRED, Event.FAILED, Event.EXPIRED)))
STAGES: Final = dict(
    enumerate(
        (
            Stage.ROUTE,
            Stage.CONNECT,
            Stage.TLS,
            Stage.AUTH,
            Stage.MAIL,
            Stage.RCPT,
            Stage.DATA,
            Stage.DOT,
            Stage.LOCAL,
        )
    )
)
#: What the operator asked of an envelope in flight; and why one is held, when that is for want of its key.
ASKED_NOTHING, ASKED_HOLD, ASKED_REMOVE, ASKED_KEY = range(4)

STATE_CODE: Final = {state: code for code, state in STATES.items()}
KIND_CODE: Final = {kind: code for code, kind in KINDS.items()}
EVENT_CODE: Final = {event: code for code, event in EVENTS.items()}
STAGE_CODE: Final = {stage: code for code, stage in STAGES.items()}
_OUTCOME_CODE: Final = {Delivered: 0, Deferred: 1, Failed: 2}

_RETS: Final = {"": None, Ret.FULL.value: Ret.FULL, Ret.HDRS.value: Ret.HDRS}
NOTIFY: Final = {bits: Notify(bits) for bits in range(8)}
_BODY_KINDS: Final = {bits: BodyKind(bits) for bits in range(4)}
_COMPRESSIONS: Final = {compression.value: compression for compression in Compression}


class CorruptRow(ValueError):
    """A row of the database that cannot have been written by us."""


def message_columns(message: Message, checksum: bytes, file: str | None, envelopes: int) -> Row:
    """The columns of ``insert_message``."""
    sender, client = message.return_path, message.client
    return (
        message.id,
        sender.local,
        sender.domain,
        message.arrived,
        message.received_at,
        message.size,
        message.body_kind.value,
        message.envid,
        message.ret.value if message.ret else "",
        client.address,
        client.host,
        client.helo,
        client.protocol,
        client.login,
        client.uid,
        checksum,
        file,
        envelopes,
    )


def read_message(row: Row) -> Message:
    """The message of 15 columns from ``name`` to ``uid``."""
    name, local, domain, arrived, received_at, size, body_kind, envid, ret = row[:9]
    try:
        return Message(
            MessageId(name),
            Address(local, domain),
            arrived,
            received_at,
            size,
            _BODY_KINDS[body_kind],
            envid,
            _RETS[ret],
            Client(*row[9:15]),
        )
    except (KeyError, TypeError) as error:
        raise CorruptRow(f"message {name!a}: {error!r}") from error


def seal_columns(seal: Seal) -> Row:
    """The last three columns of ``insert_message``."""
    return (seal.compression.value, seal.key or None, seal.salt or None)


def read_seal(row: Row) -> Seal:
    """The seal of these three columns."""
    compression, key, salt = row
    if compression not in _COMPRESSIONS:
        raise CorruptRow(f"a body sealed in an unknown way: {compression!a}")
    return Seal(_COMPRESSIONS[compression], key or "", salt or b"")


def recipient_columns(recipient: Recipient) -> Row:
    """The columns of ``insert_recipient`` after message and number."""
    address = recipient.address
    return (address.local, address.domain, recipient.orcpt, recipient.notify.value, int(recipient.notify_given))


def read_recipient(row: Row) -> Recipient:
    """The recipient of 5 columns."""
    local, domain, orcpt, notify, given = row
    try:
        return Recipient(Address(local, domain), orcpt, NOTIFY[notify], bool(given))
    except (KeyError, TypeError) as error:
        raise CorruptRow(f"recipient {local!a}: {error!r}") from error


def destination_columns(destination: Destination) -> Row:
    """The five columns of a destination."""
    address = destination.address
    return (address.local, address.domain, destination.user, destination.extension, destination.target)


def read_destination(row: Row) -> Destination:
    """The destination of 5 columns."""
    local, domain, user, extension, target = row
    return Destination(Address(local, domain), user, extension, target)


def read_envelope(row: Row, message: Message, lane: Lane) -> Envelope:
    """The envelope of a row of ``envelopes``; the recipient of a report is the message's sender."""
    name, kind, state = f"{message.id}.{row[2]}", row[9], row[10]
    due, deadline, warn_at, attempts = row[11:15]
    is_report = kind and row[16] is None
    recipient = Recipient(message.return_path, "", Notify.NEVER) if is_report else read_recipient(row[16:21])
    destination = read_destination(row[3:8])
    try:
        codes = KINDS[kind], STATES[state]
    except KeyError as error:
        raise CorruptRow(f"envelope {name}: impossible kind {kind} or state {state}") from error
    return Envelope(EnvelopeId(name), recipient, destination, lane, *codes, attempts, due, deadline, warn_at)


def outcome_columns(outcome: Outcome) -> Row:
    """The seven columns of an outcome."""
    reply = outcome.reply
    passed_on = isinstance(outcome, Delivered) and outcome.dsn_passed_on
    return (
        _OUTCOME_CODE[type(outcome)],
        reply.code,
        reply.status,
        reply.text,
        outcome.remote,
        STAGE_CODE[outcome.stage],
        int(passed_on),
    )


def read_outcome(row: Row) -> Outcome:
    """The outcome of 7 columns."""
    kind, code, status, text, remote, stage, passed_on = row
    try:
        reply = Reply(code, status, text)
        match kind:
            case 0:
                return Delivered(reply, remote, STAGES[stage], bool(passed_on))
            case 1:
                return Deferred(reply, remote, STAGES[stage])
            case 2:
                return Failed(reply, remote, STAGES[stage])
        raise KeyError(kind)
    except (KeyError, TypeError) as error:
        raise CorruptRow(f"outcome {kind!a}: {error!r}") from error


def read_report_line(row: Row) -> ReportLine:
    """The line of a row of ``report_lines``."""
    try:
        return ReportLine(
            read_recipient(row[:5]),
            read_destination(row[5:10]),
            EVENTS[row[10]],
            read_outcome(row[13:]),
            row[11],
            row[12],
        )
    except (KeyError, TypeError) as error:
        raise CorruptRow(f"report line: {error!r}") from error
