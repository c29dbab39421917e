"""Errors of ingress."""

from __future__ import annotations


class ListenError(OSError):
    """An address or a socket path cannot be listened on; the text says which and why."""
