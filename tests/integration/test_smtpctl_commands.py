"""smtpctl and mailq as programs, with a daemon's socket and without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from policy.credentials import verify
from spool.ids import MessageId
from spool.layout import layout
from spool.writer import SpoolWriter
from tests.tools.controlled import House, running
from tests.tools.folders import public_folder
from tests.tools.spooled import LATER, Letter, put, record, take

pytestmark = pytest.mark.anyio

BIN = Path(sys.executable).parent
BODY = b"Subject: hello\r\n\r\nhello\r\n"


async def run(program: str, root: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    command = [str(BIN / program), "--root", str(root), *words]
    with anyio.fail_after(20):
        return await anyio.run_process(command, check=False)


async def output(program: str, root: Path, *words: str) -> str:
    done = await run(program, root, *words)
    assert (done.returncode, done.stderr) == (0, b""), done
    return done.stdout.decode()


async def waiting(house: House) -> MessageId:
    """A message whose only recipient was tried once."""
    message = await put(house.spool)
    (claimed,) = await take(house.spool)
    await record(house.spool, claimed, LATER, due=house.spool.clock.now() + 400_000)
    return message


async def stopped(root: Path) -> MessageId:
    """The spool of a daemon that ended with one message in its queue."""
    spool = await SpoolWriter.open(layout(str(root)))
    message = await put(spool)
    await spool.aclose()
    return message


async def test_the_queue_is_shown_for_scripts_and_as_json(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        message = await waiting(house)
        fields = (await output("smtpctl", tmp_path, "sh", "q")).rstrip("\n").split("|")
        assert fields[:7] == [
            f"{message}.1",
            "local",
            "mta",
            "",
            "ann@example.com",
            "bob@example.org",
            "bob@example.org",
        ]
        assert fields[10:12] == ["1", "pending"]
        assert fields[13] == "451 4.2.0 try again"
        (row,) = (await output("smtpctl", tmp_path, "show", "queue", message[:19], "--json")).splitlines()
        assert json.loads(row)["error"] == "451 4.2.0 try again"


async def test_why_tells_the_history_and_where_it_stands(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        message = await waiting(house)
        history, standing = (await output("smtpctl", tmp_path, "why", message)).splitlines()
        assert history.endswith(
            "bob@example.org deferred by mx.example.org (192.0.2.1) via smtp://mx.example.org:25: 451 4.2.0 try again"
        )
        assert standing.endswith(": 451 4.2.0 try again")


async def test_why_answers_for_a_message_that_is_gone(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        message = await waiting(house)
        await output("smtpctl", tmp_path, "remove", "all")
        assert "removed by the operator" in await output("smtpctl", tmp_path, "why", message)


async def test_a_message_is_shown_as_it_lies_there(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        message = await put(house.spool, Letter(body=BODY))
        assert (await run("smtpctl", tmp_path, "show", "message", message)).stdout == BODY


async def test_changes_say_how_many_envelopes_they_meant(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        await put(house.spool, Letter(to=("bob@example.org", "eve@example.org")))
        assert await output("smtpctl", tmp_path, "schedule", "all") == "2 envelopes scheduled\n"
        assert await output("smtpctl", tmp_path, "pause", "envelope", "all") == "2 envelopes paused\n"
        assert await output("smtpctl", tmp_path, "release", "all") == "2 envelopes released\n"
        assert await output("smtpctl", tmp_path, "remove", "all") == "2 envelopes removed\n"
        assert await output("smtpctl", tmp_path, "schedule", "all") == "0 envelope scheduled\n"


async def test_a_simple_request_says_whether_it_succeeded(tmp_path: Path) -> None:
    async with running(tmp_path):
        assert await output("smtpctl", tmp_path, "pause", "mta") == "command succeeded\n"
        again = await run("smtpctl", tmp_path, "pause", "mta")
        assert (again.returncode, again.stdout) == (1, b"command failed: mta is paused already\n")
        assert (await output("smtpctl", tmp_path, "show", "status")).splitlines() == [
            "MDA running",
            "MTA paused",
            "SMTP running",
        ]


async def test_a_lane_is_paused_by_its_action_and_key(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        await waiting(house)
        assert await output("smtpctl", tmp_path, "pause", "lane", "relay") == "command succeeded\n"
        assert await output("smtpctl", tmp_path, "show", "lanes") == "relay||1|paused||0|\n"


async def test_traces_are_known_by_name(tmp_path: Path) -> None:
    async with running(tmp_path):
        assert await output("smtpctl", tmp_path, "trace", "expand") == "command succeeded\n"
        assert await output("smtpctl", tmp_path, "untrace", "expand") == "command succeeded\n"
        unknown = await run("smtpctl", tmp_path, "trace", "imsg")
        assert unknown.returncode == 1
        assert unknown.stdout.startswith(b"command failed: invalid trace keyword: imsg")


async def test_an_unknown_id_is_an_error(tmp_path: Path) -> None:
    async with running(tmp_path):
        done = await run("smtpctl", tmp_path, "show", "message", "0000")
        assert (done.returncode, done.stderr) == (1, b"smtpctl: no message 0000\n")


async def test_mailq_has_the_shape_of_postfix(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        message = await waiting(house)
        lines = (await output("mailq", tmp_path)).splitlines()
        assert lines[0] == "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------"
        assert lines[1].startswith(f"{message} ")
        assert lines[2] == "(451 4.2.0 try again)"
        assert lines[-1] == "-- 1 Kbytes in 1 Request."
        assert json.loads(await output("mailq", tmp_path, "-j"))["queue_name"] == "deferred"


async def test_a_pipe_that_closes_early_ends_the_listing_quietly(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        for _ in range(20):
            await put(house.spool, Letter(to=tuple(f"user{number}@example.org" for number in range(100))))
        pipeline = f"{BIN / 'smtpctl'} --root {tmp_path} show queue | head -1"
        done = await anyio.run_process(["bash", "-o", "pipefail", "-c", pipeline], check=False)
        assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("words", [["show"], ["show", "envelope"], ["s"], []])
async def test_unfinished_words_are_answered_with_what_they_could_become(tmp_path: Path, words: list[str]) -> None:
    done = await run("smtpctl", tmp_path, *words)
    assert done.returncode == 255
    assert done.stderr.startswith(b"possibilities are:\n")
    assert b"show envelope <evpid>\n" in done.stderr


async def test_a_stopped_spool_is_listed_from_its_files(tmp_path: Path) -> None:
    message = await stopped(tmp_path)
    fields = (await output("smtpctl", tmp_path, "show", "queue")).split("|")
    assert (fields[0], fields[11:13]) == (f"{message}.1", ["offline", ""])
    assert (await output("mailq", tmp_path)).endswith("-- 1 Kbytes in 1 Request.\n")
    assert b"hello" in (await run("smtpctl", tmp_path, "show", "message", message)).stdout
    assert (await output("smtpctl", tmp_path, "show", "lanes")).startswith("relay||1|open|0|")


async def test_an_empty_stopped_queue_is_empty(tmp_path: Path) -> None:
    spool = await SpoolWriter.open(layout(str(tmp_path)))
    await spool.aclose()
    assert await output("mailq", tmp_path) == "Mail queue is empty\n"


async def test_changes_need_the_daemon(tmp_path: Path) -> None:
    await stopped(tmp_path)
    for words in (["schedule", "all"], ["pause", "mta"], ["show", "status"], ["trace", "smtp"]):
        done = await run("smtpctl", tmp_path, *words)
        assert (done.returncode, done.stderr) == (1, b"smtpctl: smtpd doesn't seem to be running\n")


async def test_no_spool_at_all_is_said(tmp_path: Path) -> None:
    done = await run("mailq", tmp_path)
    assert done.returncode == 1
    assert b"there is no spool in" in done.stderr


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
async def test_a_stopped_spool_is_closed_to_strangers() -> None:
    code = "import os, sys, control.mailq as it, control.offline; os.seteuid(65534); sys.exit(it.main())"
    with public_folder() as root:
        await stopped(root)
        done = await anyio.run_process([sys.executable, "-c", code, "--root", str(root)], check=False)
    assert done.returncode == os.EX_NOPERM
    assert b"only root and the owner of the spool may read it" in done.stderr


async def test_a_password_is_hashed_from_the_command_line_and_from_lines(tmp_path: Path) -> None:
    (hashed,) = (await output("smtpctl", tmp_path, "encrypt", "secret")).splitlines()
    assert verify("secret", hashed)
    done = await anyio.run_process([str(BIN / "smtpctl"), "encrypt"], input=b"one\ntwo\n")
    first, second = done.stdout.decode().splitlines()
    assert verify("one", first)
    assert verify("two", second)


async def test_encrypt_makes_verifiers_for_scram(tmp_path: Path) -> None:
    (made,) = (await output("smtpctl", tmp_path, "encrypt", "--scram", "secret")).splitlines()
    assert made.startswith("SCRAM-SHA-256$")
    assert verify("secret", made)
    assert not verify("Secret", made)


async def test_starting_loads_nothing_heavy() -> None:
    code = "import sys, control.smtpctl, control.mailq; print(*sys.modules)"
    loaded = (await anyio.run_process([sys.executable, "-c", code])).stdout.decode().split()
    heavy = {"asyncio", "ssl", "sqlite3", "sqlite_utils", "anyio", "email", "cryptography", "logging", "dataclasses"}
    assert heavy & set(loaded) == set()


async def test_envelopes_are_counted_listed_and_removed_by_what_they_are_like(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        for domain in ("dead.example", "live.example", "dead.example"):
            await put(house.spool, Letter((f"bob@{domain}",)))
        assert await output("smtpctl", tmp_path, "show", "queue", "--count") == "3\n"
        counted = await output("smtpctl", tmp_path, "show", "queue", "--count", "--by", "domain")
        assert counted == "2 dead.example\n1 live.example\n"
        as_json = json.loads(await output("smtpctl", tmp_path, "--json", "show", "queue", "--by", "state"))
        assert as_json == {"value": "ready", "count": 3, "others": False}
        dead = ("--domain", "dead.example")
        assert len((await output("smtpctl", tmp_path, "show", "queue", *dead)).splitlines()) == 2
        assert await output("smtpctl", tmp_path, "hold", *dead) == "2 envelopes held\n"
        assert await output("smtpctl", tmp_path, "remove", "--state", "held") == "2 envelopes removed\n"
        assert await output("smtpctl", tmp_path, "show", "queue", "--count") == "1\n"


async def test_a_change_wants_to_know_which_envelopes(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        await put(house.spool)
        done = await run("smtpctl", tmp_path, "remove")
        assert (done.returncode, b"which envelopes?" in done.stderr) == (1, True)
        done = await run("smtpctl", tmp_path, "remove", "--sender", "example.org")
        assert (done.returncode, b"expected an address, or @ and a domain" in done.stderr) == (1, True)
        assert await output("smtpctl", tmp_path, "show", "queue", "--count") == "1\n"
