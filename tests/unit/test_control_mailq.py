"""mailq: the shape that monitoring reads."""

from __future__ import annotations

import json
import re

import pytest

from control.mailq import listing, objects
from tests.tools.rows import envelope

FIRST = "0dqe8uk7v0abcdefghij"
SECOND = "0dqe8uk7v1abcdefghij"


def test_an_empty_queue_is_what_check_mailq_looks_for() -> None:
    assert list(listing([])) == ["Mail queue is empty"]


def test_a_message_is_an_entry_with_its_recipients_below() -> None:
    rows = [envelope(), envelope(id=f"{FIRST}.2", destination="eve@example.net")]
    head, entry, reason, first, second, gap, last = listing(rows)
    assert head == "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------"
    assert re.fullmatch(rf"{FIRST}      361 \w{{3}} Nov 2[234] \d\d:\d\d:\d\d +ann@example.org", entry)
    assert reason == "(451 4.2.0 try again)"
    assert first.strip() == "bob@example.net"
    assert second.strip() == "eve@example.net"
    assert gap == ""
    assert last == "-- 1 Kbytes in 1 Request."


def test_the_last_line_counts_each_message_once() -> None:
    rows = [envelope(size=1024), envelope(id=f"{FIRST}.2", size=1024), envelope(message=SECOND, size=1025)]
    assert list(listing(rows))[-1] == "-- 3 Kbytes in 2 Requests."


@pytest.mark.parametrize(
    ("states", "mark"), [(["ready"], " "), (["ready", "inflight"], "*"), (["held"], "!"), (["damaged", "held"], "#")]
)
def test_the_mark_behind_the_id_says_how_the_message_stands(states: list[str], mark: str) -> None:
    rows = [envelope(state=state) for state in states]
    assert list(listing(rows))[1][len(FIRST)] == mark


@pytest.mark.parametrize("changes", [{"sender": ""}, {"kind": "failed"}])
def test_the_null_sender_and_reports_are_the_mailer_daemons(changes: dict[str, object]) -> None:
    assert list(listing([envelope(**changes)]))[1].endswith(" MAILER-DAEMON")


def test_json_has_the_names_of_postqueue() -> None:
    (line,) = objects([envelope(), envelope(id=f"{FIRST}.2", destination="eve@example.net", error="")])
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


def test_json_of_an_empty_queue_is_nothing() -> None:
    assert list(objects([])) == []
