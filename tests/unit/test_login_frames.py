"""The packets between those who ask for passwords and the process that asks PAM."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.login_frames import (
    MAX_ADDRESS,
    MAX_LOGIN,
    MAX_PASSWORD,
    MAX_QUESTION,
    TICKET,
    Question,
    Verdict,
    answer,
    read_answer,
)

WHOLE = Question(os.urandom(TICKET), b"l" * MAX_LOGIN, b"p" * MAX_PASSWORD, b"a" * MAX_ADDRESS)
SMALL = Question(os.urandom(TICKET), b"ann", b"", b"192.0.2.1")


@pytest.mark.parametrize("question", [WHOLE, SMALL])
def test_a_question_is_read_as_it_was_written(question: Question) -> None:
    assert Question.read(question.packet()) == question
    assert len(question.packet()) <= MAX_QUESTION


@pytest.mark.parametrize(
    "question",
    [
        Question(bytes(TICKET), b"l" * (MAX_LOGIN + 1), b"p", b""),
        Question(bytes(TICKET), b"ann", b"p" * (MAX_PASSWORD + 1), b""),
        Question(bytes(TICKET), b"ann", b"p", b"a" * (MAX_ADDRESS + 1)),
        Question(bytes(TICKET), b"ann\0root", b"p", b""),
        Question(bytes(TICKET), b"ann", b"p\0q", b""),
        Question(bytes(TICKET), b"", b"p", b""),
    ],
    ids=["login", "password", "address", "nul in login", "nul in password", "nobody"],
)
def test_what_cannot_be_asked_is_no_question(question: Question) -> None:
    assert not question.is_sane
    with pytest.raises(ValueError, match="cannot be asked"):
        Question.read(question.packet())


@given(st.binary(max_size=2 * MAX_QUESTION))
def test_octets_without_meaning_are_refused_and_nothing_more(octets: bytes) -> None:
    try:
        question = Question.read(octets)
    except ValueError:
        return
    assert bytes(question.packet()) == octets


def test_no_text_of_a_question_shows_the_password() -> None:
    assert "secret" not in repr(Question(bytes(TICKET), b"ann", b"secret", b""))


@pytest.mark.parametrize("verdict", Verdict)
def test_an_answer_is_read_as_it_was_written(verdict: Verdict) -> None:
    assert read_answer(answer(SMALL.ticket, verdict)) == (SMALL.ticket, verdict)


@pytest.mark.parametrize("octets", [b"", bytes(TICKET), bytes(TICKET) + b"\3", bytes(TICKET) + b"\1\1"])
def test_what_is_no_answer_says_neither_yes_nor_no(octets: bytes) -> None:
    with pytest.raises(ValueError, match=r"no answer|3"):
        read_answer(octets)
