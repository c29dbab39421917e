from __future__ import annotations

import pytest

from delivery.specifiers import SpecifierError, Values
from delivery.words import arguments

VALUES = Values({"sender": "a b;$(id)@x", "rcpt": "-rf@x", "user.username": "ann"}, home="/home/ann")


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
        ("exec /usr/bin/vacation -f %{rcpt:raw}", ("/usr/bin/vacation", "-f", "-rf@x")),
        ("sh -c 'cat >\"$1\"' sh %{user.username}", ("sh", "-c", 'cat >"$1"', "sh", "ann")),
    ],
)
def test_a_command_becomes_words_and_an_address_never_more_than_one(command: str, words: tuple[str, ...]) -> None:
    assert arguments(command, VALUES) == words


@pytest.mark.parametrize(
    ("wrapper", "words"),
    [
        ("nice -n 5 %{mda}", ("nice", "-n", "5", "mda", "-f", "a:b:::id:@x")),
        ("spamc -u %{user.username} -e %{MDA}", ("spamc", "-u", "ann", "-e", "mda", "-f", "a:b:::id:@x")),
        ("umask 027; %{mda}", ("/bin/sh", "-c", 'umask 027; "$@"', "sh", "mda", "-f", "a:b:::id:@x")),
        ("%{mda}|tee /tmp/x", ("/bin/sh", "-c", '"$@"|tee /tmp/x', "sh", "mda", "-f", "a:b:::id:@x")),
        ("sh -c 'umask 027; \"$@\"' sh %{mda}", ("sh", "-c", 'umask 027; "$@"', "sh", "mda", "-f", "a:b:::id:@x")),
        ("exec nice %{mda}", ("nice", "mda", "-f", "a:b:::id:@x")),
        ("exec %{mda}", ("mda", "-f", "a:b:::id:@x")),
        ("cat -n", ("cat", "-n")),
    ],
)
def test_the_words_of_a_command_take_the_place_they_have_in_its_wrapper(wrapper: str, words: tuple[str, ...]) -> None:
    assert arguments("mda -f %{sender}", VALUES, wrapper) == words


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("~/bin/sort %{user.username}", ("/home/ann/bin/sort", "ann")),
        ("~/bin/sort; true", ("/bin/sh", "-c", "~/bin/sort; true")),
        ("'~/bin/sort' x", ("~/bin/sort", "x")),
        ("cat ~/x", ("/bin/sh", "-c", "cat ~/x")),
        ("~bob/bin/sort", ("/bin/sh", "-c", "~bob/bin/sort")),
    ],
)
def test_a_program_may_lie_in_the_home(command: str, words: tuple[str, ...]) -> None:
    assert arguments(command, VALUES) == words
    assert arguments(command, VALUES, "~/wrap %{mda}") == ("/home/ann/wrap", *words)


def test_a_command_in_shell_syntax_does_not_end_its_wrapper() -> None:
    assert arguments("true; id", VALUES, "sandbox %{mda}") == ("sandbox", "/bin/sh", "-c", "true; id")


@pytest.mark.parametrize(
    "wrapper", ["x '%{mda}'", 'x "%{mda}"', "sh -c 'umask 027; %{mda}'", "x --run=%{mda}", r"\%{mda}"]
)
def test_a_command_within_a_word_of_its_wrapper_is_an_error(wrapper: str) -> None:
    with pytest.raises(SpecifierError, match="must be a word of its own"):
        arguments("mda", VALUES, wrapper)


@pytest.mark.parametrize(
    "command",
    [
        "IFS=' ' && exec /usr/bin/procmail -f- || exit 75 #ann",
        "exec /usr/bin/vacation ann; echo",
        "exec -a x /usr/bin/vacation",
        "cat >/tmp/x",
        'echo "$HOME"',
        "echo `id`",
        "a | b",
        "HOME=/x prog",
        "prog; other",
        '"it\'s" | cat',
    ],
)
def test_shell_syntax_goes_to_a_shell_as_it_stands(command: str) -> None:
    assert arguments(command, VALUES) == ("/bin/sh", "-c", command)


@pytest.mark.parametrize(
    "command",
    [
        "",
        "  ",
        "prog 'open",
        "cat >%{sender}",
        'echo "$HOME" %{sender}',
        "exec -a x mda %{sender}",
        "exec mda %{sender} || exit 75",
        "mda %{no}",
    ],
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
