"""``accept`` and ``reject`` lines, as they were before 6.4.

Failure: `Untranslatable`.

smtpd.conf(5) of OpenBSD 6.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from policy.migrate.phrase import Phrase, Untranslatable
from policy.migrate.words import Sort, Word

#: Options of relaying, beside ``backup``, which is the only one whose argument can be left out.
_RELAY_OPTIONS: Final = ("as", "auth", "ca", "helo", "hostname", "hostnames", "pki", "source", "tls", "verify")


@dataclass(frozen=True, slots=True)
class Side:
    """A ``from`` or a ``for``: ``any``, ``local``, ``source`` or ``domain``."""

    form: str
    negated: bool = False
    table: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True)
class OldCondition:
    """``sender``, ``recipient`` or ``tagged``, under the name it has now."""

    word: str
    negated: bool
    argument: str


@dataclass(frozen=True, slots=True)
class OldDelivery:
    """``deliver to ...`` or ``relay ...``. ``method`` is empty when the rule says nothing of that kind."""

    method: str = ""
    argument: Word | None = None
    #: Where a relay sends to, when it is written in place: one word, or a table.
    via: tuple[Word, ...] = ()
    #: Option words as they were, each with its argument as it is written now; empty for those without.
    options: tuple[tuple[str, str], ...] = ()

    def has(self, word: str) -> bool:
        """Whether this option is given."""
        return any(word == each for each, _ in self.options)


@dataclass(slots=True)
class OldRule:
    """Everything that one rule says. Grows while it is read."""

    rejects: bool
    source: Side | None = None
    destination: Side | None = None
    conditions: list[OldCondition] = field(default_factory=list)
    #: Whether the client must have logged in (True) or must not (False); None when nothing is said.
    authenticated: bool | None = None
    #: ``alias <a>`` or ``virtual <v>``; ``userbase <u>``.
    lookups: list[str] = field(default_factory=list)
    delivery: OldDelivery = OldDelivery()
    forward_only: bool = False
    expire: str = ""


def read_rule(words: tuple[Word, ...]) -> OldRule:
    """The rule that ``words`` say, the first being ``accept`` or ``reject``."""
    phrase = Phrase(words)
    rule = OldRule(phrase.take().text == "reject")
    while phrase.word is not None:
        offset = phrase.offset
        negated = phrase.accept("!") is not None
        word = phrase.take()
        reader = _PARTS.get(word.text) if word.sort is Sort.WORD else None
        if reader is None:
            raise Untranslatable(
                word.offset, f'"{word.text or word.spelling}" is no part of a rule of the older grammar'
            )
        if rule.rejects and word.text not in _DECIDING:
            raise Untranslatable(offset, f'"{word.text}" has no meaning in a rule that rejects')
        reader(phrase, rule, negated or phrase.accept("!") is not None)
    return rule


def _from(phrase: Phrase, rule: OldRule, negated: bool) -> None:
    if form := phrase.accept("any", "local"):
        rule.source = Side(form.text, negated)
    else:
        phrase.accept("source")
        rule.source = Side("source", negated, phrase.table_words())


def _for(phrase: Phrase, rule: OldRule, negated: bool) -> None:
    if form := phrase.accept("any", "local"):
        rule.destination = Side(form.text, negated)
    else:
        phrase.expect("domain")
        rule.destination = Side("domain", negated, phrase.table_words())


def _condition(now: str) -> Callable[[Phrase, OldRule, bool], None]:
    def read(phrase: Phrase, rule: OldRule, negated: bool) -> None:
        rule.conditions.append(OldCondition(now, negated, phrase.table()))

    return read


def _authenticated(_phrase: Phrase, rule: OldRule, negated: bool) -> None:
    rule.authenticated = not negated


def _lookup(word: str) -> Callable[[Phrase, OldRule, bool], None]:
    def read(phrase: Phrase, rule: OldRule, _negated: bool) -> None:
        rule.lookups.append(f"{word} {phrase.table()}")

    return read


def _deliver(phrase: Phrase, rule: OldRule, _negated: bool) -> None:
    phrase.expect("to")
    method = phrase.accept("mbox", "maildir", "lmtp", "mda")
    if method is None:
        phrase.fail("expected mbox, maildir, mda or lmtp")
    needs_argument = method.text in ("lmtp", "mda")
    has_path = method.text == "maildir" and phrase.at_table
    target = phrase.string() if needs_argument or has_path else None
    options = []
    if method.text == "lmtp" and phrase.accept("rcpt-to"):
        options.append(("rcpt-to", ""))
    if phrase.accept("as"):
        options.append(("user", phrase.argument()))
    rule.delivery = OldDelivery(method.text, target, options=tuple(options))


def _relay(phrase: Phrase, rule: OldRule, _negated: bool) -> None:
    via = phrase.table_words() if phrase.accept("via") else ()
    options: list[tuple[str, str]] = []
    while option := phrase.accept("backup", *_RELAY_OPTIONS):
        options.append((option.text, _option_argument(phrase, option.text)))
    rule.delivery = OldDelivery("relay", via=via, options=tuple(options))


def _option_argument(phrase: Phrase, option: str) -> str:
    match option:
        case "tls" | "verify":
            return ""
        case "backup":
            return phrase.argument() if phrase.at_table else ""
        case "auth" | "helo" | "hostnames" | "source":
            return phrase.table()
        case _:
            return phrase.argument()


def _expire(phrase: Phrase, rule: OldRule, _negated: bool) -> None:
    rule.expire = phrase.argument()


def _forward_only(_phrase: Phrase, rule: OldRule, _negated: bool) -> None:
    rule.forward_only = True


_DECIDING: Final = ("from", "for", "sender", "recipient", "tagged", "authenticated")
_PARTS: Final[Mapping[str, Callable[[Phrase, OldRule, bool], None]]] = {
    "from": _from,
    "for": _for,
    "sender": _condition("mail-from"),
    "recipient": _condition("rcpt-to"),
    "tagged": _condition("tag"),
    "authenticated": _authenticated,
    "alias": _lookup("alias"),
    "virtual": _lookup("virtual"),
    "userbase": _lookup("userbase"),
    "deliver": _deliver,
    "relay": _relay,
    "expire": _expire,
    "forward-only": _forward_only,
}
