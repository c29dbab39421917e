"""The configurations that users know load as they are, once the files that they name are there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from policy.config import Auth, Command, ListenerTls, Mbox, Relay, RelayTls, Smarthost
from policy.errors import ConfigError
from policy.parser import Loaded, load_config
from policy.pki import selfsigned
from tests.tools.configured import Configured, FakeHost

SEED = Path(__file__).parents[1] / "seed"


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    configured = Configured(tmp_path)
    for path in SEED.iterdir():
        shutil.copy(path, configured.folder)
    for name in ("creds", "secrets"):
        (configured.folder / name).chmod(0o640)
    return configured


def load(configured: Configured, name: str) -> Loaded:
    return load_config(str(configured.folder / name), configured.layout, {}, FakeHost())


def certify(configured: Configured) -> None:
    folder = configured.folder / "tls"
    folder.mkdir()
    pki = selfsigned(str(folder), "mx.domain.tld")
    Path(pki.cert).rename(folder / "smtpd.crt")
    Path(pki.key).rename(folder / "smtpd.key")


@pytest.mark.parametrize("name", ["local-only", "hybrid", "relay-only"])
def test_the_page_s_configurations_load_without_a_warning(configured: Configured, name: str) -> None:
    assert load(configured, f"{name}.conf").warnings == ()


def test_local_mail_only_listens_on_both_loopback_addresses_and_the_socket(configured: Configured) -> None:
    config = load(configured, "local-only.conf").config
    assert [(each.address, each.port) for each in config.listeners] == [("", 0), ("127.0.0.1", 25), ("::1", 25)]


def test_an_undeclared_table_is_the_file_beside_the_configuration(configured: Configured) -> None:
    loaded = load(configured, "local-only.conf")
    action = loaded.config.actions["local"]
    assert isinstance(action, Mbox)
    assert action.alias is not None
    assert action.alias.lookup("@") == "foo@bar"
    path = configured.folder / "aliases"
    assert (
        f'{configured.folder}/local-only.conf:2: table "aliases" is not declared: the file {path} is used'
        in loaded.notes
    )


def test_an_undeclared_table_without_a_file_is_an_error_that_names_the_path_tried(configured: Configured) -> None:
    (configured.folder / "aliases").unlink()
    with pytest.raises(ConfigError) as raised:
        load(configured, "local-only.conf")
    (finding,) = raised.value.findings
    assert (finding.line, finding.column) == (2, 27)
    assert f"there is no file {configured.folder}/aliases beside the configuration" in finding.message


def test_the_hybrid_sends_through_its_smarthost_with_another_sender(configured: Configured) -> None:
    action = load(configured, "hybrid.conf").config.actions["relay"]
    assert isinstance(action, Relay)
    assert action.hosts == (Smarthost(RelayTls.OPPORTUNISTIC, "smtp.foo.bar", 25),)
    assert action.mail_from == "@foo.bar"


def test_relay_only_runs_procmail_and_authenticates_to_its_smarthost(configured: Configured) -> None:
    config = load(configured, "relay-only.conf").config
    local, relay = config.actions["local"], config.actions["relay"]
    assert isinstance(local, Command)
    assert isinstance(relay, Relay)
    assert local.command == "procmail -f -"
    assert local.virtual is config.tables["aliases"]
    assert relay.hosts == (Smarthost(RelayTls.IMPLICIT, "smtp.foo.bar", 465, "label"),)
    assert relay.auth is config.tables["secrets"]


def test_the_nine_line_server_listens_with_tls_on_three_ports(configured: Configured) -> None:
    certify(configured)
    listeners = [each for each in load(configured, "mailserver.conf").config.listeners if each.address == "192.0.2.25"]
    assert [(each.port, each.tls, each.auth) for each in listeners] == [
        (25, ListenerTls.OFFERED, Auth.NONE),
        (465, ListenerTls.IMPLICIT, Auth.REQUIRED),
        (587, ListenerTls.REQUIRED, Auth.REQUIRED),
    ]


def test_the_nine_line_server_is_told_the_line_that_its_users_miss(configured: Configured) -> None:
    certify(configured)
    (warning,) = load(configured, "mailserver.conf").warnings
    assert warning.line == 9
    assert warning.message.endswith('the missing line is: match auth from any for any action "send"')


def test_the_nine_line_server_without_certificates_is_told_both_paths(configured: Configured) -> None:
    with pytest.raises(ConfigError) as raised:
        load(configured, "mailserver.conf")
    assert [(each.line, each.message) for each in raised.value.findings] == [
        (1, f"{configured.layout.root}/etc/smtpd/tls/smtpd.crt: No such file or directory"),
        (2, f"{configured.layout.root}/etc/smtpd/tls/smtpd.key: No such file or directory"),
    ]
