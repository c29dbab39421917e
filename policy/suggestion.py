"""What somebody who mistyped a name may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

#: More names than this make a message nobody reads.
MAX_LISTED: Final = 40

#: Words of OpenSMTPD before 6.4, and what they are called since.
_FORMER: Final = {
    "accept": "match",
    "as": "mail-from",
    "authenticated": "auth",
    "bounce-warn": "bounce",
    "certificate": "cert",
    "expire": "ttl",
    "hostname": "helo",
    "hostnames": "helo-src",
    "mask-source": "mask-src",
    "recipient": "rcpt-to",
    "sender": "mail-from",
    "source": "src",
    "tagged": "tag",
    "via": "host",
}


def did_you_mean(word: str, known: Iterable[str], what: str = "known here are") -> str:
    """The end of a message about an unknown ``word``: the nearest of the ``known`` names, or else all of them."""
    names = sorted(set(known))
    lowered = {name.lower(): name for name in names}
    if _FORMER.get(word) in names:
        return f'; since OpenSMTPD 6.4 it is called "{_FORMER[word]}"'
    swapped = [name for name in lowered if sorted(name) == sorted(word.lower())]
    near = swapped or difflib.get_close_matches(word.lower(), lowered, n=1)
    if near:
        return f'; did you mean "{lowered[near[0]]}"?'
    if not names:
        return ""
    listed = ", ".join(names[:MAX_LISTED])
    return f"; {what}: {listed}{', ...' if len(names) > MAX_LISTED else ''}"
