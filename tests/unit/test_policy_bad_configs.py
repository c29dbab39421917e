"""Wrong configurations fail for the stated reasons: each file of the corpus, with its expected errors beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy.errors import ConfigError
from policy.parser import load_config
from policy.pki import selfsigned
from tests.tools.configured import Configured, FakeHost

CORPUS = Path(__file__).parents[1] / "bad_configs"


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Configured:
    """A machine on which everything is there that a corpus file does not want to be missing."""
    configured = Configured(tmp_path_factory.mktemp("root"))
    for name, text in {
        "aliases": "root ann\n",
        "secrets": "isp user:password\n",
        "domains": "example.com\n",
        "creds": "ann $6$x$y\n",
        "../broken": "root ann\nbob\n",
    }.items():
        configured.write(name, text)
    folder = Path(configured.layout.root) / "tls"
    folder.mkdir()
    pki = selfsigned(str(folder), "mx.example.org")
    Path(pki.cert).rename(folder / "mx.crt")
    Path(pki.key).rename(folder / "mx.key")
    return configured


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.conf")), ids=lambda path: path.stem)
def test_a_wrong_configuration_fails_for_the_stated_reasons(configured: Configured, path: Path) -> None:
    copy = configured.folder / path.name
    copy.write_bytes(path.read_bytes())
    with pytest.raises(ConfigError) as raised:
        load_config(str(copy), configured.layout, {}, FakeHost())
    said = str(raised.value).replace(f"{configured.folder}/", "").replace(configured.layout.root, "ROOT")
    assert said + "\n" == path.with_suffix(".expected").read_text()


def test_every_expectation_has_its_configuration() -> None:
    assert {path.stem for path in CORPUS.glob("*.expected")} == {path.stem for path in CORPUS.glob("*.conf")}
