"""The power goes under load, on a real file system: ext4 itself decides what is left of what was not fsynced."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest

from ingress.dropdoor import make_drop
from ingress.dropfile import LAST_LINE_LENGTH, last_line
from spool.layout import layout
from tests.tools.kept import assert_whole, look
from tests.tools.scorecard import Cases
from tests.tools.shut_down import Ext4, ext4

pytestmark = [pytest.mark.reliability("1 power loss"), pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
CUTS, MANY_CUTS = 3, 80
#: Processes that leave mail in the drop, one after the other as fast as they can.
DROPPERS = 3
#: Seconds until a process is at work.
START = 0.3


class Child:
    """A process that tells on standard output what it was promised."""

    def __init__(self, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", module, *arguments]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )

    def said(self) -> list[list[str]]:
        """The lines that it has written by now, as words."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        os.set_blocking(descriptor, False)
        octets = b""
        while piece := self._process.stdout.read(65536):
            octets += piece
        return [line.split() for line in octets.decode().splitlines()]

    def end(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.communicate(timeout=60)


def live_until_the_cut(disk: Ext4, root: Path, seconds: float) -> tuple[set[str], set[str]]:
    """Twenty sessions and some drops, and then the power goes; message ids and names of drops that were acknowledged.

    What is said afterwards does not count: an fsync that is under way when ext4 is shut down may return as if all were well,
    which a machine without power does not.
    """
    children = [Child("tests.tools.spool_child", str(root), "accept", "20")]
    children += [Child("tests.tools.drop_child", layout(str(root)).drop_dir) for _ in range(DROPPERS)]
    time.sleep(START + seconds)
    said = [words for child in children for words in child.said()]
    disk.cut_power()
    for child in children:
        child.end()
    return {words[1] for words in said if words[0] == "accepted"}, {words[1] for words in said if words[0] == "dropped"}


def is_whole(path: Path) -> bool:
    content = path.read_bytes()
    end = content[-LAST_LINE_LENGTH:].split()
    return end[:1] == [b"end"] and content.endswith(last_line(int(end[1]), int(end[2], 16)))


def test_what_was_acknowledged_before_the_power_went_is_there_and_whole(
    tmp_path: Path, thorough: bool, cases: Cases
) -> None:
    chance = random.Random(1)
    messages = drops = 0
    with ext4(tmp_path) as disk:
        for number in range(MANY_CUTS if thorough else CUTS):
            root = disk.place / str(number)
            make_drop(layout(str(root)))
            accepted, dropped = live_until_the_cut(disk, root, chance.uniform(0.05, 0.4))
            disk.unmount()
            disk.mount()
            cases.tried()
            found = anyio.run(look, root)
            assert_whole(found)
            drop = Path(layout(str(root)).drop_dir)
            if lost := accepted - set(found.mail):
                cases.failed(f"cut {number}: {len(lost)} of {len(accepted)} messages lost")
            if lost := {name for name in dropped if not (drop / name).exists() or not is_whole(drop / name)}:
                cases.failed(f"cut {number}: {len(lost)} of {len(dropped)} drops lost")
            messages, drops = messages + len(accepted), drops + len(dropped)
            shutil.rmtree(root)
    cases.note(f"ext4 cut off {cases.count} times: {messages} messages and {drops} drops acknowledged")
