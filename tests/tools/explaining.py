"""Explanations of a configuration in a test's folder, as people read them."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec

from control.explain_routes import Ways
from control.explained import page
from control.explaining import Explainer
from control.protocol import Explain
from delivery.resolver import Resolver
from policy.admit import admit
from policy.config import Config
from policy.explain import Explanation
from policy.forward import NO_FORWARDS, Forwards
from policy.tables.passwd import Users
from tests.tools.configured import Configured

#: A port of loopback where nobody answers questions about names.
_NOBODY = 9


class Explaining:
    """Explains mail by ``text``; names are asked of a server at ``dns_port``."""

    def __init__(
        self, configured: Configured, users: Users, dns_port: int = _NOBODY, forwards: Forwards = NO_FORWARDS
    ) -> None:
        self._forwards = forwards
        self._configured = configured
        self._users = users
        self._dns_port = dns_port

    async def explanation(self, text: str, recipient: str, **question: Any) -> Explanation:
        """The values."""
        return await self.by(self._configured.load(text), recipient, **question)

    async def by(self, config: Config, recipient: str, **question: Any) -> Explanation:
        """The same, by a configuration that is loaded already."""
        asked = Explain(**{"recipient": recipient, "sender": "ann@example.net", "login": "", **question})
        ways = Ways(self._configured.layout, lambda: Resolver(nameservers=[("127.0.0.1", self._dns_port)], patience=2))
        explainer = Explainer(
            lambda: config, partial(admit, users=self._users, forwards=self._forwards), ways, running=True
        )
        return await explainer.explain(asked)

    async def page(self, text: str, recipient: str, **question: Any) -> str:
        """What ``smtpctl explain`` prints, with ``ROOT`` for the folder."""
        document = msgspec.json.encode(await self.explanation(text, recipient, **question))
        return "\n".join(page(document)).replace(self._configured.layout.root, "ROOT") + "\n"
