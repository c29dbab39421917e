"""What smtpctl writes for people, for scripts and for JSON."""

from __future__ import annotations

import json

import pytest

from control.printing import attempt_line, duration, envelope_page, json_line, lane_line, queue_line, why_page
from tests.tools.rows import ARRIVED, attempt, envelope, lane


def test_show_queue_prints_the_14_fields_of_opensmtpd() -> None:
    assert queue_line(envelope(), ARRIVED + 15, running=True) == (
        "0dqe8uk7v0abcdefghij.1|inet4|mta||ann@example.org|bob@example.net|bob@example.net"
        "|1795400679|1795746279|1795400680|1|pending|385|451 4.2.0 try again"
    )


@pytest.mark.parametrize(
    ("changes", "field", "wanted"),
    [
        ({"client": "local"}, 1, "local"),
        ({"client": "2001:db8::1"}, 1, "inet6"),
        ({"user": "bob"}, 2, "mda"),
        ({"kind": "failed", "user": "bob"}, 2, "bounce"),
        ({"kind": "failed"}, 3, "bounce"),
        ({"login": "ann", "state": "held"}, 3, "auth,suspend"),
        ({"lane_stopped": True}, 3, "hold"),
        ({"sender": ""}, 4, "@"),
        ({"sender": '"a|b"@example.org'}, 4, '"a\\x7cb"@example.org'),
        ({"last_try": None}, 9, "0"),
        ({"state": "inflight", "next_try": None, "since": ARRIVED + 5}, 11, "inflight"),
        ({"state": "inflight", "next_try": None, "since": ARRIVED + 5}, 12, "10"),
        ({"state": "held", "next_try": None}, 12, ""),
        ({"state": "damaged"}, 11, "damaged"),
        ({"next_try": ARRIVED}, 12, "0"),
    ],
)
def test_each_field_says_what_opensmtpd_says(changes: dict[str, object], field: int, wanted: str) -> None:
    assert queue_line(envelope(**changes), ARRIVED + 15, running=True).split("|")[field] == wanted


def test_without_a_daemon_an_envelope_is_offline() -> None:
    assert queue_line(envelope(), ARRIVED, running=False).split("|")[11:13] == ["offline", ""]


def test_json_has_rfc_3339_times_and_one_line() -> None:
    line = json_line(envelope(error="451 \u2028 later\n"))
    assert "\n" not in line
    found = json.loads(line)
    assert found["arrived"] == "2026-11-23T02:24:39.000Z"
    assert found["lane"] == ""
    assert found["attempts"] == 1


def test_an_envelopes_page_leaves_out_what_is_empty() -> None:
    page = list(envelope_page(envelope(lane_stopped=True)))
    assert "recipient: bob@example.net" in page
    assert "lane-stopped: yes" in page
    assert [line for line in page if line.startswith(("user", "login", "uid"))] == []


def test_an_attempt_is_a_line_that_ends_with_the_reply() -> None:
    assert attempt_line(attempt()).split("|")[3:] == [
        "deferred",
        "rcpt",
        "smtp://mail.example.net:25",
        "mail.example.net [192.0.2.1]",
        "bob@example.net",
        "451 4.2.0 try again",
    ]


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, "relay||2|open|400|0|"),
        ({"paused": True, "next_try": None}, "relay||2|paused||0|"),
        ({"parked": True, "next_try": None, "error": "no action"}, "relay||2|parked||0|no action"),
        ({"failures": 3, "error": "refused"}, "relay||2|failing|400|3|refused"),
        ({"action": ""}, "(reports)||2|open|400|0|"),
    ],
)
def test_a_lane_says_how_it_stands(changes: dict[str, object], wanted: str) -> None:
    assert lane_line(lane(**changes), ARRIVED) == wanted


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, "bob@example.net is tried in 6m40s: 451 4.2.0 try again"),
        ({"state": "inflight"}, "bob@example.net is being tried now"),
        ({"state": "held", "error": ""}, "bob@example.net is held until an operator releases it"),
        ({"state": "damaged", "error": "checksum"}, "bob@example.net is set aside: checksum"),
        (
            {"lane_stopped": True, "next_try": None},
            "bob@example.net waits behind a lane that stands still: 451 4.2.0 try again",
        ),
    ],
)
def test_why_ends_with_where_the_envelope_stands(changes: dict[str, object], wanted: str) -> None:
    *history, standing = why_page([envelope(**changes)], [attempt()], ARRIVED)
    assert standing.endswith(wanted)
    assert history[0].endswith(
        "bob@example.net deferred by mail.example.net [192.0.2.1] via smtp://mail.example.net:25: 451 4.2.0 try again"
    )


@pytest.mark.parametrize(
    ("seconds", "wanted"), [(0, "0s"), (59.9, "59s"), (3600, "1h"), (93784, "1d2h3m4s"), (-5, "0s")]
)
def test_a_duration_leaves_out_its_zeros(seconds: float, wanted: str) -> None:
    assert duration(seconds) == wanted
