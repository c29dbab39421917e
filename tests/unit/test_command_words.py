from __future__ import annotations

import pytest

from delivery.specifiers import SpecifierError
from delivery.words import arguments

VALUES = {"sender": "a b;$(id)@x", "rcpt": "-rf@x", "user.username": "ann"}


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("procmail -f -", ("procmail", "-f", "-")),
        ("/usr/bin/maildrop -d 'two words' \"and two\"", ("/usr/bin/maildrop", "-d", "two words", "and two")),
        (r"prog a\ b", ("prog", "a b")),
        ("prog 'single | $HOME' x", ("prog", "single | $HOME", "x")),
        ("date +%Y", ("date", "+%Y")),
        ("mda -f %{sender}", ("mda", "-f", "a:b:::id:@x")),
        ("mda -f%{sender:raw}", ("mda", "-fa b;$(id)@x")),
        ("mda \"%{sender}\" '%{user.username}'", ("mda", "a:b:::id:@x", "ann")),
        ("mda %{rcpt}", ("mda", ":rf@x")),
        ("mda %{rcpt:raw}", ("mda", "-rf@x")),
        ("mda %{user.username:lowercase|strip}", ("mda", "ann")),
        ("mda a=b", ("mda", "a=b")),
        ("sh -c 'cat >\"$1\"' sh %{user.username}", ("sh", "-c", 'cat >"$1"', "sh", "ann")),
    ],
)
def test_a_command_becomes_words_and_an_address_never_more_than_one(command: str, words: tuple[str, ...]) -> None:
    assert arguments(command, VALUES) == words


@pytest.mark.parametrize(
    "command",
    [
        "IFS=' ' && exec /usr/bin/procmail -f- || exit 75 #ann",
        "exec /usr/bin/vacation ann",
        "cat >/tmp/x",
        'echo "$HOME"',
        "echo `id`",
        "a | b",
        "~/bin/filter",
        "HOME=/x prog",
        "prog; other",
        '"it\'s" | cat',
    ],
)
def test_shell_syntax_goes_to_a_shell_as_it_stands(command: str) -> None:
    assert arguments(command, VALUES) == ("/bin/sh", "-c", command)


@pytest.mark.parametrize(
    "command", ["", "  ", "prog 'open", "cat >%{sender}", 'echo "$HOME" %{sender}', "exec mda %{sender}", "mda %{no}"]
)
def test_a_command_that_cannot_be_run_safely_is_an_error(command: str) -> None:
    with pytest.raises(SpecifierError):
        arguments(command, VALUES)


@pytest.mark.parametrize(
    "command",
    [
        "/bin/sh -c 'echo %{sender.user} >> f'",
        "sh -ec 'echo %{sender:raw}'",
        'nice bash -c "mail %{rcpt}"',
    ],
)
def test_no_address_is_expanded_in_what_a_shell_reads_as_commands(command: str) -> None:
    with pytest.raises(SpecifierError, match="shell syntax"):
        arguments(command, VALUES)
