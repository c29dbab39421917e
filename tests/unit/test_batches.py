"""What is tried together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policy.config import AnyAction, Command, Lmtp, Maildir, Mbox, Relay
from scheduler.batches import MAX_MESSAGES, MAX_OCTETS, MAX_RECIPIENTS, make_batches, octets_in_memory
from spool.bodies import LargeBody
from spool.files import SystemOps
from spool.lane import REPORTS, Lane
from spool.message import Batch
from tests.tools.in_flight import LOCAL, Claim, claimed
from tests.tools.spooled import RELAY


def names(batches: list[Batch]) -> list[list[str]]:
    return [[f"{int(one.message.id)}.{one.envelope.id.partition('.')[2]}" for one in batch.items] for batch in batches]


def test_a_relay_gets_one_message_with_its_envelopes() -> None:
    mixed = [claimed(Claim(1, 1)), claimed(Claim(2, 1)), claimed(Claim(1, 2))]
    assert names(make_batches(RELAY, Relay(name="relay"), mixed)) == [["1.1", "1.2"], ["2.1"]]


def test_a_transaction_has_no_more_recipients_than_every_server_takes() -> None:
    many = [claimed(Claim(1, ordinal)) for ordinal in range(1, 2 * MAX_RECIPIENTS + 2)]
    sizes = [len(batch.items) for batch in make_batches(RELAY, Relay(name="relay"), many)]
    assert sizes == [MAX_RECIPIENTS, MAX_RECIPIENTS, 1]


@pytest.mark.parametrize("action", [Mbox(name="local"), Maildir(name="local")])
def test_a_mailbox_gets_several_messages(action: AnyAction) -> None:
    several = [claimed(Claim(number, lane=LOCAL)) for number in range(1, 4)]
    assert names(make_batches(LOCAL, action, several)) == [["1.1", "2.1", "3.1"]]


def test_an_lmtp_server_gets_one_message_with_its_envelopes() -> None:
    several = [claimed(Claim(1, 1, lane=LOCAL)), claimed(Claim(2, lane=LOCAL)), claimed(Claim(1, 2, lane=LOCAL))]
    batches = make_batches(LOCAL, Lmtp(name="local", destination="/socket"), several)
    assert names(batches) == [["1.1", "1.2"], ["2.1"]]


def test_a_mailbox_gets_a_bounded_number_of_messages() -> None:
    many = [claimed(Claim(number, lane=LOCAL)) for number in range(1, MAX_MESSAGES + 2)]
    sizes = [len(batch.items) for batch in make_batches(LOCAL, Mbox(name="local"), many)]
    assert sizes == [MAX_MESSAGES, 1]


def test_a_mailbox_gets_a_bounded_number_of_octets() -> None:
    large = [claimed(Claim(number, size=MAX_OCTETS // 2, lane=LOCAL)) for number in range(1, 4)]
    assert names(make_batches(LOCAL, Mbox(name="local"), large)) == [["1.1", "2.1"], ["3.1"]]


def test_a_single_message_above_the_bound_is_a_batch_of_its_own() -> None:
    huge = claimed(Claim(1, size=MAX_OCTETS + 1, lane=LOCAL))
    small = claimed(Claim(2, lane=LOCAL))
    assert names(make_batches(LOCAL, Mbox(name="local"), [huge, small])) == [["1.1"], ["2.1"]]


def test_every_message_has_a_command_of_its_own() -> None:
    two = [claimed(Claim(1, lane=LOCAL)), claimed(Claim(2, lane=LOCAL))]
    assert names(make_batches(LOCAL, Command(name="local", command="true"), two)) == [["1.1"], ["2.1"]]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("ann|vacation", [["1.1"], ["2.1"]]),
        ("|/bin/cat", [["1.1"], ["2.1"]]),
        ("/var/a|b", [["1.1", "2.1"]]),
        ("ann/home/ann/copy", [["1.1", "2.1"]]),
    ],
)
def test_commands_of_aliases_and_forwards_run_one_by_one_and_files_are_written_together(
    key: str, expected: list[list[str]]
) -> None:
    lane = Lane("local", key)
    two = [claimed(Claim(number, lane=lane)) for number in (1, 2)]
    assert names(make_batches(lane, Maildir(name="local"), two)) == expected


def test_reports_go_one_by_one() -> None:
    assert names(make_batches(REPORTS, None, [claimed(Claim(1)), claimed(Claim(2))])) == [["1.1"], ["2.1"]]


def test_a_body_counts_once_in_memory_and_not_at_all_in_a_file() -> None:
    shared = Batch(RELAY, (claimed(Claim(1, 1, size=700)), claimed(Claim(1, 2, size=700))))
    file = LargeBody("/spool/msg/00/x", 1 << 20, b"", SystemOps())
    large = Batch(RELAY, (replace(claimed(Claim(2)), body=file),))
    assert (octets_in_memory(shared), octets_in_memory(large)) == (700, 0)
