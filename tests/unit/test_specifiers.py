from __future__ import annotations

import pytest

from delivery.specifiers import SpecifierError, UnfitValue, Values, expand, expand_path

VALUES = Values(
    {
        "sender": "Ann+tag@Example.COM",
        "sender.user": "Ann+tag",
        "sender.domain": "Example.COM",
        "dest.user": "o'brien|x/../y",
        "user.directory": "/home/o'brien",
        "empty": "",
        "dots": "..",
    }
)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("plain", "plain"),
        ("%{sender.user}", "Ann+tag"),
        ("%{SENDER.User}", "Ann+tag"),
        ("a%{sender.domain}b", "aExample.COMb"),
        ("100%%", "100%"),
        ("100%", "100%"),
        ("%d", "%d"),
        ("%%{sender}", "%{sender}"),
        ("%{sender.user[0]}", "A"),
        ("%{sender.user[0:2]}", "Ann"),
        ("%{sender.user[4:]}", "tag"),
        ("%{sender.user[:1]}", "An"),
        ("%{sender.user[-3:]}", "tag"),
        ("%{sender.user[0:-5]}", "Ann"),
        ("%{sender.user[0:99]}", "Ann+tag"),
        ("%{sender.user[0:-9]}", ""),
        ("%{sender.user[5:2]}", ""),
        ("%{sender.user[:]}", "Ann+tag"),
        ("%{sender.user[-3]}", "t"),
        ("%{sender.user[4:]:uppercase}", "TAG"),
        ("%{sender[0:2]:raw|lowercase}", "ann"),
        ("%{empty[5:]}", ""),
        ("%{empty:strip}", ""),
        ("%{sender:lowercase}", "ann+tag@example.com"),
        ("%{sender:uppercase}", "ANN+TAG@EXAMPLE.COM"),
        ("%{sender:strip}", "Ann@Example.COM"),
        ("%{sender:lowercase|strip}", "ann@example.com"),
        ("%{sender.user[0:2]:lowercase}", "ann"),
        ("%{dest.user}", "o:brien:x/../y"),
        ("%{dest.user:raw}", "o'brien|x/../y"),
        ("%{user.directory}", "/home/o'brien"),
    ],
)
def test_a_specifier_stands_for_its_value(text: str, expanded: str) -> None:
    assert expand(text, VALUES) == expanded


@pytest.mark.parametrize(
    "text",
    ["%{nobody}", "%{sender", "%{sender:bold}", "%{sender[]}", "%{sender[a]}", "%{sender[99]}", "%{}", "%{sender }"],
)
def test_what_the_operator_wrote_wrongly_is_an_error(text: str) -> None:
    with pytest.raises(SpecifierError):
        expand(text, VALUES)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("/mail/%{dest.user}", "/mail/o:brien:x:..:y"),
        ("/mail/%{dest.user:raw}", "/mail/o'brien|x:..:y"),
        ("%{user.directory}/Maildir", "/home/o'brien/Maildir"),
        ("/mail/../other/%{sender.user}", "/mail/../other/Ann+tag"),
    ],
)
def test_an_address_adds_no_component_to_a_path(text: str, expanded: str) -> None:
    assert expand_path(text, VALUES) == expanded


@pytest.mark.parametrize(
    "text", ["/mail/%{dots}", "/mail/%{dots}/x", "/mail/.%{dots[0]}", "/mail/%{dots[0]}%{dots[0]}"]
)
def test_an_address_that_leads_out_of_its_directory_is_refused(text: str) -> None:
    with pytest.raises(UnfitValue):
        expand_path(text, VALUES)


def test_a_result_is_bounded() -> None:
    with pytest.raises(UnfitValue):
        expand("%{sender}" * 300, VALUES)


@pytest.mark.parametrize("character", "!\"#$%&'()*;<>?\\^`{|}~ \t")
def test_what_a_shell_reads_as_more_than_a_word_becomes_a_colon(character: str) -> None:
    assert expand("%{sender.user}", Values({"sender.user": f"a{character}b"})) == "a:b"
