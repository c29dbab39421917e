"""What envelopes are like: by what an operator chooses them, and by what they are counted.

Imports little: ``smtpctl`` starts with this.

Failure: `FilterError`, by `spool.sieve`, for what no envelope could be chosen by.
"""

from __future__ import annotations

import enum
from typing import Annotated, Final, TypeAlias

import msgspec

from spool.state import Kind, State

#: As long as an address may be with everything that is in it.
Text: TypeAlias = Annotated[str, msgspec.Meta(max_length=512)]
#: Milliseconds.
Age: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1 << 50)]


class FilterError(ValueError):
    """Nothing can be chosen by this."""


class Trait(enum.Enum):
    """What envelopes can be counted by."""

    DOMAIN = "domain"
    ACTION = "action"
    STATE = "state"
    KIND = "kind"
    SENDER = "sender"
    USER = "user"
    ERROR = "error"
    CLIENT = "client"
    LOGIN = "login"


class Filter(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a chosen envelope is like; it is all that is said here. What is empty or None is not asked for."""

    #: The return path: an address, ``@`` and a domain for everybody there, ``<>`` for the null sender.
    sender: Text = ""
    #: As given at RCPT, or where it ends: an address, or ``@`` and a domain.
    recipient: Text = ""
    #: Where it ends.
    domain: Text = ""
    user: Text = ""
    action: Text = ""
    state: State | None = None
    kind: Kind | None = None
    #: A part of why it waits; letters of both cases are the same.
    error: Text = ""
    #: Where the message came from: an IP address, or ``local``.
    client: Text = ""
    login: Text = ""
    uid: int | None = None
    #: How long ago the message arrived, at least and at most.
    older: Age | None = None
    newer: Age | None = None


#: Lets everything through.
ANY: Final = Filter()
