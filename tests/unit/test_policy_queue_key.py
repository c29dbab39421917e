"""``queue compression`` and ``queue encryption``: where keys come from, and that nobody else hears of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from control.sealing import ask_key, sealing_of
from policy.errors import ConfigError
from policy.parser import Loaded
from policy.queue_key import Asks, KeyUnusable, keys_in
from policy.text import config_text
from spool.seal import Compression, SealKey
from tests.tools.configured import Configured

pytestmark = pytest.mark.reliability("7 at rest")

REJECT = "\nmatch for any reject\n"
KEY = "0123456789abcdef0123456789ABCDEF"
HEX = "00112233445566778899aabbccddeeff" * 2
FIRST, SECOND = SealKey(KEY.encode()), SealKey(bytes.fromhex(HEX))


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    configured = Configured(tmp_path)
    configured.write("../first.key", f"{KEY}\n")
    configured.write("../second.key", f"{HEX}\n", 0o600)
    configured.write("../both.key", f"{HEX}\n\n{KEY}\n")
    configured.write("../open.key", KEY, 0o644)
    return configured


def refused(configured: Configured, line: str) -> str:
    with pytest.raises(ConfigError) as caught:
        configured.read(line + REJECT)
    return str(caught.value).replace(configured.layout.root, "")


def read(configured: Configured, line: str) -> Loaded:
    return configured.read(line + REJECT)


@pytest.mark.parametrize(
    ("line", "compression"),
    [
        ("", Compression.NONE),
        ("queue compression", Compression.ZSTD),
        ("queue compression zstd", Compression.ZSTD),
        ('queue compression "gzip"', Compression.GZIP),
    ],
)
def test_compression_is_zstd_unless_another_is_named(
    configured: Configured, line: str, compression: Compression
) -> None:
    assert sealing_of(read(configured, line).config, None).compression is compression


@pytest.mark.parametrize(
    ("line", "key", "old"),
    [
        ('queue encryption "/etc/first.key"', FIRST, ()),
        ('queue encryption key "/etc/first.key"', FIRST, ()),
        ('queue encryption "/etc/both.key"', SECOND, (FIRST,)),
        ('queue encryption "/etc/second.key" old "/etc/first.key"', SECOND, (FIRST,)),
        ('queue encryption "/etc/second.key" old { "/etc/first.key" "/etc/both.key" }', SECOND, (FIRST, SECOND, FIRST)),
        ('queue encryption old "/etc/both.key"', None, (SECOND, FIRST)),
        (f"queue encryption {KEY}", FIRST, ()),
        (f'k = "{KEY}"\nqueue encryption $k', FIRST, ()),
    ],
)
def test_the_first_key_seals_and_all_of_them_open(
    configured: Configured, line: str, key: SealKey | None, old: tuple[SealKey, ...]
) -> None:
    sealing = sealing_of(read(configured, line).config, None)
    assert (sealing.key, sealing.old) == (key, old)


def test_a_credential_is_a_source_of_keys(
    configured: Configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "queue").write_text(HEX)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert sealing_of(read(configured, "queue encryption cred:queue").config, None).key == SECOND


@pytest.mark.parametrize(
    ("data", "count"),
    [(KEY, 1), (HEX, 1), (f"{KEY}\r\n", 1), (f"{KEY}\n{HEX}\n", 2), ("\n" * 32, 1), (f"\n\n{HEX}", 1)],
)
def test_keys_are_lines_or_exactly_32_octets(data: str, count: int) -> None:
    assert len(keys_in(data.encode())) == count


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ("", "no key is in it"),
        ("\n", "no key is in it"),
        (KEY[1:] + "\n\n", "line 1 has 31 characters: a key is 32 characters or 64 hexadecimal digits"),
        (f"{KEY}\n{KEY}x\n", "line 2 has 33 characters"),
        ("x" * 64, "line 1 has 64 characters, but not all are hexadecimal digits"),
        ("é" * 32, "line 1 has 64 characters, but not all are hexadecimal digits"),
    ],
)
def test_what_cannot_be_a_key_is_said_without_showing_it(data: str, complaint: str) -> None:
    with pytest.raises(KeyUnusable) as caught:
        keys_in(data.encode())
    assert str(caught.value).startswith(complaint)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('queue encryption "/etc/missing.key"', "smtpd.conf:1:18: /etc/missing.key: No such file or directory"),
        ('queue encryption "/etc/open.key"', "/etc/open.key has mode 0644, which lets in too many: at most 0640"),
        ('queue encryption "/etc"', "/etc: Is a directory"),
        ('queue encryption "/etc/first.key" old "/etc/no.key"', "smtpd.conf:1:39: /etc/no.key: No such file"),
        ("queue encryption cred:queue", "cred:queue: there is no $CREDENTIALS_DIRECTORY"),
        ("queue encryption relative.key", '"cred:NAME", "stdin" or the 32 characters of the key; found 12 characters'),
        ("queue compression gzpi", 'unknown compression "gzpi"; did you mean "gzip"?'),
        ("queue compression zstd gzip", "expected the end of the line"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(configured: Configured, line: str, complaint: str) -> None:
    assert complaint in refused(configured, line)


def test_a_pipe_in_the_place_of_a_key_holds_nobody_up(configured: Configured) -> None:
    os.mkfifo(configured.folder.parent / "pipe.key", 0o600)
    assert "/etc/pipe.key is not a regular file" in refused(configured, 'queue encryption "/etc/pipe.key"')


SECRET = "s3cr3t-s3cr3t-s3cr3t"


@pytest.mark.parametrize(
    "line",
    [
        f"queue encryption {SECRET}",
        f'queue encryption "{SECRET}" old "/etc/missing.key"',
        f'queue encryption "/etc/missing.key" old "{SECRET}"',
        f"queue encryption key {SECRET} and more",
        f"queue encryption {SECRET} old",
        f"queue encryption {{ {SECRET} }}",
        f"queue encryption old {{ {SECRET}",
        f'queue encryption "/{SECRET}-{SECRET[:10]}"',
        f'queue encryption old {{ "{SECRET}" = "x" }}',
    ],
)
def test_no_error_shows_what_may_be_a_key(configured: Configured, line: str) -> None:
    assert SECRET not in refused(configured, line)


@pytest.mark.parametrize(
    "line", [f"queue encryption {KEY}", 'queue encryption "/etc/first.key"', f"queue encryption stdin old {KEY}"]
)
def test_a_key_is_in_nothing_that_is_said_about_a_configuration(configured: Configured, line: str) -> None:
    loaded = read(configured, line)
    said = "\n".join([config_text(loaded.config), *map(str, loaded.warnings), *loaded.notes, repr(loaded.config)])
    assert KEY not in said
    assert KEY.encode().hex() not in said


def test_a_key_in_the_configuration_itself_is_warned_of(configured: Configured) -> None:
    warnings = [str(warning) for warning in read(configured, f"queue encryption {KEY}").warnings]
    assert any("safer in a file of its own" in warning for warning in warnings)


@pytest.mark.parametrize(
    "line",
    [
        "queue compression zstd",
        "queue compression gzip",
        "queue encryption",
        "queue encryption stdin",
        'queue encryption "/etc/first.key" old { "/etc/second.key", "/etc/both.key" }',
        'queue encryption old { "/etc/second.key" }',
    ],
)
def test_the_lines_are_printed_as_they_were_understood(configured: Configured, line: str) -> None:
    assert line in config_text(read(configured, line).config).splitlines()


def test_notes_say_which_file_has_which_key(configured: Configured) -> None:
    notes = read(configured, 'queue encryption "/etc/second.key" old "/etc/first.key"').notes
    assert f"key {SECOND.fingerprint} of the queue (/etc/second.key) seals new mail" in notes
    assert f"key {FIRST.fingerprint} of the queue (/etc/first.key) opens older mail" in notes


@pytest.mark.parametrize(("line", "asks"), [("", Asks.TERMINAL), ("stdin", Asks.STDIN), ('"-"', Asks.STDIN)])
def test_a_key_that_is_asked_for_is_not_asked_for_by_a_check(configured: Configured, line: str, asks: Asks) -> None:
    encryption = read(configured, f"queue encryption {line}").config.encryption
    assert encryption is not None
    assert encryption.asks is asks


def test_a_key_that_was_asked_for_seals(configured: Configured) -> None:
    sealing = sealing_of(read(configured, 'queue encryption stdin old "/etc/second.key"').config, FIRST)
    assert (sealing.key, sealing.old) == (FIRST, (SECOND,))


def test_a_reload_cannot_ask_for_a_key(configured: Configured) -> None:
    with pytest.raises(KeyUnusable, match="asked for at start only"):
        sealing_of(read(configured, "queue encryption").config, None)


def test_nobody_is_asked_for_a_key_that_is_in_a_file(configured: Configured) -> None:
    assert ask_key(read(configured, 'queue encryption "/etc/first.key"').config) is None
    assert ask_key(read(configured, "").config) is None
