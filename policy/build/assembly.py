"""A whole `Config` out of a script."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from policy.build.actions import build_action, check_wrappers
from policy.build.certificates import build_pkis, check_cas
from policy.build.encryption import build_encryption
from policy.build.filters import build_filters
from policy.build.listeners import PlacedListener, build_listeners
from policy.build.rules import build_rule
from policy.build.secret_files import build_secret_files
from policy.build.tls import check_ciphers
from policy.build.workbench import Workbench
from policy.config import Config
from policy.errors import Place
from policy.secret_file import SecretFile
from policy.server_name import ServerName
from policy.tables.services import ip_address
from spool.seal import Compression


@dataclass(frozen=True, slots=True)
class Assembled:
    """A configuration, and where its listeners and what else has no place in it were written."""

    config: Config
    listeners: tuple[PlacedListener, ...]
    #: Files of passwords, and what makes each one.
    secret_files: Mapping[SecretFile, Place]


def assemble(bench: Workbench, name: ServerName) -> Assembled:
    """The configuration, with what could be understood; what is wrong goes to the bench's findings."""
    script = bench.script
    bench.shelf.open_declared()
    build_pkis(bench)
    check_cas(bench)
    if script.ciphers:
        check_ciphers(bench, script.ciphers)
    build_filters(bench)
    check_wrappers(bench)
    listeners = build_listeners(bench)
    actions = {key: build_action(bench, statement) for key, statement in script.actions.items()}
    rules = tuple(build_rule(bench, statement) for statement in script.rules)
    if not bench.script.names("match") and not script.is_misread:
        bench.complain(
            Place(bench.shelf.path), 'there is no rule, so no mail would be accepted: expected a "match" line'
        )
    addresses = _own_addresses(bench)
    secret_files = build_secret_files(bench, actions)
    defaults = Config(bench.shelf.path, name.name, (), {}, ())
    config = Config(
        bench.shelf.path,
        name.name,
        tuple(each.listener for each in listeners),
        actions,
        rules,
        bench.shelf.tables,
        _or(script.queue_ttl, defaults.queue_ttl),
        defaults.warn_intervals if script.warn_intervals is None else tuple(script.warn_intervals),
        _or(script.max_message_size, defaults.max_message_size),
        _or(script.max_mails, defaults.max_mails),
        _or(script.max_recipients, defaults.max_recipients),
        defaults.sub_addr_delim if script.sub_addr_delim is None else script.sub_addr_delim,
        frozenset({"localhost", name.name.lower(), name.name.lower().partition(".")[0], *addresses}),
        addresses,
        bench.layout.root,
        limits=script.limits,
        wrappers={name: command.text for name, command in script.wrappers.items()},
        compression=Compression(script.compression),
        encryption=build_encryption(bench),
        secret_files=tuple(secret_files),
        smtp_processes=script.smtp_processes,
        mta_processes=script.mta_processes,
    )
    return Assembled(config, tuple(listeners), secret_files)


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _own_addresses(bench: Workbench) -> frozenset[str]:
    texts = (text for addresses in bench.host.interfaces().values() for text in addresses)
    return frozenset(str(address) for text in texts if (address := ip_address(text)))
