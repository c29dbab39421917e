"""``smtpd --import-opensmtpd``: the spool of an OpenSMTPD 7, written by hand as its source says, moves into ours."""

from __future__ import annotations

import gzip
import os
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from spool.entry import QueueEntry
from spool.layout import layout
from spool.listing import QueueReader
from tests.tools.daemon import Daemon, wait_for

pytestmark = pytest.mark.reliability("9 moving house")

KEY = "0123456789abcdefghijklmnopqrstuv"
CONFIGURATION = """\
listen on 127.0.0.1 port $port
queue ttl 3d
action "local" maildir "/Maildir"
action "out" relay
match for local action "local"
match from local for any action "out"
"""
#: A Monday in November 2026.
CREATED = 1795400000
BODY = b"Received: from somewhere\nSubject: waiting\n\nfirst line\n.\n"
COMMON = {
    "version": "3",
    "dispatcher": "out",
    "type": "mta",
    "smtpname": "box.example.net",
    "helo": "client.example.org",
    "hostname": "client.example.org",
    "sockaddr": "192.0.2.7",
    "sender": "ann@example.org",
    "rcpt": "bob@example.com",
    "dest": "bob@example.com",
    "ctime": str(CREATED),
    "last-try": "0",
    "last-bounce": "0",
    "ttl": "0",
    "retry": "0",
    "dsn-notify": "0",
    "esc-class": "0",
    "esc-code": "0",
}
DEFERRED = {"last-try": str(CREATED + 400), "retry": "2", "errorline": "451 4.2.0 try again"}
LOCAL = {"dispatcher": "local", "type": "mda", "rcpt": "root+tag@box.example.net", "dest": "root@box.example.net"}
USER = {"mda-user": "root", "mda-subaddress": "tag"}
WISHES = {"dsn-notify": "3", "dsn-ret": "HDRS", "dsn-envid": "QQ", "dsn-orcpt": "rfc822;bob@example.com"}
BOUNCE = {"type": "bounce", "bounce-type": "failed", "bounce-ttl": "0", "errorline": "550 no such user"}


def seal(content: bytes, key: str) -> bytes:
    nonce = os.urandom(12)
    return b"\x01" + nonce + AESGCM(key.encode()).encrypt(nonce, content, None)


class OldHouse:
    """A spool of OpenSMTPD."""

    def __init__(self, folder: Path, *, packs: bool = False, key: str = "") -> None:
        self.folder = folder
        self._packs = packs
        self._key = key
        self._serial = 0
        (folder / "queue").mkdir(parents=True)

    def put(self, *envelopes: Mapping[str, str], body: bytes = BODY) -> Path:
        """A message; its folder."""
        self._serial += 1
        name = f"{self._serial:08x}"
        folder = self.folder / "queue" / name[:2] / name
        folder.mkdir(parents=True)
        self.write(folder / "message", body)
        for number, fields in enumerate(envelopes, 1):
            lines = [f"{key}: {value}\n" for key, value in {**COMMON, **fields}.items() if value]
            self.write(folder / f"{name}{number:08x}", "".join(lines).encode())
        return folder

    def write(self, path: Path, content: bytes) -> None:
        packed = gzip.compress(content) if self._packs else content
        path.write_bytes(seal(packed, self._key) if self._key else packed)

    def state(self) -> dict[str, tuple[bytes, int, int]]:
        """Everything in it."""
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return {str(path): (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode) for path in files}


@pytest.fixture
def old(tmp_path: Path) -> OldHouse:
    return OldHouse(tmp_path / "old")


def house(tmp_path: Path, more: str = "") -> Daemon:
    return Daemon(tmp_path / "new", more + CONFIGURATION, ("-d", "-v", "-P", "mda", "-P", "mta"))


def take(daemon: Daemon, old: OldHouse, *words: str) -> tuple[int, str, str]:
    before = old.state()
    options = ("-D", f"port={daemon.port}", "--root", str(daemon.root), "--import-opensmtpd", str(old.folder))
    done = daemon.run("smtpd", *options, *words)
    assert old.state() == before
    return done.returncode, done.stdout, done.stderr


def look(daemon: Daemon) -> list[QueueEntry]:
    with closing(QueueReader.stopped(layout(str(daemon.root)).spool_dir)) as reader:
        return [entry for entry in reader.entries() if isinstance(entry, QueueEntry)]


def test_mail_comes_with_its_times_tries_and_wishes(tmp_path: Path, old: OldHouse) -> None:
    old.put({**DEFERRED, **WISHES}, {**LOCAL, **USER})
    daemon = house(tmp_path)
    assert take(daemon, old) == (0, "1 message, 2 envelopes imported\n", "")
    relayed, local = look(daemon)
    with closing(QueueReader.stopped(layout(str(daemon.root)).spool_dir)) as reader:
        wall = reader.clock.wall_at
        assert [round(wall(when)) for when in (relayed.arrived, relayed.deadline, relayed.last_try or 0)] == [
            CREATED,
            CREATED + 3 * 86400,
            CREATED + 400,
        ]
    assert (relayed.action, relayed.key, relayed.attempts, relayed.error) == (
        "out",
        "example.com",
        2,
        "451 4.2.0 try again",
    )
    assert (local.action, local.key, local.user, local.extension) == ("local", "root", "root", "tag")
    assert (str(local.sender), str(local.recipient)) == ("ann@example.org", "root+tag@box.example.net")


def test_what_was_taken_is_delivered_as_it_was_accepted(tmp_path: Path, old: OldHouse) -> None:
    old.put({**LOCAL, **USER}, body=BODY * 20_000)
    with house(tmp_path) as daemon:
        daemon.stop()
        assert take(daemon, old)[0] == 0
        daemon.start()
        daemon.smtpctl("resume", "mda")
        new = daemon.root / "Maildir/new"
        wait_for(lambda: new.exists() and len(list(new.iterdir())) == 1, "the message")
        (arrived,) = new.iterdir()
        assert arrived.read_bytes().endswith(BODY * 20_000)


