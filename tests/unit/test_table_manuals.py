"""The manuals of tables, and of the commands that make them, say what there is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from policy.tables.file import MAX_TABLE_OCTETS
from policy.tables.kinds import KINDS
from policy.tables.service import SERVICES
from policy.tables.sourced import KEPT_SECONDS, RETRY_SECONDS
from policy.tables.sources import PROGRAM_LIFETIME, PROGRAM_SECONDS
from policy.tables.sqlite import QUERY_SECONDS, parse_queries
from tests.tools.configured import Configured

DOCS = Path(__file__).parents[2] / "docs"
TABLE = (DOCS / "table.5").read_text()


def section(name: str) -> str:
    match = re.search(rf"^\.\\\" {name} begin\n(.*?)^\.\\\" {name} end$", TABLE, re.MULTILINE | re.DOTALL)
    assert match, name
    return match.group(1)


@pytest.mark.parametrize("manual", ["table.5", "makemap.8", "newaliases.8"])
def test_the_markup_is_right(manual: str) -> None:
    if shutil.which("mandoc") is None:
        assert os.environ.get("MAILSPOOL_PEERS") != "required", "mandoc is not installed"
        pytest.skip("needs mandoc")
    command = ["mandoc", "-Tlint", "-Wstyle", str(DOCS / manual)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=DOCS)
    # Our other manuals are not installed where this runs.
    assert [line for line in done.stdout.splitlines() if "referenced manual not found" not in line] == []


def test_every_kind_of_table_is_in_the_manual_and_the_reverse() -> None:
    assert re.findall(r"^\.It Li ([a-z]+):", section("kinds"), re.MULTILINE) == list(KINDS)


def test_every_use_of_a_table_is_in_the_manual_and_the_reverse() -> None:
    listed = re.findall(r"^\.It Cm ([a-z]+)$", section("services"), re.MULTILINE)
    assert sorted(listed) == sorted({service.asked for service in SERVICES})


def test_the_manual_s_numbers_are_right() -> None:
    text = " ".join(TABLE.split())
    assert f"It has {PROGRAM_SECONDS:g} seconds and one megabyte" in text
    assert f"every {PROGRAM_LIFETIME / 60:g} minutes at most" in text
    assert f"each {RETRY_SECONDS:g} seconds, and the old content holds for half an hour" in text
    assert (KEPT_SECONDS, QUERY_SECONDS) == (1800, 0.25)
    assert f"at most {MAX_TABLE_OCTETS >> 20} megabytes" in text


def test_the_manual_s_queries_are_right() -> None:
    example = re.search(r"^dbpath.*?(?=^\.Ed)", TABLE, re.MULTILINE | re.DOTALL)
    assert example
    assert set(parse_queries(example.group()).statements) == {
        "query_alias",
        "query_domain",
        "query_userinfo",
        "query_credentials",
    }


def test_a_table_that_the_manual_declares_is_understood(tmp_path: Path) -> None:
    example = re.search(r"^table domains.*?(?=^\.Ed)", TABLE, re.MULTILINE | re.DOTALL)
    assert example
    said = Configured(tmp_path).errors(example.group() + "match for any reject\n")
    # The files are not there; nothing else is wrong.
    assert [message.split(": ")[-1].split(" (")[0] for message in said] == ["No such file or directory"] * len(said)
    assert [message.split(":")[0] for message in said[:2]] == ["2", "3"]
