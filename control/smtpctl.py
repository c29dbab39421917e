"""``smtpctl``: a table of words, each form with what it does.

Imports little, because administrators and monitoring start it again and again; the spool's own code is loaded only when it
has to be read without a daemon.

Failure: 1 with a sentence on standard error; 77 when the stopped spool is not ours to read; 255 and the possibilities for
words that make no command.
"""

from __future__ import annotations

import getopt
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from control import printing
from control.asking import EXPLAIN_LONG, EXPLAIN_SHORT, asking, joined
from control.choosing import CHOOSING, COUNTING, chosen, counted, listed
from control.client import Connection, ControlError, Listing, NotRunning, RequestRefused, look_up, rows_of
from control.grammar import CommandError, Form, resolve
from control.program import print_lines, run
from control.protocol import (
    AnyAnswer,
    AttemptRow,
    Backup,
    Change,
    Chunk,
    CountQueue,
    CountRow,
    Done,
    EnvelopeRow,
    LaneRow,
    Log,
    Pause,
    PauseLane,
    Request,
    ShowAttempts,
    ShowLanes,
    ShowMessage,
    ShowQueue,
    ShowStats,
    ShowStatus,
    StatRow,
    StatusRow,
    Trace,
    TroubleRow,
    UpdateTable,
    Verify,
    WallRow,
)
from spool.layout import Layout, nearest_layout

#: What OpenSMTPD's smtpctl answers to words that make no command.
EX_NO_COMMAND: Final = 255
_USAGE: Final = "usage: smtpctl [--json] [--root directory] command [argument ...]"
#: Options of every command; those of ``explain`` alone stand in `control.asking`.
_COMMON_OPTIONS: Final = ("json", "root=")
LONG_OPTIONS: Final = [*_COMMON_OPTIONS, *EXPLAIN_LONG, *CHOOSING, *COUNTING, "repair", "remove", "scram"]


class Desk(NamedTuple):
    """Where a command finds the daemon, and how it is to answer."""

    layout: Layout
    json: bool
    #: The options that not every command has.
    options: Sequence[tuple[str, str]] = ()

    def rows(self, request: Request) -> Iterator[AnyAnswer]:
        """The rows of an answer, from the daemon."""
        return rows_of(Connection(self.layout.control_socket), request)

    def listing(self, request: ShowQueue | CountQueue | ShowMessage | ShowAttempts | ShowLanes) -> Listing:
        """The same, or straight from the spool when no daemon runs."""
        return look_up(self.layout, request)

    def change(self, request: Request) -> int:
        """Have something done; how many envelopes it changed."""
        with Connection(self.layout.control_socket) as connection:
            return sum(answer.count for answer in connection.ask(request) if isinstance(answer, Done))


Action: TypeAlias = Callable[[Desk, tuple[str, ...]], int]


def main() -> int:
    """``smtpctl``."""
    return run("smtpctl", _smtpctl)


def _smtpctl(arguments: Sequence[str]) -> int:
    try:
        options, words = getopt.gnu_getopt(joined(arguments), EXPLAIN_SHORT, LONG_OPTIONS)
        command = resolve(FORMS, words)
        special = [(name, value) for name, value in options if name not in ("--json", "--root")]
        for name, _ in special:
            if name.lstrip("-") not in OPTIONS.get(command.meaning, ()):
                raise getopt.GetoptError(f"option {name} is not for this command")
    except getopt.GetoptError as error:
        print(f"smtpctl: {error.msg}", _USAGE, sep="\n", file=sys.stderr)
        return os.EX_USAGE
    except CommandError as error:
        print(error, file=sys.stderr)
        return EX_NO_COMMAND
    given = dict(options)
    desk = Desk(nearest_layout(given.get("--root", "")), "--json" in given, special)
    return command.meaning(desk, command.arguments)


# -- listings ---------------------------------------------------------------------------------------------------------


def _show_queue(desk: Desk, arguments: tuple[str, ...]) -> int:
    counts = {name for name, _ in desk.options} & {"--count", "--by"}
    if counts:
        return _count_queue(desk, arguments)
    listing = desk.listing(ShowQueue(*listed(arguments, desk.options)))
    now = time.time()
    rows = (row for row in listing.rows if isinstance(row, EnvelopeRow))
    if desk.json:
        print_lines(map(printing.json_line, rows))
    else:
        print_lines(printing.queue_line(row, now, listing.running) for row in rows)
    return os.EX_OK


def _count_queue(desk: Desk, arguments: tuple[str, ...]) -> int:
    for row in desk.listing(CountQueue(*listed(arguments, desk.options), by=counted(desk.options))).rows:
        assert isinstance(row, CountRow)
        print(printing.json_line(row) if desk.json else printing.count_line(row))
    return os.EX_OK


def _show_envelope(desk: Desk, arguments: tuple[str, ...]) -> int:
    for number, row in enumerate(desk.listing(ShowQueue(arguments[0])).rows):
        assert isinstance(row, EnvelopeRow)
        if desk.json:
            print(printing.json_line(row))
        else:
            print(*[""] * bool(number), *printing.envelope_page(row), sep="\n")
    return os.EX_OK


