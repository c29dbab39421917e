"""What the daemon believes of an agent, which runs as a user and so may say anything."""

from __future__ import annotations

import json
import logging
import os
import socket
import struct
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from delivery.agents import Agent
from delivery.deposit import Deposit, ToMbox, delivered, failed
from delivery.forward_file import unpack_answer
from delivery.frames import pack_intent, pack_result, unpack_intent, unpack_result
from delivery.identity import Identity
from delivery.recruits import Duty, Recruit, Recruiter
from delivery.wire import MAX_FRAME, Hangup, Wire
from policy.forward import MAX_OCTETS
from spool.bodies import SmallBody
from spool.ids import EnvelopeId
from spool.intent import MboxIntent
from spool.outcome import Damaged

MAILBOX = "/var/mail/ann"
ENVELOPE = EnvelopeId("m" * 20 + ".1")
INTENT = MboxIntent(ENVELOPE, MAILBOX, 1, 2, 3, 4, b"\0" * 8)


def framed(*words: object) -> bytes:
    frames = [json.dumps(word).encode() for word in words]
    return b"".join(struct.pack("!I", len(frame)) + frame for frame in frames)


def talk(*words: object) -> list[Any]:
    """Have an agent that says this make one deposit into `MAILBOX`."""
    return hear(framed({"begun": True}, *words))


def hear(octets: bytes) -> list[Any]:
    near, far = socket.socketpair()
    pidfd = os.open("/dev/null", os.O_RDONLY)
    recruit = Recruit(0, pidfd, Wire(near), opens=False, duty=Duty.DELIVER, hirer=Recruiter("/nowhere"))
    agent = Agent(Identity("ann", 1, 1, (1,), "/"), recruit)
    deposit = Deposit(ENVELOPE, ToMbox(MAILBOX, "bob", 0.0), b"", "ann@here.example", SmallBody(b"X: y\r\n\r\n"))
    try:
        far.sendall(octets)
        far.shutdown(socket.SHUT_WR)
        return anyio.run(agent.make, [deposit], commit)
    finally:
        agent.ended()
        far.close()


async def commit(intents: Sequence[MboxIntent]) -> None:
    raise AssertionError("nothing is about the right mailbox here")


def test_a_result_comes_through_as_it_was() -> None:
    for result in (delivered("in"), failed("5.2.2", "full"), Damaged(ENVELOPE, "bad")):
        assert unpack_result(pack_result(result)) == result


def test_an_intent_comes_through_as_it_was() -> None:
    assert unpack_intent(pack_intent(INTENT)) == INTENT


@pytest.mark.parametrize(
    "fields",
    [
        None, 7, [], ["Delivered"], ["Delivered", 250, "2.0.0", "in"], ["Arrived", 250, "2.0.0", "in", "local"],
        ["Delivered", "250", "2.0.0", "in", "local"], ["Delivered", 25, "2.0.0", "in", "local"],
        ["Failed", 550, "5.1.1\r\nX: y", "no", "local"], ["Failed", 550, "5.1.1", "no", "nowhere"],
        ["Failed", 550, "5.1.1", 1, "local"], ["Damaged", 1, "bad"], [["Failed"], 550, "5.1.1", "no", "local"],
    ],
)  # fmt: skip
def test_what_is_no_result_ends_the_talk(fields: Any) -> None:
    with pytest.raises(Hangup):
        unpack_result(fields)


@pytest.mark.parametrize("change", [{"device": 1 << 63}, {"offset": -1}, {"checksum": "xy"}, {"path": 3}])
def test_what_is_no_intent_ends_the_talk(change: dict[str, object]) -> None:
    with pytest.raises(Hangup):
        unpack_intent({**pack_intent(INTENT), **change})


@pytest.mark.parametrize("answer", [["is", "\u0100"], ["is", "x" * (MAX_OCTETS + 2)], ["is"], {"is": "x"}, None])
def test_what_is_no_answer_about_a_forward_ends_the_talk(answer: object) -> None:
    with pytest.raises(Hangup):
        unpack_answer(answer)


RIGHT = pack_result(delivered("in"))


@pytest.mark.parametrize(
    "word",
    [
        7,
        [],
        {},
        {"results": 7},
        {"results": []},
        {"results": [RIGHT, RIGHT]},
        {"results": [pack_result(Damaged(EnvelopeId("n" * 20 + ".1"), "not mine"))]},
        {"intents": [pack_intent(INTENT) | {"envelope": "n" * 20 + ".1"}]},
        {"intents": [pack_intent(INTENT) | {"path": "/var/mail/bob"}]},
        {"intents": {"x": 1}},
        {"trouble": "Traceback"},
        {"trouble": 3},
    ],
)
def test_an_agent_that_says_nonsense_is_not_heard_any_more(word: object, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    with pytest.raises(Hangup):
        talk(word)


@pytest.mark.parametrize("octets", [b"\0\1\0\0" + b"[" * 65536, struct.pack("!I", MAX_FRAME + 1), b"\0\0\0\1\xff"])
def test_a_frame_that_cannot_be_read_ends_the_talk(octets: bytes) -> None:
    with pytest.raises(Hangup):
        hear(framed({"begun": True}) + octets)


def test_the_words_of_a_user_are_printable_when_they_are_believed() -> None:
    result = unpack_result(["Failed", 550, "5.1.1", "no\r\nX: y", "local"])
    assert not isinstance(result, Damaged)
    assert result.reply.text == "no X: y"
    assert unpack_result(["Damaged", ENVELOPE, "a\nb"]) == Damaged(ENVELOPE, "a b")


def test_a_result_is_believed() -> None:
    assert talk({"results": [RIGHT]}) == [delivered("in")]
