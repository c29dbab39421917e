"""What the fuzzers have found worth keeping, put through their targets again; and what they would call a finding."""

from __future__ import annotations

import pytest

from tests.fuzz.replies import read_replies
from tests.fuzz.target import CORPUS, TARGETS, Finding, corpus, load

MOST_FILES = 300
MOST_OCTETS = 500 * 1024


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_survives_its_corpus(name: str) -> None:
    target = load(name)
    inputs = corpus(name)
    assert inputs
    for file, octets in inputs:
        try:
            target.attempt(octets)
        except Exception as error:
            error.add_note(f"tests/fuzz/corpus/{name}/{file}")
            raise
    target.close()


def test_the_corpus_stays_small() -> None:
    sizes = [path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()]
    assert len(sizes) < MOST_FILES
    assert sum(sizes) < MOST_OCTETS


@pytest.mark.parametrize(
    "octets",
    [
        b"250 ok",
        b"250 ok\n",
        b"250-ok\r\n",
        b"250-ok\r\n251 ok\r\n",
        b"250 5.0.0 ok\r\n",
        b"650 ok\r\n",
        b"250 o\rk\r\n",
        b"250 \xff\r\n",
        b"250 " + b"x" * 510 + b"\r\n",
    ],
)
def test_what_is_no_reply_is_a_finding(octets: bytes) -> None:
    with pytest.raises(Finding):
        read_replies(octets)


def test_replies_are_read_with_their_lines() -> None:
    assert [(said.code, len(said.lines)) for said in read_replies(b"250-a\r\n250 b\r\n550 5.1.1 no\r\n")] == [
        (250, 2),
        (550, 1),
    ]
