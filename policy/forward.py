"""A user's own ``.forward``: how its content is asked for, and what it says.

The file is opened as the user, by somebody who may become the user; here is only what the expansion of recipients wants to
know. Asking takes time, and an expansion never waits: it uses what is known, notes everything that it lacks, and raises one
`Pending` with all of it. Whoever wants the expansion fetches that and expands again.

Guarantees: a file holds at most `MAX_OCTETS` and `MAX_TARGETS`; a longer one is not used in part.

Failure: `TargetSyntaxError` for a file that cannot be understood, which is temporary, so that it can be mended.

forward(5) of OpenSMTPD.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from policy.tables.passwd import User
from policy.target import Target, TargetSyntaxError, parse_targets

#: Octets of a .forward; more is not a .forward.
MAX_OCTETS: Final = 4096
#: Targets in a .forward, as in OpenSMTPD.
MAX_TARGETS: Final = 100
#: The name of the file, in the user's home.
FILE_NAME: Final = ".forward"

_CONTINUED: Final = re.compile(r"\\\r?\n")


@dataclass(frozen=True, slots=True)
class Forward:
    """What the file holds: its octets, or so many of them that they are more than `MAX_OCTETS`."""

    content: bytes


@dataclass(frozen=True, slots=True)
class NoForward:
    """There is no such file, or no home where it could be."""


@dataclass(frozen=True, slots=True)
class ForwardRefused:
    """The file must not be trusted, as it is: no mail for this user (5.2.4). ``reason`` is for our own log."""

    reason: str


@dataclass(frozen=True, slots=True)
class ForwardDeferred:
    """It cannot be said now what the file holds: mail comes again later (4.2.4). ``reason`` is for our own log."""

    reason: str


ForwardAnswer: TypeAlias = Forward | NoForward | ForwardRefused | ForwardDeferred


class Forwards(Protocol):
    """Who knows what stands in the .forward of users.

    To be promised by an implementation:

    - The file is ``.forward`` in `User.home` (as given: it may come out of a userbase), opened *as the user* (`User.uid`,
      `User.gid`) with O_NOFOLLOW and O_NONBLOCK, never as root. At most ``MAX_OCTETS + 1`` octets are read.
    - `NoForward`: the home or the file is not there, or the user may not look into the home.
    - `ForwardRefused`: the file is no regular file, is a symbolic link, belongs to somebody else, or others than its owner
      may write to it; the home belongs to neither root nor the user, or others than its owner may write to it.
    - `ForwardDeferred`: the home has its sticky bit set (so a user may hold mail back while the file is edited); the file
      could not be read; too many are asked for at once; **no answer within a few seconds** (a home on a network that is
      gone must not hold an SMTP session).
    - Answers are kept briefly (seconds: a user who saves a new .forward expects it to count), `ForwardDeferred` for less
      long or not at all, so that one recipient after the other is expanded without a fetch. The memory is bounded.
    - `fetch` never raises anything but cancellation; it may be called many times at once, also for one and the same user.
    """

    def known(self, user: User) -> ForwardAnswer | None:
        """What is known at this moment without waiting, None when it must be fetched first. Called at every expansion."""

    async def fetch(self, user: User) -> ForwardAnswer:
        """Find it out."""


class _NoForwards:
    """Nobody has a .forward: for those who may not become other users, and for machines without any."""

    _answer: Final = NoForward()

    def known(self, user: User) -> ForwardAnswer:
        """There is none."""
        return self._answer

    async def fetch(self, user: User) -> ForwardAnswer:
        """There is none."""
        return self._answer


#: Nobody's .forward is looked at.
NO_FORWARDS: Final[Forwards] = _NoForwards()


class Pending(Exception):
    """An expansion has to know these users, and the .forward of those, first: fetch them all, and expand again."""

    def __init__(self, users: Sequence[User], names: Sequence[str] = ()) -> None:
        super().__init__(", ".join([*names, *(user.name for user in users)]))
        #: Whose .forward is not known.
        self.users = tuple(users)
        #: Of whom it is not known whether they exist.
        self.names = tuple(names)


def parse_forward(content: bytes) -> tuple[Target, ...]:
    """The targets of a .forward; none when it is empty or holds comments alone, and then it counts as not there."""
    if len(content) > MAX_OCTETS:
        raise TargetSyntaxError(f"more than {MAX_OCTETS} octets")
    text = _CONTINUED.sub(" ", content.decode(errors="surrogateescape"))
    targets = tuple(target for line in _lines(text) for target in parse_targets(line))
    if len(targets) > MAX_TARGETS:
        raise TargetSyntaxError(f"more than {MAX_TARGETS} targets")
    return targets


def _lines(text: str) -> Iterator[str]:
    for raw in text.split("\n"):
        line = _uncommented(raw).strip()
        if line.strip(", \t"):
            yield line


def _uncommented(line: str) -> str:
    quote, skip = "", False
    for place, char in enumerate(line):
        if skip:
            skip = False
        elif char == "\\":
            skip = True
        elif char == quote:
            quote = ""
        elif char in "\"'" and not quote:
            quote = char
        elif char == "#" and not quote and line[place - 1 : place].strip(", \t") == "":
            return line[:place]
    return line
