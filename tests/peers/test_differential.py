"""The same configurations for Debian's OpenSMTPD 6.8 and for us: where the verdicts differ, it is known and said why.

OpenSMTPD 6.8 is unpacked, not installed, because it and Postfix exclude one another; ``fetch_opensmtpd.sh`` does that. It
is older than the 7.8 that we follow: where those two differ, 7.8 counts, and the explanation says so.
"""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from policy.errors import ConfigError
from policy.parser import load_config
from policy.pki import selfsigned
from spool.layout import layout
from tests.peers.machine import Machine
from tests.tools.configured import FakeHost

HERE = Path(__file__).parent / "differential"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mailspool-peers"
OPENSMTPD = CACHE / "opensmtpd"
#: The machine's interfaces, which the parser cannot see from outside.
NETWORK = {"lo": ("127.0.0.1", "::1"), "eth0": ("192.0.2.10",)}
FILES = {
    "aliases": "root: ann\n",
    "broken": "root: ann\nbob:\n",
    "included.conf": "queue ttl 4d\n",
    "wrong.conf": "queue nonsense\n",
}
ACCEPTED, REFUSED = "accepted", "refused"


def corpus() -> Iterator[tuple[str, str]]:
    """Names and configurations."""
    _, *snippets = re.split(r"^=== ", (HERE / "corpus.txt").read_text(), flags=re.MULTILINE)
    for snippet in snippets:
        name, _, text = snippet.partition("\n")
        text = re.split(r"\n\n", text.rstrip("\n"))[0] + "\n"
        has_rule = re.search(r"^(match|accept|reject)\b", text, re.MULTILINE)
        yield name, text if has_rule else f"{text}match for any reject\n"


@pytest.fixture
def opensmtpd(peers: None) -> Path:
    """The program, or a skip; under ``.ci/run``, or a failure."""
    program = OPENSMTPD / "usr/sbin/smtpd"
    if not program.exists():
        reason = f"needs OpenSMTPD 6.8 in {OPENSMTPD} (apt-get download opensmtpd libevent-2.1-7; dpkg -x each)"
        if os.environ.get("MAILSPOOL_PEERS") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    return program


def prepare(machine: Machine, folder: Path) -> None:
    for name, text in FILES.items():
        machine.write(f"/etc/mail/{name}", text)
    pki = selfsigned(str(folder), "mx.example.org")
    machine.write("/etc/mail/mx.crt", Path(pki.cert).read_bytes())
    machine.write("/etc/mail/mx.key", Path(pki.key).read_bytes(), 0o600)
    machine.write("/etc/mail/open.key", Path(pki.key).read_bytes(), 0o666)


def theirs(machine: Machine, program: Path, texts: list[str]) -> list[str]:
    """What OpenSMTPD says to each."""
    for number, text in enumerate(texts):
        machine.write(f"/run/corpus/{number}", text)
    libraries = ":".join(map(str, OPENSMTPD.glob("usr/lib/*-linux-gnu")))
    check = f"LD_LIBRARY_PATH={shlex.quote(libraries)} {shlex.quote(str(program))} -n -f $number"
    loop = f"cd /run/corpus; for number in $(seq 0 {len(texts) - 1}); do {check} 2>/dev/null; echo $?; done"
    codes = machine.run(["sh", "-c", loop]).stdout.split()
    return [ACCEPTED if code == "0" else REFUSED for code in codes]


def ours(root: Path, texts: list[str]) -> list[str]:
    """What we say to each."""
    path = root / "run/ours.conf"
    return [_ours(path, str(root), text) for text in texts]


def _ours(path: Path, root: str, text: str) -> str:
    path.write_text(text)
    host = FakeHost("box.example.net", network=NETWORK)
    try:
        load_config(str(path), layout(root), {}, host)
    except ConfigError:
        return REFUSED
    return ACCEPTED


def test_verdicts_differ_from_opensmtpd_only_where_it_is_explained(
    machine: Machine, opensmtpd: Path, tmp_path: Path
) -> None:
    prepare(machine, tmp_path)
    names, texts = zip(*corpus(), strict=True)
    assert len(set(names)) == len(names) >= 150
    pairs = zip(names, ours(machine.path("/"), list(texts)), theirs(machine, opensmtpd, list(texts)), strict=True)
    differing = {name: (we, they) for name, we, they in pairs if we != they}
    explained = tomllib.loads((HERE / "disagreements.toml").read_text())
    assert differing == {name: (each["ours"], each["theirs"]) for name, each in explained.items()}
    assert all(each["why"] for each in explained.values())
