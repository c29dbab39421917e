"""Format specifiers are checked when the configuration is read, by the rules that delivery expands them by."""

from __future__ import annotations

import pytest

from delivery.specifiers import SpecifierError, Values, expand
from policy.build.specifiers import MODIFIERS, NAMES, specifier_trouble

VALUES = Values(dict.fromkeys(NAMES, "annabelle@example.org"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "rest", ["", "[0]", "[0:3]", "[2:]", "[:3]", "[-3:]", *(f":{each}" for each in MODIFIERS), "[1:]:raw|strip"]
)
def test_what_is_right_here_can_be_expanded(name: str, rest: str) -> None:
    text = f"~/%%/%{{{name}{rest}}}/%"
    assert specifier_trouble(text) == ""
    assert expand(text, VALUES)


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        ("%{rcpt.usr}", 'unknown format specifier "%{rcpt.usr}"; did you mean "rcpt.user"?'),
        ("%{mda}", '"%{mda}" stands for a command in "mda wrapper" only'),
        ("%{}", 'unknown format specifier "%{}"; known here are: '),
        ("x/%{sender", '"%{sender" has no end: expected "}"'),
        ("%{user.username[0:}", '"%{user.username[0:}" is no format specifier: expected such as '),
        ("%{sender[a]}", '"[a]" in "%{sender[a]}" is no substring: expected such as '),
        ("%{sender[]}", '"[]" in "%{sender[]}" is no substring'),
        ("%{sender:lower}", 'unknown modifier "lower" in "%{sender:lower}"; did you mean "lowercase"?'),
        ("%{sender:}", 'unknown modifier "" in "%{sender:}"; known here are: lowercase, raw, strip, uppercase'),
        ("%{sender:raw|}", 'unknown modifier "" in '),
    ],
)
def test_what_could_not_be_expanded_is_told(text: str, trouble: str) -> None:
    assert specifier_trouble(text).startswith(trouble)
    with pytest.raises(SpecifierError):
        expand(text, VALUES)
