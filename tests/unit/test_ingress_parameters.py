"""The parameters of MAIL and RCPT."""

from __future__ import annotations

import pytest

from ingress.parameters import BadParameter, MailParameters, RcptParameters, mail_parameters, rcpt_parameters
from spool.message import BodyKind, Notify, Ret


def refusal(text: str, *, dsn: bool = True) -> str:
    with pytest.raises(BadParameter) as caught:
        mail_parameters(text, dsn)
    return str(caught.value.reply)


def rcpt_refusal(text: str, *, dsn: bool = True) -> str:
    with pytest.raises(BadParameter) as caught:
        rcpt_parameters(text, dsn, smtputf8=False)
    return str(caught.value.reply)


def test_mail_without_parameters_asks_for_nothing() -> None:
    assert mail_parameters("", dsn=True) == MailParameters()


def test_every_parameter_of_mail_is_understood_in_any_case() -> None:
    text = "size=1000 Body=8bitmime SMTPUTF8 AUTH=<> ret=hdrs ENVID=Ab+2Bc"
    kind = BodyKind.EIGHT_BIT | BodyKind.SMTPUTF8
    assert mail_parameters(text, dsn=True) == MailParameters(1000, kind, Ret.HDRS, "Ab+2Bc")


def test_7bit_needs_nothing_of_the_next_hop() -> None:
    assert mail_parameters("BODY=7BIT", dsn=True).body_kind is BodyKind.PLAIN


def test_several_blanks_between_parameters_do_no_harm() -> None:
    assert mail_parameters("SIZE=1  BODY=7BIT", dsn=True).size == 1


@pytest.mark.parametrize("text", ["REQUIRETLS", "XVERP", "HOLDFOR=1", "NOTIFY=NEVER"])
def test_an_unknown_parameter_of_mail_is_refused_by_name(text: str) -> None:
    assert refusal(text) == f"555 5.5.4 Invalid command arguments: Unsupported option {text.partition('=')[0]}"


@pytest.mark.parametrize("text", ["RET=FULL", "ENVID=x"])
def test_dsn_parameters_are_unknown_to_a_listener_without_dsn(text: str) -> None:
    assert refusal(text, dsn=False).startswith("555 5.5.4")


@pytest.mark.parametrize(
    "text",
    [
        "SIZE=", "SIZE=x", "SIZE=-1", "SIZE=1.5", "SIZE=" + "9" * 21, "SIZE", "SIZE=1 SIZE=1", "SIZE=\u0661",
        "BODY=BINARYMIME", "BODY", "SMTPUTF8=yes", "RET=SOME", "RET", "ENVID=" + "x" * 101, "ENVID=a=b", "ENVID=a+",
        "ENVID=a+2b", "ENVID=a+0D+0A", "ENVID=ä", "AUTH=+0A", "=x", "-X", "A_B=1", "size=1 SIZE=2",
    ],
)  # fmt: skip
def test_a_malformed_parameter_of_mail_is_refused(text: str) -> None:
    assert refusal(text).startswith("501 5.5.4")


def test_rcpt_without_parameters_is_the_default() -> None:
    assert rcpt_parameters("", dsn=True, smtputf8=False) == RcptParameters()


def test_notify_and_orcpt_are_kept() -> None:
    got = rcpt_parameters("NOTIFY=success,Delay ORCPT=rfc822;Bob+40Example.ORG", dsn=True, smtputf8=False)
    assert got == RcptParameters(Notify.SUCCESS | Notify.DELAY, True, "rfc822;Bob+40Example.ORG")


def test_notify_never_stands_alone() -> None:
    assert rcpt_parameters("NOTIFY=NEVER", dsn=True, smtputf8=False).notify is Notify.NEVER


@pytest.mark.parametrize(
    "text",
    [
        "NOTIFY=NEVER,SUCCESS", "NOTIFY=", "NOTIFY=,", "NOTIFY=ALWAYS", "NOTIFY=SUCCESS NOTIFY=DELAY",
        "ORCPT=bob@example.org", "ORCPT=;bob", "ORCPT=rfc822;", "ORCPT=rfc822;a+0Ab", "ORCPT=a_b;x",
        "ORCPT=rfc822;" + "x" * 500, "ORCPT=rfc822;grün@example.org", "ORCPT=utf-8;grün@example.org",
    ],
)  # fmt: skip
def test_a_malformed_parameter_of_rcpt_is_refused(text: str) -> None:
    assert rcpt_refusal(text).startswith("501 5.5.4")


def test_an_international_orcpt_needs_an_smtputf8_transaction() -> None:
    text = "ORCPT=utf-8;grün@example.org"
    assert rcpt_parameters(text, dsn=True, smtputf8=True).orcpt == "utf-8;grün@example.org"


def test_rcpt_parameters_are_unknown_to_a_listener_without_dsn() -> None:
    assert rcpt_refusal("NOTIFY=NEVER", dsn=False).startswith("555 5.5.4")
