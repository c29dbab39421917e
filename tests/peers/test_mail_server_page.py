"""The nine lines of the page that the program was made from, run by root with everything that the page shows beside them."""

from __future__ import annotations

import base64
import os
import re
import select
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.machine import PATIENCE, VENV, Machine, wait_for
from tests.peers.spooler import SEED, Spooler
from tests.tools.certificates import CertificateAuthority

pytestmark = [pytest.mark.peer, pytest.mark.timeout(240), pytest.mark.xdist_group("mail-server-page")]

HOST = "mx.domain.tld"
PASSWORDS = {"roger": "correct horse", "shirley": "Tr0ub4dor&3"}
#: What we offer beyond the page.
MORE = ("250-PIPELINING", "250-SMTPUTF8")
VDOMS = "personaldomain.org\nbusinessname.com\n"
VUSERS = """
roger@personaldomain.org          roger
roger@businessname.com            roger
shirley@businessname.com          shirley
info@businessname.com             roger,shirley
"""


@pytest.fixture(scope="module")
def machine(peers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with Machine(tmp_path_factory.mktemp("page") / "machine") as machine:
        for user in PASSWORDS:
            machine.add_user(user)
        machine.name("127.0.0.20", HOST)
        yield machine


@pytest.fixture(scope="module")
def spooler(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spooler]:
    spooler = Spooler(machine)
    hashes = {user: _encrypted(machine, password) for user, password in PASSWORDS.items()}
    creds = "".join(f"{user}  {hashed}\n" for user, hashed in hashes.items())
    page = (SEED / "mailserver.conf").read_text()
    # Where it stands for the interface that is local, and, unchanged, for the one that strangers reach.
    listeners = "".join(line.replace("eth0", "lo") + "\n" for line in page.splitlines() if line.startswith("listen"))
    spooler.configure(page.replace("listen on eth0 tls", listeners + "listen on eth0 tls"), {"creds": creds})
    machine.write("/etc/smtpd/vdoms", VDOMS)
    machine.write("/etc/smtpd/vusers", VUSERS)
    issued = CertificateAuthority(tmp_path_factory.mktemp("authority")).issue(HOST)
    machine.write("/etc/smtpd/tls/smtpd.crt", Path(issued.cert).read_text())
    machine.write("/etc/smtpd/tls/smtpd.key", Path(issued.key).read_text(), 0o600)
    machine.write("/etc/smtpd/mailname", HOST + "\n")
    spooler.start()
    yield spooler
    assert "Traceback" not in spooler.log()


@pytest.fixture(scope="module")
def stranger(machine: Machine) -> list[str]:
    """What runs a program on another machine, at the other end of eth0."""
    machine.start(["unshare", "--net", "sleep", "600"], "/dev/null")
    wait_for(lambda: machine.run(["pgrep", "-x", "sleep"]).stdout.count("\n") > 1, "the other machine")
    pid = machine.run(["pgrep", "-n", "-x", "sleep"]).stdout.strip()
    machine.run(["ip", "link", "set", "eth0p", "netns", pid])
    there = ["nsenter", f"--target={pid}", "--net"]
    machine.run([*there, "ip", "address", "add", "192.0.2.99/24", "dev", "eth0p"])
    machine.run([*there, "ip", "link", "set", "eth0p", "up"])
    return there


def _encrypted(machine: Machine, password: str) -> str:
    return machine.run([str(VENV / "smtpctl"), "encrypt", password]).stdout.strip()


class Terminal:
    """A program at whose terminal somebody reads before they type."""

    def __init__(self, machine: Machine, command: str) -> None:
        self._process = subprocess.Popen(
            machine.enter(shlex.split(command)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.screen = ""

    def type(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def read_until(self, pattern: str) -> str:
        """What was printed since the last time, when a line of it is as ``pattern`` says."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + PATIENCE
        seen = ""
        while not re.search(pattern, seen.replace("\r\n", "\n"), re.MULTILINE):
            ready, _, _ = select.select([self._process.stdout], [], [], deadline - time.monotonic())
            assert ready, f"no {pattern} in {seen!r}"
            data = os.read(self._process.stdout.fileno(), 65536)
            assert data, f"it ended after {seen!r}"
            seen += data.decode()
        return seen.replace("\r\n", "\n")

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.kill()
        self._process.wait()


def test_the_pages_own_dialogue_at_the_submission_port_ends_with_235(spooler: Spooler) -> None:
    terminal = Terminal(spooler.machine, f"openssl s_client -host {HOST} -port 587 -starttls smtp -crlf")
    try:
        terminal.read_until("^250 HELP$")
        terminal.type("ehlo test.domain.tld")
        greeting = terminal.read_until("^250 HELP$")
        extensions = greeting.splitlines()
        assert [line for line in extensions if line not in MORE] == [
            f"250-{HOST} Hello test.domain.tld [127.0.0.1], pleased to meet you",
            "250-8BITMIME",
            "250-ENHANCEDSTATUSCODES",
            "250-SIZE 36700160",
            "250-DSN",
            "250-AUTH PLAIN LOGIN",
            "250 HELP",
        ]
        terminal.type("AUTH PLAIN")
        assert terminal.read_until("^334") == "334 \n"
        terminal.type(base64.b64encode(f"\0roger\0{PASSWORDS['roger']}".encode()).decode())
        assert terminal.read_until("^235").startswith("235 2.0.0")
        # In capitals it would be an order to openssl.
        terminal.type("quit")
        terminal.read_until("^221 ")
    finally:
        terminal.close()


def test_openssl_without_crlf_is_told_how_lines_end(spooler: Spooler) -> None:
    terminal = Terminal(spooler.machine, f"openssl s_client -host {HOST} -port 587 -starttls smtp")
    try:
        terminal.read_until("^250 HELP$")
        terminal.type("ehlo test.domain.tld")
        assert "lines end in CR LF" in terminal.read_until("^500 ")
    finally:
        terminal.close()


@pytest.mark.parametrize("user", ["roger", "nobody-here"])
def test_a_wrong_password_and_an_unknown_user_are_told_the_same(spooler: Spooler, user: str) -> None:
    done = spooler.machine.run(
        [*swaks(587, "--tls"), *login(user, "not it"), "--to", "shirley@businessname.com"], check=False
    )
    assert re.search(r"^<~\* +535 5\.7\.8 Authentication failed", done.stdout, re.MULTILINE), done.stdout


def swaks(port: int, *options: str) -> list[str]:
    return ["swaks", "--server", HOST, "--port", str(port), *options]


def login(user: str, password: str) -> list[str]:
    return ["--auth", "PLAIN", "--auth-user", user, "--auth-password", password]


def owner(machine: Machine, path: str) -> str:
    return machine.run(["stat", "--format=%U", path]).stdout.strip()


def test_mail_comes_in_at_all_three_ports_and_each_user_owns_the_mailbox_it_lands_in(spooler: Spooler) -> None:
    machine = spooler.machine
    world = ["--from", "somebody@elsewhere.example"]
    machine.run([*swaks(25), *world, "--to", "roger@personaldomain.org", "--body", "in plain text"])
    machine.run([*swaks(25, "--tls"), *world, "--to", "info@businessname.com", "--body", "within STARTTLS"])
    for port, tls, user in ((465, "--tls-on-connect", "roger"), (587, "--tls", "shirley")):
        sender = ["--from", f"{user}@businessname.com", *login(user, PASSWORDS[user])]
        machine.run([*swaks(port, tls), *sender, "--to", "info@businessname.com", "--body", f"from {user} at {port}"])

    texts = {user: spooler.wait_mailbox(user, "from shirley at 587") for user in PASSWORDS}
    spooler.wait_queue(0)

    assert [owner(machine, f"/var/mail/{user}") for user in PASSWORDS] == list(PASSWORDS)
    texts = {user: spooler.mailbox(user) for user in PASSWORDS}
    for text in ("within STARTTLS", "from roger at 465", "from shirley at 587"):
        assert [text in texts[user] for user in PASSWORDS] == [True, True]
    assert "in plain text" in texts["roger"]
    assert "in plain text" not in texts["shirley"]


@pytest.mark.parametrize(("port", "tls"), [(465, "--tls-on-connect"), (587, "--tls"), (587, "")])
def test_the_submission_ports_take_nothing_from_whoever_has_not_logged_in(
    spooler: Spooler, port: int, tls: str
) -> None:
    options = [tls] if tls else []
    sender = ["--from", "a@b.example", "--to", "roger@personaldomain.org"]
    done = spooler.machine.run([*swaks(port, *options), *sender], check=False)
    assert re.search(r"^<\S* +530 5\.7\.[01] ", done.stdout, re.MULTILINE), done.stdout


def test_a_stranger_at_port_25_reaches_our_domains_and_nothing_else(spooler: Spooler, stranger: list[str]) -> None:
    ours = [*stranger, "swaks", "--server", "192.0.2.10", "--from", "a@b.example"]
    spooler.machine.run([*ours, "--to", "roger@businessname.com", "--body", "from afar"])
    done = spooler.machine.run([*ours, "--to", "c@d.example"], check=False)

    spooler.wait_mailbox("roger", "from afar")
    assert re.search(r"^<\S* +550 ", done.stdout, re.MULTILINE), done.stdout


def test_those_who_meet_strangers_keep_the_queue_and_deliver_are_users_of_their_own(spooler: Spooler) -> None:
    machine = spooler.machine
    wait_for(lambda: processes(machine).keys() >= {"_smtpd", "_smtpq", "_smtpr"}, "a process for each role")
    assert len(processes(machine)["_smtpq"]) == 1


def processes(machine: Machine) -> dict[str, list[str]]:
    """The processes of ours by their users."""
    found: dict[str, list[str]] = {}
    for line in machine.run(["ps", "-ww", "-eo", "user:20,pid,args"]).stdout.splitlines()[1:]:
        user, pid, arguments = line.split(None, 2)
        if "smtpd" in arguments or "control." in arguments:
            found.setdefault(user, []).append(pid)
    return found
