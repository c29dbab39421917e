"""mailq: the shape that monitoring reads."""

from __future__ import annotations

import json
import re

import msgspec
import pytest

from control.mailq import listing, mail_rows, objects
from control.protocol import Chunk
from tests.tools.rows import mail

FIRST = "0dqe8uk7v0abcdefghij"
SECOND = "0dqe8uk7v1abcdefghij"


def test_an_empty_queue_is_what_check_mailq_looks_for() -> None:
    assert list(listing([])) == ["Mail queue is empty"]


def test_a_message_is_an_entry_with_its_recipients_below() -> None:
    rows = [mail(), mail(id=f"{FIRST}.2", destination="eve@example.net")]
    head, entry, reason, first, second, gap, last = listing(rows)
    assert head == "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------"
    assert re.fullmatch(rf"{FIRST}      361 \w{{3}} Nov 2[234] \d\d:\d\d:\d\d +ann@example.org", entry)
    assert reason == "(451 4.2.0 try again)"
    assert first.strip() == "bob@example.net"
    assert second.strip() == "eve@example.net"
    assert gap == ""
    assert last == "-- 1 Kbytes in 1 Request."


def test_the_last_line_counts_each_message_once() -> None:
    rows = [mail(size=1024), mail(id=f"{FIRST}.2", size=1024), mail(message=SECOND, size=1025)]
    assert list(listing(rows))[-1] == "-- 3 Kbytes in 2 Requests."


@pytest.mark.parametrize(
    ("states", "mark"), [(["ready"], " "), (["ready", "inflight"], "*"), (["held"], "!"), (["damaged", "held"], "#")]
)
def test_the_mark_behind_the_id_says_how_the_message_stands(states: list[str], mark: str) -> None:
    rows = [mail(state=state) for state in states]
    assert list(listing(rows))[1][len(FIRST)] == mark


def test_the_null_sender_is_the_mailer_daemon() -> None:
    assert list(listing([mail(sender="")]))[1].endswith(" MAILER-DAEMON")


def test_json_has_the_names_of_postqueue() -> None:
    (line,) = objects([mail(), mail(id=f"{FIRST}.2", destination="eve@example.net", error="")])
    assert json.loads(line) == {
        "queue_name": "deferred",
        "queue_id": FIRST,
        "arrival_time": 1795400679,
        "message_size": 361,
        "forced_expire": False,
        "sender": "ann@example.org",
        "recipients": [
            {"address": "bob@example.net", "delay_reason": "451 4.2.0 try again"},
            {"address": "eve@example.net"},
        ],
    }


def test_rows_are_put_together_wherever_they_were_cut() -> None:
    text = b"".join(msgspec.json.encode([mail(message=name)]) + b"\n" for name in (FIRST, SECOND))
    for piece in (1, 7, len(text)):
        chunks = [Chunk(text[start : start + piece]) for start in range(0, len(text), piece)]
        assert [row.message for row in mail_rows(chunks)] == [FIRST, SECOND]


def test_json_of_an_empty_queue_is_nothing() -> None:
    assert list(objects([])) == []
