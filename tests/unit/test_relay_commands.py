"""MAIL and RCPT as octets."""

from __future__ import annotations

import pytest

from delivery.client import Offers
from delivery.commands import Parcel, Unsendable, check_parcel, mail_command, rcpt_command
from spool.address import Address, parse_address
from spool.message import Notify, Recipient
from tests.tools.relaying import Letter, batch

EVERYTHING = Offers(pipelining=True, eight_bit=True, smtputf8=True, dsn=True, size=True)


def parcel(letter: Letter | None = None) -> Parcel:
    (item,) = batch(letter).items
    return Parcel(item.message, item.message.return_path, item.body)


@pytest.mark.parametrize("bad", ["a\r\nRSET", "a\nb", "a\x00b", "a\x1bb"])
def test_no_address_can_end_a_command(bad: str) -> None:
    with pytest.raises(Unsendable):
        rcpt_command(Address(bad, "example.org"), Recipient(Address(bad, "example.org")), EVERYTHING)
    with pytest.raises(Unsendable):
        mail_command(parcel(Letter(sender=Address(bad, "example.org"))), EVERYTHING, utf8=False)


@pytest.mark.parametrize("bad", ["x y", "x\r\nRCPT TO:<y>", "ü"])
def test_an_envelope_id_or_original_recipient_that_is_no_xtext_is_left_out(bad: str) -> None:
    assert b"ENVID" not in mail_command(parcel(Letter(envid=bad)), EVERYTHING, utf8=False)
    to = parse_address("bob@example.org")
    assert b"ORCPT" not in rcpt_command(to, Recipient(to, orcpt=bad), EVERYTHING)


@pytest.mark.parametrize(
    ("notify", "words"),
    [
        (Notify.NEVER, b" NOTIFY=NEVER"),
        (Notify.SUCCESS, b" NOTIFY=SUCCESS"),
        (Notify.SUCCESS | Notify.FAILURE | Notify.DELAY, b" NOTIFY=SUCCESS,FAILURE,DELAY"),
    ],
)
def test_notify_is_passed_on_as_it_was_given(notify: Notify, words: bytes) -> None:
    to = parse_address("bob@example.org")
    given = Recipient(to, notify=notify, notify_given=True)
    assert rcpt_command(to, given, EVERYTHING) == b"RCPT TO:<bob@example.org>" + words


def test_a_local_part_that_needs_quotes_gets_them() -> None:
    to = parse_address('"two words"@example.org')
    assert rcpt_command(to, Recipient(to), EVERYTHING) == b'RCPT TO:<"two words"@example.org>'


def test_a_size_of_zero_is_no_limit() -> None:
    letter = parcel()
    assert check_parcel(letter, Offers(size=True, max_size=0)) == letter


@pytest.mark.parametrize(
    ("keywords", "offers"),
    [
        ({"size": ""}, Offers(size=True)),
        ({"size": "1000"}, Offers(size=True, max_size=1000)),
        ({"size": "a lot"}, Offers(size=True)),
        ({"pipelining": "", "8bitmime": "", "smtputf8": "", "dsn": ""}, Offers(True, True, True, True)),
    ],
)
def test_offers_are_read_from_keywords(keywords: dict[str, str], offers: Offers) -> None:
    assert Offers.of(keywords) == offers
