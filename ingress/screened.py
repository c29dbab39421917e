"""A session that is screened: its listener's filters are asked at each phase, and what they say is done.

Guarantees: a client that is refused at the beginning may say nothing but QUIT. Junk found before MAIL marks every message of
the session, later only the message that it was found in.

Failure: replies.

RFC 5321 3.1 (a session that is refused at its beginning).
"""

from __future__ import annotations

from typing import Final

from ingress import replies
from ingress.dialogue import Arrived, Dialogue, Service
from ingress.screening import PASSED, Screening, screen
from policy.filtering import Seen
from policy.filters import Phase
from spool.address import NULL_SENDER, Address
from spool.message import Client
from spool.reply import Reply

#: What the log calls the command that a client has not given yet.
_ARRIVAL: Final = "CONNECT"


class Screened(Dialogue):
    """The part of a session that asks filters."""

    def __init__(self, service: Service, arrived: Arrived, client: Client | None = None) -> None:
        super().__init__(service, arrived, client)
        #: Whether every message of this session is marked as spam.
        self.is_junk = False

    async def screen(
        self, phase: Phase, helo: str = "", sender: Address = NULL_SENDER, recipient: Address = NULL_SENDER
    ) -> Screening:
        """Ask the filters of ``phase``; of its arguments those that it has."""
        filters = self.service.filters and self.service.filters.get(phase)
        if not filters:
            return PASSED
        name = await self.peer_name() if any(each.needs_name for each in filters) else None
        client = self.client
        seen = Seen(
            client.address,
            name.name if name else "",
            name is not None and name.is_confirmed,
            name is None or name.is_certain,
            helo or client.helo,
            client.login if client.login or self.service.listener.is_socket else None,
            sender,
            recipient,
            self.service.house.config().sub_addr_delim,
        )
        return await screen(filters, seen, self.id)

    async def is_screened_off(self, phase: Phase, helo: str = "") -> bool:
        """Ask the filters of a phase before MAIL; true when they refused, which has been said."""
        screening = await self.screen(phase, helo)
        self.is_junk = self.is_junk or screening.junk
        if screening.refusal is not None:
            self.turn_down(screening.refusal, screening.is_last)
        return screening.refusal is not None

    def turn_down(self, refusal: Reply, is_last: bool) -> None:
        """Refuse the present command as a filter demands."""
        if is_last:
            self.log_refusal(refusal)
            self.dismiss(refusal)
        else:
            self.refuse(refusal)

    async def welcome(self) -> None:
        """Greet the client, unless a filter minds it."""
        self.command = _ARRIVAL
        screening = await self.screen(Phase.CONNECT)
        self.is_junk = screening.junk
        if screening.refusal is None:
            await super().welcome()
        elif screening.refusal in (replies.TROUBLE, replies.NAME_TROUBLE):
            self.turn_down(replies.closing(screening.refusal), is_last=True)
        else:
            self.turn_down(screening.refusal, screening.is_last)
            self.is_refused = True