def _show_message(desk: Desk, arguments: tuple[str, ...]) -> int:
    for chunk in desk.listing(ShowMessage(*arguments)).rows:
        assert isinstance(chunk, Chunk)
        sys.stdout.buffer.write(chunk.data)
    sys.stdout.buffer.flush()
    return os.EX_OK


def _show_attempts(desk: Desk, arguments: tuple[str, ...]) -> int:
    for row in desk.listing(ShowAttempts(*arguments)).rows:
        assert isinstance(row, AttemptRow)
        print(printing.json_line(row) if desk.json else printing.attempt_line(row))
    return os.EX_OK


def _show_lanes(desk: Desk, arguments: tuple[str, ...]) -> int:
    now = time.time()
    for row in desk.listing(ShowLanes()).rows:
        assert isinstance(row, LaneRow)
        print(printing.json_line(row) if desk.json else printing.lane_line(row, now))
    return os.EX_OK


def _why(desk: Desk, arguments: tuple[str, ...]) -> int:
    attempts = [row for row in desk.listing(ShowAttempts(*arguments)).rows if isinstance(row, AttemptRow)]
    try:
        envelopes = [row for row in desk.listing(ShowQueue(arguments[0])).rows if isinstance(row, EnvelopeRow)]
    except RequestRefused:
        # The message is gone; its history is the answer.
        if not attempts:
            raise
        envelopes = []
    rows: list[AttemptRow | EnvelopeRow] = [*attempts, *envelopes]
    for line in map(printing.json_line, rows) if desk.json else printing.why_page(envelopes, attempts, time.time()):
        print(line)
    return os.EX_OK


def _show_status(desk: Desk, arguments: tuple[str, ...]) -> int:
    for row in desk.rows(ShowStatus()):
        assert isinstance(row, StatusRow | TroubleRow | WallRow)
        print(printing.json_line(row) if desk.json else printing.status_line(row))
    return os.EX_OK


def _show_stats(desk: Desk, arguments: tuple[str, ...]) -> int:
    for row in desk.rows(ShowStats()):
        assert isinstance(row, StatRow)
        print(printing.json_line(row) if desk.json else f"{row.name}={row.value}")
    return os.EX_OK


def _explain(desk: Desk, arguments: tuple[str, ...]) -> int:
    (recipient,) = arguments
    asked = asking(recipient, desk.options)
    document = b""
    try:
        if not asked.config:
            rows = desk.rows(asked.question)
            document = b"".join(row.data for row in rows if isinstance(row, Chunk))
    except NotRunning:
        pass
    if not document:
        from control.explain_offline import explain

        document = explain(desk.layout, asked)
    if desk.json:
        print(document.decode())
        return os.EX_OK
    from control.explained import page

    for line in page(document):
        print(line)
    return os.EX_OK


# -- changes ----------------------------------------------------------------------------------------------------------


def _changing(verb: str, past: str) -> Action:
    def run(desk: Desk, arguments: tuple[str, ...]) -> int:
        count = desk.change(Change(verb, *chosen(arguments, desk.options)))
        print(f"{count} envelope{'s' if count > 1 else ''} {past}")
        return os.EX_OK

    return run


def _simple(request: Callable[..., Request], *fixed: object) -> Action:
    def run(desk: Desk, arguments: tuple[str, ...]) -> int:
        try:
            desk.change(request(*arguments, *fixed))
        except RequestRefused as error:
            print(f"command failed: {error}")
            return 1
        print("command succeeded")
        return os.EX_OK

    return run


def _pause_part(part: str, paused: bool) -> Action:
    return _simple(lambda: Pause(part, paused))


def _pause_whole_lane(paused: bool) -> Action:
    return _simple(lambda action, key="": PauseLane(action, key, paused))


def _encrypt(desk: Desk, arguments: tuple[str, ...]) -> int:
    from policy import scram
    from policy.credentials import encrypt

    is_scram = any(name == "--scram" for name, _ in desk.options)
    for password in arguments or (line.rstrip("\n") for line in sys.stdin):
        try:
            print(scram.make(password) if is_scram else encrypt(password))
        except ValueError as error:
            raise ControlError(str(error)) from error
    return os.EX_OK


def _selfsign(desk: Desk, arguments: tuple[str, ...]) -> int:
    # Making certificates takes 8 MB of code: for those who want one.
    from control.selfsigning import lines, selfsign

    for line in lines(selfsign(desk.layout, arguments), as_json=desk.json):
        print(line)
    return os.EX_OK


def _verify(desk: Desk, arguments: tuple[str, ...]) -> int:
    from control.verified import Report

    repairs = any(name == "--repair" for name, _ in desk.options)
    report = Report(as_json=desk.json)
    try:
        connection = Connection(desk.layout.control_socket)
    except NotRunning:
        from control.offline import verify_spool

        verify_spool(desk.layout, repairs=repairs, tell=report.take)
    else:
        for row in rows_of(connection, Verify(repairs)):
            report.take(row)
    return report.end()


