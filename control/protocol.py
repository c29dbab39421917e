"""What ``smtpctl`` and the daemon say to one another: length-prefixed frames of typed structs.

A client sends one request; the daemon answers with any number of rows and then `Done` or `Refused`, and waits for the next
request. Times in rows are wall time (seconds since 1970), because rows are for people.

Guarantees: a frame that is read is one of the structs named here, within its bounds.

Failure: `ProtocolError` for anything else; the connection is worth nothing afterwards.
"""

from __future__ import annotations

import struct
from typing import Annotated, Final, TypeAlias

import msgspec

from spool.filter import ANY, Filter, Trait

#: Octets of a request: the longest is a filter, most of it characters of four octets each.
MAX_REQUEST: Final = 16 * 1024
#: Octets of an answer's frame: a row with two addresses and a reply, each escaped, or a `Chunk`.
MAX_ANSWER: Final = 256 * 1024
#: Characters of a value that envelopes are counted by.
MAX_COUNTED: Final = 2048
#: Octets of a message in one `Chunk`.
CHUNK: Final = 64 * 1024

_LENGTH = struct.Struct("!I")
#: Octets in front of each frame that tell its length.
PREFIX: Final = _LENGTH.size

Id: TypeAlias = Annotated[str, msgspec.Meta(max_length=64)]
Name: TypeAlias = Annotated[str, msgspec.Meta(max_length=255)]
#: An address with everything that may be in it.
Text: TypeAlias = Annotated[str, msgspec.Meta(max_length=512)]


class ProtocolError(Exception):
    """The other side does not speak this protocol."""


#: A path of a file system.
Path: TypeAlias = Annotated[str, msgspec.Meta(max_length=1024)]


class Request(msgspec.Struct, frozen=True, tag=True):
    """Something that ``smtpctl`` wants. ``id`` is ``all``, a message id or its beginning, or an envelope id."""


class ShowQueue(Request, frozen=True):
    """An `EnvelopeRow` for each envelope; all of them, or those of one message, as far as they pass the filter."""

    id: Id = "all"
    filter: Filter = ANY


class ShowMail(Request, frozen=True):
    """The queue as ``mailq`` shows it: JSON, an array of `MailRow`s a line, in `Chunk`s."""


class CountQueue(Request, frozen=True):
    """The same envelopes counted: a `CountRow` for each value of a trait, or one for all of them."""

    id: Id = "all"
    filter: Filter = ANY
    by: Trait | None = None


class ShowMessage(Request, frozen=True):
    """The message, trace headers and all, in `Chunk`s."""

    id: Id


class ShowAttempts(Request, frozen=True):
    """The history of a message or an envelope: `AttemptRow`s, oldest first."""

    id: Id


class ShowLanes(Request, frozen=True):
    """A `LaneRow` for each lane."""


class ShowStatus(Request, frozen=True):
    """A `StatusRow` for each part that can be paused, a `WallRow` for each process, a `TroubleRow` for whatever is wrong."""


class Verify(Request, frozen=True):
    """A `FindingRow` for everything that is wrong with the spool; now and then, and last, a `VerifiedRow`."""

    repair: bool = False


class Backup(Request, frozen=True):
    """Make a copy of the spool at ``path``, which is absolute: `BackupRow`s, and a `FindingRow` for damage that it has."""

    path: Path


class Export(Request, frozen=True):
    """What an archive says of envelopes: for each message a `PackedRow`, its description and its body in `Chunk`s."""

    id: Id
    filter: Filter = ANY
    #: Those that stand still alone, because they are to be removed afterwards.
    standing: bool = False


class Import(Request, frozen=True):
    """Take the mail of an archive, a file whose ``path`` is absolute: `LeftRow`s, and last an `ImportedRow`."""

    path: Path


class RemoveThese(Request, frozen=True):
    """Remove exactly these envelopes, those that are not in flight; `Done` says how many."""

    ids: Annotated[tuple[Id, ...], msgspec.Meta(max_length=50)]


class ShowStats(Request, frozen=True):
    """A `StatRow` for each figure."""


class Explain(Request, frozen=True, kw_only=True):
    """What would become of a mail: an `Explanation` as JSON, in `Chunk`s. Nothing is sent."""

    recipient: Text
    #: Without angle brackets; empty for the null sender.
    sender: Text
    #: IP address, or ``local`` for the submission socket.
    client: Name = "local"
    #: None when the client is not logged in; the socket counts as logged in without a name.
    login: Text | None = None
    helo: Name = ""
    rdns: Name = ""
    tag: Name = ""
    tls: bool = False


