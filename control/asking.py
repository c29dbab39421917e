"""The options of ``smtpctl explain``, and the question that they make.

Imports little: every ``smtpctl`` reads its command line by this.

Failure: `control.client.ControlError` for an option that makes no sense.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Sequence
from typing import Final, NamedTuple

from control.client import ControlError
from control.protocol import Explain

#: For getopt(3).
EXPLAIN_SHORT: Final = "D:f:"
EXPLAIN_LONG: Final = ("config=", "from=", "helo=", "rdns=", "tag=", "tls")

#: The client of ``--from auth USER``, somewhere in the world.
_SOMEWHERE: Final = "0.0.0.0"  # noqa: S104  (said, not bound to)
_AUTH: Final = "auth "


def joined(arguments: Sequence[str]) -> list[str]:
    """``--from auth USER`` as one option with one argument."""
    words = list(arguments)
    for place in range(len(words) - 2, 0, -1):
        if words[place - 1 : place + 1] == ["--from", "auth"]:
            words[place : place + 2] = [_AUTH + words[place + 1]]
    return words


class Asking(NamedTuple):
    """What the command line comes to."""

    question: Explain
    #: The configuration that it is about; empty for the daemon's own.
    config: str
    #: For a configuration that no daemon has read.
    macros: dict[str, str]


def asking(recipient: str, options: Sequence[tuple[str, str]]) -> Asking:
    """The question that the options of ``explain`` make."""
    given = dict(options)
    origins = [value for name, value in options if name == "--from"]
    logins = [origin.removeprefix(_AUTH) for origin in origins if origin.startswith(_AUTH)]
    clients = [origin for origin in origins if not origin.startswith(_AUTH)]
    if len(logins) > 1 or len(clients) > 1 or "auth" in clients:
        raise ControlError('--from takes an address, "local", or "auth" and a user; one client and one user at most')
    client = clients[0] if clients else _SOMEWHERE if logins else "local"
    question = Explain(
        recipient=recipient,
        sender=given.get("-f", _own_name()).removeprefix("<").removesuffix(">"),
        client=client,
        login=logins[0] if logins else "" if client == "local" else None,
        helo=given.get("--helo", ""),
        rdns=given.get("--rdns", ""),
        tag=given.get("--tag", ""),
        tls="--tls" in given,
    )
    return Asking(question, given.get("--config", ""), dict(_macro(value) for name, value in options if name == "-D"))


def _macro(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ControlError(f"-D {text}: not macro=value")
    return name, value


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return ""
