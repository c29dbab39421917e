"""Directives beside the rules that are written otherwise since 6.4.

Failure: `Untranslatable`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from policy.migrate.phrase import Phrase, Untranslatable
from policy.migrate.recognition import is_present_filter
from policy.migrate.rewritten import Rewritten
from policy.migrate.words import Word, argument, spelt

_LIMITS: Final = {"session": "smtp", "mta": "mta", "mda": "mda", "scheduler": "scheduler"}
_PKI_FILES: Final = {"certificate": "cert", "cert": "cert", "key": "key", "dhe": "dhe"}

_DATABASE: Final = (
    "files of databases are of another kind here: makemap, or newaliases, makes them anew out of the text"
)


def rewrite_macro(words: tuple[Word, ...]) -> Rewritten:
    """A macro whose name or value has become a word of the language is put into quotes."""
    return Rewritten((spelt(word.respelt(argument(word)) for word in words),))


def rewrite_table(words: tuple[Word, ...]) -> Rewritten:
    """The same for names and elements of tables."""
    respelt = [word.respelt(argument(word)) for word in words[1:]]
    is_database = len(words) > 2 and words[2].text.startswith("db:")
    return Rewritten((spelt([words[0], *respelt]),), (_DATABASE,) if is_database else ())


def rewrite_include(words: tuple[Word, ...]) -> Rewritten:
    """The line stays; what it reads is another file."""
    path = words[1].text if len(words) > 1 else ""
    return Rewritten(
        (spelt(words),), (f"this file is not in here; it has to be migrated by itself: smtpd --migrate {path}",)
    )


def _renamed(now: str) -> Callable[[tuple[Word, ...]], Rewritten]:
    def rewrite(words: tuple[Word, ...]) -> Rewritten:
        if len(words) < 2:
            raise Untranslatable(words[0].offset, f'"{words[0].text}" has no value')
        return Rewritten((spelt([words[0].respelt(now), *words[1:]]),))

    return rewrite


def _limit(words: tuple[Word, ...]) -> Rewritten:
    phrase = Phrase(words[1:]) if len(words) > 1 else Phrase(words)
    kind = phrase.accept(*_LIMITS)
    if kind is None:
        phrase.fail(f"expected one of {', '.join(_LIMITS)}")
    return Rewritten((spelt([words[0].respelt(f"{_LIMITS[kind.text]} limit"), *words[2:]]),))


def _pki(words: tuple[Word, ...]) -> Rewritten:
    phrase = Phrase(words)
    phrase.take()
    name = phrase.argument()
    parts, more, troubles = [], [], []
    while phrase.word is not None:
        offset = phrase.offset
        word = phrase.accept(*_PKI_FILES, "ca", "dhparams")
        if word is None:
            phrase.fail("expected certificate, key, ca or dhparams")
        path = phrase.argument()
        if word.text == "ca":
            more.append(f"ca {name} cert {path}")
        elif word.text == "dhparams":
            troubles.append(
                (offset, '"dhparams" is gone: "dhe auto" or "dhe legacy" chooses among built-in parameters')
            )
        else:
            parts.append(f"{_PKI_FILES[word.text]} {path}")
    lines = ([f"pki {name} {' '.join(parts)}"] if parts else []) + more
    return Rewritten(tuple(lines), tuple(message for _, message in troubles), tuple(troubles))


def _ca(words: tuple[Word, ...]) -> Rewritten:
    phrase = Phrase(words)
    phrase.take()
    name = phrase.argument()
    if not phrase.accept("certificate", "cert"):
        phrase.fail("expected certificate")
    return Rewritten((f"ca {name} cert {phrase.argument()}",))


def _filter(words: tuple[Word, ...]) -> Rewritten | None:
    if is_present_filter(words):
        return None
    message = "programs for filters speak another protocol now: ask their authors for one for OpenSMTPD 6.6 or later"
    raise Untranslatable(words[0].offset, message)


#: By the first word. None means that the line is of the present grammar already.
SETTINGS: Final[Mapping[str, Callable[[tuple[Word, ...]], Rewritten | None]]] = {
    "bounce-warn": _renamed("bounce warn-interval"),
    "ca": _ca,
    "ciphers": _renamed("smtp ciphers"),
    "expire": _renamed("queue ttl"),
    "filter": _filter,
    "include": rewrite_include,
    "limit": _limit,
    "max-message-size": _renamed("smtp max-message-size"),
    "max-mta-deferred": _renamed("mta max-deferred"),
    "pki": _pki,
    "subaddressing-delimiter": _renamed("smtp sub-addr-delim"),
    "table": rewrite_table,
}
