"""sendmail, with a daemon that takes its mail and with one that refuses it."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
from pathlib import Path

import pytest

from ingress.dropfile import MAX_MEMORY
from tests.tools.mailer import COMMAND, Mailer
from tests.tools.recording_sink import Act

LOGIN = pwd.getpwuid(os.getuid()).pw_name
MESSAGE = "From: ann@example.org\nTo: bob@example.org\nSubject: hello\nDate: today\n\nhello\n"
ON_THE_WIRE = MESSAGE.replace("\n", "\r\n").encode()


@pytest.fixture
def mailer(tmp_path: Path) -> Mailer:
    return Mailer(tmp_path)


def test_a_message_goes_to_the_daemon_as_it_was_written(mailer: Mailer) -> None:
    with mailer.daemon() as daemon:
        done = mailer.send(["bob"], MESSAGE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (received,) = daemon.messages
    assert received.mail == f"FROM:<ann@example.org> SIZE={len(ON_THE_WIRE)}"
    assert received.rcpts == ("TO:<bob>",)
    assert received.body == ON_THE_WIRE
    assert mailer.left() == []


def test_recipients_come_from_header_and_arguments_with_t(mailer: Mailer) -> None:
    with mailer.daemon() as daemon:
        mailer.send(["-t", "-i", "dan, bob@b"], "To: ann@a (Ann)\nCc: bob@b\nBcc: secret@c\n\nx\n")
    (received,) = daemon.messages
    assert received.rcpts == ("TO:<dan>", "TO:<bob@b>", "TO:<ann@a>", "TO:<secret@c>")
    assert b"secret" not in received.body


def test_what_reports_the_sender_wants_goes_to_the_daemon(mailer: Mailer) -> None:
    with mailer.daemon() as daemon:
        mailer.send(["-N", "success,delay", "-R", "hdrs", "-V", "a+b=c d", "-f", "me@x", "bob"], MESSAGE)
    (received,) = daemon.messages
    assert received.mail.startswith("FROM:<me@x> RET=HDRS ENVID=a+2Bb+3Dc+20d ")
    assert received.rcpts == ("TO:<bob> NOTIFY=SUCCESS,DELAY",)


@pytest.mark.parametrize("sender", ["", "<>"])
def test_the_null_sender_has_two_spellings(mailer: Mailer, sender: str) -> None:
    with mailer.daemon() as daemon:
        mailer.send(["-f", sender, "bob"], MESSAGE)
    assert daemon.messages[0].mail.startswith("FROM:<> ")


def test_missing_fields_are_added_in_the_name_of_the_user(mailer: Mailer) -> None:
    conf_dir = Path(mailer.layout.conf_dir)
    conf_dir.mkdir(parents=True)
    (conf_dir / "mailname").write_text("mail.example.net\n")
    with mailer.daemon() as daemon:
        mailer.send(["-F", "Backup", "bob"], "Subject: done\n\n")
    (received,) = daemon.messages
    assert received.mail.startswith(f"FROM:<{LOGIN}> ")
    lines = received.body.decode().split("\r\n")
    assert lines[:3] == ["Subject: done", f"From: Backup <{LOGIN}@mail.example.net>", "To: undisclosed-recipients:;"]
    assert re.fullmatch(r"Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", lines[3])
    assert lines[4:] == ["", ""]


def test_nothing_is_added_to_a_message_from_elsewhere(mailer: Mailer) -> None:
    with mailer.daemon() as daemon:
        mailer.send(["-G", "bob"], "Subject: done\n\n")
    assert daemon.messages[0].body == b"Subject: done\r\n\r\n"


@pytest.mark.parametrize("line", [".", ".hidden", "..", "...more"])
def test_dots_arrive_as_they_were_written(mailer: Mailer, line: str) -> None:
    with mailer.daemon() as daemon:
        mailer.send(["-oi", "bob"], MESSAGE + line + "\nend\n")
    assert daemon.messages[0].body == ON_THE_WIRE + line.encode() + b"\r\nend\r\n"


def test_a_lone_dot_ends_the_message_and_what_follows_is_not_read(mailer: Mailer) -> None:
    with mailer.daemon() as daemon:
        process = mailer.start("bob")
        assert process.stdin is not None
        process.stdin.write(MESSAGE.encode() + b".\n")
        process.stdin.flush()
        assert process.wait(10) == 0
        process.communicate()
    assert daemon.messages[0].body == ON_THE_WIRE


def test_octets_above_127_are_declared(mailer: Mailer) -> None:
    with mailer.daemon() as daemon:
        mailer.send(["bob"], MESSAGE + "grüße\n")
    assert " BODY=8BITMIME" in daemon.messages[0].mail


def test_an_address_beyond_ascii_is_declared(mailer: Mailer) -> None:
    with mailer.daemon() as daemon:
        mailer.send(["jürgen@bücher.example"], MESSAGE)
    (received,) = daemon.messages
    assert " SMTPUTF8" in received.mail
    assert received.rcpts == ("TO:<jürgen@bücher.example>",)


def test_only_what_the_daemon_offers_is_used(mailer: Mailer) -> None:
    with mailer.daemon() as daemon:
        daemon.offers = ()
        mailer.send(["-N", "never", "-R", "full", "ann", "bob"], MESSAGE + "grüße\n")
    (received,) = daemon.messages
    assert (received.mail, received.rcpts) == ("FROM:<ann@example.org>", ("TO:<ann>", "TO:<bob>"))


def test_a_line_too_long_for_smtp_is_encoded(mailer: Mailer) -> None:
    with mailer.daemon() as daemon:
        mailer.send(["bob"], "Subject: long\n\n" + "ü" * 600 + "\n")
    (received,) = daemon.messages
    assert b"Content-Transfer-Encoding: quoted-printable\r\n" in received.body
    assert max(map(len, received.body.split(b"\r\n"))) <= 78
    assert "BODY=" not in received.mail


@pytest.mark.parametrize("arguments", [["bob"], ["-t"]])
def test_a_large_message_goes_to_the_daemon_and_leaves_nothing_in_the_drop(
    mailer: Mailer, arguments: list[str]
) -> None:
    text = "".join(f"line {number}\n.{number}\n" for number in range(MAX_MEMORY // 10))
    with mailer.daemon() as daemon:
        assert mailer.send(arguments, MESSAGE + text).returncode == 0
    assert daemon.messages[0].body == ON_THE_WIRE + text.replace("\n", "\r\n").encode()
    assert list(mailer.drop.iterdir()) == []


def test_the_session_is_shown_with_v(mailer: Mailer) -> None:
    with mailer.daemon():
        done = mailer.send(["-v", "bob"], MESSAGE)
    assert ">>> RCPT TO:<bob>\n<<< 250 2.1.0 Ok\n<<< 250 2.1.5 Ok\n" in done.stderr


@pytest.mark.parametrize(
    ("instant", "reply", "status"),
    [
        ("MAIL", "550 5.7.1 not you", 77),
        ("MAIL", "553 5.1.7 bad sender", 65),
        ("RCPT", "550 5.1.1 no such user", 67),
        ("RCPT", "550 no such user", 67),
        ("RCPT", "550 5.7.1 relaying denied", 77),
        ("DATA", "554 5.5.1 no", 65),
        ("dot", "554 5.6.0 bad message", 65),
        ("dot", "550 5.7.1 not this", 77),
    ],
)
def test_a_refusal_is_told_and_nothing_is_kept(mailer: Mailer, instant: str, reply: str, status: int) -> None:
    with mailer.daemon() as daemon:
        daemon.on(instant, Act(reply))
        done = mailer.send(["bob", "eve"], MESSAGE)
    assert done.returncode == status
    assert reply in done.stderr
    assert daemon.messages == []
    assert mailer.left() == []


def test_one_refused_recipient_is_named_and_ends_it_for_all(mailer: Mailer) -> None:
    with mailer.daemon() as daemon:
        daemon.on("RCPT", Act("450 4.2.1 busy"), containing="ann")
        daemon.on("RCPT", Act("550 5.1.1 unknown"), containing="eve")
        done = mailer.send(["ann", "eve", "bob"], MESSAGE)
    assert (done.returncode, done.stderr) == (67, "sendmail: RCPT TO:<eve>: 550 5.1.1 unknown\n")
    assert daemon.messages == []
    assert mailer.left() == []


def test_the_exit_status_is_usage_without_recipients(mailer: Mailer) -> None:
    done = mailer.send([], MESSAGE)
    assert done.returncode == 64
    assert "no recipients" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-t"], "Subject: nobody\n\n"),
        (["-t"], "To: <open\n\n"),
        (["a b"], MESSAGE),
        (["-f", "a, b", "bob"], MESSAGE),
        ([b"\xff@x".decode(errors="surrogateescape")], MESSAGE),
    ],
)
def test_the_exit_status_is_bad_data_for_addresses_that_are_none(
    mailer: Mailer, arguments: list[str], message: str
) -> None:
    assert mailer.send(arguments, message).returncode == 65
    assert mailer.left() == []


def test_a_source_that_cannot_be_read_is_an_input_error(mailer: Mailer) -> None:
    with open(os.devnull, "wb") as unreadable:
        done = subprocess.run(
            [COMMAND, "bob"], stdin=unreadable, capture_output=True, env=mailer.environment(), check=False
        )
    assert (done.returncode, done.stderr) == (74, b"sendmail: cannot read the message: Bad file descriptor\n")


def test_recipients_are_verified_without_sending_anything(mailer: Mailer) -> None:
    with mailer.daemon() as daemon:
        daemon.on("RCPT", Act("550 5.1.1 unknown"), containing="eve")
        done = mailer.send(["-bv", "ann", "eve"])
        fine = mailer.send(["-bv", "ann"])
    assert done.returncode == 67
    assert done.stdout == "ann... 250 2.1.5 Ok\neve... 550 5.1.1 unknown\n"
    assert (fine.returncode, fine.stdout) == (0, "ann... 250 2.1.5 Ok\n")
    assert mailer.send(["-bv", "ann"]).returncode == 75


def test_smtp_on_standard_input_reaches_the_daemon(mailer: Mailer) -> None:
    session = (
        "EHLO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nSubject: x\r\n\r\n"
        + "y" * 100_000
        + "\r\n.\r\nQUIT\r\n"
    )
    with mailer.daemon() as daemon:
        done = mailer.send(["-bs"], session)
    assert done.returncode == 0
    assert done.stdout.startswith("220 sink.example ESMTP\r\n250-sink.example\r\n")
    assert done.stdout.endswith("221 2.0.0 Bye\r\n")
    assert len(daemon.messages[0].body) > 100_000


def test_smtp_on_standard_input_says_so_when_there_is_no_daemon(mailer: Mailer) -> None:
    done = mailer.send(["-bs"], "EHLO me\r\n")
    assert done.returncode == 75
    assert re.fullmatch(r"421 4\.3\.2 [^\r\n]+\r\n", done.stdout)
    assert mailer.left() == []


def test_smtp_on_standard_input_says_so_when_the_daemon_dies(mailer: Mailer) -> None:
    with mailer.daemon() as daemon:
        daemon.on("MAIL", Act(b"", cut=True))
        process = mailer.start("-bs")
        assert process.stdin is not None
        process.stdin.write(b"MAIL FROM:<a@b>\r\n")
        process.stdin.flush()
        assert process.wait(10) == 75
        output, _ = process.communicate()
    assert b"\r\n421 4.3.2 " in output
