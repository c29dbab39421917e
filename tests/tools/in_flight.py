"""Envelopes as a claim hands them out, and what their attempts came to, without a spool."""

from __future__ import annotations

from dataclasses import dataclass

from policy.config import AnyAction, Config, Mbox, Relay, RelayTls, Smarthost
from scheduler.limits import Limits, bounds_of
from scheduler.pool import Job, LaneInHand
from scheduler.targets import Target, target_of
from spool.address import parse_address
from spool.bodies import SmallBody
from spool.ids import MessageId, envelope_id
from spool.lane import Lane
from spool.message import Batch, Claimed, Destination, Envelope, Message, Recipient
from spool.outcome import Attempt, Deferred, Outcome, Stage
from spool.reply import Reply
from spool.state import Kind, State
from tests.tools.spooled import DAY, RELAY, SENDER

LOCAL = Lane("local", "ann")
SMARTHOST = Smarthost(RelayTls.OPPORTUNISTIC, "mail.example.org", 25)
NO_ROUTE = Deferred(Reply(451, "4.4.1", "connection refused"), stage=Stage.CONNECT)


@dataclass(frozen=True)
class Claim:
    """What a test wants to say about a claimed envelope; times are spool time in milliseconds."""

    number: int = 1
    ordinal: int = 1
    arrived: int = 0
    attempts: int = 0
    ttl: int = 4 * DAY
    size: int = 1000
    lane: Lane = RELAY
    kind: Kind = Kind.MAIL


def claimed(what: Claim | None = None) -> Claimed:
    """``what`` in flight."""
    what = what or Claim()
    name = MessageId(f"{what.number:020d}")
    message = Message(name, SENDER, what.arrived, 0.0, what.size)
    address = parse_address("bob@example.org")
    envelope = Envelope(
        envelope_id(name, what.ordinal),
        Recipient(address),
        Destination(address),
        what.lane,
        what.kind,
        State.INFLIGHT,
        what.attempts,
        what.arrived,
        what.arrived + what.ttl,
        None,
    )
    return Claimed(1, envelope, message, SmallBody(b"x" * what.size))


def config_of(*actions: AnyAction) -> Config:
    """A configuration with these actions; a smarthost and local mailboxes when none are named."""
    actions = actions or (Relay(name="relay", hosts=(SMARTHOST,)), Mbox(name="local"))
    return Config("smtpd.conf", "box.example.net", (), {action.name: action for action in actions}, ())


def target(lane: Lane = RELAY) -> Target:
    """Where ``lane`` leads by the ordinary configuration."""
    found = target_of(config_of(), lane)
    assert isinstance(found, Target)
    return found


def job(lane: Lane = RELAY, *, failures: int = 0) -> Job:
    """A session for one envelope of ``lane``."""
    where = target(lane)
    load = Limits().open(where.name, bounds_of(where.action))
    load.running = 1
    in_hand = LaneInHand(1, lane, where, load, failures)
    return Job(in_hand, where, load, Batch(lane, (claimed(Claim(lane=lane)),)))


def attempt(outcome: Outcome, started: int = 1000, ended: int = 2000) -> Attempt:
    """An attempt for the envelope of `claimed`."""
    return Attempt(envelope_id(MessageId(f"{1:020d}"), 1), started, ended, "smtp://mail.example.org:25", outcome)
