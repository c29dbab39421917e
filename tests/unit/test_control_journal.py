"""The log: one line an event, whatever is in it, to whoever listens."""

from __future__ import annotations

import io
import logging
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from control.journal import (
    MAX_LINE,
    PACKAGES,
    SUBSYSTEMS,
    Journal,
    LineFormatter,
    StreamLines,
    SyslogHandler,
    UnknownSubsystem,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def written() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def journal(written: io.StringIO) -> Iterator[Journal]:
    journal = Journal(logging.StreamHandler(written))
    yield journal
    journal.close()


def test_an_event_is_written_bare(journal: Journal, written: io.StringIO) -> None:
    logging.getLogger("ingress.session").info("%s smtp connected address=%s", "0123456789abcdef", "127.0.0.1")
    assert written.getvalue() == "0123456789abcdef smtp connected address=127.0.0.1\n"


def test_what_a_peer_said_stays_on_its_line() -> None:
    said = ("x\r\ny\x1b[31m\u2028\ud800",)
    record = logging.LogRecord("ingress", logging.WARNING, "", 0, "bad-input %s", said, None)
    assert LineFormatter().format(record) == "warn: bad-input x\\x0d\\x0ay\\x1b[31m\\u2028\\ud800"


def test_an_endless_line_is_cut(journal: Journal, written: io.StringIO) -> None:
    logging.getLogger("ingress").info("é" * 60_000)
    line = written.getvalue().rstrip("\n")
    assert len(line.encode()) <= MAX_LINE
    assert line.endswith("é...")


def test_an_exception_takes_one_line_that_names_its_place(journal: Journal, written: io.StringIO) -> None:
    try:
        int("no number")
    except ValueError:
        logging.getLogger("delivery").exception("stray exception")
    line = written.getvalue()
    assert line.count("\n") == 1
    assert line.startswith("error: stray exception (ValueError: invalid literal")
    assert f"{Path(__file__).name}:" in line


def test_of_a_group_of_exceptions_the_first_one_is_told(journal: Journal, written: io.StringIO) -> None:
    group = ExceptionGroup("tasks", [ExceptionGroup("more tasks", [ValueError("the cause")])])
    logging.getLogger("control").error("it ends", exc_info=group)
    assert written.getvalue() == "error: it ends (ValueError: the cause)\n"


def test_debug_lines_wait_for_verbose(journal: Journal, written: io.StringIO) -> None:
    log = logging.getLogger("scheduler.runner")
    log.debug("unheard")
    journal.set_verbose(True)
    log.debug("heard")
    journal.set_verbose(False)
    log.debug("unheard again")
    assert written.getvalue() == "debug: scheduler.runner: heard\n"


def test_a_trace_opens_its_subsystem_and_no_other(journal: Journal, written: io.StringIO) -> None:
    journal.trace("smtp")
    logging.getLogger("ingress.session").debug("heard")
    logging.getLogger("scheduler.runner").debug("unheard")
    journal.untrace("smtp")
    logging.getLogger("ingress.session").debug("unheard too")
    assert written.getvalue() == "debug: ingress.session: heard\n"


def test_a_logger_of_two_traced_subsystems_speaks_until_both_end(journal: Journal, written: io.StringIO) -> None:
    journal.trace("mta")
    journal.trace("transfer")
    journal.untrace("mta")
    logging.getLogger("delivery.relay").debug("heard")
    assert written.getvalue() == "debug: delivery.relay: heard\n"


def test_untrace_all_ends_every_trace(journal: Journal, written: io.StringIO) -> None:
    journal.trace("mta")
    journal.trace("all")
    journal.untrace("all")
    logging.getLogger("delivery.relay").debug("unheard")
    assert written.getvalue() == ""


def test_an_unknown_subsystem_is_named_with_the_known_ones(journal: Journal) -> None:
    with pytest.raises(UnknownSubsystem, match=r"invalid trace keyword: imsg \(known: all expand"):
        journal.trace("imsg")


def test_libraries_are_heard_from_warnings_on(journal: Journal, written: io.StringIO) -> None:
    journal.set_verbose(True)
    logging.getLogger("asyncio").debug("unheard")
    logging.getLogger("asyncio").warning("heard")
    assert written.getvalue() == "warn: heard\n"


def test_what_an_event_carries_is_written_behind_it(journal: Journal, written: io.StringIO) -> None:
    logging.getLogger("spool.upkeep").warning("upkeep failed", extra={"chore": "prune", "reason": 'no "room" left'})
    assert written.getvalue() == 'warn: upkeep failed chore=prune reason="no \\"room\\" left"\n'


def loggers() -> set[str]:
    """Every name under which the packages log."""
    found = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for name in re.findall(r"getLogger\((__name__|\"[\w.]+\")\)", path.read_text()):
                module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                found.add(module if name == "__name__" else name.strip('"'))
    return found


@pytest.mark.parametrize("subsystem", sorted(SUBSYSTEMS))
def test_a_subsystem_that_can_be_traced_has_something_to_say(subsystem: str) -> None:
    for name in SUBSYSTEMS[subsystem]:
        assert any(f"{logger}.".startswith(f"{name}.") for logger in loggers()), name


def test_every_logger_belongs_to_a_room() -> None:
    assert {name for name in loggers() if name.partition(".")[0] not in PACKAGES} == set()


class LogDaemon:
    """Stands where /dev/log is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = self.listen()

    def listen(self) -> socket.socket:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listening.bind(str(self.path))
        listening.settimeout(5)
        return listening

    def restart(self) -> None:
        self.close()
        self.socket = self.listen()

    def line(self) -> str:
        return self.socket.recv(65536).decode()

    def drain(self) -> list[str]:
        self.socket.settimeout(0)
        lines = []
        while True:
            try:
                lines.append(self.line())
            except BlockingIOError:
                return lines

    def close(self) -> None:
        self.socket.close()
        self.path.unlink()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[LogDaemon]:
    daemon = LogDaemon(tmp_path / "log")
    yield daemon
    daemon.close()


@pytest.fixture
def syslog(daemon: LogDaemon) -> Iterator[Journal]:
    journal = Journal(SyslogHandler(str(daemon.path)))
    yield journal
    journal.close()


@pytest.mark.parametrize(("level", "priority"), [("error", 19), ("warning", 20), ("info", 22)])
def test_syslog_hears_the_mail_facility_and_the_severity(
    daemon: LogDaemon, syslog: Journal, level: str, priority: int
) -> None:
    getattr(logging.getLogger("spool"), level)("the spool is open")
    line = daemon.line()
    assert line.startswith(f"<{priority}>")
    assert " smtpd[" in line
    assert line.endswith("the spool is open")


def test_a_log_daemon_that_was_restarted_is_found_again(daemon: LogDaemon, syslog: Journal) -> None:
    daemon.restart()
    logging.getLogger("spool").info("after the restart")
    assert daemon.line().endswith("after the restart")


def test_lines_that_syslog_did_not_take_are_counted(daemon: LogDaemon, syslog: Journal) -> None:
    log = logging.getLogger("spool")
    sent = 20_000
    for number in range(sent):
        log.info("line %d", number)
    kept = len(daemon.drain())
    assert kept < sent
    log.info("the last one")
    assert f"{sent - kept} log lines are missing" in daemon.drain()[0]


def test_no_syslog_at_all_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SyslogHandler(str(tmp_path / "nobody"))


class Pieces(io.StringIO):
    """Remembers what came in one write."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def write(self, text: str) -> int:
        self.pieces.append(text)
        return len(text)


@pytest.fixture
def pieces() -> Iterator[Pieces]:
    stream = Pieces()
    journal = Journal(StreamLines(stream))
    yield stream
    journal.close()


@pytest.mark.anyio
async def test_ordinary_lines_of_one_turn_of_the_loop_are_one_write(pieces: Pieces) -> None:
    for number in range(3):
        logging.getLogger("ingress").info("line %d", number)
    before = list(pieces.pieces)
    await anyio.lowlevel.checkpoint()
    assert (before, pieces.pieces) == ([], ["line 0\nline 1\nline 2\n"])


@pytest.mark.anyio
async def test_a_warning_is_written_at_once_after_what_came_before_it(pieces: Pieces) -> None:
    logging.getLogger("ingress").info("first")
    logging.getLogger("ingress").warning("second")
    assert pieces.pieces == ["first\nwarn: second\n"]


def test_a_line_is_written_at_once_where_there_is_no_loop(pieces: Pieces) -> None:
    logging.getLogger("ingress").info("now")
    assert pieces.pieces == ["now\n"]


@pytest.mark.anyio
async def test_a_write_holds_whole_lines_and_no_more_than_a_pipe_takes_as_one(pieces: Pieces) -> None:
    for _ in range(10):
        logging.getLogger("ingress").info("é" * 700)
    await anyio.lowlevel.checkpoint()
    assert all(piece.endswith("\n") and len(piece.encode()) <= 4096 for piece in pieces.pieces)
    assert "".join(pieces.pieces) == ("é" * 700 + "\n") * 10


@pytest.mark.anyio
async def test_what_waits_is_written_when_the_log_is_closed() -> None:
    stream = Pieces()
    journal = Journal(StreamLines(stream))
    logging.getLogger("ingress").info("last words")
    journal.close()
    assert stream.pieces == ["last words\n"]


def test_records_know_their_callers_again_when_the_log_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    Journal(StreamLines(Pieces())).close()
    logging.getLogger("another").error("where am I?")
    assert caplog.records[-1].filename == Path(__file__).name
