"""Rows and words: what was written is read back equal, and what was not written by us is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spool import rows
from spool.address import Address
from spool.ids import MessageId
from spool.message import BodyKind, Client, Destination, Message, Notify, Recipient, Ret
from spool.outcome import Deferred, Delivered, Failed, Outcome, Stage
from spool.reply import Reply
from spool.state import Event, Kind, State

TEXT = st.text(max_size=10)
NUMBER = st.integers(0, 1 << 50)
ADDRESSES = st.builds(Address, TEXT, TEXT)
REPLIES = st.builds(Reply, st.integers(200, 599), TEXT, TEXT)
STAGES = st.sampled_from(Stage)
OUTCOMES: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Delivered, REPLIES, TEXT, STAGES, st.booleans()),
    st.builds(Deferred, REPLIES, TEXT, STAGES),
    st.builds(Failed, REPLIES, TEXT, STAGES),
)
MESSAGES = st.builds(
    Message,
    TEXT.map(MessageId),
    ADDRESSES,
    NUMBER,
    st.floats(0, 1e10),
    NUMBER,
    st.sampled_from([BodyKind(bits) for bits in range(4)]),
    TEXT,
    st.sampled_from([None, *Ret]),
    st.builds(Client, TEXT, TEXT, TEXT, TEXT, TEXT, st.none() | NUMBER),
)
RECIPIENTS = st.builds(Recipient, ADDRESSES, TEXT, st.sampled_from([Notify(bits) for bits in range(8)]), st.booleans())
DESTINATIONS = st.builds(Destination, ADDRESSES, TEXT, TEXT, TEXT)


@given(MESSAGES)
def test_a_message_is_read_back(message: Message) -> None:
    assert rows.read_message(rows.message_columns(message, b"", None, 1)[:15]) == message


@given(RECIPIENTS)
def test_a_recipient_is_read_back(recipient: Recipient) -> None:
    assert rows.read_recipient(rows.recipient_columns(recipient)) == recipient


@given(DESTINATIONS)
def test_a_destination_is_read_back(destination: Destination) -> None:
    assert rows.read_destination(rows.destination_columns(destination)) == destination


@given(OUTCOMES)
def test_an_outcome_is_read_back(outcome: Outcome) -> None:
    assert rows.read_outcome(rows.outcome_columns(outcome)) == outcome


@pytest.mark.parametrize(
    ("codes", "words"),
    [(rows.STATE_CODE, State), (rows.KIND_CODE, Kind), (rows.EVENT_CODE, Event), (rows.STAGE_CODE, Stage)],
)
def test_every_word_has_its_code(codes: dict[Any, int], words: Any) -> None:
    assert set(codes) == set(words)
    assert sorted(codes.values()) == list(range(len(codes)))


def test_the_codes_in_the_queries_are_those_of_the_words() -> None:
    assert [rows.STATE_CODE[state] for state in (State.READY, State.INFLIGHT, State.HELD, State.DAMAGED)] == [
        0,
        1,
        2,
        3,
    ]
    assert rows.KIND_CODE[Kind.MAIL] == 0


@pytest.mark.parametrize(
    "row", [(3, 250, "", "", "", 0, 0), (0, 250, "", "", "", 99, 0), (None, 250, "", "", "", 0, 0)]
)
def test_an_impossible_outcome_is_corrupt(row: rows.Row) -> None:
    with pytest.raises(rows.CorruptRow):
        rows.read_outcome(row)


@pytest.mark.parametrize(("place", "value"), [(6, 4), (6, -1), (8, "SOME")])
def test_an_impossible_message_is_corrupt(place: int, value: object) -> None:
    message = Message(MessageId("m"), Address("a", "b"), 0, 0.0, 0)
    columns = list(rows.message_columns(message, b"", None, 1)[:15])
    columns[place] = value
    with pytest.raises(rows.CorruptRow):
        rows.read_message(tuple(columns))
