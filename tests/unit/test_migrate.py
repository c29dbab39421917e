"""Configurations of the grammar before 6.4, printed anew: each sample with what becomes of it beside it.

``NAME.old`` becomes ``NAME.new``; what cannot be said anew is in ``NAME.errors``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from policy.errors import ConfigError, Finding
from policy.lexer import Source
from policy.migrate.recognition import is_former
from policy.migrate.support import without_unsupported
from policy.migrate.translation import Migration, migrate
from policy.migrate.words import directives
from policy.parser import load_source
from policy.pki import selfsigned
from tests.tools.configured import Configured, FakeHost

SAMPLES = Path(__file__).parents[1] / "migrate"
OLD = sorted(SAMPLES.glob("*.old"))


def migrated(path: Path) -> Migration:
    return migrate(Source(path.name, path.read_text()))


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Configured:
    """A machine that has the files which the samples name."""
    configured = Configured(tmp_path_factory.mktemp("root"))
    mail = Path(configured.layout.root) / "etc/mail"
    for name, text in {
        "aliases": "root ann\n",
        "secrets": "isp user:password\n",
        "domains": "example.com\n",
        "creds": "ann $6$x$y\n",
        "vusers": "ann@example.com ann\n",
        "helonames": "192.0.2.25 mail.example.org\n",
        "users": "ann 1000:1000:/home/ann\n",
        "more.conf": "match for domain more.example reject\n",
    }.items():
        configured.write(f"{os.path.relpath(mail, configured.folder)}/{name}", text)
    ssl = mail.parent / "ssl"
    ssl.mkdir()
    pki = selfsigned(str(ssl), "mail.example.org")
    Path(pki.cert).rename(ssl / "mail.crt")
    Path(pki.key).rename(ssl / "mail.key")
    return configured


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_an_older_configuration_is_said_anew(path: Path) -> None:
    migration = migrated(path)
    errors = path.with_suffix(".errors")
    said = "".join(f"{trouble}\n" for trouble in migration.troubles)
    if os.environ.get("ACCEPT"):
        path.with_suffix(".new").write_text(migration.text)
        errors.write_text(said) if said else errors.unlink(missing_ok=True)
    assert migration.text == path.with_suffix(".new").read_text()
    assert said == (errors.read_text() if errors.exists() else "")


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_what_is_printed_loads(configured: Configured, path: Path) -> None:
    def load(source: Source) -> tuple[Finding, ...]:
        try:
            load_source(source, configured.layout, {}, FakeHost())
        except ConfigError as error:
            return error.findings
        return ()

    migration = migrate(Source(str(configured.folder / path.name), path.read_text()))
    without_unsupported(migration, load)
    assert load(Source(migration.source.path, migration.text)) == ()


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_what_was_printed_is_left_alone_the_next_time(path: Path) -> None:
    text = migrated(path).text
    again = migrate(Source("again", text))
    assert (again.is_changed, again.text) == (False, text)


def test_a_database_has_to_be_made_anew() -> None:
    migration = migrate(Source("x", "table t db:/etc/mail/aliases.db\naccept for local alias <t> deliver to mbox\n"))
    remark, table, *_ = migration.text.splitlines()
    assert remark.endswith("makemap, or newaliases, makes them anew out of the text")
    assert table == "table t db:/etc/mail/aliases.db"


@pytest.mark.parametrize(
    "line",
    [
        "listen on lo secure",
        "listen on lo port 25 mask-source",
        "listen on lo tls pki x auth <t> mask-source",
        "listen on lo tls auth { a = b } mask-source",
        "listen on lo secure auth",
        "listen on lo tls pki x auth mask-source",
        "pki x certificate y",
        "pki x key y certificate z",
        "ca x certificate y",
        "filter x y",
        "reject for any",
        "accept",
        "expire 4d",
    ],
)
def test_a_line_of_the_older_grammar_is_known(line: str) -> None:
    assert is_former(directives(Source("x", line))[0][0].words)


@pytest.mark.parametrize(
    "line",
    [
        "listen on secure",
        "listen on lo tag secure",
        "listen on lo smtps pki ssl auth <secure>",
        "listen on lo senders { secure = ssl, ssl = a }",
        "listen on lo filter { a ssl }",
        'listen on lo "secure"',
        "pki certificate cert x",
        "ca certificate cert x",
        "queue compression",
        "queue encryption x",
        "queue compression gzip",
        "queue encryption key x",
        'filter x proc-exec "y"',
        "filter x chain { y }",
        "filter x phase connect match !rdns junk",
        'expire = "4d"',
        "accept = x",
        '"accept" for any',
        "reject",
    ],
)
def test_a_line_of_the_present_grammar_is_not_taken_for_an_older_one(line: str) -> None:
    assert not is_former(directives(Source("x", line))[0][0].words)
