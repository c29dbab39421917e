"""Deposits, intents and results as JSON and back, for `delivery.wire`.

Guarantees: what one side wrote, the other reads as an equal value; a body travels beside its deposit.

Failure: `Hangup` for JSON that is none of these.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from delivery.deposit import Deposit, Method, Result, ToCommand, ToMaildir, ToMbox
from delivery.loop_wire import Frame, json_octets
from delivery.wire import Hangup, Wire
from spool.bodies import Body, LargeBody, SmallBody
from spool.errors import BodyDamaged
from spool.files import SystemOps
from spool.ids import EnvelopeId
from spool.intent import MboxIntent
from spool.outcome import Damaged, Deferred, Delivered, Failed, Outcome, Stage
from spool.reply import EnhancedStatus, Reply, printable
from spool.seal import Compression, Opening

#: No number of a file system reaches it, and the spool's database holds none that does.
_TOO_LARGE: Final = 1 << 63
_STAGES: Final = frozenset(stage.value for stage in Stage)
_OUTCOMES: Final[dict[str, type[Outcome]]] = {"Delivered": Delivered, "Deferred": Deferred, "Failed": Failed}


class HandedOver(SystemOps):
    """Opens a body that came as a descriptor, whatever path it has where it came from."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def open(self, path: str) -> int:
        """From its beginning."""
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        return os.dup(self._descriptor)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A deposit whose body is at hand: its octets, a descriptor of its file, or the damage that was found."""

    deposit: Deposit
    octets: bytes = b""
    descriptor: int | None = None
    damage: Damaged | None = None

    def close(self) -> None:
        """Give the descriptor back."""
        if self.descriptor is not None:
            os.close(self.descriptor)


def load(deposits: Sequence[Deposit]) -> list[Loaded]:
    """Open or read every body; whoever gets these closes them."""
    return [_load(deposit) for deposit in deposits]


def _load(deposit: Deposit) -> Loaded:
    body = deposit.body
    try:
        if not isinstance(body, LargeBody):
            return Loaded(deposit, body.read())
        return Loaded(deposit, descriptor=body.ops.open(body.path))
    except BodyDamaged as damage:
        return Loaded(deposit, damage=Damaged(deposit.envelope, str(damage)))
    except OSError as error:
        return Loaded(deposit, damage=Damaged(deposit.envelope, f"its file: {error.strerror}"))


def deposit_frames(loaded: Sequence[Loaded]) -> list[Frame]:
    """The daemon's first word, and the bodies behind it."""
    order = json_octets([_packed(one.deposit) for one in loaded])
    return [(order, None), *((one.octets, one.descriptor) for one in loaded)]


def receive_deposits(wire: Wire, packed: Sequence[dict[str, Any]]) -> tuple[list[Deposit], list[int]]:
    """The deposits of that word on the agent's side, and the descriptors that must be closed afterwards."""
    deposits: list[Deposit] = []
    descriptors: list[int] = []
    for one in packed:
        octets = wire.receive()
        body: Body = SmallBody(octets)
        if large := one["large"]:
            descriptors.append(wire.take_descriptor())
            body = _unpacked_large(large, descriptors[-1])
        deposits.append(_unpacked(one, body))
    return deposits, descriptors


def _packed(deposit: Deposit) -> dict[str, Any]:
    body = deposit.body
    large = _packed_large(body) if isinstance(body, LargeBody) else None
    return {
        "envelope": deposit.envelope,
        "method": _packed_method(deposit.method),
        "header": deposit.header.decode("latin-1"),
        "address": deposit.address,
        "tried_before": deposit.tried_before,
        "large": large,
    }


def _packed_large(body: LargeBody) -> dict[str, Any]:
    opening = body.opening
    how = opening and (opening.compression.value, opening.key.hex(), opening.bound.hex())
    return {"size": body.size, "checksum": body.checksum.hex(), "opening": how}


def _unpacked_large(fields: dict[str, Any], descriptor: int) -> LargeBody:
    opening = None
    if fields["opening"]:
        compression, key, bound = fields["opening"]
        opening = Opening(Compression(compression), bytes.fromhex(key), bytes.fromhex(bound))
    return LargeBody("its file", fields["size"], bytes.fromhex(fields["checksum"]), HandedOver(descriptor), opening)


def _packed_method(method: Method) -> dict[str, Any]:
    match method:
        case ToMaildir():
            return {"to": "maildir", **asdict(method)}
        case ToMbox(earlier=earlier):
            return {"to": "mbox", **asdict(method), "earlier": earlier and pack_intent(earlier)}
        case ToCommand():
            return {"to": "command", **asdict(method)}


def _unpacked(one: dict[str, Any], body: Body) -> Deposit:
    return Deposit(
        envelope=EnvelopeId(one["envelope"]),
        method=_unpacked_method(one["method"]),
        header=one["header"].encode("latin-1"),
        address=one["address"],
        body=body,
        tried_before=one["tried_before"],
    )


def _unpacked_method(fields: dict[str, Any]) -> Method:
    to = fields.pop("to")
    if to == "maildir":
        return ToMaildir(**fields)
    if to == "mbox":
        earlier = fields.pop("earlier")
        return ToMbox(**fields, earlier=unpack_intent(earlier) if earlier else None)
    if to == "command":
        return ToCommand(tuple(fields.pop("arguments")), **fields)
    raise Hangup(f"no such deposit: {to}")


def pack_intent(intent: MboxIntent) -> dict[str, Any]:
    """As JSON."""
    return {**asdict(intent), "checksum": intent.checksum.hex()}


def unpack_intent(fields: Any) -> MboxIntent:
    """From JSON; raises `Hangup` for what is no intent."""
    match fields:
        case {
            "envelope": str(envelope),
            "path": str(path),
            "device": int(device),
            "inode": int(inode),
            "offset": int(offset),
            "length": int(length),
            "checksum": str(checksum),
        } if all(0 <= number < _TOO_LARGE for number in (device, inode, offset, length)):
            numbers = (device, inode, offset, length)
            return MboxIntent(EnvelopeId(envelope), path, *numbers, _octets(checksum))
    raise Hangup("this is no intent")


def _octets(digits: str) -> bytes:
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise Hangup("this is no checksum") from None


def pack_result(result: Result) -> list[Any]:
    """As JSON."""
    if isinstance(result, Damaged):
        return ["Damaged", result.envelope, result.reason]
    reply = result.reply
    return [type(result).__name__, reply.code, reply.status, reply.text, result.stage.value]


def unpack_result(fields: Any) -> Result:
    """From JSON; raises `Hangup` for what is no result."""
    match fields:
        case ["Damaged", str(envelope), str(reason)]:
            return Damaged(EnvelopeId(envelope), printable(reason))
        case [str(kind), int(code), str(status), str(text), str(stage)] if kind in _OUTCOMES and stage in _STAGES:
            if 200 <= code < 600 and (not status or EnhancedStatus.parse(status)):
                return _OUTCOMES[kind](Reply(code, status, text), stage=Stage(stage))
    raise Hangup("this is no result")
