"""``action`` lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, TypedDict

from policy.build.specifiers import specifier_trouble
from policy.build.tables import entries_of
from policy.build.tls import ciphers_of, protocols_of
from policy.build.workbench import Workbench
from policy.command_line import WRAPPED, CommandLineError, command_words, wrapper_words
from policy.config import (
    AnyAction,
    Command,
    ExpandOnly,
    ForwardOnly,
    Lmtp,
    Maildir,
    Mbox,
    Relay,
    Retry,
    Smarthost,
    Squares,
    Waits,
)
from policy.grammar.syntax import ActionStatement, Argument, Delays, Given, Options, Word
from policy.smarthost import SmarthostSyntaxError, parse_smarthost
from policy.suggestion import did_you_mean
from policy.tables.inline import InlineTable
from policy.tables.service import ADDRNAME, ALIAS, ANY, RELAYHOST, SECRETS, SOURCE, USERINFO, Service
from policy.tables.services import ip_address
from policy.tables.table import Shape, Table
from spool.address import AddressSyntaxError, is_domain, parse_address

#: Methods whose deliveries no wrapper could be around, but for a few that aliases name.
_NO_COMMAND: Final = ("mbox", "maildir", "lmtp", "forward-only")
#: Methods that take no ``user``, and why.
_NO_USER: Final = {
    "mbox": "a mailbox belongs to its own user",
    "forward-only": "nobody has a mailbox there",
    "expand-only": "nobody has a mailbox there",
}
_LMTP_DESTINATION: Final = re.compile(r"/.+|(?P<host>\[[^\]]+\]|[^:/]+)(?::(?P<port>[0-9]{1,5}))?")


def build_action(bench: Workbench, statement: ActionStatement) -> AnyAction:
    """The action, with what could be understood of it."""
    method = statement.method
    if method.word == "relay":
        return _relay(bench, statement)
    common = _local(bench, statement)
    match method.word:
        case "maildir":
            return Maildir(**common, path=_maildir_path(bench, method), junk=method.modified)
        case "mda":
            return Command(**common, command=_command(bench, method.string()))
        case "lmtp":
            return Lmtp(**common, destination=_lmtp_destination(bench, method.string()), rcpt_to=method.modified)
        case "forward-only":
            return ForwardOnly(**common)
        case "expand-only":
            return ExpandOnly(**common)
        case _:
            return Mbox(**common)


class _Local(TypedDict):
    name: str
    ttl: int | None
    retry: Retry | None
    alias: Table | None
    virtual: Table | None
    user: str
    wrapper: str
    userbase: Table | None


def _local(bench: Workbench, statement: ActionStatement) -> _Local:
    options = statement.options
    return {
        "name": statement.name.text,
        "ttl": _ttl(options),
        "retry": _retry(options),
        "alias": _mapping(bench, options.find("alias"), ALIAS),
        "virtual": _mapping(bench, options.find("virtual"), ALIAS),
        "user": _user(bench, statement),
        "wrapper": _wrapper(bench, statement),
        "userbase": _mapping(bench, options.find("userbase"), USERINFO),
    }


def _ttl(options: Options) -> int | None:
    given = options.find("ttl")
    return given.number().value if given else None


def _retry(options: Options) -> Retry | None:
    given = options.find("retry")
    if given is None:
        return None
    if isinstance(given.argument, Delays):
        return Waits(tuple(each.value for each in given.argument.delays))
    return Squares(given.number().value)


def _mapping(bench: Workbench, given: Given | None, service: Service = ANY) -> Table | None:
    return bench.shelf.use(given.table(), Shape.MAPPING, f'"{given.word}"', service) if given else None


def _user(bench: Workbench, statement: ActionStatement) -> str:
    given = statement.options.find("user")
    if given is None:
        return ""
    word = given.string()
    method = statement.method.word
    if why := _NO_USER.get(method):
        bench.complain(given.place, f'"user" cannot be given for {method}: {why}')
    elif not word.text:
        bench.complain(word.place, "an empty string is no user")
    return word.text


def _wrapper(bench: Workbench, statement: ActionStatement) -> str:
    given = statement.options.find("wrapper")
    if given is None:
        return ""
    name, method = given.string(), statement.method.word
    declared = bench.script.names("wrapper")
    if name.text not in declared:
        known = did_you_mean(name.text, declared, "declared are")
        bench.complain(name.place, f'no wrapper "{name.text}" is declared{known}')
    elif method in _NO_COMMAND:
        bench.complain(given.place, f'"wrapper" cannot be given for {method}: a wrapper can only wrap a command')
    found = bench.script.wrappers.get(name.text)
    return found.text if found else ""


def check_wrappers(bench: Workbench) -> None:
    """Every ``mda wrapper`` line can be expanded, whether an action names it or not."""
    for command in bench.script.wrappers.values():
        if trouble := _wrapper_trouble(command.text):
            bench.complain(command.place, trouble)
        elif WRAPPED not in command.text.lower():
            bench.warn(
                command.place, f"{WRAPPED} is missing, so this is run instead of the command that it should wrap"
            )


def _wrapper_trouble(text: str) -> str:
    try:
        others = (word for word in wrapper_words(text) if word != WRAPPED)
        return next(filter(None, map(specifier_trouble, others)), "")
    except CommandLineError as error:
        return str(error)


def _maildir_path(bench: Workbench, method: Given) -> str:
    if method.argument is None:
        return "~/Maildir"
    word = method.string()
    if not word.text.startswith(("/", "~/", "%{")):
        bench.complain(word.place, f'expected a path that begins with "/" or "~/", found "{word.text}"')
    if trouble := specifier_trouble(word.text):
        bench.complain(word.place, trouble)
    return bench.layout.inside(word.text)


def _command(bench: Workbench, word: Word) -> str:
    if trouble := specifier_trouble(word.text) or _command_trouble(word.text):
        bench.complain(word.place, trouble)
    return word.text


def _command_trouble(text: str) -> str:
    try:
        command_words(text)
    except CommandLineError as error:
        return str(error)
    return ""


def _lmtp_destination(bench: Workbench, word: Word) -> str:
    match = _LMTP_DESTINATION.fullmatch(word.text)
    if match is None or not _is_lmtp_host(match["host"]) or not 0 < int(match["port"] or 25) < 65536:
        bench.complain(word.place, f'expected "/socket", "host:port" or "[address]:port", found "{word.text}"')
    return bench.layout.inside(word.text)


def _is_lmtp_host(host: str | None) -> bool:
    if host is None:
        return True
    return ip_address(host) is not None if host.startswith("[") else is_domain(host)


def _relay(bench: Workbench, statement: ActionStatement) -> Relay:
    options = statement.options
    host_table = _host_table(bench, options.find("host"))
    hosts = _hosts(bench, options.find("host"), host_table)
    domain = _mapping(bench, options.find("domain"), RELAYHOST)
    named = (*hosts, *_mapped_hosts(bench, options.find("domain"), domain))
    tls, pki, ca, backup = (options.find(word) for word in ("tls", "pki", "ca", "backup"))
    _check_auth(bench, options, named)
    _check_tls(bench, tls, named)
    return Relay(
        name=statement.name.text,
        ttl=_ttl(options),
        retry=_retry(options),
        hosts=hosts,
        host_table=None if isinstance(host_table, InlineTable) else host_table,
        auth=_mapping(bench, options.find("auth"), SECRETS),
        mail_from=_mail_from(bench, options.find("mail-from")),
        helo=_helo(bench, options.find("helo")),
        require_tls=tls is not None,
        no_verify=tls is not None and tls.modified,
        ca=bench.ca(ca.string()) if ca else "",
        pki=bench.pki(pki.string()) if pki else None,
        src=_sources(bench, options.find("src")),
        domain=domain,
        helo_src=_mapping(bench, options.find("helo-src"), ADDRNAME),
        backup=backup is not None,
        backup_mx=_host_name(bench, backup.argument) if backup else "",
        ciphers=ciphers_of(bench, options),
        protocols=protocols_of(bench, options),
    )


def _host_table(bench: Workbench, given: Given | None) -> Table | None:
    return bench.shelf.use(given.table(), Shape.LIST, '"host"', RELAYHOST) if given else None


def _hosts(bench: Workbench, given: Given | None, table: Table | None) -> tuple[Smarthost, ...]:
    if given is None or table is None:
        return ()
    words = entries_of(given.table(), table)
    if not words:
        bench.complain(given.place, f'table "{table.name}" names no host')
    return tuple(host for word in words if (host := _host(bench, word)))


def _mapped_hosts(bench: Workbench, given: Given | None, table: Table | None) -> Iterator[Smarthost]:
    """What a table of smarthosts by domain says now; it may say something else later."""
    if given is None or table is None:
        return
    for key in entries_of(given.table(), table):
        host = _host(bench, Word(table.lookup(key.text) or "", key.place))
        if host:
            yield host


def _host(bench: Workbench, word: Word) -> Smarthost | None:
    try:
        return parse_smarthost(word.text)
    except SmarthostSyntaxError as error:
        bench.complain(word.place, f'"{word.text}" is no relay URL: {error}')
        return None


def _check_auth(bench: Workbench, options: Options, hosts: tuple[Smarthost, ...]) -> None:
    given, host = options.find("auth"), options.find("host", "domain")
    if given and not host:
        said = '"auth" is of no use without "host" or "domain": servers found by MX ask for no password'
        bench.complain(given.place, said)
    labels = sorted({each.label for each in hosts if each.label})
    if host and labels and not given:
        bench.complain(host.place, f'label "{labels[0]}" stands for a password: expected "auth <table>" too')
    if host and hosts and given and not labels:
        bench.warn(given.place, '"auth" is not used: no host has a label, as in "smtps://label@host"')


def _check_tls(bench: Workbench, given: Given | None, hosts: tuple[Smarthost, ...]) -> None:
    for host in hosts:
        if given and host.tls.value in ("smtp+notls", "lmtp"):
            bench.complain(given.place, f'"tls" contradicts {host}')


def _mail_from(bench: Workbench, given: Given | None) -> str:
    if given is None:
        return ""
    word = given.string()
    local, at, domain = word.text.rpartition("@") if "@" in word.text else (word.text, "", "")
    try:
        parse_address(f"{local or 'user'}@{domain if at else 'domain'}")
    except AddressSyntaxError as error:
        bench.complain(word.place, f'expected "user", "@domain" or "user@domain": {error}')
    if not word.text:
        bench.complain(word.place, 'expected "user", "@domain" or "user@domain", found nothing')
    return word.text


def _helo(bench: Workbench, given: Given | None) -> str:
    return _host_name(bench, given.argument) if given else ""


def _host_name(bench: Workbench, word: Argument) -> str:
    if not isinstance(word, Word):
        return ""
    if not is_domain(word.text):
        bench.complain(word.place, f'"{word.text}" is no host name')
    return word.text


def _sources(bench: Workbench, given: Given | None) -> Table | None:
    return bench.shelf.use(given.table(), Shape.EITHER, '"src"', SOURCE) if given else None
