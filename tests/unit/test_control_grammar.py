"""The words of smtpctl, shortened and mistyped."""

from __future__ import annotations

import pytest

from control.grammar import CommandError, Form, resolve

FORMS = [
    Form("show queue", "queue"),
    Form("show queue <id>", "queue"),
    Form("show message <id>", "message"),
    Form("show stats", "stats"),
    Form("show status", "status"),
    Form("schedule <id>", "schedule"),
    Form("pause lane <action>", "lane"),
    Form("pause lane <action> <key>", "lane"),
    Form("pause mta", "mta"),
]


@pytest.mark.parametrize(
    ("typed", "meaning", "arguments"),
    [
        ("show queue", "queue", ()),
        ("sh q", "queue", ()),
        ("show queue abc", "queue", ("abc",)),
        ("sc all", "schedule", ("all",)),
        ("p l relay example.org", "lane", ("relay", "example.org")),
        ("p l relay", "lane", ("relay",)),
        ("show statu", "status", ()),
    ],
)
def test_words_may_be_shortened_while_they_are_unambiguous(
    typed: str, meaning: str, arguments: tuple[str, ...]
) -> None:
    assert resolve(FORMS, typed.split()) == (meaning, arguments)


@pytest.mark.parametrize(
    ("typed", "possibilities"),
    [
        ("show stat", ["show stats", "show status"]),
        ("s", ["show queue", "show queue <id>", "show message <id>", "show stats", "show status", "schedule <id>"]),
        ("show message", ["show message <id>"]),
        ("show envelopes", ["show queue", "show queue <id>", "show message <id>", "show stats", "show status"]),
        ("pause", ["pause lane <action>", "pause lane <action> <key>", "pause mta"]),
        ("", [form.text for form in FORMS]),
        ("frobnicate", [form.text for form in FORMS]),
        ("show stats now", ["show stats"]),
    ],
)
def test_what_fits_no_form_is_answered_with_the_possibilities(typed: str, possibilities: list[str]) -> None:
    with pytest.raises(CommandError) as caught:
        resolve(FORMS, typed.split())
    assert str(caught.value).splitlines() == ["possibilities are:", *possibilities]


def test_an_argument_that_begins_a_keyword_of_another_place_stays_an_argument() -> None:
    assert resolve(FORMS, ["schedule", "show"]).arguments == ("show",)
