"""No open relay: the classical tests, against a daemon with the rules of a small mail server.

The attack is as old as SMTP: a stranger finds a way to write an address so that one part of the server takes it for its own
(and accepts it) and another part for somebody else's (and sends it on). Source routes, the percent hack, bang paths, quoted
local parts with an address inside, address literals of the server itself, two at-signs, and senders of the victim's own
domain have all worked somewhere.

The wall here: an address is parsed once, by RFC 5321, into a local part and a domain, and only the domain is asked about. A
route is dropped, never followed; nothing inside a local part is ever read as an address; the sender opens nothing. Mail for
elsewhere is accepted by a rule that names whom it comes from, and AUTH alone gives nothing that no rule gives.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from tests.tools.certificates import CertificateAuthority
from tests.tools.daemon import Daemon, free_port, wait_for
from tests.tools.recording_sink import RecordingSink
from tests.tools.smtp_server import HASH
from tests.tools.stranger import Stranger

#: One daemon serves all of them.
pytestmark = pytest.mark.xdist_group("attacks: open relay")

#: The rules of the seed's mail server, but for where mail for elsewhere is taken to.
CONFIGURATION = """\
pki mx.domain.tld cert "/etc/smtpd/smtpd.crt"
pki mx.domain.tld key "/etc/smtpd/smtpd.key"
table creds "/etc/smtpd/creds"
table vdoms "/etc/smtpd/vdoms"
table vusers "/etc/smtpd/vusers"
table allowed "/etc/smtpd/allowed"
listen on 127.0.0.1 port $port tls pki mx.domain.tld
listen on 127.0.0.1 port {submission} tls-require pki mx.domain.tld auth <creds> senders <allowed> masquerade
listen on 127.0.0.1 port {no_rule} tls-require pki mx.domain.tld auth <creds> tag NORULE
action receive maildir "/Maildir" virtual <vusers>
action send relay host "smtp+notls://127.0.0.1:{sink}"
match from any for domain <vdoms> action receive
match auth from any ! tag NORULE for any action send
match for any action send
"""

OURS = "personaldomain.org"
#: Everything below this domain is somebody's here, whatever stands before the at-sign.
CATCHALL = "catchall.example"
VICTIM = "victim.example"

#: Not addresses at all, or mail for elsewhere: refused.
REFUSED = [
    f"<victim@{VICTIM}>",
    f"<VICTIM@{VICTIM.upper()}>",
    f"<victim@{VICTIM}.>",
    f"<@{OURS}:victim@{VICTIM}>",
    f"<@{OURS},@{CATCHALL}:victim@{VICTIM}>",
    f"<@[127.0.0.1]:victim@{VICTIM}>",
    f"<@localhost:victim@{VICTIM}>",
    f"<victim%{VICTIM}@{OURS}>",
    f"<victim%{VICTIM}>",
    f"<victim%{VICTIM}@>",
    f"<victim%{VICTIM}@[127.0.0.1]>",
    f"<victim%{VICTIM}@box.example.net>",
    f"<victim%{VICTIM}@localhost>",
    f"<victim%{VICTIM}%{OURS}@{OURS}>",
    f"<{VICTIM}!victim@{OURS}>",
    f"<{VICTIM}!victim>",
    f"<{OURS}!{VICTIM}!victim>",
    f"<{VICTIM}!victim%{OURS}@{OURS}>",
    f"<victim@{VICTIM}@{OURS}>",
    f"<victim@{VICTIM}@>",
    f"<victim@{VICTIM}@[127.0.0.1]>",
    f"<victim@{VICTIM}@localhost>",
    f'<"victim@{VICTIM}"@{OURS}>',
    f'<"victim@{VICTIM}">',
    f'<"victim@{VICTIM}"@[127.0.0.1]>',
    f'<"victim%{VICTIM}"@localhost>',
    f'<"victim"@{VICTIM}>',
    f'<victim"@{VICTIM}>',
    f"<victim\\@{VICTIM}@{OURS}>",
    f"<victim@{VICTIM} {OURS}>",
    f"<victim@{VICTIM},x@{OURS}>",
    f"<victim@{VICTIM};x@{OURS}>",
    f"<victim@{VICTIM}\t@{OURS}>",
    f"<victim@{VICTIM}\0@{OURS}>",
    f"<victim@{VICTIM}\r@{OURS}>",
    f"<<victim@{VICTIM}>>",
    f"<x@{OURS}>,<victim@{VICTIM}>",
    f"<x@{OURS}><victim@{VICTIM}>",
    f"< victim@{VICTIM} >",
    f"victim@{VICTIM}",
    f"<victim@{VICTIM}",
    "<victim@[192.0.2.25]>",
    "<victim@192.0.2.25>",
    "<victim@[IPv6:2001:db8::25]>",
    "<victim@[127.0.0.1]>",
    "<victim@127.0.0.1>",
    "<victim@2130706433>",
    "<victim@>",
    f"<@{VICTIM}>",
    "<@>",
    "<>",
    "<victim@xn--vctim-n2a.example>",
    "<victim@v\u0131ctim.example>",
    f"<victim@{VICTIM}%2f@{OURS}>",
    f"<postmaster@{VICTIM}>",
    f"<|/bin/false@{VICTIM}>",
    f"<victim@{OURS}.{VICTIM}>",
    f"<victim@.{VICTIM}>",
    f"<victim@{VICTIM}#{OURS}>",
]

#: Ours by their domain, and so for one of us, whatever their local part looks like.
KEPT = [
    f"<roger@{OURS}>",
    f"<ROGER@{OURS.upper()}>",
    f"<@{VICTIM}:roger@{OURS}>",
    f"<victim%{VICTIM}@{CATCHALL}>",
    f"<{VICTIM}!victim@{CATCHALL}>",
    f'<"victim@{VICTIM}"@{CATCHALL}>',
    f'<"@{VICTIM}:victim"@{CATCHALL}>',
    f'<"victim@{VICTIM}\\"@{VICTIM}"@{CATCHALL}>',
    f'<"victim@{VICTIM}>"@{CATCHALL}>',
    f"<|victim@{CATCHALL}>",
]

#: What a server may take for the sign of a friend.
SENDERS = [
    "",
    f"roger@{OURS}",
    f"postmaster@{OURS}",
    "root@box.example.net",
    "root",
    "root@localhost",
    "roger@[127.0.0.1]",
    f"victim@{VICTIM}",
    f"@{OURS}:roger@{OURS}",
]


@dataclass
class Site:
    daemon: Daemon
    sink: RecordingSink
    submission: int
    no_rule: int

    def mailbox(self) -> list[str]:
        return [path.read_text() for path in (self.daemon.root / "Maildir/new").glob("*")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("site")
    issued = CertificateAuthority(root).issue("mx.domain.tld")
    submission, no_rule = free_port(), free_port()
    files = {
        "smtpd.crt": Path(issued.cert).read_text(),
        "smtpd.key": Path(issued.key).read_text(),
        "creds": f"roger {HASH}\n",
        "vdoms": f"{OURS}\n{CATCHALL}\n",
        "vusers": f"roger@{OURS} root\n@{CATCHALL} root\n",
        "allowed": f"roger roger@{OURS}\n",
    }
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(RecordingSink()) as sink:
        text = CONFIGURATION.format(sink=sink.port, submission=submission, no_rule=no_rule)
        with Daemon(root / "root", text, tables=files) as daemon:
            yield Site(daemon, sink, submission, no_rule)


def try_to_send(client: Stranger, sender: str, path: str) -> str:
    """A whole transaction as far as it goes; the reply that ended it."""
    client.ask("RSET")
    assert client.ask(f"MAIL FROM:<{sender}>").startswith("250 ")
    said = client.ask(f"RCPT TO:{path}")
    if not said.startswith("250 "):
        return said
    assert client.ask("DATA").startswith("354 ")
    return client.ask(f"Subject: for {path}\r\n\r\nx\r\n.".replace("\0", "").encode())


@pytest.mark.parametrize("path", REFUSED, ids=repr)
def test_no_form_of_an_address_makes_us_a_relay(site: Site, path: str) -> None:
    with Stranger(site.daemon.port) as client:
        client.hello()
        assert try_to_send(client, "mallory@stranger.example", path)[:2] in ("50", "55")


@pytest.mark.parametrize("path", KEPT, ids=repr)
def test_what_is_ours_by_its_domain_stays_here(site: Site, path: str) -> None:
    before = len(site.mailbox())
    with Stranger(site.daemon.port) as client:
        client.hello()
        assert try_to_send(client, "mallory@stranger.example", path).startswith("250 ")
    wait_for(lambda: len(site.mailbox()) > before, "the message in our own mailbox")


@pytest.mark.parametrize("sender", SENDERS)
def test_no_sender_opens_anything(site: Site, sender: str) -> None:
    with Stranger(site.daemon.port) as client:
        client.hello()
        assert try_to_send(client, sender, f"<victim@{VICTIM}>").startswith("550 5.7.1 ")


@pytest.mark.parametrize("helo", ["localhost", "box.example.net", OURS, "[127.0.0.1]", "mx.domain.tld"])
def test_no_greeting_opens_anything(site: Site, helo: str) -> None:
    with Stranger(site.daemon.port) as client:
        client.reply()
        client.ask(f"EHLO {helo}")
        assert try_to_send(client, "mallory@stranger.example", f"<victim@{VICTIM}>").startswith("550 5.7.1 ")


@pytest.mark.parametrize(
    "line",
    [
        "XCLIENT ADDR=127.0.0.1 NAME=localhost",
        "XFORWARD ADDR=127.0.0.1",
        "PROXY TCP4 127.0.0.1 127.0.0.1 1 25",
        "XEXCH50 1 2",
        "ETRN victim.example",
        "TURN",
        f"SAML FROM:<roger@{OURS}>",
        f"SEND FROM:<roger@{OURS}>",
    ],
)
def test_no_verb_of_others_opens_anything(site: Site, line: str) -> None:
    with Stranger(site.daemon.port) as client:
        client.hello()
        assert client.ask(line).startswith("50")
        assert try_to_send(client, "mallory@stranger.example", f"<victim@{VICTIM}>").startswith("550 5.7.1 ")


@pytest.mark.parametrize("parameter", ["AUTH=<>", f"AUTH=roger@{OURS}"])
def test_an_identity_that_is_only_claimed_opens_nothing(site: Site, parameter: str) -> None:
    with Stranger(site.daemon.port) as client:
        client.hello()
        assert client.ask(f"MAIL FROM:<roger@{OURS}> {parameter}").startswith("250 ")
        assert client.ask(f"RCPT TO:<victim@{VICTIM}>").startswith("550 5.7.1 ")


def test_a_recipient_of_ours_opens_nothing_for_the_next(site: Site) -> None:
    with Stranger(site.daemon.port) as client:
        client.hello()
        client.ask("MAIL FROM:<>")
        assert client.ask(f"RCPT TO:<roger@{OURS}>").startswith("250 ")
        assert client.ask(f"RCPT TO:<victim@{VICTIM}>").startswith("550 5.7.1 ")


# -- those who may ----------------------------------------------------------------------------------------------------


def logged_in(port: int) -> Stranger:
    client = Stranger(port)
    client.hello()
    assert client.ask("STARTTLS").startswith("220 ")
    client.secure()
    client.ask("EHLO stranger.example")
    response = base64.b64encode(b"\0roger\0secret").decode()
    assert client.ask(f"AUTH PLAIN {response}").startswith("235 ")
    return client


def test_a_login_alone_gives_nothing_that_no_rule_gives(site: Site) -> None:
    with logged_in(site.no_rule) as client:
        assert try_to_send(client, f"roger@{OURS}", f"<victim@{VICTIM}>").startswith("550 5.7.1 ")


@pytest.mark.parametrize("sender", ["", f"shirley@{OURS}", f"victim@{VICTIM}", "roger", f'"roger@{OURS}"@{VICTIM}'])
def test_a_login_may_use_its_own_sender_alone(site: Site, sender: str) -> None:
    with logged_in(site.submission) as client:
        assert client.ask(f"MAIL FROM:<{sender}>") == "530 5.7.1 Sender rejected"


def test_before_the_login_nothing_is_taken_where_it_is_demanded(site: Site) -> None:
    with Stranger(site.submission) as client:
        client.hello()
        assert client.ask("MAIL FROM:<>").startswith("530 ")
        assert client.ask("STARTTLS").startswith("220 ")
        client.secure()
        client.ask("EHLO stranger.example")
        assert client.ask("MAIL FROM:<>").startswith("530 ")


def test_a_login_is_masqueraded_and_relayed_and_nothing_else_has_left(site: Site) -> None:
    """Last in this module: what the tests before it have tried would have come to the sink before this one's message."""
    with logged_in(site.submission) as client:
        client.ask(f"MAIL FROM:<roger@{OURS}>")
        client.ask(f"RCPT TO:<friend@{VICTIM}>")
        client.ask("DATA")
        assert client.ask("From: The Boss <boss@bank.example>\r\nSubject: by login\r\n\r\nx\r\n.").startswith("250 ")
    with Stranger(site.daemon.port, "127.0.0.1") as client:
        client.hello()
        assert try_to_send(client, "root@box.example.net", f"<other@{VICTIM}>").startswith("250 ")
    wait_for(lambda: len(site.sink.messages) >= 2, "mail of those who may send it")
    assert site.daemon.queue() == []
    by_login, by_address = sorted(site.sink.messages, key=lambda message: message.rcpts)
    assert by_login.rcpts == (f"TO:<friend@{VICTIM}>",)
    assert f"From: The Boss <roger@{OURS}>\r\n".encode() in by_login.body
    assert by_address.rcpts == (f"TO:<other@{VICTIM}>",)


def test_an_open_relay_is_told_of_before_it_runs_and_while_it_does(tmp_path: Path) -> None:
    text = """\
listen on 127.0.0.1 port $port proxy-v2
action send relay host "smtp+notls://127.0.0.1:9"
match from any for any action send
"""
    daemon = Daemon(tmp_path, text)
    checked = daemon.run("smtpd", "-n", "-D", f"port={daemon.port}", "--root", str(tmp_path))
    assert checked.returncode == 0
    assert "smtpd.conf:3:1: warning: this makes an open relay: anybody who reaches 127.0.0.1 port " in checked.stderr
    with daemon:
        assert "this makes an open relay" in daemon.log
        assert "smtpd.conf:3 makes this machine an open relay: " in daemon.smtpctl("show", "status")
        daemon.configure(text.replace("from any for any", "for any"))
        daemon.reload()
        assert "open relay" not in daemon.smtpctl("show", "status")
