"""Tables that change below a running daemon."""

from __future__ import annotations

import smtplib
import sqlite3
from pathlib import Path

from tests.tools.daemon import Daemon

DATABASE = """\
table aliases db:/etc/smtpd/aliases.db
listen on 127.0.0.1 port $port
action "inbox" maildir "/Maildir" virtual <aliases>
match from any for any action "inbox"
"""


def answer(daemon: Daemon, recipient: str) -> int:
    with smtplib.SMTP("127.0.0.1", daemon.port, timeout=20) as client:
        client.helo("client.example")
        client.mail("ann@example.org")
        return client.rcpt(recipient)[0]


def test_a_new_database_of_aliases_counts_at_once(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, DATABASE, tables={"aliases": "ann: root\n"})
    assert daemon.run("newaliases").returncode == 0
    with daemon:
        assert [answer(daemon, f"{name}@example.org") for name in ("ann", "bob")] == [250, 550]
        daemon.write("aliases", "bob: root\n")
        assert daemon.run("newaliases").returncode == 0
        assert [answer(daemon, f"{name}@example.org") for name in ("ann", "bob")] == [550, 250]


def test_a_database_that_is_gone_puts_mail_off(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, DATABASE, tables={"aliases": "ann: root\n"})
    daemon.run("newaliases")
    with daemon:
        (daemon.folder / "aliases.db").rename(daemon.folder / "away")
        assert answer(daemon, "ann@example.org") == 451
        (daemon.folder / "away").rename(daemon.folder / "aliases.db")
        assert answer(daemon, "ann@example.org") == 250


def test_a_database_of_somebody_else_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "mail.db"
    writer = sqlite3.connect(path)
    writer.executescript("CREATE TABLE a (name, target); INSERT INTO a VALUES ('ann@example.org', 'root')")
    queries = "dbpath /mail.db\nquery_alias SELECT target FROM a WHERE name = ?\n"
    with Daemon(
        tmp_path, DATABASE.replace("db:/etc/smtpd/aliases.db", "sqlite:/etc/smtpd/q"), tables={"q": queries}
    ) as daemon:
        assert [answer(daemon, f"{name}@example.org") for name in ("ann", "bob")] == [250, 550]
        with writer:
            writer.execute("INSERT INTO a VALUES ('bob@example.org', 'root')")
        assert answer(daemon, "bob@example.org") == 250
        writer.execute("BEGIN EXCLUSIVE")
        assert answer(daemon, "bob@example.org") == 451
        writer.rollback()
    writer.close()


def test_a_daemon_starts_without_the_secrets_of_its_smarthost(tmp_path: Path) -> None:
    configuration = (
        "table vault \"exec:sh -c 'echo the vault is sealed >&2; exit 2'\"\n"
        'action "out" relay host "smtps://isp@127.0.0.1:9" auth <vault>\n'
        'match from any for any action "out"\n'
    )
    with Daemon(tmp_path, configuration) as daemon:
        daemon.sendmail("bob@example.org", message="Subject: x\n\nx\n")
        daemon.wait_log("the vault is sealed")
        (envelope,) = daemon.wait_queue(1)
        daemon.wait_log("Disabling route")
        assert "exit status 2: the vault is sealed" in daemon.smtpctl("why", envelope["message"])


def test_a_table_can_be_told_to_take_new_content(tmp_path: Path) -> None:
    (tmp_path / "people").write_text("ann: root\n")
    configuration = DATABASE.replace("db:/etc/smtpd/aliases.db", f'"exec:cat {tmp_path}/people"')
    with Daemon(tmp_path, configuration) as daemon:
        (tmp_path / "people").write_text("bob: root\n")
        assert answer(daemon, "bob@example.org") == 550
        assert daemon.smtpctl("update", "table", "aliases") == "command succeeded\n"
        assert answer(daemon, "bob@example.org") == 250
        (tmp_path / "people").unlink()
        done = daemon.run("smtpctl", "update", "table", "aliases")
        assert done.returncode == 1
        assert "exec:cat: exit status 1: cat: " in done.stdout
        assert "its old content is kept for now" in daemon.smtpctl("show", "status")
        assert answer(daemon, "bob@example.org") == 250