class Change(Request, frozen=True):
    """``schedule``, ``remove``, ``hold`` or ``release`` envelopes that pass the filter; `Done` says how many."""

    verb: Name
    id: Id
    filter: Filter = ANY


class Pause(Request, frozen=True):
    """Stop or start a part: ``mta``, ``mda`` or ``smtp``."""

    part: Name
    paused: bool


class PauseLane(Request, frozen=True):
    """Stop or start a lane."""

    action: Name
    key: Name
    paused: bool


class Trace(Request, frozen=True):
    """Turn the trace of a subsystem on or off."""

    subsystem: Name
    on: bool


class Log(Request, frozen=True):
    """Turn debug lines on or off."""

    verbose: bool


class UpdateTable(Request, frozen=True):
    """Take new content for a table now."""

    table: Name


class Answer(msgspec.Struct, frozen=True, tag=True):
    """Something that the daemon says."""


class EnvelopeRow(Answer, frozen=True, kw_only=True):
    """An envelope with all that is known of it."""

    id: str
    message: str
    #: ``mail``, or the report it is: ``failed``, ``delayed``, ``delivered``, ``relayed``, ``expanded``.
    kind: str
    #: ``ready``, ``inflight``, ``held`` or ``damaged``.
    state: str
    #: Empty for the null sender.
    sender: str
    recipient: str
    destination: str
    #: The local user, or empty when it leaves this machine.
    user: str
    action: str
    #: The lane's key.
    key: str
    #: Octets of the message.
    size: int
    #: IP address, or ``local``.
    client: str
    login: str
    uid: int | None
    arrived: float
    expires: float
    #: When it is tried next: its own time, or its lane's if that is later; None when it stands still.
    next_try: float | None
    #: When the attempt under way began.
    since: float | None
    #: Its lane is paused, or parked by the configuration: it is not tried before that ends.
    lane_stopped: bool
    #: What happens when the attempt under way ends without success: ``hold``, ``remove``, or empty.
    asked: str
    #: When an attempt ended last; None when none was made.
    last_try: float | None
    attempts: int
    #: Why it waits: what its own last attempt came to, or its lane's.
    error: str


class MailRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What ``mailq`` shows of an envelope. The database itself writes it: see `spool.listing.QueueReader.brief`."""

    message: str
    #: Octets of the message.
    size: int
    #: Seconds.
    arrived: int
    #: Empty for the null sender, and for a report.
    sender: str
    #: As in `EnvelopeRow`.
    state: str
    destination: str
    error: str


class CountRow(Answer, frozen=True):
    """How many envelopes are like this."""

    #: At most `MAX_COUNTED` characters of it; empty for all of them.
    value: str
    count: int
    #: These have values for which there was no room.
    others: bool = False


class AttemptRow(Answer, frozen=True, kw_only=True):
    """One try, and what came of it."""

    envelope: str
    sender: str
    recipient: str
    destination: str
    started: float
    ended: float
    route: str
    #: The host that answered, or empty.
    remote: str
    #: ``delivered``, ``deferred``, ``failed`` or ``expired``.
    event: str
    #: How far it came: ``connect``, ``tls``, ``auth``, ``mail``, ``rcpt``, ...
    stage: str
    #: Code, enhanced status and text.
    reply: str


class LaneRow(Answer, frozen=True, kw_only=True):
    """What waits together."""

    action: str
    key: str
    #: Envelopes in it.
    waiting: int
    #: When it is tried next, or None: it is empty, or stands still.
    next_try: float | None
    #: Failures of its route in a row.
    failures: int
    paused: bool
    #: The configuration has lost its action.
    parked: bool
    error: str


class StatusRow(Answer, frozen=True):
    """Whether a part runs."""

    part: str
    running: bool


class WallRow(Answer, frozen=True):
    """What keeps a process of the daemon in."""

    text: str


class TroubleRow(Answer, frozen=True):
    """Something that an operator should look at."""

    text: str


class StatRow(Answer, frozen=True):
    """One figure by its name."""

    name: str
    value: str


class FindingRow(Answer, frozen=True):
    """Something that is wrong with the spool."""

    #: An envelope's or message's id, a lane, a table or a path.
    subject: str
    trouble: str
    #: ``none``, ``set-aside``, ``look-again`` or ``move``: see `spool.inspection.Remedy`.
    remedy: str
    #: Whether that was done.
    repaired: bool


class VerifiedRow(Answer, frozen=True):
    """What was looked at so far."""

    messages: int
    envelopes: int
    lanes: int
    octets: int
    #: Envelopes, and files of bodies, that are set aside.
    set_aside: int
    orphans: int


class BackupRow(Answer, frozen=True):
    """What a copy of the spool holds; without figures as long as it is not made."""

    path: str
    messages: int
    envelopes: int
    octets: int
    #: Files of the drop directory.
    drops: int
    seconds: float
    is_made: bool = True


class PackedRow(Answer, frozen=True):
    """A message that leaves: `Chunk`s with that many octets of description, then of body, follow."""

    message: str
    envelopes: int
    described: int
    size: int


class LeftRow(Answer, frozen=True):
    """What was not exported or imported."""

    subject: str
    reason: str
    #: Whether that is as it should be: it is there already, or in flight.
    harmless: bool


class ImportedRow(Answer, frozen=True):
    """What was taken from an archive."""

    messages: int
    envelopes: int
    octets: int
    skipped: int


class Chunk(Answer, frozen=True):
    """A piece of a message, or of an explanation."""

    data: bytes


class Done(Answer, frozen=True):
    """The request is fulfilled. ``count`` is how many envelopes it changed."""

    count: int = 0


class Refused(Answer, frozen=True):
    """The request is not fulfilled, for this reason; what was said before this is not the whole."""

    reason: str
    #: Whether it would be fulfilled for somebody else.
    forbidden: bool = False


AnyRequest: TypeAlias = (
    ShowQueue
    | ShowMail
    | CountQueue
    | Explain
    | ShowMessage
    | ShowAttempts
    | ShowLanes
    | ShowStatus
    | ShowStats
    | Verify
    | Backup
    | Export
    | Import
    | RemoveThese
    | Change
    | Pause
    | PauseLane
    | Trace
    | UpdateTable
    | Log
)
AnyAnswer: TypeAlias = (
    EnvelopeRow
    | CountRow
    | AttemptRow
    | LaneRow
    | StatusRow
    | TroubleRow
    | WallRow
    | StatRow
    | FindingRow
    | VerifiedRow
    | BackupRow
    | PackedRow
    | LeftRow
    | ImportedRow
    | Chunk
    | Done
    | Refused
)

#: What decoding raises: text that is no UTF-8, and values in values without end, are no errors of msgspec's own.
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_ENCODER: Final = msgspec.msgpack.Encoder()
_REQUEST: Final = msgspec.msgpack.Decoder(AnyRequest)
_ANSWER: Final = msgspec.msgpack.Decoder(AnyAnswer)
_MAIL: Final = msgspec.json.Decoder(list[MailRow])


def frame(value: Request | Answer) -> bytes:
    """``value`` as it goes through the socket."""
    payload = _ENCODER.encode(value)
    return _LENGTH.pack(len(payload)) + payload


def payload_length(prefix: bytes, limit: int) -> int:
    """How many octets follow ``prefix``; raises `ProtocolError` above ``limit``."""
    (length,) = _LENGTH.unpack(prefix)
    if length > limit:
        raise ProtocolError(f"a frame of {length} octets is more than the {limit} allowed")
    assert isinstance(length, int)
    return length


def read_request(payload: bytes) -> AnyRequest:
    """The request in a frame."""
    try:
        request: AnyRequest = _REQUEST.decode(payload)
    except _UNREADABLE as error:
        raise ProtocolError(f"not a request: {error}") from None
    return request


def read_answer(payload: bytes) -> AnyAnswer:
    """The answer in a frame."""
    try:
        answer: AnyAnswer = _ANSWER.decode(payload)
    except _UNREADABLE as error:
        raise ProtocolError(f"not an answer: {error}") from None
    return answer


def read_mail(line: bytes) -> list[MailRow]:
    """The rows in a line of the answer to `ShowMail`."""
    try:
        return _MAIL.decode(line)
    except _UNREADABLE as error:
        raise ProtocolError(f"not a page of mail: {error}") from None
