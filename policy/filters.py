"""Built-in filters: one question at one phase of a session, and what is done when its answer is yes.

Guarantees: frozen values, checked when the configuration is read. A chain is no value of its own: a listener has the filters
of its chains, one behind the other.

smtpd.conf(5) of OpenSMTPD, "filter".
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from policy.tables.table import Table
from spool.reply import Reply


class Phase(enum.Enum):
    """When a filter is asked."""

    #: Before the greeting.
    CONNECT = "connect"
    HELO = "helo"
    EHLO = "ehlo"
    AUTH = "auth"
    MAIL_FROM = "mail-from"
    RCPT_TO = "rcpt-to"
    DATA = "data"
    #: When the whole message is there.
    COMMIT = "commit"


class Deed(enum.Enum):
    """What a filter does. All but `REPORT` end the chain for the phase."""

    #: Refuse the command with a reply.
    REJECT = "reject"
    #: Refuse it and end the session.
    DISCONNECT = "disconnect"
    #: Take another argument in place of the client's.
    REWRITE = "rewrite"
    #: Write a line into the log.
    REPORT = "report"
    #: Mark what follows as spam.
    JUNK = "junk"
    #: Nothing.
    BYPASS = "bypass"


_FROM_HELO: Final = tuple(Phase)[1:]
_FROM_MAIL: Final = (Phase.MAIL_FROM, Phase.RCPT_TO, Phase.DATA, Phase.COMMIT)
#: The phases in which a question can be asked; those that are not named here, in all.
ASKED_IN: Final = {
    "helo": _FROM_HELO,
    "auth": (Phase.AUTH, *_FROM_MAIL),
    "mail-from": _FROM_MAIL,
    "rcpt-to": (Phase.RCPT_TO,),
}
#: The phases in which something can be done, likewise.
DONE_IN: Final = {
    Deed.REWRITE: (Phase.HELO, Phase.EHLO, Phase.MAIL_FROM, Phase.RCPT_TO),
    Deed.JUNK: tuple(Phase)[:-1],
    Deed.BYPASS: tuple(Phase)[:-1],
}


@dataclass(frozen=True, slots=True)
class Question:
    """``fcrdns``, ``rdns``, ``src``, ``helo``, ``auth``, ``mail-from`` or ``rcpt-to``."""

    what: str
    table: Table | None = None
    negated: bool = False
    #: The table holds regular expressions.
    is_regex: bool = False


@dataclass(frozen=True, slots=True)
class Filter:
    """One ``filter NAME phase`` line."""

    name: str
    phase: Phase
    question: Question
    deed: Deed
    #: The reply, the new argument or the words for the log; empty where nothing is said.
    text: str = ""

    @property
    def reply(self) -> Reply:
        """What a filter that rejects or disconnects says."""
        return Reply(int(self.text[:3]), "", self.text[4:])

    @property
    def needs_name(self) -> bool:
        """Whether it asks for the client's name in the reverse DNS."""
        return self.question.what in ("rdns", "fcrdns")
