"""The arguments of sendmail."""

from __future__ import annotations

import pytest

from ingress.flags import Flags, Mode, Usage, read_flags


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        # As cron, cronie, systemd-cron, at, anacron, mdadm, unattended-upgrades, fail2ban, git, mutt, PHP, symfony, Alpine,
        # mailutils and smail call it.
        (
            "-FCronDaemon -i -B8BITMIME -oem root",
            {"full_name": "CronDaemon", "dot_ends": False, "recipients": ["root"]},
        ),
        ("-FCronDaemon -i -odi -oem -oi -t -f root", {"from_header": True, "dot_ends": False, "sender": b"root"}),
        ("-FCronDaemon -i -odi -oem -oi -t -f <>", {"sender": b"<>"}),
        ("-i -B8BITMIME ann", {"dot_ends": False, "recipients": ["ann"]}),
        ("ann", {"dot_ends": True, "recipients": ["ann"]}),
        ("-t", {"from_header": True, "recipients": []}),
        ("-oi -t", {"from_header": True, "dot_ends": False}),
        ("-f fail2ban@box root@box", {"sender": b"fail2ban@box", "recipients": ["root@box"]}),
        ("-f a@b -i c@d e@f", {"sender": b"a@b", "recipients": ["c@d", "e@f"]}),
        ("-oem -oi -B8BITMIME -N failure,delay -R hdrs -f a@b -- c@d", {"notify": "FAILURE,DELAY", "ret": "HDRS"}),
        ("-t -i", {"from_header": True, "dot_ends": False}),
        ("-ti", {"from_header": True, "dot_ends": False}),
        ("-bs", {"mode": Mode.SMTP}),
        ("-bs -odb -oem -oi", {"mode": Mode.SMTP}),
        ("-i -m -r a@b -t", {"sender": b"a@b", "from_header": True}),
        ("-fa@b c@d", {"sender": b"a@b", "recipients": ["c@d"]}),
        ("-bm -U -G -X /tmp/log -V id c@d", {"gateway": True, "envid": b"id", "mode": Mode.DELIVER}),
        ("-A c -C /etc/x -d0-9.1 -em -h 3 -L tag -n -p smtp -x -E -J -v c@d", {"verbose": True, "recipients": ["c@d"]}),
        ("-O IgnoreDots=true -O DeliveryMode=b c@d", {"dot_ends": False}),
        ("-oi -O IgnoreDots=false c@d", {"dot_ends": True}),
        ("-o i c@d", {"dot_ends": False}),
        ("-b p", {"mode": Mode.QUEUE}),
        ("-bi", {"mode": Mode.ALIASES}),
        ("-I", {"mode": Mode.ALIASES}),
        ("-bv c@d", {"mode": Mode.VERIFY, "recipients": ["c@d"]}),
        ("-q", {"mode": Mode.FLUSH, "flush": ""}),
        ("-q30m", {"mode": Mode.FLUSH, "flush": "30m"}),
        ("-qIabc", {"mode": Mode.FLUSH, "flush": "Iabc"}),
        ("c@d -f a@b", {"sender": b"a@b", "recipients": ["c@d"]}),
        ("-t -- -f", {"from_header": True, "recipients": ["-f"]}),
        ("--root /x -t", {"root": "/x", "from_header": True}),
        ("--root=/x -t", {"root": "/x"}),
    ],
)
def test_callers_are_understood(command: str, expected: dict[str, object]) -> None:
    flags = read_flags(command.split())
    assert {name: _plain(flags, name) for name in expected} == expected


def _plain(flags: Flags, name: str) -> object:
    value: object = getattr(flags, name)
    return [recipient.decode() for recipient in flags.recipients] if name == "recipients" else value


def test_an_empty_sender_is_given_not_missing() -> None:
    assert read_flags(["-f", "", "ann"]).sender == b""


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["-Z"], "unknown option -Z"),
        (["--help"], "unknown option --"),
        (["-tk"], "unknown option -k"),
        (["-f"], "-f needs a value"),
        (["--root"], "--root needs a value"),
        (["-bd"], "the daemon is smtpd"),
        (["-b", ""], "not supported"),
        (["-N", "never,delay"], "expected never"),
        (["-N", "often"], "expected never"),
        (["-R", "body"], "expected full or hdrs"),
        (["-V", "x" * 101], "1 to 100"),
        (["-V", "a\r\nRCPT TO:<x>"], "printable"),
    ],
)
def test_nonsense_is_a_usage_error(arguments: list[str], complaint: str) -> None:
    with pytest.raises(Usage, match=complaint) as caught:
        read_flags(arguments)
    assert caught.value.status == 64
