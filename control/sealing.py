"""How the daemon comes to the keys of its queue: most are in the configuration, one may be asked for at start.

Guarantees: whoever is asked is asked once, before the daemon leaves its terminal; a reload goes on with that key.

Failure: `KeyUnusable`, with a sentence.
"""

from __future__ import annotations

import getpass
import os
import sys
from typing import Final

from policy.config import Config
from policy.errors import ConfigError
from policy.queue_key import MAX_OCTETS, Asks, KeyUnusable, keys_in
from spool.layout import Layout
from spool.seal import Sealing, SealKey

_TERMINAL: Final = "/dev/tty"


def ask_key(config: Config) -> SealKey | None:
    """The key that is not in the configuration; None when it asks for none."""
    asks = config.encryption and config.encryption.asks
    match asks:
        case Asks.STDIN:
            return _understood(sys.stdin.buffer.readline(MAX_OCTETS), "standard input")
        case Asks.TERMINAL:
            return _understood(_prompted(), "the terminal")
    return None


def sealing_of(config: Config, asked: SealKey | None) -> Sealing:
    """How bodies are sealed and opened; ``asked`` is what `ask_key` returned at start."""
    encryption = config.encryption
    if encryption is None:
        return Sealing(config.compression)
    old = [key for source in encryption.old for key in source.keys]
    if encryption.source:
        key, *others = encryption.source.keys
        return Sealing(config.compression, key, (*others, *old))
    if encryption.asks and asked is None:
        raise KeyUnusable("the key of the queue is asked for at start only: restart smtpd")
    return Sealing(config.compression, asked if encryption.asks else None, tuple(old))


def keys_at_hand(places: Layout) -> Sealing:
    """What opens the bodies of a daemon that is stopped: the keys of its configuration, as far as that can be read."""
    from policy.parser import declared_encryption  # the daemon's roles, which have this module, read no configuration

    try:
        encryption = declared_encryption(places.conf_file, places)
    except ConfigError:
        return Sealing()
    sources = (encryption.source, *encryption.old) if encryption else ()
    return Sealing(old=tuple(key for source in sources if source for key in source.keys))


def _prompted() -> bytes:
    try:
        os.close(os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY))
    except OSError:
        raise KeyUnusable(
            "there is no terminal to ask for the key of the queue at; "
            'expected "queue encryption" with the path of a file, "cred:NAME" or "stdin"'
        ) from None
    return os.fsencode(getpass.getpass("queue key: "))


def _understood(data: bytes, where: str) -> SealKey:
    try:
        return keys_in(data.rstrip(b"\r\n"))[0]
    except KeyUnusable as error:
        raise KeyUnusable(f"{where}: {error}") from None
