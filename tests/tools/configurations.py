"""Configurations made at random out of the vocabulary of the language, so that what the language learns is tried too."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Final

from hypothesis import strategies as st

from policy.errors import ConfigError
from policy.grammar.vocabulary import (
    CONDITIONS,
    FILTER_DEEDS,
    FILTER_PHASES,
    FILTER_QUESTIONS,
    FOR_FORMS,
    FROM_FORMS,
    LISTEN_OPTIONS,
    LOCAL_OPTIONS,
    METHODS,
    RELAY_OPTIONS,
    SOCKET_OPTIONS,
    Option,
    Takes,
)
from policy.quoting import quoted

#: Strings that quotes and escapes make difficult.
_STRINGS: Final = st.sampled_from(["x", "a b", "$x", "a#b", "a\\b", 'q"q', "it's", "{x}", "ünï", "/p", "*"]).map(quoted)
_DOMAINS: Final = st.sampled_from(["example.org", "mail.example.com", '"*.example.net"', "localhost"])
_MAILBOXES: Final = st.sampled_from(["ann@example.org", '"@example.org"', "bob"])
_ADDRESSES: Final = st.sampled_from(["192.0.2.1", '"[2001:db8::1]"', "::1"])
_DELAYS: Final = st.builds("{}{}".format, st.integers(1, 300), st.sampled_from("smhd"))
_PORTS: Final = st.sampled_from(["25", "465", "smtp", "smtps", '"2525"'])
#: Mappings that are declared, and one written in place.
_MAPPINGS: Final = st.sampled_from(["<pairs>", "<file>", '{ root = ann, bob => "a, b" }'])
_URLS: Final = st.sampled_from(
    ["smtp://h.example", "smtps://me@h.example", "smtp+tls://h.example:587", "h.example", '"lmtp://[::1]:24"']
)
#: One of them is none.
_EXPRESSIONS: Final = st.sampled_from(['"^a\\\\S+$"', '{ "x|Y", "[[:digit:]]" }', '"("', "<words>"])


def _one_or_list(words: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return words | st.lists(words, min_size=1, max_size=3, unique=True).map(lambda each: f"{{ {', '.join(each)} }}")


#: What stands behind an option's word, where its kind of argument does not say enough.
_ARGUMENTS: Final[Mapping[str, st.SearchStrategy[str]]] = {
    "alias": _MAPPINGS,
    "virtual": _MAPPINGS,
    "userbase": st.just("<pairs>") | st.just('{ ann = "1001:1001:/home/ann" }'),
    "pki": st.just("box"),
    "wrapper": st.just("w"),
    "hostname": _DOMAINS,
    "helo": _one_or_list(_DOMAINS),
    "host": _one_or_list(_URLS),
    "ca": st.just("roots"),
    "src": _one_or_list(_ADDRESSES),
    "lmtp": st.sampled_from(["localhost:24", '"/run/lmtp"', '"[::1]:24"']),
    "maildir": st.sampled_from(["", '"~/Mail"', '"/var/mail/%{user.username}"']),
    "mail-from": _MAILBOXES,
    "rcpt-to": _one_or_list(_MAILBOXES),
    "domain": _one_or_list(_DOMAINS) | st.just("<words>"),
    "ciphers": st.sampled_from(["secure", '"HIGH:!aNULL"']),
    "protocols": st.sampled_from(['"tlsv1.3"', '"tlsv1.2,tlsv1.3"']),
    "hostnames": st.just('{ "192.0.2.25" = a.example, "[::1]" = b.example }'),
    "senders": st.sampled_from(["<pairs>", '{ ann = "ann@example.org, @example.net" }']),
    "filter": _one_or_list(st.sampled_from(["f0", "f1", "f2", "both"])),
    "reject": st.sampled_from(['"550 go away"', '"421 later"']),
    "disconnect": st.just('"550 5.7.1 \\"quotes\\""'),
    "rewrite": st.sampled_from(['"<ann@example.org>"', "mail.example.org"]),
    "tag": st.sampled_from(["blue", '"red one"']),
}
_BY_OWNER: Final[Mapping[str, st.SearchStrategy[str]]] = {
    "listen auth": st.just("<pairs>"),
    "listen auth-optional": st.just("<pairs>"),
    "relay auth": st.just("<pairs>"),
    "relay helo": _DOMAINS,
    "filter src": _one_or_list(_ADDRESSES),
    "relay domain": st.just('{ example.org = "smtp://h.example", "a.example" = "smtps://me@h.example" }'),
    "relay helo-src": st.just('{ "192.0.2.1" = "mail.example.org" }'),
    "relay ciphers": st.sampled_from(["HIGH", '"ECDHE+AESGCM"']),
    "relay protocols": st.sampled_from(['"TLSv1.3"', "tlsv1.2"]),
    "from src": _one_or_list(_ADDRESSES | st.just("10.0.0.0/8")),
}
_BY_KIND: Final = {
    Takes.NOTHING: st.just(""),
    Takes.STRING: _STRINGS,
    Takes.MAYBE_STRING: st.just("") | _STRINGS,
    Takes.TABLE: st.just("<words>") | _one_or_list(_STRINGS),
    Takes.MAYBE_TABLE: st.just("") | st.just("<words>"),
    Takes.PATTERNS: st.just("<words>") | _one_or_list(_STRINGS),
    Takes.MAYBE_PATTERNS: st.just("") | _one_or_list(_STRINGS),
    Takes.DELAY: _DELAYS,
    Takes.DELAYS: _one_or_list(_DELAYS),
    Takes.PORT: _PORTS,
    Takes.NAMES: _STRINGS,
    Takes.MAYBE_MX: st.just("") | _DOMAINS.map("mx {}".format),
}


@st.composite
def _option(draw: st.DrawFn, owner: str, option: Option) -> str:
    by_kind = _BY_KIND[option.takes]
    argument = draw(_BY_OWNER.get(f"{owner} {option.word}", _ARGUMENTS.get(option.word, by_kind)))
    if option.takes in (Takes.PATTERNS, Takes.MAYBE_PATTERNS) and argument and draw(st.booleans()):
        argument = f"regex {draw(_EXPRESSIONS)}"
    modifier = option.modifier if option.modifier and not option.modifier_later and draw(st.booleans()) else ""
    return " ".join(part for part in (option.word, argument, modifier) if part)


@st.composite
def _options(draw: st.DrawFn, owner: str, known: Mapping[str, Option]) -> str:
    groups: dict[str, list[Option]] = defaultdict(list)
    for option in known.values():
        if not option.later:
            groups[option.group or option.word].append(option)
    chosen = draw(st.lists(st.sampled_from(sorted(groups)), unique=True, max_size=5))
    return " ".join(draw(_option(owner, draw(st.sampled_from(groups[group])))) for group in chosen)


@st.composite
def _listener(draw: st.DrawFn) -> str:
    if draw(st.booleans()):
        return f"listen on socket {draw(_options('socket', SOCKET_OPTIONS))}"
    on = draw(st.sampled_from(["localhost", "eth0", '"::1"', "192.0.2.25"]))
    return f"listen on {on} {draw(_options('listen', LISTEN_OPTIONS))} {draw(st.sampled_from(['', 'tls pki mx']))}"


@st.composite
def _action(draw: st.DrawFn, name: str) -> str:
    method = draw(st.sampled_from([option for option in METHODS.values() if not option.later]))
    known = RELAY_OPTIONS if method.word == "relay" else LOCAL_OPTIONS
    return f"action {name} {draw(_option('action', method))} {draw(_options(method.word, known))}"


@st.composite
def _rule(draw: st.DrawFn) -> str:
    parts = [
        draw(st.sampled_from(["", "!"])) + " from " + draw(_form("from", FROM_FORMS)) if draw(st.booleans()) else "",
        draw(st.sampled_from(["", "!"])) + " for " + draw(_form("for", FOR_FORMS)) if draw(st.booleans()) else "",
        draw(_options("match", CONDITIONS)),
        draw(st.sampled_from(["reject", "action a", "action b", "action c"])),
    ]
    return f"match {' '.join(parts)}"


@st.composite
def _filter(draw: st.DrawFn, name: str) -> str:
    negation = draw(st.sampled_from(["", "! "]))
    question = draw(_form("filter", FILTER_QUESTIONS))
    phase = draw(st.sampled_from(FILTER_PHASES))
    return f"filter {name} phase {phase} match {negation}{question} {draw(_form('filter', FILTER_DEEDS))}"


def _form(owner: str, known: Mapping[str, Option]) -> st.SearchStrategy[str]:
    forms = [option for option in known.values() if not option.later]
    return st.sampled_from(forms).flatmap(lambda option: _option(owner, option))


_SETTINGS: Final = st.one_of(
    _DELAYS.map("queue ttl {}".format),
    st.lists(_DELAYS, min_size=1, max_size=4).map(lambda delays: f"bounce warn-interval {', '.join(delays)}"),
    st.integers(1, 99).map("smtp max-message-size {}".format),
    st.integers(1, 99).map("mta limit inet4 max-conn-per-host {} conn-delay-route 0".format),
    st.integers(1, 99).map("mta limit for domain example.org session-mail-max {}".format),
    st.integers(1, 99).map("mda limit max-session {} max-session-per-user 2".format),
    st.integers(1, 99).map("scheduler limit max-inflight {}".format),
    st.integers(1, 99).map("smtp limit max-mails 7 max-rcpt {}".format),
    st.sampled_from("-_=").map('smtp sub-addr-delim "{}"'.format),
)


@st.composite
def configurations(draw: st.DrawFn) -> str:
    """A text of which some lines may contradict themselves; it names the tables and certificates of `declared`."""
    lines = [
        *draw(st.lists(_SETTINGS, max_size=3)),
        *(draw(_filter(f"f{number}")) for number in range(3)),
        "filter both chain { f0, f2 }",
        *draw(st.lists(_listener(), max_size=3)),
        *(draw(_action(name)) for name in "abc"),
        *draw(st.lists(_rule(), max_size=5)),
        "match for any reject",
    ]
    return "".join(f"{line}\n" for line in lines)


def right_lines(read: Callable[[str], object], text: str) -> str:
    """``text`` without the lines that ``read`` complains of."""
    lines = text.split("\n")
    while True:
        try:
            read("\n".join(lines))
        except ConfigError as error:
            for wrong in {finding.line for finding in error.findings}:
                lines[wrong - 1] = ""
        else:
            return "\n".join(lines)
