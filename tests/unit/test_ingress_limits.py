"""The limits of the SMTP server as far as they need no sockets: arrivals, stress, memory."""

from __future__ import annotations

import logging
import tracemalloc
from dataclasses import fields

import pytest

from ingress.arrivals import Arrivals
from ingress.limits import Limits
from ingress.memory import Memory, Share, cost
from ingress.strain import Strain
from spool.address import Address
from spool.lane import Lane
from spool.message import Destination, NewEnvelope, Recipient

FEW = Limits(arrivals_at_once=3, arrivals_per_second=0.5, arrivals_kept=10)


def test_an_address_may_come_so_often_at_once_and_then_at_its_rate() -> None:
    arrivals = Arrivals(FEW)
    assert [arrivals.admit("192.0.2.1", 0.0) for _ in range(4)] == [True, True, True, False]
    assert not arrivals.admit("192.0.2.1", 1.0)
    assert arrivals.admit("192.0.2.1", 2.0)
    assert not arrivals.admit("192.0.2.1", 3.0)
    assert [arrivals.admit("192.0.2.1", 1000.0) for _ in range(4)] == [True, True, True, False]


def test_one_address_takes_nothing_from_another() -> None:
    arrivals = Arrivals(FEW)
    for _ in range(4):
        arrivals.admit("192.0.2.1", 0.0)
    assert arrivals.admit("192.0.2.2", 0.0)


def test_a_crowd_of_addresses_does_not_grow_what_is_remembered() -> None:
    arrivals = Arrivals(FEW)
    for number in range(1000):
        assert arrivals.admit(f"2001:db8:{number:x}::/64", number / 100)
        assert len(arrivals) <= 10


def test_who_is_refused_is_not_forgotten_for_those_who_were_quiet() -> None:
    arrivals = Arrivals(FEW)
    for number in range(9):
        arrivals.admit(f"192.0.2.{number}", 0.0)
    while arrivals.admit("198.51.100.1", 99.0):
        pass
    arrivals.admit("198.51.100.2", 99.0)
    assert len(arrivals) == 2
    assert not arrivals.admit("198.51.100.1", 99.0)


# -- stress -----------------------------------------------------------------------------------------------------------


def test_stress_begins_at_three_quarters_and_ends_at_half(caplog: pytest.LogCaptureFixture) -> None:
    strain = Strain(Limits(), 100)
    with caplog.at_level(logging.WARNING):
        changes = [strain.update(connections) for connections in (0, 74, 75, 100, 74, 51, 50, 74)]
    assert changes == [False, False, True, False, False, False, True, False]
    assert [record.getMessage() for record in caplog.records] == [
        "smtp: stress begins: 75 of 100 connections are used; limits are shorter now",
        "smtp: stress ends: 50 of 100 connections are used",
    ]


def test_an_operator_is_told_of_stress_while_there_is_some() -> None:
    strain = Strain(Limits(), 4)
    assert strain.trouble(0) == ""
    strain.update(3)
    assert strain.trouble(3) == "smtp is under stress: 3 of 4 connections are used, and limits are shorter"
    strain.update(1)
    assert strain.trouble(1) == ""


def test_under_stress_no_limit_is_longer_than_before() -> None:
    for limits in (
        Limits(),
        Limits(idle=0.1, data_idle=0.1, fruitless=1, handshake=0.1, bad_commands=1, failed_logins=0),
    ):
        short = limits.under_stress()
        assert all(getattr(short, each.name) <= getattr(limits, each.name) for each in fields(limits))
    assert Limits().under_stress() != Limits()


# -- memory -----------------------------------------------------------------------------------------------------------


def test_what_is_taken_is_given_back_once() -> None:
    memory = Memory(100)
    share, other = Share(memory), Share(memory)
    assert share.take(60)
    assert not other.take(41)
    assert other.take(40)
    share.give_back()
    share.give_back()
    assert memory.held == 40


@pytest.mark.parametrize("letter", ["x", "ä", "\U0001f600"])
@pytest.mark.parametrize("envelopes", [1, 50])
def test_a_recipient_takes_no_more_than_is_counted(letter: str, envelopes: int) -> None:
    lane = Lane("in", "")
    kept: list[object] = []
    counted = 0
    tracemalloc.start()
    try:
        for number in range(200):
            address = Address(letter * (200 // len(letter.encode())) + str(number), f"d{number}.example")
            recipient = Recipient(address, f"rfc822;{'y' * 480}{number}")
            made = tuple(
                NewEnvelope(recipient, Destination(Address(f"user{number}{each}" * 4, address.domain)), lane, 1)
                for each in range(envelopes)
            )
            kept += [recipient, *made]
            counted += cost(recipient, made)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken <= counted
