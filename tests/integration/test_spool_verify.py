"""A look through the spool finds what is wrong with it, a repair sets that aside, and everything else is delivered."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import aclosing, closing
from pathlib import Path

import pytest

from control.protocol import FindingRow, VerifiedRow
from control.verifying import verify
from spool.bodies import SMALL_BODY, BodyFiles
from spool.files import SystemOps
from spool.ids import MessageId, new_message_id
from spool.layout import Layout
from spool.listing import QueueReader
from spool.opening import database_path
from spool.writer import SpoolWriter
from tests.tools.spooled import Letter, put, submission, take

pytestmark = [pytest.mark.anyio, pytest.mark.reliability("10 verify")]

LARGE = b"0123456789abcde\n" * (SMALL_BODY // 8)


async def put_large(spool: SpoolWriter) -> MessageId:
    name = new_message_id(1_700_000_000_000)
    writer = await spool.new_body(name)
    writer.write(LARGE)
    await spool.accept(submission(spool.clock.now(), Letter(body=writer.finish()), name))
    return name


def sql(statement: str) -> Callable[[Layout, str], None]:
    """Damage by a statement about the second message."""

    def apply(place: Layout, large: str) -> None:
        with closing(sqlite3.connect(database_path(place.spool_dir), isolation_level=None)) as connection:
            connection.execute("PRAGMA ignore_check_constraints = 1")
            assert connection.execute(statement).rowcount == 1

    return apply


def body_file(place: Layout, name: str) -> Path:
    return Path(BodyFiles(place.spool_dir, SystemOps()).path(name))


def altered(place: Layout, large: str) -> None:
    with body_file(place, large).open("r+b") as body:
        body.seek(len(LARGE) // 2)
        body.write(b"!")


def shortened(place: Layout, large: str) -> None:
    os.truncate(body_file(place, large), len(LARGE) - 1)


def gone(place: Layout, large: str) -> None:
    body_file(place, large).unlink()


def break_page(place: Layout, page: int) -> None:
    with open(database_path(place.spool_dir), "r+b") as database:
        database.seek(page * 4096)
        database.write(b"\xa5" * 4096)


def orphaned(place: Layout, large: str) -> None:
    shutil.copy(body_file(place, large), body_file(place, "strayfile"))


#: What is done to the spool, and words of what is found.
DAMAGE: dict[str, tuple[Callable[[Layout, str], None], str]] = {
    "a small body with another octet": (
        sql("UPDATE body SET content = zeroblob(length(content)) WHERE message = 2"),
        "is not what was accepted",
    ),
    "a small body cut short": (
        sql("UPDATE body SET content = substr(content, 2) WHERE message = 2"),
        "is not what was accepted",
    ),
    "a small body gone": (sql("DELETE FROM body WHERE message = 2"), "is missing"),
    "a large body altered": (altered, "are not those that were accepted"),
    "a large body cut short": (shortened, "octets where"),
    "a large body gone": (gone, "No such file"),
    "a sender that is no text": (
        sql("UPDATE message SET sender_local = CAST(X'fffe' AS TEXT) WHERE id = 2"),
        "Could not decode",
    ),
    "a destination that is no text": (
        sql("UPDATE envelope SET local = CAST(X'fffe' AS TEXT) WHERE id = 2"),
        "Could not decode",
    ),
    "an impossible wish for reports": (sql("UPDATE recipient SET notify = 99 WHERE message = 2"), "99"),
    "an impossible kind of body": (sql("UPDATE message SET body_kind = -1 WHERE id = 2"), "-1"),
    "an impossible kind": (sql("UPDATE envelope SET kind = 77 WHERE id = 2"), "77"),
    "a body without a message": (orphaned, "no message has this body"),
    "a lane that waits too long": (sql("UPDATE lane SET next_due = next_due + 1000000"), "what it has to do next"),
    "a lane that waits for ever": (sql("UPDATE lane SET next_due = NULL"), "what it has to do next"),
}


async def spool_with(place: Layout, damage: Callable[[Layout, str], None]) -> tuple[list[MessageId], SpoolWriter]:
    """Four messages, the last one large, of which the second or the last is damaged while no daemon runs."""
    spool = await SpoolWriter.open(place)
    names = [*[await put(spool) for _ in range(3)], await put_large(spool)]
    await spool.aclose()
    damage(place, names[-1])
    return names, await SpoolWriter.open(place)


async def look(place: Layout, spool: SpoolWriter, *, repairs: bool = False) -> tuple[list[FindingRow], VerifiedRow]:
    """What is found, and what was looked at."""
    found: list[FindingRow | VerifiedRow] = []
    with closing(QueueReader.beside(place.spool_dir, spool.clock, spool.bodies)) as reader:
        async with aclosing(verify(reader, spool if repairs else None)) as rows:
            found = [row async for row in rows]
    assert isinstance(found[-1], VerifiedRow)
    return [row for row in found if isinstance(row, FindingRow)], found[-1]


def troubles(findings: Sequence[FindingRow]) -> list[str]:
    return [row.trouble for row in findings]


async def test_nothing_is_wrong_with_a_spool_in_which_nothing_is_wrong(place: Layout) -> None:
    _, spool = await spool_with(place, lambda place, large: None)
    findings, seen = await look(place, spool)
    assert findings == []
    assert (seen.messages, seen.envelopes, seen.lanes, seen.octets) == (4, 4, 1, 3 * 25 + len(LARGE))
    await spool.aclose()


@pytest.mark.parametrize("damage", DAMAGE)
async def test_damage_is_found_and_named(place: Layout, damage: str) -> None:
    do, words = DAMAGE[damage]
    _, spool = await spool_with(place, do)
    findings, _ = await look(place, spool)
    assert any(words in trouble for trouble in troubles(findings)), findings
    assert not any(row.repaired for row in findings)
    await spool.aclose()


@pytest.mark.parametrize("damage", DAMAGE)
async def test_after_a_repair_nothing_is_wrong_any_more(place: Layout, damage: str) -> None:
    _, spool = await spool_with(place, DAMAGE[damage][0])
    findings, _ = await look(place, spool, repairs=True)
    assert all(row.repaired for row in findings)
    again, _ = await look(place, spool)
    assert again == []
    await spool.aclose()


@pytest.mark.parametrize("damage", DAMAGE)
async def test_what_was_not_damaged_is_delivered_after_a_repair(place: Layout, damage: str) -> None:
    names, spool = await spool_with(place, DAMAGE[damage][0])
    findings, _ = await look(place, spool, repairs=True)
    set_aside = sum(row.remedy == "set-aside" for row in findings)
    claimed = {one.message.id for one in await take(spool)}
    assert len(claimed) == len(names) - set_aside
    assert claimed <= set(names)
    await spool.aclose()


async def test_what_is_set_aside_already_is_counted_and_no_finding(place: Layout) -> None:
    _, spool = await spool_with(place, gone)
    await look(place, spool, repairs=True)
    findings, seen = await look(place, spool)
    assert (findings, seen.set_aside) == ([], 1)
    await spool.aclose()


async def test_a_message_that_nobody_waits_for_is_found(place: Layout) -> None:
    names, spool = await spool_with(place, sql("DELETE FROM envelope WHERE id = 2"))
    findings, _ = await look(place, spool, repairs=True)
    assert [(row.subject, row.repaired) for row in findings] == [(names[1], False)]
    await spool.aclose()


async def test_an_envelope_without_its_message_is_set_aside(place: Layout) -> None:
    _, spool = await spool_with(place, sql("DELETE FROM message WHERE id = 2"))
    findings, _ = await look(place, spool, repairs=True)
    assert "envelope in row 2" in [row.subject for row in findings if row.repaired]
    await spool.aclose()


async def test_files_that_others_may_read_are_found(place: Layout) -> None:
    names, spool = await spool_with(place, lambda place, large: body_file(place, large).chmod(0o644))
    findings, _ = await look(place, spool)
    assert [(row.subject, row.remedy) for row in findings] == [(str(body_file(place, names[-1])), "none")]
    await spool.aclose()


async def test_a_broken_page_is_a_finding_and_the_rest_is_looked_at(place: Layout) -> None:
    spool = await SpoolWriter.open(place)
    for _ in range(200):
        await put(spool)
    await spool.aclose()
    break_page(place, 20)
    with closing(QueueReader.stopped(place.spool_dir)) as reader:
        async with aclosing(verify(reader, None)) as rows:
            found = [row async for row in rows]
    assert any(isinstance(row, FindingRow) for row in found)
    assert isinstance(found[-1], VerifiedRow)


async def test_mail_that_comes_and_goes_meanwhile_is_no_finding(place: Layout) -> None:
    _, spool = await spool_with(place, lambda place, large: None)
    with (
        closing(QueueReader.beside(place.spool_dir, spool.clock, spool.bodies)) as reader,
        reader.inspection() as inspection,
    ):
        findings = inspection.findings()
        first = next(findings)
        name = await put_large(spool)
        writer = await spool.new_body(new_message_id(1_700_000_000_001))
        writer.write(LARGE)
        rest = [finding for finding in findings if finding is not None]
    assert (first, rest) == (None, [])
    assert body_file(place, name).exists()
    writer.abandon()
    await spool.aclose()
