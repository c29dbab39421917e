"""``smtpctl export`` and ``smtpctl import``: mail that moves from one daemon to another."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.tools.daemon import BIN, Daemon, wait_for

pytestmark = pytest.mark.reliability("9 moving house")

CONFIGURATION = """\
listen on 127.0.0.1 port $port
action "in" maildir "/Maildir"
match for local action "in"
"""
LARGE = "Subject: large\n\n" + "a long line of a large message\n" * 5000
PAUSED = ("-d", "-v", "-P", "mda")


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, Daemon]]:
    """Two daemons whose deliveries are paused."""
    root = tmp_path_factory.mktemp("houses")
    with Daemon(root / "old", CONFIGURATION, PAUSED) as old, Daemon(root / "new", CONFIGURATION, PAUSED) as new:
        yield old, new


@pytest.fixture
def old(houses: tuple[Daemon, Daemon]) -> Daemon:
    """A small and a large message wait, and one is held."""
    old, new = houses
    for house in houses:
        house.smtpctl("remove", "all")
    for subject in ("small", "held"):
        old.sendmail("-f", "root", "root", message=f"Subject: {subject}\n\nx\n")
        if subject == "held":
            old.smtpctl("hold", old.queue()[-1]["id"])
    old.sendmail("-f", "root", "root", message=LARGE)
    assert new.queue() == []
    return old


@pytest.fixture
def new(houses: tuple[Daemon, Daemon]) -> Daemon:
    return houses[1]


def shape(rows: list[dict[str, object]]) -> list[object]:
    """What must be the same in both houses."""
    keep = ("id", "state", "sender", "recipient", "action", "size", "attempts", "error")
    return [[row[name] for name in keep] for row in rows]


def times(rows: list[dict[str, object]]) -> list[float]:
    return [datetime.fromisoformat(str(row[name])).timestamp() for row in rows for name in ("arrived", "expires")]


def bodies(house: Daemon) -> list[str]:
    return [house.smtpctl("show", "message", str(row["message"])) for row in house.queue()]


def test_what_is_exported_is_the_same_in_the_new_house(old: Daemon, new: Daemon, tmp_path: Path) -> None:
    assert old.smtpctl("export", "all", str(tmp_path / "mail.tar")).endswith(" octets exported\n")
    assert (tmp_path / "mail.tar").stat().st_mode & 0o777 == 0o600
    assert len(old.queue()) == 3
    assert new.smtpctl("import", str(tmp_path / "mail.tar")).startswith("3 messages, 3 envelopes, ")
    assert shape(new.queue()) == shape(old.queue())
    assert times(new.queue()) == pytest.approx(times(old.queue()), abs=2)
    assert sorted(row["state"] for row in new.queue()) == ["held", "ready", "ready"]
    assert bodies(new) == bodies(old)
    assert new.smtpctl("verify").endswith("nothing is wrong\n")


def test_mail_that_moves_is_removed_and_what_this_alone_held_goes_on(old: Daemon, new: Daemon, tmp_path: Path) -> None:
    before = shape(old.queue())
    assert old.smtpctl("export", "--remove", "all", str(tmp_path / "mail.tar")).endswith(" octets moved\n")
    assert old.queue() == []
    new.smtpctl("import", str(tmp_path / "mail.tar"))
    assert shape(new.queue()) == before


def test_an_archive_goes_through_a_pipe(old: Daemon, new: Daemon) -> None:
    environment = {"SMTPD_ROOT": str(old.root), "PATH": "/usr/bin:/bin"}
    out = subprocess.run([str(BIN / "smtpctl"), "export", "all", "-"], env=environment, capture_output=True, check=True)
    assert out.stderr.endswith(b" exported\n")
    environment["SMTPD_ROOT"] = str(new.root)
    command = [str(BIN / "smtpctl"), "import", "-"]
    done = subprocess.run(command, env=environment, input=out.stdout, capture_output=True, check=True)
    assert done.stdout.startswith(b"3 messages, ")


def test_one_envelope_or_those_that_a_filter_chooses_can_move(old: Daemon, tmp_path: Path) -> None:
    one = old.queue()[0]["id"]
    assert old.smtpctl("export", one, str(tmp_path / "one.tar")).startswith("1 message, 1 envelope, ")
    assert old.smtpctl("export", "--state", "held", str(tmp_path / "held.tar")).startswith("1 message, ")


def test_a_second_import_takes_nothing_twice(old: Daemon, new: Daemon, tmp_path: Path) -> None:
    old.smtpctl("export", "all", str(tmp_path / "mail.tar"))
    new.smtpctl("import", str(tmp_path / "mail.tar"))
    done = new.run("smtpctl", "import", str(tmp_path / "mail.tar"))
    assert (done.returncode, done.stdout) == (0, "0 messages, 0 envelopes, 0 octets imported, 3 messages skipped\n")
    new.smtpctl("remove", "all")
    done = new.run("smtpctl", "import", str(tmp_path / "mail.tar"))
    assert done.stderr.count("it was taken from this archive before") == 3
    assert new.queue() == []


def test_a_stopped_spool_can_be_exported(tmp_path: Path) -> None:
    with Daemon(tmp_path, CONFIGURATION, PAUSED) as house:
        house.sendmail("-f", "root", "root", message=LARGE)
        house.stop()
        assert house.smtpctl("export", "all", str(tmp_path / "mail.tar")).startswith("1 message, ")
        done = house.run("smtpctl", "export", "--remove", "all", str(tmp_path / "other.tar"))
        assert (done.returncode, done.stderr) == (1, "smtpctl: smtpd doesn't seem to be running\n")
        house.start()


def test_tar_reads_it_and_it_says_what_it_is(old: Daemon, tmp_path: Path) -> None:
    old.smtpctl("export", "all", str(tmp_path / "mail.tar"))
    with tarfile.open(tmp_path / "mail.tar") as archive:
        names = archive.getnames()
        first = archive.extractfile(names[0])
        assert first is not None
        assert json.load(first)["format"] == "mailspool-archive"
    assert (names[0], names[-1], len(names)) == ("mailspool-archive.json", "end.json", 8)


def test_mail_for_an_action_that_is_not_there_waits_and_is_named(old: Daemon, tmp_path: Path) -> None:
    old.smtpctl("export", "all", str(tmp_path / "mail.tar"))
    other = CONFIGURATION.replace('"in"', '"inside"')
    with Daemon(tmp_path / "b", other) as house:
        done = house.run("smtpctl", "import", str(tmp_path / "mail.tar"))
        assert done.returncode == 1
        assert "action in: the configuration has none of this name" in done.stderr
        assert len(house.queue()) == 3
        house.configure(CONFIGURATION)
        house.reload()
        wait_for(lambda: len(house.queue()) == 1, "all but the held one to be delivered")


def test_what_cannot_be_is_refused_in_a_sentence(old: Daemon, tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    for words, reason in {
        ("export", "all", str(tmp_path / "there")): f"{tmp_path}/there is there already",
        (
            "export",
            "--remove",
            "all",
            "-",
        ): "--remove needs a file: nobody can say that what went through a pipe is on disk",
        ("import", str(tmp_path)): f"{tmp_path} is no file that can be read twice",
        ("import", str(tmp_path / "there")): f"{tmp_path}/there: at octet 0: the end of the file: it was cut off",
        ("import", str(tmp_path / "nothing")): f"{tmp_path}/nothing: No such file or directory",
    }.items():
        done = old.run("smtpctl", *words)
        assert (done.returncode, done.stderr) == (1, f"smtpctl: {reason}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
