"""Where an envelope would go from here: the same code that delivers is asked for its next hops and its plans.

Guarantees: nothing is connected to, opened or run. No password leaves the table that it stands in: a credential goes by its
label. The DNS is asked anew.

Failure: none beside cancellation; what stands in the way is the route's ``trouble``, in the words of the delivery agents.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import anyio
from anyio import to_thread

from delivery.consignment import sender_by
from delivery.deposit import JUNK, Method, Refused, ToCommand, ToMaildir, ToMbox
from delivery.hop import Candidate, Hop, Unreachable
from delivery.planning import NOWHERE, Planner
from delivery.resolver import DnsTrouble, NoSuchDomain, Resolver
from delivery.routes import SMTP_PORT, Routes, addresses_of
from policy.config import AnyAction, Config, Lmtp, LocalAction, Relay, RelayTls
from policy.errors import TableUnavailable
from policy.explain import LocalRoute, NextHop, RelayRoute
from policy.explain_rules import table_words
from policy.route import Route, Unroutable, route_of
from spool.address import Address
from spool.bodies import SmallBody
from spool.ids import envelope_id, new_message_id
from spool.lane import Lane
from spool.layout import Layout
from spool.message import Claimed, Destination, Envelope, Message, NewEnvelope
from spool.outcome import Deferred, Failed
from spool.state import Kind, State

#: Envelopes whose routes are looked for at once: each may ask the DNS a few questions.
AT_ONCE: Final = 20

AnyRoute = RelayRoute | LocalRoute


@dataclass(frozen=True, slots=True)
class Ways:
    """Who knows the ways out of this machine. ``mx_port`` is a seam for tests."""

    places: Layout
    resolver: Callable[[], Resolver]
    mx_port: int = SMTP_PORT
    #: Whether mail is delivered as others than the user who runs this.
    becomes_others: bool = field(default_factory=lambda: os.geteuid() == 0)


class RouteFinder:
    """Finds the routes of one explanation."""

    def __init__(self, config: Config, ways: Ways, sender: Address) -> None:
        self._config = config
        self._sender = sender
        self._resolver = ways.resolver()
        self._routes = Routes(lambda: config, self._resolver, ways.mx_port)
        self._planner = Planner(
            ways.places, "explanation", 0, config.sub_addr_delim, becomes_others=ways.becomes_others
        )
        self._limiter = anyio.CapacityLimiter(AT_ONCE)

    async def routes(self, envelopes: tuple[NewEnvelope, ...]) -> list[AnyRoute]:
        """The route of each, in order. What leaves this machine by one lane goes one way, and is asked for once."""
        found: dict[Destination | Lane, AnyRoute] = {}

        async def find(envelope: NewEnvelope) -> None:
            async with self._limiter:
                found[_what_counts(envelope)] = await self._route(envelope)

        async with anyio.create_task_group() as group:
            for envelope in {_what_counts(envelope): envelope for envelope in envelopes}.values():
                group.start_soon(find, envelope)
        return [found[_what_counts(envelope)] for envelope in envelopes]

    async def _route(self, envelope: NewEnvelope) -> AnyRoute:
        route = route_of(self._config, envelope.lane)
        if isinstance(route, Unroutable):
            return LocalRoute("nowhere", "", trouble=route.reason)
        if isinstance(route.action, Relay):
            return await self._relay(route, route.action)
        return await to_thread.run_sync(self._local, envelope, route.action)

    # -- to another server --------------------------------------------------------------------------------------------

    async def _relay(self, route: Route, relay: Relay) -> RelayRoute:
        if route.hosts:
            hops, trouble = await self._smarthosts(route)
        elif relay.domain is not None:
            hops, trouble = await self._by_table(route)
        else:
            hops, trouble = await self._by_mx(route)
        return RelayRoute(
            by=_by(route, relay, hops),
            hops=tuple(hops),
            sender=str(sender_by(route, self._sender)),
            helo=self._helo(relay),
            sources=_sources(relay),
            trouble=trouble,
        )

    async def _smarthosts(self, route: Route) -> tuple[list[NextHop], str]:
        """Each by itself, so that one without credentials is seen beside those that have them."""
        hops: list[NextHop] = []
        try:
            route = await self._routes.present(route)
        except Unreachable as error:
            return [], _meaning(error.outcome)
        for smarthost in route.hosts:
            try:
                (candidate,) = await self._routes.candidates(replace(route, hosts=(smarthost,)))
            except Unreachable as error:
                hops.append(
                    NextHop(smarthost.host, smarthost.port, None, (), "", smarthost.label, "", _meaning(error.outcome))
                )
            else:
                hops.append(await self._named(candidate.hop, _table(self._config, route.action)))
        return hops, "" if any(not hop.trouble for hop in hops) else "none of these hosts can be tried now"

    async def _by_table(self, route: Route) -> tuple[list[NextHop], str]:
        try:
            (candidate,) = await self._routes.candidates(route)
        except Unreachable as error:
            return [], _meaning(error.outcome)
        hop = await self._named(candidate.hop, _table(self._config, route.action))
        return [hop], hop.trouble

    def _helo(self, relay: Relay) -> str:
        name = relay.helo or self._config.server_name
        if relay.helo_src is None:
            return name
        return f"by {table_words(self._config, relay.helo_src)} and our address there, or else {name}"

    async def _named(self, hop: Hop, table: str) -> NextHop:
        """A host that this machine is asked for, as at delivery; ``table`` has its credentials, if any."""
        label, label_in = (hop.login.label, table) if hop.login else ("", "")
        try:
            addresses, trouble = await addresses_of(hop), ""
        except Unreachable as error:
            addresses, trouble = (), _meaning(error.outcome)
        return NextHop(hop.host, hop.port, None, addresses, tls_words(hop), label, label_in, trouble)

    async def _by_mx(self, route: Route) -> tuple[list[NextHop], str]:
        try:
            candidates = await self._routes.candidates(route)
        except Unreachable as error:
            return [], _meaning(error.outcome)
        preferences = await self._preferences(route.key)
        return [_mx_hop(candidate, preferences) for candidate in candidates], ""

    async def _preferences(self, domain: str) -> dict[str, int]:
        if domain.startswith("["):
            return {}
        try:
            # The resolver has kept the answer by which the hosts were found.
            return {mx.host: mx.preference for mx in await self._resolver.mx(domain)}
        except (DnsTrouble, NoSuchDomain):
            return {}

    # -- on this machine ----------------------------------------------------------------------------------------------

    def _local(self, envelope: NewEnvelope, action: AnyAction) -> LocalRoute:
        assert isinstance(action, LocalAction)
        if isinstance(action, Lmtp) and not envelope.destination.target:
            recipient = str(envelope.destination.address) if action.rcpt_to else envelope.destination.user
            return LocalRoute("lmtp", action.destination, recipient)
        claimed = _as_if_claimed(envelope, self._sender)
        if self._planner.goes_nowhere(claimed):
            return LocalRoute("nowhere", NOWHERE)
        try:
            plan = self._planner.plan(claimed, action, None)
        except Refused as refusal:
            return LocalRoute(_METHODS.get(type(action).__name__, "mbox"), "", trouble=_meaning(refusal.outcome))
        by, target = _method_words(plan.deposit.method)
        return LocalRoute(by, target, plan.who.name, plan.who.uid, plan.who.home)


_METHODS: Final = {"Maildir": "maildir", "Command": "command", "Lmtp": "lmtp"}


def tls_words(hop: Hop) -> str:
    """What is demanded of TLS on the way to ``hop``."""
    words = _TLS_WORDS[hop.tls]
    if hop.tls in (RelayTls.REQUIRED, RelayTls.IMPLICIT):
        trusting = f" by {hop.terms.ca}" if hop.terms.ca else ""
        words += (
            f", certificate verified for {hop.host}{trusting}" if hop.terms.verified else ", certificate not verified"
        )
    further = {
        "own certificate": hop.terms.pki.name if hop.terms.pki else "",
        "protocols": hop.terms.protocols,
        "ciphers": hop.terms.ciphers,
    }
    return words + "".join(f", {what} {value}" for what, value in further.items() if value)


_TLS_WORDS: Final = {
    RelayTls.OPPORTUNISTIC: "STARTTLS if offered, not verified",
    RelayTls.REQUIRED: "STARTTLS required",
    RelayTls.IMPLICIT: "TLS from the first octet",
    RelayTls.NEVER: "plain text on purpose",
    RelayTls.LMTP: "plain text (LMTP)",
}


def _what_counts(envelope: NewEnvelope) -> Destination | Lane:
    destination = envelope.destination
    return destination if destination.user or destination.target else envelope.lane


def _by(route: Route, relay: Relay, hops: list[NextHop]) -> str:
    if route.hosts or relay.domain is not None:
        return "smarthost" if route.hosts else "table"
    if route.key.startswith("["):
        return "literal"
    return "domain" if hops and all(hop.preference is None for hop in hops) else "mx"


def _mx_hop(candidate: Candidate, preferences: dict[str, int]) -> NextHop:
    hop = candidate.hop
    return NextHop(hop.host, hop.port, preferences.get(hop.host), candidate.addresses, tls_words(hop))


def _table(config: Config, action: AnyAction) -> str:
    return table_words(config, action.auth) if isinstance(action, Relay) and action.auth else ""


def _sources(relay: Relay) -> tuple[str, ...]:
    try:
        return tuple(relay.src.keys()) if relay.src else ()
    except TableUnavailable:
        # Each hop says so, as it cannot be tried.
        return ()


def _meaning(outcome: Deferred | Failed) -> str:
    then = "returned to the sender" if isinstance(outcome, Failed) else "kept and tried again"
    return f"{outcome.reply} (the mail is {then})"


def _method_words(method: Method) -> tuple[str, str]:
    match method:
        case ToMbox():
            return "mbox", method.path
        case ToMaildir():
            places = [f"{method.path}/.{JUNK} for spam"] if method.sorts_junk else []
            places += [f"{method.path}/.{method.folder}"] if method.folder else []
            return "maildir", " or ".join([*places, method.path])
        case ToCommand():
            return "command", shlex.join(method.arguments)


def _as_if_claimed(envelope: NewEnvelope, sender: Address) -> Claimed:
    """The envelope in flight, with an empty message: plans look at nothing but addresses."""
    message = new_message_id(0)
    return Claimed(
        lane_id=0,
        envelope=Envelope(
            id=envelope_id(message, 1),
            recipient=envelope.recipient,
            destination=envelope.destination,
            lane=envelope.lane,
            kind=Kind.MAIL,
            state=State.INFLIGHT,
            attempts=0,
            due=0,
            deadline=envelope.ttl,
            warn_at=None,
        ),
        message=Message(message, sender, 0, 0.0, 0),
        body=SmallBody(b""),
    )