def _backup(desk: Desk, arguments: tuple[str, ...]) -> int:
    from control.backed import Report, absolute
    from control.premises import is_walled

    path = absolute(*arguments)
    report = Report(as_json=desk.json)
    try:
        connection = Connection(desk.layout.control_socket)
    except NotRunning:
        from control.offline import back_up_spool

        back_up_spool(desk.layout, path, report.take)
    else:
        if is_walled(desk.layout):
            from control.offline import back_up_beside_daemon

            with connection:
                back_up_beside_daemon(desk.layout, path, report.take)
        else:
            for row in rows_of(connection, Backup(path)):
                report.take(row)
    return report.end()


def _export(desk: Desk, arguments: tuple[str, ...]) -> int:
    from control.carried import Carrier

    *name, path = arguments
    carrier = Carrier(desk.layout, as_json=desk.json)
    if ("--remove", "") in desk.options:
        return carrier.move(*chosen(tuple(name), desk.options), path)
    return carrier.export(*listed(tuple(name), desk.options), path)


def _import(desk: Desk, arguments: tuple[str, ...]) -> int:
    from control.carried import Carrier

    return Carrier(desk.layout, as_json=desk.json).take(*arguments)


_HOLD: Final = _changing("hold", "held")
_PAUSE_ENVELOPES: Final = _changing("hold", "paused")
_RELEASE: Final = _changing("release", "released")
_RESUME_ENVELOPES: Final = _changing("release", "resumed")
_REMOVE: Final = _changing("remove", "removed")
_SCHEDULE: Final = _changing("schedule", "scheduled")
_CHOICES: Final = [option.rstrip("=") for option in CHOOSING]

#: The options that not every command has.
OPTIONS: Final[Mapping[Action, Sequence[str]]] = {
    _explain: [option.rstrip("=") for option in (*EXPLAIN_LONG, *EXPLAIN_SHORT.replace(":", ""))],
    _encrypt: ["scram"],
    _verify: ["repair"],
    _export: [*_CHOICES, "remove"],
    _show_queue: [*_CHOICES, *(option.rstrip("=") for option in COUNTING)],
    **dict.fromkeys((_HOLD, _PAUSE_ENVELOPES, _RELEASE, _RESUME_ENVELOPES, _REMOVE, _SCHEDULE), _CHOICES),
}

FORMS: Final[Sequence[Form[Action]]] = (
    Form("backup <directory>", _backup),
    Form("encrypt", _encrypt),
    Form("encrypt <string>", _encrypt),
    Form("explain <recipient>", _explain),
    Form("export <file>", _export),
    Form("export <id|all> <file>", _export),
    Form("hold", _HOLD),
    Form("hold <id|all>", _HOLD),
    Form("import <file>", _import),
    Form("log brief", _simple(lambda: Log(False))),
    Form("log verbose", _simple(lambda: Log(True))),
    Form("pause envelope", _PAUSE_ENVELOPES),
    Form("pause envelope <id|all>", _PAUSE_ENVELOPES),
    Form("pause lane <action>", _pause_whole_lane(True)),
    Form("pause lane <action> <key>", _pause_whole_lane(True)),
    Form("pause mda", _pause_part("mda", True)),
    Form("pause mta", _pause_part("mta", True)),
    Form("pause smtp", _pause_part("smtp", True)),
    Form("release", _RELEASE),
    Form("release <id|all>", _RELEASE),
    Form("remove", _REMOVE),
    Form("remove <id|all>", _REMOVE),
    Form("resume envelope", _RESUME_ENVELOPES),
    Form("resume envelope <id|all>", _RESUME_ENVELOPES),
    Form("resume lane <action>", _pause_whole_lane(False)),
    Form("resume lane <action> <key>", _pause_whole_lane(False)),
    Form("resume mda", _pause_part("mda", False)),
    Form("resume mta", _pause_part("mta", False)),
    Form("resume smtp", _pause_part("smtp", False)),
    Form("schedule", _SCHEDULE),
    Form("schedule <id|all>", _SCHEDULE),
    Form("show attempts <id>", _show_attempts),
    Form("show envelope <evpid>", _show_envelope),
    Form("show lanes", _show_lanes),
    Form("show message <id>", _show_message),
    Form("show queue", _show_queue),
    Form("show queue <id>", _show_queue),
    Form("show stats", _show_stats),
    Form("show status", _show_status),
    Form("tls selfsigned <name...>", _selfsign),
    Form("trace <subsystem>", _simple(lambda subsystem: Trace(subsystem, True))),
    Form("untrace <subsystem>", _simple(lambda subsystem: Trace(subsystem, False))),
    Form("update table <name>", _simple(UpdateTable)),
    Form("verify", _verify),
    Form("why <id>", _why),
)
