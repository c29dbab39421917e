"""The contract of the spool, held against what a process that died had said (`tests.tools.spool_child`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from spool.entry import QueueEntry
from spool.layout import layout
from spool.listing import QueueReader
from spool.message import Claimed
from spool.writer import SpoolWriter
from tests.tools.spool_child import SEALED, body_of
from tests.tools.spooled import take


@dataclass
class Told:
    """What a process said before it died: message ids by word."""

    words: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def __getitem__(self, word: str) -> set[str]:
        return self.words[word]

    def add(self, line: str) -> None:
        word, _, name = line.strip().partition(" ")
        self.words[word].add(name)

    def add_all(self, before: Told) -> None:
        for word, names in before.words.items():
            self.words[word] |= names


@dataclass
class Found:
    """The spool as the next start finds it."""

    mail: Mapping[str, Claimed]
    #: Ids of the messages that have a report about a failure.
    reports: list[str]
    damaged: int


async def look(root: Path) -> Found:
    spool = await SpoolWriter.open(layout(str(root)))
    spool.seal_with(SEALED)
    claimed = await take(spool, 100_000)
    reader = QueueReader.beside(layout(str(root)).spool_dir, spool.clock)
    entries = [entry for entry in reader.entries() if isinstance(entry, QueueEntry)]
    damaged = len(list(reader.damaged()))
    reader.close()
    await spool.unclaim(claimed)
    await spool.aclose()
    mail: dict[str, Claimed] = {one.message.id: one for one in claimed if not one.envelope.kind.is_report}
    return Found(mail, [entry.message for entry in entries if entry.kind.is_report], damaged)


def assert_whole(found: Found) -> None:
    assert found.damaged == 0
    for name, claimed in found.mail.items():
        content = claimed.body.read()
        assert content in (body_of(name), body_of(name, large=True)), f"{name} is not what was sent"


def assert_kept(told: Told, found: Found, deaths: int = 1) -> None:
    """The contract, for one message at a time; each death may have cut off one answer."""
    settled = told["delivered"] | told["failed"] | told["removed"]
    # One may have been recorded without having been told.
    missing = told["accepted"] - settled - set(found.mail) - set(found.reports)
    assert len(missing) <= deaths
    assert missing <= told["claimed"] | told["removing"], "lost, and neither tried nor removed"
    assert not settled & set(found.mail), "settled, and tried again"
    assert told["failed"] <= set(found.reports), "failed, and nobody is told"
    assert len(found.reports) == len(set(found.reports)), "told twice"
    assert len(set(found.mail) - told["accepted"]) <= deaths, "more than the one whose answer was cut off"
    in_flight = (told["claimed"] - settled) & set(found.mail)
    assert all(found.mail[name].was_in_flight for name in in_flight)
    assert_whole(found)