@pytest.mark.parametrize("packs", [False, True])
@pytest.mark.parametrize("key", ["", KEY])
def test_packed_and_encrypted_spools_are_read(tmp_path: Path, packs: bool, key: str) -> None:
    old = OldHouse(tmp_path / "old", packs=packs, key=key)
    old.put({})
    daemon = house(tmp_path, f'queue encryption "{KEY}"\n')
    assert take(daemon, old) == (0, "1 message, 1 envelope imported\n", "")


def test_a_second_run_takes_nothing_twice(tmp_path: Path, old: OldHouse) -> None:
    old.put({})
    daemon = house(tmp_path)
    take(daemon, old)
    assert take(daemon, old)[1] == "0 messages, 0 envelopes imported, 1 message skipped that came before\n"
    assert len(look(daemon)) == 1


def test_a_listing_takes_nothing(tmp_path: Path, old: OldHouse) -> None:
    old.put({}, {**LOCAL, **USER})
    daemon = house(tmp_path)
    status, said, _ = take(daemon, old, "-n")
    assert status == 0
    assert "action out: from <ann@example.org> to <bob@example.com>" in said
    assert said.endswith("1 message, 2 envelopes would be imported\n")
    assert not Path(layout(str(daemon.root)).spool_dir).exists()


def test_reports_that_are_owed_are_one_report_to_the_sender(tmp_path: Path, old: OldHouse) -> None:
    old.put(BOUNCE, {**BOUNCE, "rcpt": "eve@example.com", "dest": "eve@example.com"}, {"rcpt": "joe@example.com"})
    daemon = house(tmp_path)
    assert take(daemon, old)[1] == "1 message, 2 envelopes imported\n"
    mail, report = look(daemon)
    assert (str(mail.recipient), report.kind.value, str(report.recipient)) == (
        "joe@example.com",
        "failed",
        "ann@example.org",
    )
    with closing(QueueReader.stopped(layout(str(daemon.root)).spool_dir)) as reader:
        lines = reader.report_lines(report.id)
    assert [str(line.recipient.address) for line in lines] == ["bob@example.com", "eve@example.com"]
    assert {line.outcome.reply.text for line in lines} == {"550 no such user"}


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"version": "2"}, "version '2' where 3 was expected"),
        ({"helo": ""}, "no helo"),
        ({"type": "fax"}, "type 'fax': expected mda, mta or bounce"),
        ({"ctime": "soon"}, "ctime 'soon' is no number"),
        ({"colour": "blue"}, "'colour: blue' is no field of an envelope"),
        ({"dispatcher": ""}, "it has no dispatcher, and so no action"),
        ({"sender": "a b@c"}, "'a b@c': local part is neither a dot-string nor quoted"),
        ({"dsn-ret": "SOME"}, "dsn-ret 'SOME': expected FULL or HDRS"),
    ],
)
def test_an_envelope_that_is_wrong_is_named_and_the_rest_comes(
    tmp_path: Path, old: OldHouse, wrong: Mapping[str, str], reason: str
) -> None:
    folder = old.put({}, wrong)
    status, said, errors = take(house(tmp_path), old, "-n")
    assert (status, errors) == (1, f"smtpd: {folder}/{folder.name}00000002: {reason}\n")
    assert said.endswith("1 message, 1 envelope would be imported\n")


def test_files_that_cannot_be_opened_are_named(tmp_path: Path) -> None:
    old = OldHouse(tmp_path / "old", key=KEY)
    folder = old.put({})
    status, _, errors = take(house(tmp_path), old, "-n")
    assert status == 1
    assert f"{folder.name}00000001: it is encrypted, and no key of queue encryption opens it" in errors
    missing = OldHouse(tmp_path / "other")
    (missing.put({}) / "message").unlink()
    assert "/message: No such file or directory" in take(house(tmp_path), missing, "-n")[2]


def test_an_action_that_is_not_there_is_said_and_its_mail_waits(tmp_path: Path, old: OldHouse) -> None:
    old.put({"dispatcher": "gone"})
    daemon = house(tmp_path)
    status, said, errors = take(daemon, old)
    assert (status, said) == (0, "1 message, 1 envelope imported\n")
    assert "no action 'gone' here: it waits until there is one" in errors


def test_commands_and_files_of_aliases_stay_what_they_are(tmp_path: Path, old: OldHouse) -> None:
    file = "/usr/libexec/opensmtpd/mail.mboxfile -f %{mbox.from} /var/mail/list"
    old.put({**LOCAL, **USER, "mda-exec": file}, {**LOCAL, **USER, "mda-exec": "vacation -a root"})
    daemon = house(tmp_path)
    assert take(daemon, old)[0] == 0
    assert [entry.target for entry in look(daemon)] == ["/var/mail/list", "|vacation -a root"]


def test_what_waits_offline_is_not_forgotten(tmp_path: Path, old: OldHouse) -> None:
    (old.folder / "offline").mkdir()
    (old.folder / "offline/1795400000.abcdefghij").write_text("root\nSubject: x\n")
    status, _, errors = take(house(tmp_path), old)
    assert (status, errors) == (1, "smtpd: offline: 1 message that sendmail left: give them to sendmail again\n")


def test_beside_a_daemon_nothing_is_taken(tmp_path: Path, old: OldHouse) -> None:
    old.put({})
    with house(tmp_path) as daemon:
        status, _, errors = take(daemon, old)
        assert (status, "stop smtpd first" in errors) == (75, True)
        assert daemon.queue() == []
