"""A small spool with one of everything, made to be kept: later versions must be able to open what this one wrote.

``python -m tests.tools.sample_spool FOLDER`` makes ``FOLDER/spool.tar.gz`` and ``FOLDER/mail.json``, what is in it in plain
words, with the program as it is then. It is run once for each version of the tables, and its files are never made again.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import sys
import tarfile
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import anyio

from spool.address import Address
from spool.entry import PastAttempt, QueueEntry
from spool.intent import MboxIntent
from spool.lane import Lane, LaneFailed
from spool.layout import Layout, layout
from spool.listing import QueueReader
from spool.message import Notify
from spool.outcome import Outcome
from spool.selection import Selection, select
from spool.writer import SpoolWriter
from tests.tools.spooled import DONE, HOUR, LATER, NEVER, HandClock, Letter, put, record, submission, take

LARGE = b"Subject: large\r\n\r\n" + b"".join(b"line %d of a large message\r\n" % number for number in range(4000))

OUTCOMES: dict[str, Outcome] = {"gone@example.net": NEVER, "later@example.net": LATER, "told@example.com": DONE}


async def fill(place: Layout, clock: HandClock) -> None:
    """One of everything."""
    spool = await SpoolWriter.open(place, clock)
    held = await put(spool, Letter(to=("held@example.org",)))
    await spool.hold(Selection(held))
    await put(spool, Letter(to=("gone@example.net", "later@example.net"), lane=Lane("mx", "example.net")))
    await put(spool, Letter(to=("told@example.com",), notify=Notify.SUCCESS, lane=Lane("mx", "example.com")))
    damaged = await put(spool, Letter(to=("damaged@example.org",), sender=Address("", "")))
    boxed = await put(spool, Letter(to=("box@example.org",), user="box", lane=Lane("local", "box")))
    clock.advance(1000)
    for claimed in await take(spool):
        recipient = str(claimed.envelope.recipient.address)
        if recipient in OUTCOMES:
            await record(spool, claimed, OUTCOMES[recipient], due=spool.clock.now() + HOUR)
        elif claimed.message.id == damaged:
            await spool.set_aside(claimed.envelope.id, "its octets are not those that were accepted")
        elif claimed.message.id == boxed:
            intent = MboxIntent(claimed.envelope.id, "/var/mail/box", 1 << 63, 7, 4096, 361, b"0" * 16)
            await spool.commit_intents([intent])
    for lane in await spool.lanes(0, 100):
        if lane.lane.key == "example.net":
            await spool.record(
                [], [LaneFailed(lane.id, spool.clock.now(), spool.clock.now() + 60_000, "no route to host")]
            )
            await spool.pause_lane(lane.id)
    await put_large(spool)
    await put(spool, Letter(to=('"odd name"@example.org', "plain@example.org"), drop="1700000000.aaaa"))
    await spool.remember("paused", "mda")
    await spool.aclose()


async def put_large(spool: SpoolWriter) -> None:
    """A message whose body lies in a file."""
    what = submission(spool.clock.now(), Letter(to=("large@example.org",)))
    writer = await spool.new_body(what.message.id)
    writer.write(LARGE)
    body = writer.finish()
    await spool.accept(replace(what, message=replace(what.message, size=body.size), body=body))


def mail_of(reader: QueueReader) -> list[dict[str, object]]:
    """Everything that an envelope must keep for ever, in words that do not depend on the version."""
    return [_words(reader, entry) for entry in reader.entries() if isinstance(entry, QueueEntry)]


def _words(reader: QueueReader, entry: QueueEntry) -> dict[str, object]:
    message, body = reader.message(Selection(entry.message))
    history = [past for past in reader.attempts(select(entry.id)) if isinstance(past, PastAttempt)]
    return {
        "id": entry.id,
        "sender": str(entry.sender),
        "recipient": str(entry.recipient),
        "destination": str(entry.destination),
        "user": entry.user,
        "lane": [entry.action, entry.key, entry.lane_paused, entry.lane_not_before, entry.lane_error],
        "kind": entry.kind.value,
        # A start puts back what was in flight.
        "state": entry.state.value.replace("inflight", "ready"),
        "arrived": message.arrived,
        "due": entry.due,
        "deadline": entry.deadline,
        "attempts": entry.attempts,
        "error": entry.error,
        "body": hashlib.sha256(body.read()).hexdigest(),
        "history": [f"{past.event.value}: {past.attempt.outcome.reply.text}" for past in history],
        "report": [str(line.recipient.address) for line in reader.report_lines(entry.id)],
    }


def main(folder: Path) -> None:
    """Make the files."""
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        place = layout(scratch)
        anyio.run(fill, place, HandClock())
        with closing(QueueReader.stopped(place.spool_dir)) as reader:
            (folder / "mail.json").write_text(json.dumps(mail_of(reader), indent=1) + "\n")
        with closing(sqlite3.connect(f"{place.spool_dir}/state.db")) as database:
            database.execute("VACUUM")
        with tarfile.open(folder / "spool.tar.gz", "w:gz") as archive:
            archive.add(place.spool_dir, "spool", filter=_nobodys)


def _nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if member.name.endswith(("-wal", "-shm", "reserve")):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    main(Path(sys.argv[1]))
