"""A configuration as text, the way it was understood: every default written out, every name looked up.

Guarantees: the text, read again on the same machine and without a root folder, gives the same configuration. Paths are
those of the files themselves, and an interface has become its addresses. A key of the queue that stands in the
configuration is not in the text, nor are passwords and hashes of them: a remark says so.

smtpd.conf(5).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Final, TypeAlias, TypeVar

from policy.config import (
    AnyAction,
    Auth,
    Command,
    Condition,
    Config,
    ExpandOnly,
    For,
    ForwardOnly,
    From,
    Listener,
    ListenerTls,
    Lmtp,
    LocalAction,
    Maildir,
    Pki,
    Relay,
    Retry,
    Rule,
    Smarthost,
    Squares,
)
from policy.filters import Deed, Filter
from policy.limits import MdaLimits, MtaLimits, SchedulerLimits
from policy.queue_key import Asks, Encryption
from policy.quoting import quoted, quoted_list
from policy.tables.inline import InlineTable
from policy.tables.table import Table
from spool.seal import Compression

_T = TypeVar("_T")
_SomeLimits: TypeAlias = MtaLimits | MdaLimits | SchedulerLimits

_UNITS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000}


def config_text(config: Config, *, with_passwords: bool = False) -> str:
    """``config`` as lines of smtpd.conf."""
    return "".join(f"{line}\n" for line in _Writer(config, with_passwords=with_passwords).lines())


class _Writer:
    def __init__(self, config: Config, *, with_passwords: bool) -> None:
        self._config = config
        self._secret = frozenset(() if with_passwords else _names_of_passwords(config))
        relays = [action for action in config.actions.values() if isinstance(action, Relay)]
        # The names of `ca` lines are not kept: only their files count.
        cas = _once([*(each.ca for each in config.listeners), *(each.ca for each in relays)])
        self._cas = {path: f"ca{number}" for number, path in enumerate(filter(None, cas))}
        pkis = [pki for listener in config.listeners for pki in listener.pki]
        self._filters = _once(each for listener in config.listeners for each in listener.filters)
        self._pkis = _once([*pkis, *(relay.pki for relay in relays if relay.pki)])

    def lines(self) -> Iterator[str]:
        yield from self._settings()
        yield from (line for pki in self._pkis for line in _pki_lines(pki))
        yield from (f"ca {quoted(name)} cert {quoted(path)}" for path, name in self._cas.items())
        yield from (self._declaration(name, table) for name, table in self._config.tables.items())
        yield from (_line("filter", *self._filter(each)) for each in self._filters)
        yield from (_line("listen on", *self._listener(listener)) for listener in self._config.listeners)
        yield from (_line("action", quoted(name), *self._action(each)) for name, each in self._config.actions.items())
        yield from (_line("match", *self._rule(rule)) for rule in self._config.rules)

    def _settings(self) -> Iterator[str]:
        config = self._config
        yield f"queue ttl {_delay(config.queue_ttl)}"
        if config.compression is not Compression.NONE:
            yield f"queue compression {config.compression.value}"
        if config.encryption:
            yield from _encryption(config.encryption)
        yield f"bounce warn-interval {', '.join(map(_delay, config.warn_intervals))}"
        yield f"smtp max-message-size {config.max_message_size}"
        yield f"smtp limit max-mails {config.max_mails} max-rcpt {config.max_recipients}"
        yield f"smtp sub-addr-delim {quoted(config.sub_addr_delim)}"
        yield f"smtp processes {config.smtp_processes}"
        yield f"mta processes {config.mta_processes}"
        # Before the line for all: a domain begins with what was said for all so far.
        for domain, limits in config.limits.mta_for.items():
            yield _line("mta limit for domain", quoted(domain), *_limits(limits))
        for words, each in config.limits.for_all():
            yield from _limit_line(words, each)
            yield from _unset(words, each)
        yield from (f"mda wrapper {quoted(name)} {quoted(command)}" for name, command in config.wrappers.items())

    def _declaration(self, name: str, table: Table) -> str:
        if name in self._secret:
            return f"# table {quoted(name)}: it holds passwords, and is not printed"
        return f"table {quoted(name)} {table.written}"

    def _listener(self, listener: Listener) -> Iterator[str]:
        yield "socket" if listener.is_socket else f"{quoted(listener.address)} port {listener.port}"
        if listener.tls is not ListenerTls.NONE:
            yield _line(listener.tls.value, _flag("verify", listener.verify))
        yield from (_option("pki", pki.name) for pki in listener.pki)
        if listener.auth is not Auth.NONE:
            yield listener.auth.value
            yield from self._table("", listener.credentials)
        yield _option("tag", listener.tag)
        yield _option("hostname", listener.hostname)
        yield _flag("mask-src", listener.mask_src)
        yield _flag("no-dsn", listener.no_dsn)
        yield from self._table("hostnames", listener.hostnames)
        yield _flag("received-auth", listener.received_auth)
        yield from self._table("senders", listener.senders)
        yield _flag("masquerade", listener.masquerade)
        yield _option("ca", self._cas.get(listener.ca, ""))
        yield _option("ciphers", listener.ciphers)
        yield _option("protocols", listener.protocols)
        yield _flag("proxy-v2", listener.proxy_v2)
        yield from self._table("", listener.proxies)
        if listener.filters:
            yield f"filter {quoted_list(each.name for each in listener.filters)}"

    def _filter(self, each: Filter) -> Iterator[str]:
        question = each.question
        yield f"{quoted(each.name)} phase {each.phase.value} match"
        yield _flag("!", question.negated)
        yield question.what
        yield _flag("regex", question.is_regex)
        yield from self._table("", question.table)
        yield each.deed.value
        yield "" if each.deed in (Deed.JUNK, Deed.BYPASS) else quoted(each.text)

    def _action(self, action: AnyAction) -> Iterator[str]:
        yield from self._relay(action) if isinstance(action, Relay) else self._local(action)
        if action.ttl is not None:
            yield f"ttl {_delay(action.ttl)}"
        if action.retry is not None:
            yield f"retry {_retry(action.retry)}"

    def _local(self, action: LocalAction) -> Iterator[str]:
        yield _method(action)
        yield from self._table("alias", action.alias)
        yield from self._table("virtual", action.virtual)
        yield _option("user", action.user)
        wrappers = (name for name, command in self._config.wrappers.items() if command == action.wrapper)
        yield _option("wrapper", next(wrappers, ""))
        yield from self._table("userbase", action.userbase)

    def _relay(self, relay: Relay) -> Iterator[str]:
        yield "relay"
        yield from self._table("host", relay.host_table)
        if relay.hosts and relay.host_table is None:
            yield f"host {quoted_list(map(_url, relay.hosts))}"
        yield from self._table("auth", relay.auth)
        yield _option("mail-from", relay.mail_from)
        yield _option("helo", relay.helo)
        yield _flag("tls no-verify" if relay.no_verify else "tls", relay.require_tls)
        yield _option("ca", self._cas.get(relay.ca, ""))
        yield _option("pki", relay.pki.name if relay.pki else "")
        yield from self._table("src", relay.src)
        yield from self._table("domain", relay.domain)
        yield from self._table("helo-src", relay.helo_src)
        yield _flag("backup", relay.backup)
        yield _option("mx", relay.backup_mx)
        yield _option("ciphers", relay.ciphers)
        yield _option("protocols", relay.protocols)

    def _rule(self, rule: Rule) -> Iterator[str]:
        yield from self._condition("from", rule.source)
        yield from self._condition("for", rule.destination)
        for condition in rule.conditions:
            yield from self._condition("", condition)
        yield "reject" if rule.rejects else f"action {quoted(rule.action)}"

    def _condition(self, word: str, condition: From | For | Condition) -> Iterator[str]:
        yield _flag("!", condition.negated)
        yield word
        yield condition.what if isinstance(condition, Condition) else condition.form
        yield _flag("regex", condition.is_regex)
        yield from self._table("", condition.table)

    def _table(self, word: str, table: Table | None) -> Iterator[str]:
        if table is not None:
            yield word
            yield f"<{quoted(table.name)}>" if table.name in self._config.tables else table.written


def _names_of_passwords(config: Config) -> Iterator[str]:
    """Tables whose content stands in the configuration and is for logging in, here or there."""
    relays = (action.auth for action in config.actions.values() if isinstance(action, Relay))
    for table in (*(listener.credentials for listener in config.listeners), *relays):
        if isinstance(table, InlineTable):
            yield table.name


def _limit_line(words: str, limits: _SomeLimits) -> Iterator[str]:
    if set_ones := _limits(limits):
        yield _line(words, *set_ones)


def _unset(words: str, limits: _SomeLimits) -> Iterator[str]:
    """A remark on what smtpd measures for itself."""
    unset = [each.name.replace("_", "-") for each in fields(limits) if getattr(limits, each.name) is None]
    if unset:
        yield f"# {words}: smtpd finds a measure of its own for {', '.join(unset)}"


def _limits(limits: _SomeLimits) -> list[str]:
    given = {each.name: getattr(limits, each.name) for each in fields(limits)}
    family = given.pop("family", None)
    set_ones = [f"{name.replace('_', '-')} {value}" for name, value in given.items() if value is not None]
    return [f"inet{family}", *set_ones] if family else set_ones


def _method(action: LocalAction) -> str:
    match action:
        case Maildir():
            return _line(_option("maildir", action.path), _flag("junk", action.junk))
        case Command():
            return _option("mda", action.command)
        case Lmtp():
            return _line(_option("lmtp", action.destination), _flag("rcpt-to", action.rcpt_to))
        case ForwardOnly():
            return "forward-only"
        case ExpandOnly():
            return "expand-only"
        case _:
            return "mbox"


def _pki_lines(pki: Pki) -> Iterator[str]:
    yield f"pki {quoted(pki.name)} cert {quoted(pki.cert)}"
    yield f"pki {quoted(pki.name)} key {quoted(pki.key)}"
    if pki.dhe:
        yield f"pki {quoted(pki.name)} dhe auto"


def _url(host: Smarthost) -> str:
    label = f"{host.label}@" if host.label else ""
    name = f"[{host.host}]" if ":" in host.host else host.host
    return f"{host.tls.value}://{label}{name}:{host.port}"


def _delay(milliseconds: int) -> str:
    unit = next(unit for unit, size in _UNITS.items() if milliseconds % size == 0)
    return f"{milliseconds // _UNITS[unit]}{unit}"


def _retry(retry: Retry) -> str:
    if isinstance(retry, Squares):
        return _delay(retry.base)
    return f"{{ {', '.join(map(_delay, retry.delays))} }}"


def _option(word: str, text: str) -> str:
    return f"{word} {quoted(text)}" if text else ""


def _flag(word: str, is_given: bool) -> str:
    return word if is_given else ""


def _line(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _once(values: Iterable[_T]) -> list[_T]:
    return list(dict.fromkeys(values))


def _encryption(encryption: Encryption) -> Iterator[str]:
    sources = (*((encryption.source,) if encryption.source else ()), *encryption.old)
    if not all(source.written for source in sources):
        yield "# queue encryption: a key stands in the configuration itself, and is not printed"
        return
    key = _flag("stdin", encryption.asks is Asks.STDIN)
    if encryption.source:
        key = quoted(encryption.source.written)
    old = quoted_list(source.written for source in encryption.old)
    yield _line("queue encryption", key, _flag(f"old {old}", bool(encryption.old)))
