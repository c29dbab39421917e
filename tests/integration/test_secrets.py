"""Passwords and keys while everything is traced: where they may be, and where they never are."""

from __future__ import annotations

import base64
import os
import pwd
import re
import smtplib
import ssl
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from control.separated.accounts import USERS
from policy.credentials import encrypt
from tests.tools.certificates import CertificateAuthority
from tests.tools.daemon import Daemon, wait_for
from tests.tools.folders import public_folder
from tests.tools.recording_sink import Act, RecordingSink

SMARTHOST, VAULT, INLINE = "Smarthost-41aa-Horse", "Vault-96ff-Battery", "Inline-85ee-Staple"
ANN, WRONG = "Ann-52bb-Correct", "Wrong-74dd-Password"
QUEUE_KEY = "Queue-63cc-0123456789-abcdefghij"
HASH = encrypt(ANN)
SECRETS = (SMARTHOST, VAULT, INLINE, ANN, WRONG, QUEUE_KEY, HASH)
CONFIGURATION = """
pki box cert "/etc/smtpd/box.crt"
pki box key "/etc/smtpd/box.key"
table creds file:/etc/smtpd/creds
table secrets file:/etc/smtpd/secrets
table vault env:VAULT
table inline { isp = "isp:Inline-85ee-Staple" }
queue encryption "/etc/smtpd/queue.key"
listen on 127.0.0.1 port $port tls pki box auth <creds>
action "out" relay host "smtps://isp@127.0.0.1:$sink" tls no-verify auth <secrets>
action "vault" relay host "smtps://isp@127.0.0.1:$sink" tls no-verify auth <vault>
action "inline" relay host "smtps://isp@127.0.0.1:$sink" tls no-verify auth <inline>
action "command" mda "echo nothing; env | grep VAULT; exit 69" virtual { "@" = "games" }
match from any for domain "vault.example" action "vault"
match from any for domain "inline.example" action "inline"
match from any for domain "command.example" action "command"
match from any auth for any action "out"
"""
ROOT_WITH_USERS = os.geteuid() == 0 and {*USERS.values()} <= {entry.pw_name for entry in pwd.getpwall()}


@dataclass
class World:
    """A daemon that traces everything, and the smarthost that it logs in at."""

    daemon: Daemon
    sink: RecordingSink
    ca: str


@pytest.fixture(
    scope="module",
    params=[
        "one process",
        pytest.param(
            "separated",
            marks=[
                pytest.mark.root,
                pytest.mark.skipif(not ROOT_WITH_USERS, reason="needs root, and the daemon's users on this machine"),
            ],
        ),
    ],
)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    authority = CertificateAuthority(tmp_path_factory.mktemp("authority"))
    issued = authority.issue("127.0.0.1")
    files = {"box.crt": issued.cert, "box.key": issued.key}
    own = {"creds": f"ann {HASH}\n", "secrets": f"isp isp:{SMARTHOST}\n", "queue.key": f"{QUEUE_KEY}\n"}
    users = {"isp": SMARTHOST}
    sink = RecordingSink(tls=issued.server_context(), implicit=True, users=users)
    with ExitStack() as stack:
        portal = stack.enter_context(start_blocking_portal())
        stack.enter_context(portal.wrap_async_context_manager(sink))
        daemon = Daemon(
            stack.enter_context(public_folder()),
            CONFIGURATION.replace("$sink", str(sink.port)),
            ("-d", "-v", "-T", "all"),
            {**{name: Path(path).read_text() for name, path in files.items()}, **own},
            {"VAULT": f"isp:{VAULT}"},
            one_process=request.param == "one process",
        )
        with daemon:
            world = World(daemon, sink, authority.path)
            _use(world)
            yield world


def _use(world: World) -> None:
    """Log in right and wrong, and have mail sent with each password; the smarthost knows one, and repeats what it hears."""
    plain = base64.b64encode(f"\0isp\0{VAULT}".encode()).decode()
    world.sink.on("AUTH", Act(f"535 5.7.8 who says AUTH PLAIN {plain}, or {VAULT}?"), containing=plain, times=None)
    for login, password in (("ann", WRONG), ("nobody-here", WRONG)):
        with _client(world) as client, pytest.raises(smtplib.SMTPAuthenticationError):
            client.login(login, password)
    with _client(world) as client:
        client.login("ann", ANN)
        for domain in ("out", "vault", "inline", "command"):
            client.sendmail("ann@out.example", [f"bob@{domain}.example"], f"Subject: {domain}\r\n\r\n{domain}\r\n")
    wait_for(lambda: len(world.sink.messages) == 1, "mail with the right password")
    wait_for(lambda: all(row["attempts"] for row in world.daemon.queue()), "the other attempts")


def _client(world: World) -> smtplib.SMTP:
    client = smtplib.SMTP("127.0.0.1", world.daemon.port, timeout=20)
    client.starttls(context=ssl.create_default_context(cafile=world.ca))
    client.ehlo()
    return client


def found_in(octets: bytes) -> list[str]:
    """The secrets that stand in ``octets``: as they are, in hexadecimal, or in base64 wherever it began."""
    return [secret for secret in SECRETS if any(form in octets for form in _forms(secret.encode()))]


