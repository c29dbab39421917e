"""``deliver to`` and ``relay``, as the actions that they are now.

Failure: `Untranslatable`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from policy.migrate.oldrule import OldDelivery, OldRule
from policy.migrate.phrase import Untranslatable
from policy.migrate.urls import Url, UrlError, present_url
from policy.migrate.words import Sort, Word, argument, spelt
from policy.quoting import quoted

#: What the options of relaying are called now.
_NOW: Final = {
    "as": "mail-from",
    "source": "src",
    "hostname": "helo",
    "hostnames": "helo-src",
    "helo": "helo-src",
}
_UNVERIFIED: Final = (
    '"tls" verifies the certificate of the server now; "tls no-verify" is what "tls" without "verify" was'
)
_USER_AS: Final = (
    '"mail-from" replaces only what it names: before, the domain of a user without one became the name of this server'
)
_URLS_ELSEWHERE: Final = "relay URLs are called otherwise now (tls:// is smtp+tls://, for instance), in this table too"

_HOST: Final = re.compile(r"(?:.*[/@])?\[?(?P<name>[A-Za-z0-9.:-]+?)\]?(?::[0-9a-z]+)?")


@dataclass(frozen=True, slots=True)
class Delivery:
    """What an action does, and what it may be called, the best name first."""

    text: str
    names: tuple[str, ...]


def delivery(rule: OldRule, offset: int) -> tuple[Delivery, list[str]]:
    """The action for ``rule``, which accepts, and remarks on what has changed."""
    if rule.delivery.method == "relay":
        if rule.lookups:
            raise Untranslatable(
                offset, f'"{rule.lookups[0]}" had no meaning with "relay": a relayed address is not expanded'
            )
        options, notes = _relay(rule.delivery, offset)
    else:
        options, notes = _local(rule), []
    text = " ".join([*options, *([f"ttl {rule.expire}"] if rule.expire else [])])
    return Delivery(text, _names(rule)), notes


def _local(rule: OldRule) -> list[str]:
    old = rule.delivery
    parts = [_method(rule)]
    if old.argument:
        parts.append(argument(old.argument) if old.argument.sort is Sort.MACRO else quoted(old.argument.text))
    parts += [" ".join(option).strip() for option in old.options]
    return parts + rule.lookups


def _method(rule: OldRule) -> str:
    if rule.forward_only:
        return "forward-only"
    return rule.delivery.method or "expand-only"


def _relay(old: OldDelivery, offset: int) -> tuple[list[str], list[str]]:
    parts, notes = ["relay"], []
    if old.via:
        text, remarks = _hosts(old, offset)
        parts.append(f"host {text}")
        notes += remarks
    for word, given in old.options:
        if word == "backup":
            parts.append(f"backup mx {given}" if given else "backup")
        elif word not in ("tls", "verify"):
            parts.append(f"{_NOW.get(word, word)} {given}")
        if word == "as" and "@" not in given and not given.startswith("$"):
            notes.append(_USER_AS)
    if old.has("verify"):
        parts.append("tls")
    elif old.has("tls"):
        parts.append("tls no-verify")
        notes.append(_UNVERIFIED)
    return parts, notes


def _hosts(old: OldDelivery, offset: int) -> tuple[str, list[str]]:
    verify = old.has("verify")
    if old.via[0].spelling == "<":
        return spelt(old.via), [_URLS_ELSEWHERE]
    words: list[Word] = []
    notes: list[str] = []
    for word in old.via:
        if not word.is_string:
            words.append(word)
            continue
        url = _url(word, verify)
        if "@" in url.text and not old.has("auth"):
            raise Untranslatable(offset, f'"{word.text}" names a label, and no "auth <table>" says what it stands for')
        is_same = word.sort is Sort.MACRO and url.text in (word.text, "")
        words.append(word if is_same else word.respelt(quoted(url.text)))
        notes += url.notes
    return spelt(words), list(dict.fromkeys(notes))


def _url(word: Word, verify: bool) -> Url:
    if word.sort is Sort.MACRO and not word.text:
        return Url(
            "", (f"what {word.spelling} stands for is not known here; its URL may have to be written otherwise",)
        )
    try:
        return present_url(word.text, verify=verify)
    except UrlError as error:
        raise Untranslatable(word.offset, str(error)) from error


def _names(rule: OldRule) -> tuple[str, ...]:
    old = rule.delivery
    base = {"forward-only": "forward", "expand-only": "expand"}.get(_method(rule), _method(rule))
    if old.method != "relay":
        tables = [re.sub(r"\W+", "", lookup.partition(" ")[2]) for lookup in rule.lookups if "<" in lookup]
        return (base, *(f"{base}_{table}" for table in tables))
    if old.has("backup"):
        return ("backup",)
    host = _HOST.fullmatch(old.via[0].text) if old.via else None
    return (f"{base}_{host['name']}",) if host else (base,)
