"""The configuration that a package installs: starting the daemon is enough for cron's mail."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from policy.admit import Admitted, admit
from policy.config import Facts
from policy.parser import load_config
from spool.address import Address, parse_address
from spool.message import Recipient
from tests.tools.configured import Configured, FakeHost, FakeUsers

ETC = Path(__file__).parents[2] / "etc"
FROM_CRON = Facts("local", Address("root", "mail.example.org"), login="")


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    configured = Configured(tmp_path)
    shutil.copy(ETC / "smtpd.conf", configured.folder)
    shutil.copy(ETC / "aliases", configured.folder)
    return configured


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("recipient", "action", "end"),
    [
        ("root@mail.example.org", "local", "root"),
        ("ann@localhost", "local", "ann"),
        ("postmaster@mail.example.org", "local", "root"),
        ("MAILER-DAEMON@mail.example.org", "local", "root"),
        ("zoe@example.net", "outbound", ""),
    ],
)
async def test_mail_of_the_machine_goes_where_it_belongs(
    configured: Configured, recipient: str, action: str, end: str
) -> None:
    config = load_config(configured.layout.conf_file, configured.layout, {}, FakeHost()).config
    answer = await admit(config, FROM_CRON, Recipient(parse_address(recipient)), FakeUsers("root", "ann"))
    assert isinstance(answer, Admitted)
    assert [(each.lane.action, each.destination.user) for each in answer.envelopes] == [(action, end)]


def test_the_default_configuration_draws_no_warning(configured: Configured) -> None:
    assert load_config(configured.layout.conf_file, configured.layout, {}, FakeHost()).warnings == ()


def test_the_smarthost_of_the_comment_works_when_its_mark_is_removed(configured: Configured) -> None:
    lines = Path(configured.layout.conf_file).read_text().splitlines()
    lines = [
        line.removeprefix("#") if line.startswith("#action") else line
        for line in lines
        if line != 'action "outbound" relay'
    ]
    configured.write("secrets", "isp  user:password\n")
    loaded = configured.read("\n".join(lines))
    assert loaded.warnings == ()
    assert str(loaded.config.actions["outbound"].hosts[0]) == "smtps://smtp.example.net:465"  # type: ignore[union-attr]
