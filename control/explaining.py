"""What would become of a mail: rules, expansion and routes, worked out by the code that decides and delivers.

Guarantees: nothing is sent, connected to or queued; nothing but tables, .forward files and the DNS is read.

Failure: `QuestionError` for a question that makes no sense.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from control.explain_routes import AnyRoute, RouteFinder, Ways
from control.protocol import Explain
from policy.admit import Admitted, Refused
from policy.config import Config, Facts
from policy.errors import TableUnavailable
from policy.explain import Explanation, LocalRoute, PlannedEnvelope, RefusedAnswer, RelayRoute
from policy.explain_tree import ExpansionTree
from policy.ruleset import LOCAL_SOURCE
from policy.tables.services import ip_address
from policy.watch import Watch
from spool.address import NULL_SENDER, Address, AddressSyntaxError, parse_address
from spool.message import NewEnvelope, Recipient

#: What a client hears when a table cannot be asked: `ingress.replies.TROUBLE`.
_TROUBLE: Final = "451 4.3.0 Temporary failure"


class QuestionError(Exception):
    """The question makes no sense; the text says why."""


class Admit(Protocol):
    """`policy.admit.admit`, with this machine's users."""

    def __call__(
        self, config: Config, facts: Facts, recipient: Recipient, *, watch: Watch
    ) -> Awaitable[Admitted | Refused]:
        """Decide about ``recipient``, while ``watch`` looks on."""


@dataclass(frozen=True, slots=True)
class Explainer:
    """Answers the questions of ``smtpctl explain``."""

    config: Callable[[], Config]
    admit: Admit
    ways: Ways
    #: Whether this is the configuration that a daemon runs by.
    running: bool

    async def explain(self, question: Explain) -> Explanation:
        """What would become of it. Raises `QuestionError`."""
        config = self.config()
        facts = _facts(config, question)
        recipient = _address(question.recipient, config, "recipient")
        tree = ExpansionTree(config, facts)
        try:
            verdict = await self.admit(config, facts, Recipient(recipient), watch=tree)
        except TableUnavailable as error:
            refused: RefusedAnswer | None = RefusedAnswer(_TROUBLE, str(error))
            envelopes: tuple[PlannedEnvelope, ...] = ()
        else:
            refused = RefusedAnswer(str(verdict.reply), verdict.reason) if isinstance(verdict, Refused) else None
            envelopes = await self._planned(config, facts, verdict) if isinstance(verdict, Admitted) else ()
        return Explanation(
            recipient=str(recipient),
            sender=str(facts.mail_from),
            client=facts.source,
            login=facts.login,
            helo=facts.helo,
            rdns=facts.rdns,
            tag=facts.tag,
            tls=facts.tls,
            config=config.path,
            running=self.running,
            asked=tree.addresses,
            tree=tree.tree(),
            envelopes=envelopes,
            refused=refused,
        )

    async def _planned(self, config: Config, facts: Facts, verdict: Admitted) -> tuple[PlannedEnvelope, ...]:
        routes = await RouteFinder(config, self.ways, facts.mail_from).routes(verdict.envelopes)
        return tuple(map(_planned, verdict.envelopes, routes))


def _planned(envelope: NewEnvelope, route: AnyRoute) -> PlannedEnvelope:
    destination, lane = envelope.destination, envelope.lane
    return PlannedEnvelope(
        destination=str(destination.address),
        ends_at=destination.target or destination.user,
        action=lane.action,
        lane=lane.key,
        ttl=envelope.ttl // 1000,
        relay=route if isinstance(route, RelayRoute) else None,
        local=route if isinstance(route, LocalRoute) else None,
    )


def _facts(config: Config, question: Explain) -> Facts:
    client = question.client
    if client != LOCAL_SOURCE and ip_address(client) is None:
        raise QuestionError(f'"{client}" is no IP address: --from takes an address, local, or auth USER')
    return Facts(
        source=client,
        mail_from=_address(question.sender, config, "sender") if question.sender else NULL_SENDER,
        helo=question.helo,
        rdns=question.rdns,
        tag=question.tag,
        tls=question.tls,
        login=question.login,
    )


def _address(text: str, config: Config, what: str) -> Address:
    """An address; without a domain it is one of this machine, as for ``sendmail``."""
    text = text.removeprefix("<").removesuffix(">")
    try:
        return parse_address(text, config.server_name)
    except AddressSyntaxError as error:
        raise QuestionError(f"the {what} {text!r} is no mail address: {error}") from error
