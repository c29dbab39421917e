"""Wishes for reports (RFC 3461) in a whole daemon: from the client to the sender's mailbox, and to the next server."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from tests.tools import rfc3464
from tests.tools.daemon import Daemon, wait_for
from tests.tools.recording_sink import OFFERS, Act, RecordingSink

pytestmark = pytest.mark.reliability("6 reports")

CONFIGURATION = """\
listen on 127.0.0.1 port $port
table people { "ann@home.example" = root, "bob@home.example" = root, \\
    "team@home.example" = "bob@home.example, carl@away.example" }
action "inbox" maildir "/Maildir" virtual <people>
action "away" relay host "smtp+notls://127.0.0.1:SINK"
match from any for domain "away.example" action "away"
match from any for domain "home.example" action "inbox"
"""
#: The sender's wishes beside NOTIFY.
ORCPT = "ORCPT=rfc822;Whoever@example.org"
WITHOUT_DSN = tuple(offer for offer in OFFERS if offer != "DSN")


@dataclass
class House:
    """A daemon, the next server, and the mailbox of everybody."""

    daemon: Daemon
    sink: RecordingSink

    def send(self, recipient: str, notify: str) -> None:
        """A message from Ann, who wants to know."""
        content = b"Message-ID: <lunch@home.example>\r\nSubject: lunch\r\n\r\nAt one?\r\n"
        with smtplib.SMTP("127.0.0.1", self.daemon.port, timeout=10) as client:
            refused = client.sendmail(
                "ann@home.example", [recipient], content, ["RET=FULL", "ENVID=no+2B1"], [f"NOTIFY={notify}", ORCPT]
            )
        assert refused == {}

    def report(self) -> rfc3464.Parts:
        """The one report, when it has come and nothing waits any more."""
        wait_for(self._reports, f"a report:\n{self.daemon.log}")
        self.daemon.wait_queue(0)
        (report,) = self._reports()
        # What a mailbox adds ends in its own kind of line ends.
        _, _, octets = report.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n").partition(b"From: Mailer")
        return rfc3464.parse(b"From: Mailer" + octets)

    def no_report(self) -> None:
        """Nothing waits any more, and no report has come."""
        self.daemon.wait_queue(0)
        assert self._reports() == []

    def parameters(self, verb: str) -> str:
        """What the next server was told by its one command of this kind."""
        (command,) = [each for peer in self.sink.peers for each in peer.commands if each.startswith(verb)]
        return command.partition("> ")[2]

    def _reports(self) -> list[bytes]:
        folder = self.daemon.root / "Maildir/new"
        return [content for path in folder.glob("*") if b"multipart/report" in (content := path.read_bytes())]


@contextmanager
def house(place: Path, sink: RecordingSink) -> Iterator[House]:
    """Everything at work."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(sink),
        Daemon(place, CONFIGURATION.replace("SINK", str(sink.port))) as daemon,
    ):
        yield House(daemon, sink)


def check(report: rfc3464.Parts, action: str, final: str) -> None:
    """What every report about the message says."""
    assert report.about_message.fields["original-envelope-id"].strip() == "no+1"
    (recipient,) = report.recipients
    assert recipient.fields["action"].strip() == action
    assert recipient.typed("final-recipient") == ("rfc822", final)
    assert recipient.typed("original-recipient") == ("rfc822", "Whoever@example.org")
    whole = action == "failed"
    assert report.returned_type == ("message/rfc822" if whole else "text/rfc822-headers")
    assert (b"At one?" in report.returned) == whole


def test_a_success_in_a_mailbox_here_is_reported_as_delivered(tmp_path: Path) -> None:
    with house(tmp_path, RecordingSink()) as here:
        here.send("bob@home.example", "SUCCESS")
        check(here.report(), "delivered", "bob@home.example")


def test_a_server_without_dsn_makes_a_success_relayed(tmp_path: Path) -> None:
    with house(tmp_path, RecordingSink(offers=WITHOUT_DSN)) as here:
        here.send("carl@away.example", "SUCCESS,FAILURE")
        check(here.report(), "relayed", "carl@away.example")
        assert "NOTIFY" not in here.parameters("RCPT")
        assert "ENVID" not in here.parameters("MAIL")


def test_a_server_with_dsn_gets_the_wishes_and_the_duty(tmp_path: Path) -> None:
    with house(tmp_path, RecordingSink()) as here:
        here.send("carl@away.example", "SUCCESS,FAILURE")
        here.no_report()
        assert here.parameters("RCPT") == f"NOTIFY=SUCCESS,FAILURE {ORCPT}"
        assert "RET=FULL ENVID=no+2B1" in here.parameters("MAIL")


def test_an_alias_of_several_is_reported_as_expanded_and_nothing_more(tmp_path: Path) -> None:
    with house(tmp_path, RecordingSink()) as here:
        here.send("team@home.example", "SUCCESS,FAILURE")
        check(here.report(), "expanded", "team@home.example")
        assert here.parameters("RCPT") == f"NOTIFY=FAILURE {ORCPT}"


def test_a_refusal_comes_back_with_the_whole_message(tmp_path: Path) -> None:
    sink = RecordingSink()
    sink.on("RCPT", Act(b"550-5.1.1 not\r\n550 5.1.1 here\r\n"), times=None)
    with house(tmp_path, sink) as here:
        here.send("carl@away.example", "FAILURE")
        report = here.report()
        check(report, "failed", "carl@away.example")
        assert report.recipients[0].typed("diagnostic-code") == ("smtp", "550 5.1.1 not here")


def test_who_wants_no_report_of_a_refusal_gets_none(tmp_path: Path) -> None:
    sink = RecordingSink()
    sink.on("RCPT", Act("550 5.1.1 nobody here"), times=None)
    with house(tmp_path, sink) as here:
        here.send("carl@away.example", "NEVER")
        here.no_report()
