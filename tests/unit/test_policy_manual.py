"""The manual and the grammar say the same: no word of either is missing from the other."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from policy.circles import MAX_ENTRIES
from policy.forward import MAX_OCTETS, MAX_TARGETS, parse_forward
from policy.grammar import vocabulary
from policy.grammar.vocabulary import DIRECTIVES, LATER, SMTP_LIMITS, Option
from policy.lexer import KEYWORDS
from policy.limits import MDA_KEYS, MTA_KEYS, SCHEDULER_KEYS
from policy.pki import selfsigned
from tests.tools.configured import Configured

DOCS = Path(__file__).parents[2] / "docs"
MANUAL = (DOCS / "smtpd.conf.5").read_text()
VOCABULARIES: tuple[Mapping[str, Option], ...] = (
    vocabulary.SOCKET_OPTIONS,
    vocabulary.LISTEN_OPTIONS,
    vocabulary.METHODS,
    vocabulary.LOCAL_OPTIONS,
    vocabulary.RELAY_OPTIONS,
    vocabulary.CONDITIONS,
    vocabulary.FROM_FORMS,
    vocabulary.FOR_FORMS,
    vocabulary.FILTER_QUESTIONS,
    vocabulary.FILTER_DEEDS,
    vocabulary.PKI_OPTIONS,
)
#: Words that the grammar takes in one place only, outside of its tables.
OTHERS = {"mx", "socket", "smtp", "smtps", "regex"}


def section(name: str) -> str:
    match = re.search(rf"^\.\\\" {name} begin\n(.*?)^\.\\\" {name} end$", MANUAL, re.MULTILINE | re.DOTALL)
    assert match, name
    return match.group(1)


def commands(text: str) -> set[str]:
    """Whatever stands behind the macro for words of the language."""
    found = set()
    for line in text.splitlines():
        if line.startswith("."):
            found.update(re.findall(r"(?<=\bIc )[a-z][a-z0-9-]*", line))
    return found


def options() -> Iterable[Option]:
    for each in VOCABULARIES:
        yield from each.values()


def test_every_word_that_is_supported_is_in_the_manual_and_the_reverse() -> None:
    supported = {option.word for option in options() if not option.later}
    supported |= {
        option.modifier for option in options() if option.modifier and not (option.later or option.modifier_later)
    }
    supported |= {*vocabulary.COMPRESSIONS, vocabulary.OLD_KEYS, vocabulary.KEY_PLACES[0]}
    supported |= {*DIRECTIVES, *SMTP_LIMITS, *MDA_KEYS, *MTA_KEYS, *SCHEDULER_KEYS, *vocabulary.FILTER_PHASES, *OTHERS}
    supported |= {
        second for first, seconds in DIRECTIVES.items() for second in seconds if f"{first} {second}" not in LATER
    }
    body = MANUAL.replace(section("later words"), "")
    assert commands(body) == supported


def test_every_word_that_is_not_supported_yet_is_listed_as_such_and_the_reverse() -> None:
    later = {f"{option.word}: {option.later}" for option in options() if option.later}
    later |= {
        f"{option.word} {option.modifier}: {option.modifier_later}" for option in options() if option.modifier_later
    }
    later |= {f"{words}: {what}" for words, what in LATER.items()}
    listed = re.findall(r"^\.It Ic (.*)\n(.*)$", section("later words"), re.MULTILINE)
    assert {f"{words.replace(' Ic ', ' ')}: {what}" for words, what in listed} == later


def test_the_reserved_words_are_the_lexer_s() -> None:
    assert set(section("reserved words").replace(",", " ").split()) == KEYWORDS


@pytest.mark.parametrize("name", ["smtpd.conf.5", "aliases.5", "forward.5"])
def test_the_manual_is_well_formed(name: str) -> None:
    if shutil.which("mandoc") is None:
        assert os.environ.get("MAILSPOOL_PEERS") != "required", "mandoc is not installed"
        pytest.skip("needs mandoc")
    command = ["mandoc", "-Tlint", "-Wstyle", str(DOCS / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=DOCS)
    # Our other manuals are not installed where this runs.
    assert [line for line in done.stdout.splitlines() if "referenced manual not found" not in line] == []


def test_the_bounds_that_the_manuals_name_are_those_of_the_code() -> None:
    forward, aliases = ((DOCS / name).read_text().replace("\n", " ") for name in ("forward.5", "aliases.5"))
    assert f"more than {MAX_TARGETS} of them" in forward
    assert f"more than {MAX_OCTETS} octets" in forward
    assert f"the first {MAX_ENTRIES} entries" in aliases


def test_the_examples_of_forward_files_are_right() -> None:
    text = (DOCS / "forward.5").read_text()
    first, second, _commands = re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed", text, re.MULTILINE | re.DOTALL)
    assert [str(target) for target in parse_forward(first.encode())] == ["ann", "ann@office.example.net"]
    assert [str(target) for target in parse_forward(second.encode())] == [
        "|/usr/bin/procmail -a work,home",
        "zoe@example.net",
    ]


def test_the_manual_s_examples_are_right(tmp_path: Path) -> None:
    configured = Configured(tmp_path)
    files = {"aliases": "root ann\n", "secrets": "isp u:p\n", "creds": "ann $6$x$y\n", "users": "@ ann\n"}
    for name, text in files.items():
        configured.write(name, text)
    tls = configured.folder / "tls"
    tls.mkdir()
    pki = selfsigned(str(tls), "mail")
    assert pki.cert.endswith("/tls/mail.crt")
    examples = MANUAL.partition(".Sh EXAMPLES")[2]
    first, _secret, second = re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed", examples, re.MULTILINE | re.DOTALL)
    for example in (first, second):
        loaded = configured.read(example.replace("\\e", "\\"))
        assert loaded.warnings == ()