def _forms(secret: bytes) -> Iterator[bytes]:
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    for shift in range(3):
        # The first and the last digits depend on what stands beside it.
        yield base64.b64encode(b"\0" * shift + secret)[4 if shift else 0 : -4]


def processes(pid: int) -> Iterator[Path]:
    yield Path(f"/proc/{pid}")
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            yield from processes(int(child))


def test_the_search_finds_a_secret_in_each_form() -> None:
    plain = f"\0ann\0{ANN}".encode()
    for octets in (plain, base64.b64encode(plain), base64.b64encode(plain[1:]), ANN.encode().hex().encode()):
        assert found_in(octets) == [ANN]


def test_no_secret_is_in_the_log(world: World) -> None:
    log = world.daemon.log
    assert "result=permfail" in log or "authentication" in log.lower()
    assert found_in(log.encode()) == []


def test_no_secret_is_in_what_smtpctl_shows(world: World) -> None:
    ids = [row["id"] for row in world.daemon.queue()]
    commands = [
        ["show", "queue"], ["show", "queue", "--json"], ["show", "status"], ["show", "stats"], ["show", "routes"],
        ["show", "hosts"], ["explain", "--from", "auth ann", "bob@vault.example"], ["verify"],
        *(["show", "attempts", each] for each in ids),
        *(["show", "message", each] for each in ids),
    ]  # fmt: skip
    shown = [world.daemon.run("smtpctl", *command) for command in commands]
    assert len(ids) >= 2
    assert sum(done.returncode == 0 for done in shown) >= 6 + 2 * len(ids), [done.args for done in shown]
    assert [(done.args, found) for done in shown if (found := found_in((done.stdout + done.stderr).encode()))] == []


def test_the_history_says_that_a_password_was_repeated_without_it(world: World) -> None:
    attempts = "".join(world.daemon.smtpctl("show", "attempts", row["id"]) for row in world.daemon.queue())
    assert "who says AUTH PLAIN (...)" in attempts


def test_no_secret_is_in_the_spool_or_in_an_archive_of_it(world: World, tmp_path: Path) -> None:
    world.daemon.smtpctl("export", "all", str(tmp_path / "archive"))
    files = [path for top in (world.daemon.root / "var", tmp_path) for path in top.rglob("*") if path.is_file()]
    assert tmp_path / "archive" in files
    assert len(files) > 3
    assert [(path, found) for path in files if (found := found_in(path.read_bytes()))] == []


def test_no_secret_is_in_a_title_or_the_environment_of_a_process(world: World) -> None:
    daemon = world.daemon.process
    assert daemon is not None
    for process in processes(daemon.pid):
        assert found_in((process / "cmdline").read_bytes() + (process / "comm").read_bytes()) == []
        # Whoever keeps a secret in the environment has put it into that of the first process.
        environment = (process / "environ").read_bytes()
        assert found_in(environment) == ([VAULT] if process.name == str(daemon.pid) else [])


def test_no_process_leaves_a_core_dump(world: World) -> None:
    assert world.daemon.process is not None
    for process in processes(world.daemon.process.pid):
        limits = (process / "limits").read_text()
        assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE), (process / "comm").read_text()


@pytest.mark.parametrize("flags", [("-n",), ("-n", "-v")])
def test_no_secret_is_in_what_a_check_of_the_configuration_prints(world: World, flags: tuple[str, ...]) -> None:
    done = world.daemon.run("smtpd", *flags, "-D", f"port={world.daemon.port}")
    assert done.returncode == 0, done.stderr
    assert found_in((done.stdout + done.stderr).encode()) == []


def test_values_that_hold_passwords_and_keys_do_not_show_them(world: World) -> None:
    from policy.parser import load_config
    from spool.layout import layout

    environment: Mapping[str, str] = {"port": str(world.daemon.port)}
    config = load_config(str(world.daemon.folder / "smtpd.conf"), layout(str(world.daemon.root)), environment).config
    assert found_in(repr(config).encode()) == []
    assert found_in(repr([*config.tables.values()]).encode()) == []


def test_a_file_of_passwords_that_others_can_read_is_told_at_the_check_at_the_start_and_in_the_status(
    tmp_path: Path,
) -> None:
    configuration = (
        'listen on 127.0.0.1 port $port\naction "out" relay host "smtps://isp@127.0.0.1:9" auth <secrets>\n'
        'match from local for any action "out"\n'
    )
    daemon = Daemon(tmp_path, configuration, tables={"secrets": f"isp isp:{SMARTHOST}\n"})
    (daemon.folder / "secrets").chmod(0o644)
    told = f'"chmod o= {daemon.folder}/secrets"'
    checked = daemon.run("smtpd", "-n", "-D", f"port={daemon.port}")
    with daemon:
        assert told in checked.stderr
        assert told in daemon.log
        assert told in daemon.smtpctl("show", "status")
        (daemon.folder / "secrets").chmod(0o600)
        assert told not in daemon.smtpctl("show", "status")
