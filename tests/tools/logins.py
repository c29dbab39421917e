"""Logins as clients send them, and as attackers do."""

from __future__ import annotations

from base64 import b64encode


def plain(login: str, password: str) -> str:
    """The command that logs in by PLAIN."""
    return "AUTH PLAIN " + b64encode(f"\0{login}\0{password}".encode()).decode()


#: Names by which a client would have the log tell of another address, or of nothing at all.
NASTY = (
    'x" address=6.6.6.6 result=permfail',
    'x\\" address=6.6.6.6 result=permfail',
    "x\\",
    'x\\\\" address=6.6.6.6 result=permfail "',
    'x\n0123456789abcdef smtp authentication user="" address=6.6.6.6 result=permfail',
    'x\r\n0123456789abcdef smtp authentication user="" address=6.6.6.6 result=permfail',
    "x\u2028\u201d address=6.6.6.6 result=permfail",
    "y" * 199 + '" address=6.6.6.6 result=permfail',
    "z" * 198 + '\\" address=6.6.6.6 result=permfail',
    "\x1b[2J\x7f\x9b",
    "änn",
)
