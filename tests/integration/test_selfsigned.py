"""``smtpctl tls selfsigned``: a certificate on demand, and never in another's place."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path

import pytest

from control.client import ControlError
from control.selfsigning import selfsign
from spool.layout import layout
from tests.tools.daemon import BIN

CONFIGURATION = """\
pki "mx.example.org" cert "/etc/mail/mx.pem"
pki "mx.example.org" key "/etc/mail/secret/mx.key"
listen on 127.0.0.1 port 2525 tls pki "mx.example.org"
action "in" mbox
match from any for any action "in"
"""


def mode(path: str) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


def run(root: Path, program: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / program), "--root", str(root), *words], capture_output=True, text=True, check=False
    )


def test_the_files_are_where_the_configuration_looks_for_them(tmp_path: Path) -> None:
    folder = tmp_path / "etc/smtpd"
    folder.mkdir(parents=True)
    (folder / "smtpd.conf").write_text(CONFIGURATION)
    (folder / "mailname").write_text("box.example.net\n")
    assert "mx.pem: No such file" in run(tmp_path, "smtpd", "-n").stderr
    made = run(tmp_path, "smtpctl", "tls", "selfsigned", "mx.example.org", "127.0.0.1")
    assert made.returncode == 0, made.stderr
    assert made.stdout.splitlines() == [
        f"{tmp_path}/etc/mail/mx.pem: a certificate for mx.example.org, 127.0.0.1",
        f"{tmp_path}/etc/mail/secret/mx.key: its key",
    ]
    assert "configuration OK" in run(tmp_path, "smtpd", "-n").stderr


def test_without_a_pki_it_is_said_how_to_declare_one(tmp_path: Path) -> None:
    made = run(tmp_path, "smtpctl", "tls", "selfsigned", "mx.example.org").stdout.splitlines()
    assert made[-2:] == [
        f'pki "mx.example.org" cert "{tmp_path}/etc/ssl/mx.example.org.crt"',
        f'pki "mx.example.org" key "{tmp_path}/etc/ssl/private/mx.example.org.key"',
    ]


def test_the_key_is_its_owners_alone(tmp_path: Path) -> None:
    made = selfsign(layout(str(tmp_path)), ["mx.example.org"])
    assert (mode(made.key), mode(str(Path(made.key).parent)), mode(made.cert)) == (0o600, 0o700, 0o644)


@pytest.mark.parametrize("there", ["etc/ssl/mx.example.org.crt", "etc/ssl/private/mx.example.org.key"])
def test_nothing_is_written_over_and_nothing_is_left_half_done(tmp_path: Path, there: str) -> None:
    path = tmp_path / there
    path.parent.mkdir(parents=True)
    path.write_text("precious")
    with pytest.raises(ControlError, match="is there already"):
        selfsign(layout(str(tmp_path)), ["mx.example.org"])
    assert [found for found in tmp_path.rglob("*") if found.is_file()] == [path]
    assert path.read_text() == "precious"


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", ".hidden", "", "a b", "-x"])
def test_what_is_no_name_of_a_host_makes_no_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(ControlError, match="expected a host name"):
        selfsign(layout(str(tmp_path)), ["mx.example.org", name])
    assert not list(tmp_path.iterdir())


def test_programs_read_what_was_made(tmp_path: Path) -> None:
    made = json.loads(run(tmp_path, "smtpctl", "--json", "tls", "selfsigned", "::1", "localhost").stdout)
    assert made["names"] == ["::1", "localhost"]
    assert not made["declared"]
    assert Path(made["key"]).exists()
