"""An explanation as a page for people: the verdict first, then why, then what would be queued and where it would go.

Guarantees: one thing a line, and no control character out of an address, a table or the DNS reaches the terminal.

Failure: `control.client.ConnectionLost` for a document of another version.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

import msgspec

from control.client import ConnectionLost
from control.printing import duration, one_line
from policy.explain import Asked, Explanation, LocalRoute, Node, PlannedEnvelope, RelayRoute

#: How far a note in the tree is moved to the right at most.
_WIDEST: Final = 44
_LABEL: Final = 8


def page(document: bytes) -> Iterator[str]:
    """The lines for an explanation in JSON."""
    try:
        explanation = msgspec.json.decode(document, type=Explanation)
    except msgspec.DecodeError as error:
        raise ConnectionLost(f"smtpd is of another version: {error}") from None
    return map(one_line, _lines(explanation))


def _lines(told: Explanation) -> Iterator[str]:
    yield from _head(told)
    yield from ("", "Rules")
    for asked in told.asked:
        yield from _rules(asked, told)
    if told.tree:
        yield from ("", "Expansion")
        yield from _tree(told.tree)
    if told.envelopes:
        yield from ("", "Envelopes")
    for number, envelope in enumerate(told.envelopes, 1):
        yield from _envelope(number, envelope, told)


def _head(told: Explanation) -> Iterator[str]:
    yield f"<{told.recipient}> from <{told.sender}> by {_client(told)}"
    if told.refused:
        yield f"refused: {told.refused.reply}"
        yield f"because: {told.refused.reason.removeprefix(f'<{told.recipient}>: ')}"
    else:
        count = len(told.envelopes)
        troubled = sum(1 for envelope in told.envelopes if _trouble(envelope))
        yield f"accepted: {count} envelope{'s'[: count != 1]}" + (f", {troubled} with trouble" if troubled else "")
    how = "as smtpd runs it" if told.running else "read for this answer; smtpd was not asked"
    yield f"by {told.config}, {how}"


def _trouble(envelope: PlannedEnvelope) -> str:
    way = envelope.relay or envelope.local
    return way.trouble if way else ""


def _client(told: Explanation) -> str:
    if told.client == "local":
        who = "the submission socket"
    elif told.client == "0.0.0.0":  # noqa: S104  (compared with, not bound to)
        who = "a client somewhere"
    else:
        who = f"a client at {told.client}"
    more = {
        f"logged in as {told.login}": told.login,
        f"called {told.rdns}": told.rdns,
        f"HELO {told.helo}": told.helo,
        f"tag {told.tag}": told.tag,
        "in TLS": told.tls,
    }
    return ", ".join([who, *(words for words, given in more.items() if given)])


def _rules(asked: Asked, told: Explanation) -> Iterator[str]:
    yield f"  <{asked.address}>{', out of an alias: it counts as from this machine' if asked.internal else ''}"
    places = [_place(trial.place, told.config) for trial in asked.trials]
    width = max(map(len, places), default=0)
    for place, trial in zip(places, asked.trials, strict=True):
        yield f"    {place:<{width}}  {trial.rule}"
        yield f"    {'':<{width}}  {'yes' if trial.matched else 'no'}: {trial.reason}"
    if not any(trial.matched for trial in asked.trials):
        yield f"    {'':<{width}}  no rule matches"


def _place(place: str, config: str) -> str:
    """The file by its name alone where it lies beside the configuration."""
    return place.removeprefix(os.path.dirname(config) + "/")


def _tree(root: Node) -> Iterator[str]:
    flat = list(_flat(root, 1))
    width = min(_WIDEST, max(2 * depth + len(node.text) for depth, node in flat))
    for depth, node in flat:
        ends = "" if node.envelope is None else f"-> envelope {node.envelope}"
        notes = " ".join(part for part in (_KINDS.get(node.kind, ""), node.note, ends) if part)
        yield f"{'  ' * depth + node.text:<{width}}  {notes}".rstrip()


_KINDS: Final = {"include": "a list", "command": "a command", "file": "a file", "user": "user"}


def _flat(node: Node, depth: int) -> Iterator[tuple[int, Node]]:
    yield depth, node
    for child in node.children:
        yield from _flat(child, depth + 1)


def _envelope(number: int, envelope: PlannedEnvelope, told: Explanation) -> Iterator[str]:
    lane = f"{envelope.action}/{envelope.lane}" if envelope.lane else envelope.action
    yield f"  {number}  {envelope.ends_at or envelope.destination}"
    yield _field("action", f"{envelope.action}; lane {lane}; waits for {duration(envelope.ttl)} at most")
    fields = _relay(envelope.relay, told) if envelope.relay else _local(envelope.local) if envelope.local else ()
    yield from (_field(label, text) for label, text in fields)


def _field(label: str, text: str) -> str:
    return f"     {label:<{_LABEL}}{text}"


def _relay(route: RelayRoute, told: Explanation) -> Iterator[tuple[str, str]]:
    if route.trouble and len(route.hops) != 1:
        yield "trouble", route.trouble
    if not route.hops:
        return
    hosts = [_host(hop.host, hop.port) for hop in route.hops]
    width = max(map(len, hosts), default=0)
    terms = list(dict.fromkeys(hop.tls for hop in route.hops if hop.tls))
    for hop, host in zip(route.hops, hosts, strict=True):
        label = _BY[route.by] if hop.preference is None else f"mx {hop.preference}"
        yield label, f"{host:<{width}}  {hop.trouble or ', '.join(hop.addresses)}".rstrip()
        if hop.label:
            yield "login", f"as {hop.label}, {f'found in {hop.label_in}' if hop.label_in else 'which cannot be used'}"
        if len(terms) > 1 and hop.tls:
            yield "tls", hop.tls
    if len(terms) == 1:
        yield "tls", terms[0]
    rewritten = "" if route.sender == told.sender else " (mail-from of the action)"
    yield "sender", f"<{route.sender}>{rewritten}"
    yield "helo", route.helo
    if route.sources:
        yield "from", ", ".join(route.sources)


_BY: Final = {"smarthost": "host", "table": "host", "mx": "mx", "domain": "no mx", "literal": "address"}


def _host(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _local(route: LocalRoute) -> Iterator[tuple[str, str]]:
    if route.target:
        yield route.by, route.target
    if route.by == "lmtp":
        yield "rcpt", route.user
    elif route.user:
        yield "as", f"{route.user} (uid {route.uid}, home {route.home})"
    if route.trouble:
        yield "trouble", route.trouble
