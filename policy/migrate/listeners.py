"""``listen`` lines.

``secure`` was two listeners in one, ``all`` was every address, and without ``pki`` the certificate was the one that is
called like the server.

Failure: `Untranslatable`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from policy.migrate.phrase import Phrase, Untranslatable
from policy.migrate.rewritten import Rewritten
from policy.migrate.surroundings import Surroundings
from policy.migrate.words import Word, argument

_FLAGS: Final = ("inet4", "inet6", "no-dsn", "received-auth")
_STRINGS: Final = ("port", "pki", "tag", "hostname", "ca", "ciphers")
_TABLES: Final = ("hostnames", "senders")
_MODES: Final = ("tls", "tls-require", "smtps", "secure", "ssl")
_AUTHS: Final = ("auth", "auth-optional")
_RENAMED: Final = {"mask-source": "mask-src", "mask-src": "mask-src"}
_WORDS: Final = (*_FLAGS, *_STRINGS, *_TABLES, *_MODES, *_AUTHS, *_RENAMED, "filter", "verify", "masquerade")
#: What the operator asked for by "all"; nothing is bound here.
_EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104

_SECURE: Final = '"secure" is two listeners now: STARTTLS on port 25, and TLS from the beginning on port 465'
_ALL: Final = '"all" is no interface: these are all addresses of IPv4 and of IPv6'
_FILTER: Final = "filters are written otherwise now, and their programs speak another protocol: this one is left out"
#: Stands among the options for the mode, which may become two.
_MODE: Final = "<mode>"


@dataclass(slots=True)
class _Draft:
    mode: str = ""
    options: list[str] = field(default_factory=list)
    pki: str = ""
    hostname: str = ""
    troubles: list[tuple[int, str]] = field(default_factory=list)


def rewrite_listener(words: tuple[Word, ...], surroundings: Surroundings) -> Rewritten:
    """One line for each listener that the old line meant."""
    phrase = Phrase(words)
    phrase.expect("listen")
    phrase.expect("on")
    where = phrase.string()
    places = _EVERYWHERE if where.text == "all" else (_place(where),)
    draft = _Draft()
    while phrase.word is not None:
        _option(phrase, draft, surroundings)
    notes = [*([_ALL] if where.text == "all" else []), *(message for _, message in draft.troubles)]
    if draft.mode and not draft.pki:
        certificate = f"pki {_certificate(draft, surroundings, words[0].offset)}"
        draft.options.insert(draft.options.index(_MODE) + 1, certificate)
        notes.append("a listener with TLS names its certificate now; it was the one called like the server")
    modes = [draft.mode]
    if draft.mode in ("secure", "ssl"):
        modes = ["tls", "smtps"]
        notes.append(_SECURE)
    lines = [_line(place, mode, draft.options) for place in places for mode in modes]
    return Rewritten(tuple(lines), tuple(notes), tuple(draft.troubles))


def _line(place: str, mode: str, options: list[str]) -> str:
    return " ".join(["listen on", place, *(mode if option == _MODE else option for option in options)])


def _place(where: Word) -> str:
    # The socket is a word of the language since 6.4, and was one before, too.
    return where.spelling if where.text == "socket" else argument(where)


def _option(phrase: Phrase, draft: _Draft, surroundings: Surroundings) -> None:
    offset = phrase.offset
    word = phrase.accept(*_WORDS)
    if word is None:
        phrase.fail("expected an option of a listener")
    text = word.text
    if text in _MODES and draft.mode:
        raise Untranslatable(offset, f'"{draft.mode}" and "{text}" exclude one another')
    if text in _MODES:
        draft.mode = f"{text} verify" if phrase.accept("verify") else text
        draft.options.append(_MODE)
    elif text in _AUTHS:
        draft.options.append(f"{text} {phrase.table()}" if phrase.at_table else text)
    elif text in _STRINGS:
        _string(phrase, draft, text)
    elif text in _TABLES:
        table = phrase.table()
        draft.options.append(f"{text} {table} masquerade" if phrase.accept("masquerade") else f"{text} {table}")
    elif text == "filter":
        used = phrase.table()
        if surroundings.has_filters:
            draft.options.append(f"filter {used}")
        else:
            draft.troubles.append((offset, _FILTER))
    else:
        draft.options.append(_RENAMED.get(text, text))


def _string(phrase: Phrase, draft: _Draft, option: str) -> None:
    word = phrase.accept("smtp", "smtps") if option == "port" else None
    word = word or phrase.string()
    if option == "pki":
        draft.pki = word.text
    if option == "hostname":
        draft.hostname = word.text
    # "smtp" and "smtps" are words that a port may be.
    draft.options.append(f"{option} {word.spelling if option == 'port' else argument(word)}")


def _certificate(draft: _Draft, surroundings: Surroundings, offset: int) -> str:
    known = surroundings.pkis
    if draft.hostname in known:
        return draft.hostname
    if len(known) == 1:
        return known[0]
    message = 'this listener needs "pki NAME" now: it was the one that is called like the server, '
    raise Untranslatable(offset, message + (f"out of: {', '.join(known)}" if known else "and none is declared here"))
