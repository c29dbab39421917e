"""Reports to senders, as an independent reader understands them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.dsn import Original, compose
from delivery.status_fields import FOLD_ANYWHERE, fold, status_of
from spool.address import Address, parse_address
from spool.message import BodyKind
from spool.outcome import Deferred, Delivered, Failed, Outcome, Stage
from spool.reply import Reply
from spool.state import Event, Kind
from tests.tools import rfc3464
from tests.tools.reported import HEADER, About, about_message, line, occasion, read, written
from tests.tools.spooled import DONE, LATER

LOCAL_TROUBLE = Failed(Reply(550, "5.2.2", "mailbox is full"))
IN_THE_BOX = Delivered(Reply(250, "2.0.0", "delivered"), stage=Stage.LOCAL)


def test_a_report_is_what_rfc_6522_calls_one() -> None:
    mail = written(occasion()).mail
    assert mail.get_content_type() == "multipart/report"
    assert mail.get_param("report-type") == "delivery-status"
    assert [part.get_content_type() for part in mail.iter_parts()] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]


def test_its_header_says_who_writes_to_whom_and_why() -> None:
    mail = written(occasion()).mail
    assert mail["From"] == "Mailer Daemon <MAILER-DAEMON@mail.example.net>"
    assert mail["To"] == "ann@example.com"
    assert mail["Subject"] == "Delivery status notification: failed"
    assert mail["Auto-Submitted"] == "auto-replied"
    assert mail["Message-ID"] == "<rrrrrrrrrrrrrrrrrrrr@mail.example.net>"
    assert mail["In-Reply-To"] == mail["References"] == "<first@example.com>"
    assert mail["Date"].datetime.timestamp() == 1_700_000_060


@pytest.mark.parametrize(
    ("kind", "event", "outcome", "status"),
    [
        (Kind.FAILED, Event.FAILED, LOCAL_TROUBLE, "5.2.2"),
        (Kind.FAILED, Event.EXPIRED, LATER, "5.4.7"),
        (Kind.DELAYED, Event.DEFERRED, LATER, "4.2.0"),
        (Kind.DELIVERED, Event.DELIVERED, IN_THE_BOX, "2.0.0"),
        (Kind.RELAYED, Event.DELIVERED, DONE, "2.0.0"),
        (Kind.EXPANDED, Event.DELIVERED, IN_THE_BOX, "2.0.0"),
    ],
)
def test_each_kind_names_its_action_and_status(kind: Kind, event: Event, outcome: Outcome, status: str) -> None:
    report = written(occasion(kind, line(About(event=event, outcome=outcome))))
    assert report.mail["Subject"] == f"Delivery status notification: {kind.value}"
    assert (report.fields(1)["Action"], report.fields(1)["Status"]) == (kind.value, status)


def test_what_another_server_said_is_told_with_its_name() -> None:
    report = written(occasion())
    fields = report.fields(1)
    assert fields["Remote-MTA"] == "dns; mx.example.org (192.0.2.1)"
    assert fields["Diagnostic-Code"] == "smtp; 550 5.1.1 no such user here"
    assert "mx.example.org (192.0.2.1) said: 550 5.1.1 no such user here" in report.words


def test_what_this_machine_said_is_not_passed_off_as_smtp() -> None:
    report = written(occasion(Kind.FAILED, line(About(outcome=LOCAL_TROUBLE))))
    assert report.fields(1)["Diagnostic-Code"] == "X-Mailspool; mailbox is full"
    assert "Remote-MTA" not in report.fields(1)
    assert "mailbox is full" in report.words


def test_the_message_is_named_by_what_its_sender_called_it() -> None:
    fields = written(about_message(occasion(), envid="batch+2B7+3D")).fields(0)
    assert fields["Original-Envelope-Id"] == "batch+7="
    assert fields["Reporting-MTA"] == "dns; mail.example.net"
    assert "14 Nov 2023" in fields["Arrival-Date"]


def test_a_message_without_an_envelope_id_gets_none() -> None:
    assert "Original-Envelope-Id" not in written(occasion()).fields(0)


def test_recipients_are_named_as_given_and_as_they_ended() -> None:
    about = About("info@example.net", final="bob@example.org", orcpt="rfc822;Info+2Bx@example.net")
    report = written(occasion(Kind.FAILED, line(about)))
    assert report.fields(1)["Original-Recipient"] == "rfc822; Info+x@example.net"
    assert report.fields(1)["Final-Recipient"] == "rfc822; bob@example.org"
    assert "info@example.net" in report.words
    assert "bob@example.org" not in report.words


def test_many_recipients_are_one_report() -> None:
    lines = [line(About(f"user{number}@example.org")) for number in range(50)]
    report = written(occasion(Kind.FAILED, *lines))
    assert [report.fields(group)["Final-Recipient"] for group in range(1, 51)] == [
        f"rfc822; user{number}@example.org" for number in range(50)
    ]


def test_a_delay_says_until_when_it_is_tried() -> None:
    report = written(occasion(Kind.DELAYED, line(About(event=Event.DEFERRED, outcome=LATER))))
    assert "18 Nov 2023" in report.fields(1)["Will-Retry-Until"]
    assert "it is tried again until Sat, 18 Nov 2023" in report.words


def test_a_failure_says_no_time_of_a_retry() -> None:
    assert "Will-Retry-Until" not in written(occasion()).fields(1)


def test_what_expired_says_how_long_it_was_tried_and_what_the_trouble_was() -> None:
    words = written(occasion(Kind.FAILED, line(About(event=Event.EXPIRED, outcome=LATER)))).words
    assert "It was tried for 4 days" in words
    assert "451 4.2.0 try again" in words


def test_every_recipient_says_when_it_was_tried_last() -> None:
    assert "14 Nov 2023" in written(occasion()).fields(1)["Last-Attempt-Date"]


@pytest.mark.parametrize(
    ("event", "reply", "status"),
    [
        (Event.FAILED, Reply(550, "", "no"), "5.0.0"),
        (Event.FAILED, Reply(550, "4.2.1", "no"), "5.2.1"),
        (Event.FAILED, Reply(550, "9.9.9", "no"), "5.0.0"),
        (Event.DEFERRED, Reply(450, "", "no"), "4.0.0"),
        (Event.DELIVERED, Reply(250, "", "yes"), "2.0.0"),
    ],
)
def test_a_status_is_of_the_class_of_what_happened(event: Event, reply: Reply, status: str) -> None:
    assert status_of(line(About(event=event, outcome=Failed(reply)))) == status


# -- the original -----------------------------------------------------------------------------------------------------


def test_a_header_is_returned_as_it_was() -> None:
    assert written(occasion()).parts[2].get_content().encode() == HEADER


def test_a_whole_message_is_returned_octet_for_octet() -> None:
    whole = HEADER + b"\r\n.dots\r\n--=_boundary\r\nlast line"
    report = compose(replace(occasion(), original=Original(whole, is_whole=True)))
    assert whole + b"\r\n" in report.content
    assert read(report).parts[2].get_content_type() == "message/rfc822"


def test_a_body_that_cannot_be_read_is_left_out() -> None:
    report = written(replace(occasion(), original=None))
    assert len(report.parts) == 2
    assert "In-Reply-To" not in report.mail


def test_octets_above_127_are_declared() -> None:
    report = compose(replace(occasion(), original=Original(b"Subject: caf\xe9\r\n", is_whole=False)))
    assert report.body_kind is BodyKind.EIGHT_BIT
    assert read(report).parts[2]["Content-Transfer-Encoding"] == "8bit"
    assert read(report).mail["Content-Transfer-Encoding"] == "8bit"


def test_a_plain_report_needs_nothing_of_the_next_hop() -> None:
    assert compose(occasion()).body_kind is BodyKind.PLAIN


# -- hostile and foreign words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "orcpt",
    ["rfc822;x+0D+0AAction:+20delivered+0D+0A+0D+0Ax", "rfc822;x+0AStatus:+202.0.0", "utf-8;\\x{0A}Status: 2.0.0"],
)
def test_an_original_recipient_cannot_write_fields(orcpt: str) -> None:
    report = written(occasion(Kind.FAILED, line(About(orcpt=orcpt))))
    assert (report.fields(1)["Action"], report.fields(1)["Status"]) == ("failed", "5.1.1")
    assert len(report.parts) == 3


def test_a_long_reply_is_folded() -> None:
    outcome = Failed(Reply(550, "5.7.1", "blocked, see https://example.org/" + "x" * 900), "mx.example.org")
    report = compose(occasion(Kind.FAILED, line(About(outcome=outcome))))
    fields = report.content.partition(b"delivery-status\r\n")[2].partition(b"--=_")[0]
    assert max(map(len, fields.split(b"\r\n"))) <= FOLD_ANYWHERE


@pytest.mark.parametrize("value", ["a" * 2000, "b " * 400, " " * 300, "word " + "c" * 500 + " word", ""])
def test_folding_loses_no_word_and_leaves_no_empty_line(value: str) -> None:
    folded = fold("Name", value)
    lines = folded.removesuffix("\r\n").split("\r\n")
    assert all(line.strip() for line in lines)
    assert all(line.startswith(" ") for line in lines[1:])
    joined = "".join(lines).replace(" ", "")
    assert joined.startswith("Name:" + value.replace(" ", "")[:900])


def test_foreign_words_stay_readable_for_people_and_ascii_for_programs() -> None:
    outcome = Failed(Reply(550, "5.1.1", "unbekannt: Müller"), "mx.example.org")
    report = written(occasion(Kind.FAILED, line(About(outcome=outcome))))
    assert "unbekannt: Müller" in report.words
    assert report.fields(1)["Diagnostic-Code"] == "smtp; 550 5.1.1 unbekannt: M?ller"


def test_a_report_about_utf8_mail_is_what_rfc_6533_calls_one() -> None:
    about = About("jürgen@example.org", orcpt="utf-8;j\\x{FC}rgen@example.org")
    report = about_message(occasion(Kind.FAILED, line(about)), body_kind=BodyKind.SMTPUTF8)
    reading = written(report)
    assert reading.mail.get_param("report-type") == "global-delivery-status"
    content = compose(report).content.decode()
    assert "Content-Type: message/global-delivery-status\r\n" in content
    assert "Content-Type: message/global-headers\r\n" in content
    assert "Original-Recipient: utf-8; jürgen@example.org\r\n" in content
    assert "Final-Recipient: utf-8; jürgen@example.org\r\n" in content


def test_only_a_utf8_sender_needs_smtputf8_of_the_next_hop() -> None:
    report = about_message(occasion(), body_kind=BodyKind.SMTPUTF8)
    assert BodyKind.SMTPUTF8 not in compose(report).body_kind
    report = about_message(occasion(), return_path=Address("änn", "example.com"))
    assert BodyKind.SMTPUTF8 in compose(report).body_kind
    assert "To: änn@example.com\r\n".encode() in compose(report).content


def test_a_quoted_sender_is_addressed_as_such() -> None:
    report = about_message(occasion(), return_path=parse_address('"a b"@example.com'))
    assert written(report).mail["To"].addresses[0].addr_spec == '"a b"@example.com'


def test_a_deferral_of_a_lane_is_told_as_it_is() -> None:
    outcome = Deferred(Reply(451, "4.4.7", "451 4.4.1 connection refused"), stage=Stage.ROUTE)
    words = written(occasion(Kind.DELAYED, line(About(event=Event.DEFERRED, outcome=outcome)))).words
    assert "    451 4.4.1 connection refused" in words


# -- whatever was said ------------------------------------------------------------------------------------------------

_XTEXT = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="+="), min_size=1, max_size=60
)
_OUTCOMES = st.builds(
    Failed, st.builds(Reply, st.integers(500, 599), st.sampled_from(["", "5.1.1", "5.7.999"]), st.text(max_size=1500)),
    st.sampled_from(["", "mx.example.org [192.0.2.1]", "mx\r\nX: y"]),
)  # fmt: skip
_ADDRESSES = st.sampled_from(["bob@example.org", '"b b"@example.org', "bøb@exämple.org", "bob@[192.0.2.1]"])


@pytest.mark.reliability("6 reports")
@given(
    lines=st.lists(
        st.tuples(_ADDRESSES, _OUTCOMES, st.just("") | _XTEXT.map("rfc822;{}".format)), min_size=1, max_size=4
    ),
    envid=st.just("") | _XTEXT,
)
def test_whatever_was_said_makes_a_report_of_the_grammar(lines: list[tuple[str, Failed, str]], envid: str) -> None:
    about = [line(About(address, orcpt=orcpt, outcome=outcome)) for address, outcome, orcpt in lines]
    octets = compose(about_message(occasion(Kind.FAILED, *about), envid=envid)).content
    read(octets)
    parts = rfc3464.parse(octets)
    assert len(parts.recipients) == len(lines)
    assert all(each.fields["action"].strip() == "failed" for each in parts.recipients)
