"""Scanners of TLS servers find nothing worth more than a remark, whatever a listener's TLS begins with."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.certificates import CertificateAuthority
from tests.tools.daemon import Daemon, free_port

CONFIGURATION = """\
pki "ours" cert "/etc/localhost.crt"
pki "ours" key "/etc/localhost.key"
listen on 127.0.0.1 port $port tls pki "ours"
listen on 127.0.0.1 port {implicit} smtps pki "ours"
action "in" mbox
match from any for any action "in"
"""
#: What testssl.sh calls harmless.
HARMLESS = {"OK", "INFO", "DEBUG"}
#: What is looked at by how TLS begins; all of it takes minutes, and ciphers do not depend on that.
SECTIONS = {"STARTTLS": ["--protocols"], "implicit TLS": ["--protocols", "--std"]}

STARTTLS, IMPLICIT = "STARTTLS", "implicit TLS"


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """The ports of a daemon with the usual settings, by how TLS begins there."""
    root = tmp_path_factory.mktemp("scanned")
    implicit = free_port()
    daemon = Daemon(root, CONFIGURATION.format(implicit=implicit))
    CertificateAuthority(root / "etc").issue("localhost", 90)
    with daemon:
        yield {STARTTLS: daemon.port, IMPLICIT: implicit}


def scan(command: list[str]) -> str:
    """What a scanner prints."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=300)
    return done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("testssl") is None, reason="needs testssl (Debian's testssl.sh)")
@pytest.mark.parametrize("begin", [STARTTLS, IMPLICIT])
def test_testssl_has_nothing_against_our_protocols_and_ciphers(
    doors: dict[str, int], tmp_path: Path, begin: str
) -> None:
    report = tmp_path / "report.json"
    options = ["--quiet", "--color", "0", "--warnings", "batch", *SECTIONS[begin], "--jsonfile", str(report)]
    starttls = ["--starttls", "smtp"] if begin == STARTTLS else []
    printed = scan(["testssl", *options, *starttls, f"localhost:{doors[begin]}"])
    found = {one["id"]: (one["severity"], one["finding"]) for one in json.loads(report.read_text())}
    assert found["TLS1_3"][0] == "OK", printed
    assert {name: what for name, what in found.items() if what[0] not in HARMLESS} == {}


@pytest.mark.skipif(shutil.which("sslyze") is None, reason="needs sslyze")
@pytest.mark.parametrize("begin", [STARTTLS, IMPLICIT])
def test_sslyze_finds_none_of_the_attacks_it_knows(doors: dict[str, int], begin: str) -> None:
    tests = [
        "--heartbleed",
        "--openssl_ccs",
        "--robot",
        "--reneg",
        "--compression",
        "--fallback",
        "--tlsv1",
        "--tlsv1_1",
    ]
    starttls = ["--starttls", "smtp"] if begin == STARTTLS else []
    printed = scan(["sslyze", *tests, "--mozilla_config", "disable", *starttls, f"localhost:{doors[begin]}"])
    assert "OK - Not vulnerable to Heartbleed" in printed
    assert printed.count("the server rejected all cipher suites") == 2
    assert "VULNERABLE -" not in printed
