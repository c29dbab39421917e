"""What ``packaging/`` holds, read by the programs that it is for, and the daemon within the walls that it names."""

from __future__ import annotations

import re
import stat
import subprocess
from pathlib import Path

import pytest

from control.walls.privileges import Capability
from tests.peers.machine import OVERLAID, VENV, Machine
from tests.peers.spooler import Spooler

pytestmark = pytest.mark.peer

PACKAGING = Path(__file__).parents[2] / "packaging"
UNIT = PACKAGING / "systemd" / "mailspool.service"
USERS = ("_smtpd", "_smtpq", "_smtpr", "_smtpm")


def unit_values(name: str) -> list[str]:
    """All words that the unit gives for a setting."""
    lines = re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)
    return [word for line in lines for word in line.split()]


def exposure(unit: Path) -> float:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found
    return float(found[1])


def test_the_unit_is_exposed_no_more_than_its_page_states(peers: None, tmp_path: Path) -> None:
    stated = re.search(r"says \*\*([\d.]+)\*\*.*?\nit is ([\d.]+)\.", (PACKAGING / "README.md").read_text(), re.DOTALL)
    assert stated
    tight = tmp_path / "mailspool.service"
    drop_in = (PACKAGING / "systemd" / "no-setuid.conf").read_text()
    tight.write_text(UNIT.read_text().replace("[Install]", drop_in + "[Install]"))

    assert exposure(UNIT) <= float(stated[1])
    assert exposure(tight) <= float(stated[2])


def test_systemd_finds_nothing_to_complain_about_in_the_unit_and_its_additions(machine: Machine) -> None:
    machine.run(["ln", "-s", str(VENV / "smtpd"), "/usr/sbin/smtpd"])
    machine.run(["mkdir", "-p", "/etc/systemd/system/mailspool.service.d"])
    for file in UNIT.parent.iterdir():
        folder = "/etc/systemd/system" if file == UNIT else "/etc/systemd/system/mailspool.service.d"
        machine.write(f"{folder}/{file.name}", file.read_text())

    done = machine.run(["systemd-analyze", "verify", "--man=no", "/etc/systemd/system/mailspool.service"])

    assert "mailspool" not in done.stdout + done.stderr


def test_sysusers_makes_four_users_without_login_or_home_and_tmpfiles_their_folders(
    peers: None, tmp_path: Path
) -> None:
    (tmp_path / "etc").mkdir()
    for _ in range(2):
        for program, arguments in (("systemd-sysusers", []), ("systemd-tmpfiles", ["--create"])):
            file = PACKAGING / f"{program.removeprefix('systemd-')}.d" / "mailspool.conf"
            subprocess.run([program, f"--root={tmp_path}", *arguments, str(file)], check=True, capture_output=True)

    entries = [line.split(":") for line in (tmp_path / "etc/passwd").read_text().splitlines()]
    ids = {entry[0]: int(entry[2]) for entry in entries}
    assert sorted(ids) == sorted(USERS)
    assert {(entry[5], entry[6]) for entry in entries} == {("/nonexistent", "/usr/sbin/nologin")}
    spool, drop = (tmp_path / "var/spool/smtpd").stat(), (tmp_path / "var/spool/smtpd/drop").stat()
    assert (spool.st_uid, stat.S_IMODE(spool.st_mode)) == (ids["_smtpq"], 0o711)
    assert (drop.st_uid, stat.S_IMODE(drop.st_mode)) == (0, 0o1733)


def test_the_unit_leaves_the_supervisor_the_capabilities_that_it_keeps() -> None:
    left = {name.removeprefix("CAP_") for name in unit_values("CapabilityBoundingSet")}
    assert left >= {each.name for each in Capability}


def test_the_daemon_delivers_with_the_rights_and_the_writable_folders_of_the_unit_alone(machine: Machine) -> None:
    for user in ("ann", "bob"):
        machine.add_user(user)
    spooler = Spooler(machine)
    spooler.configure(
        'listen on lo\naction box mbox\naction folder maildir\nmatch for local rcpt-to regex "^ann" action box\n'
        "match for local action folder\n"
    )
    machine.run(["mkdir", "-p", "/var/spool/smtpd"])
    capabilities = unit_values("CapabilityBoundingSet")
    writable = [path.removeprefix("-") for path in unit_values("ReadWritePaths")]
    strict = [f"[ -L {path} ] || [ ! -d {path} ] || mount --bind {path} {path}" for path in writable]
    strict += [f"mount -o remount,ro,bind {path}" for path in ("/", *OVERLAID) if path not in writable]
    bounding = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in capabilities)])
    smtpd = f"exec setpriv --bounding-set={bounding} {VENV}/smtpd -d -v"
    spooler.start(["unshare", "--mount", "sh", "-ec", "\n".join([*strict, smtpd])])

    for user in ("ann", "bob"):
        machine.run(["/usr/sbin/sendmail", user], stdin=f"Subject: within walls\n\nfor {user}\n")

    spooler.wait_mailbox("ann", "for ann")
    spooler.wait_queue(0)
    (delivered,) = machine.path("/home/bob/Maildir/new").iterdir()
    assert "for bob" in delivered.read_text()
    refused = machine.run(["nsenter", "-t", spooler.pid(), "-m", "touch", "/etc/passwd"], check=False)
    assert "Read-only file system" in refused.stderr
