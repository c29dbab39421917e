"""An explanation says what the rules decide, whatever the configuration and the client."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.config import Config, Facts
from policy.explain_rules import tried
from policy.parser import load_config
from policy.pki import selfsigned
from policy.ruleset import match
from spool.address import NULL_SENDER, Address
from spool.layout import layout
from tests.tools.configurations import configurations, right_lines
from tests.tools.configured import FakeHost

ADDRESSES = [Address("ann", "example.org"), Address("bob", "mail.example.com"), Address("x+tag", "localhost")]
FACTS = st.builds(
    Facts,
    source=st.sampled_from(["local", "127.0.0.1", "192.0.2.1", "2001:db8::1"]),
    mail_from=st.sampled_from([NULL_SENDER, *ADDRESSES]),
    helo=st.sampled_from(["", "example.org", "a.example.net"]),
    rdns=st.sampled_from(["", "mail.example.com"]),
    tag=st.sampled_from(["", "blue", "red one"]),
    tls=st.booleans(),
    login=st.sampled_from([None, "", "x", "ann@example.org", "no@@address"]),
    is_internal=st.booleans(),
)


class Folder:
    """Configurations with what random ones name."""

    def __init__(self, path: Path) -> None:
        self._path = path / "smtpd.conf"
        pki = selfsigned(str(path), "mail.example.org")
        (path / "file").write_text("root ann\nbob ann, carl\n")
        self._declared = (
            f'pki box cert "{pki.cert}"\npki box key "{pki.key}"\nca roots cert "{pki.cert}"\n'
            f'table pairs {{ me = "user:password" }}\ntable words {{ "a", "*.b" }}\ntable file "{path}/file"\n'
        )

    def read(self, text: str) -> Config:
        self._path.write_text(f"{text}\n{self._declared}")
        return load_config(str(self._path), layout(""), {}, FakeHost()).config


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("configuration"))


@settings(deadline=None, max_examples=100)
@given(text=configurations(), facts=FACTS, address=st.sampled_from(ADDRESSES))
def test_the_last_rule_tried_is_the_one_that_decides(folder: Folder, text: str, facts: Facts, address: Address) -> None:
    config = folder.read(right_lines(folder.read, text))
    decides = match(config, facts, address)
    trials = tried(config, facts, address).trials
    assert [trial.place for trial in trials if trial.matched] == ([decides.place] if decides else [])
    assert [trial.place for trial in trials] == [rule.place for rule in config.rules[: len(trials)]]
    assert decides is None or trials[-1].matched
    assert all(trial.reason for trial in trials)
