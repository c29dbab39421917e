"""``smtpctl explain``: asked of a running daemon, worked out without one, and refused to others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.tools.daemon import Daemon
from tests.tools.folders import public_folder

CONFIGURATION = """
listen on socket
action "local" maildir alias <aliases>
action "out" relay host "smtp+tls://127.0.0.1:9" tls no-verify ttl 2h
match for local action "local"
match from auth for domain "example.org" mail-from "@example.com" action "out"
match from src 192.0.2.0/24 for any tag "inside" helo "mx.*" tls action "out"
match from rdns "*.example.net" for any action "out"
"""
ALIASES = "root: nobody\nteam: nobody, bob@example.org\nself: self2\nself2: self\n"


@pytest.fixture
def daemon(tmp_path: Path) -> Daemon:
    return Daemon(tmp_path, CONFIGURATION, tables={"aliases": ALIASES})


def explained(daemon: Daemon, *words: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(daemon.smtpctl("--json", "explain", *words))
    return told


def test_a_daemon_answers_by_the_configuration_that_it_runs(daemon: Daemon) -> None:
    with daemon:
        # What lies in the file now does not count before a reload.
        daemon.configure("match for any reject\n")
        told = explained(daemon, "-f", "ann@example.com", "root@localhost")
        page = daemon.smtpctl("explain", "-f", "ann@example.com", "root@localhost")
        daemon.reload()
        refused = explained(daemon, "root@localhost")
    assert told["running"] is True
    assert [trial["matched"] for trial in told["asked"][0]["trials"]] == [True]
    (envelope,) = told["envelopes"]
    assert (envelope["action"], envelope["lane"], envelope["ends_at"]) == ("local", "nobody", "nobody")
    assert envelope["local"]["by"] == "maildir"
    assert "accepted: 1 envelope" in page
    assert refused["refused"]["reply"] == "550 5.7.1 Invalid recipient: <root@localhost>"


def test_without_a_daemon_it_is_worked_out_and_says_so(daemon: Daemon) -> None:
    page = daemon.smtpctl("explain", "team")
    assert "smtpd was not asked" in page
    assert "team@box.example.net" in page
    told = explained(daemon, "team")
    assert told["running"] is False
    assert told["refused"]["reason"].endswith("no rule accepts <bob@example.org>")


def test_a_configuration_that_does_not_run_can_be_asked_beside_the_daemon(daemon: Daemon) -> None:
    other = daemon.write("new.conf", 'action "b" relay host smtp://127.0.0.1\nmatch from any for any action "b"\n')
    with daemon:
        told = explained(daemon, "--config", str(other), "ann@example.org")
    assert (told["config"], told["running"]) == (str(other), False)
    assert told["envelopes"][0]["relay"]["hops"][0]["tls"] == "STARTTLS if offered, not verified"


@pytest.mark.parametrize(
    ("words", "matched"),
    [
        (("-f", "ann@example.com"), "smtpd.conf:6"),
        (("-f", "<>"), None),
        (("--from", "auth", "ann", "-f", "ann@example.com"), "smtpd.conf:6"),
        (("--from", "192.0.2.1", "-f", "ann@example.com"), None),
        (("--from", "192.0.2.1", "--tag", "inside", "--helo", "mx.example.com", "--tls"), "smtpd.conf:7"),
        (("--from", "192.0.2.1", "--tag", "inside", "--helo", "mx.example.com"), None),
        (("--from", "198.51.100.1", "--tag", "inside", "--helo", "mx.example.com", "--tls"), None),
        (("--from", "198.51.100.1", "--rdns", "mx.example.net"), "smtpd.conf:8"),
        (("--from", "198.51.100.1", "--from", "auth", "ann", "-f", "a@example.com"), "smtpd.conf:6"),
    ],
)
def test_the_options_say_who_sends(daemon: Daemon, words: tuple[str, ...], matched: str | None) -> None:
    told = explained(daemon, *words, "bob@example.org")
    places = [trial["place"] for trial in told["asked"][0]["trials"] if trial["matched"]]
    assert places == ([] if matched is None else [f"{daemon.folder}/{matched}"])


def test_what_an_action_demands_is_told_with_its_ttl(daemon: Daemon) -> None:
    (envelope,) = explained(daemon, "--from", "local", "-f", "a@example.com", "bob@example.org")["envelopes"]
    (hop,) = envelope["relay"]["hops"]
    assert (envelope["ttl"], hop["tls"]) == (7200, "STARTTLS required, certificate not verified")
    assert (hop["addresses"], hop["label"], hop["trouble"]) == (["127.0.0.1"], "", "")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("no one@example.org",), "no mail address"),
        (("--from", "somewhere", "a@example.org"), "no IP address"),
        (("--from", "192.0.2.1", "--from", "192.0.2.2", "a@example.org"), "at most"),
        (("--config", "/nonexistent", "a@example.org"), "/nonexistent"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused_with_a_sentence(
    daemon: Daemon, words: tuple[str, ...], sentence: str
) -> None:
    done = daemon.run("smtpctl", "explain", *words)
    assert done.returncode == 1
    assert sentence in done.stderr


def test_its_options_are_of_no_use_to_other_commands(daemon: Daemon) -> None:
    done = daemon.run("smtpctl", "show", "queue", "--tls")
    assert (done.returncode, "option --tls is not for this command" in done.stderr) == (os.EX_USAGE, True)


def test_macros_of_the_command_line_count_for_a_configuration_that_is_named(daemon: Daemon) -> None:
    other = daemon.write("new.conf", 'action "b" mbox\nmatch from any for domain $ours action "b"\n')
    told = explained(daemon, "--config", str(other), "-D", "ours=example.org", "root@example.org")
    assert told["envelopes"][0]["local"]["user"] == "root"


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_others_are_told_that_it_is_private() -> None:
    with public_folder() as root:
        daemon = Daemon(root, CONFIGURATION, tables={"aliases": ALIASES})
        with daemon:
            running = ask_as_nobody(root)
        stopped = ask_as_nobody(root)
    assert (running.returncode, stopped.returncode) == (os.EX_NOPERM, os.EX_NOPERM)
    assert "aliases and the .forward files of others are private" in running.stderr
    assert "aliases and the .forward files of others are private" in stopped.stderr


def ask_as_nobody(root: Path) -> subprocess.CompletedProcess[str]:
    code = "import os, sys, control.smtpctl as it, control.explain_offline; os.seteuid(65534); sys.exit(it.main())"
    command = [sys.executable, "-c", code, "--root", str(root), "explain", "root@localhost"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
