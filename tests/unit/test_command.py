from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from delivery.command import deliver
from delivery.deposit import Abandoned, Result, ToCommand
from spool.bodies import Body, LargeBody, checksum
from spool.files import SystemOps
from spool.outcome import Damaged, Deferred, Delivered, Failed, Stage
from tests.tools.deposits import HEADER, MESSAGE, NotingDesk, deposit

PATH = {"PATH": "/usr/bin:/bin"}


@pytest.fixture
def desk() -> Iterator[NotingDesk]:
    desk = NotingDesk()
    yield desk
    desk.close()


def run(desk: NotingDesk, script: str, body: bytes | Body = MESSAGE, limit: float = 20.0) -> Result:
    method = ToCommand(("/bin/sh", "-c", script), PATH, "/", limit)
    (result,) = deliver([deposit(method, body)], SystemOps(), desk)
    return result


def large_body(folder: Path, octets: bytes, promised: bytes) -> LargeBody:
    (folder / "body").write_bytes(octets)
    return LargeBody(str(folder / "body"), len(octets), checksum(promised), SystemOps())


def test_a_program_reads_the_header_and_the_body_with_lines_in_lf(tmp_path: Path, desk: NotingDesk) -> None:
    assert isinstance(run(desk, f"cat >{tmp_path}/got"), Delivered)
    assert (tmp_path / "got").read_bytes() == HEADER + b"Subject: hello\n\nhello\n"


def test_a_large_message_passes_through_a_slow_reader_that_talks(tmp_path: Path, desk: NotingDesk) -> None:
    octets = b"0123456789\r\n" * 50_000
    result = run(desk, f"yes out | head -c 300000; cat >{tmp_path}/got", large_body(tmp_path, octets, octets))
    assert isinstance(result, Delivered)
    assert (tmp_path / "got").read_bytes() == HEADER + octets.replace(b"\r\n", b"\n")


def test_arguments_and_environment_are_exactly_those_of_the_errand(tmp_path: Path, desk: NotingDesk) -> None:
    hostile = "$(touch pwned) `id` ; * \"'\n%s"
    method = ToCommand(("/usr/bin/env", "printf", "%s|", "--", hostile), {**PATH, "SENDER": hostile}, str(tmp_path))
    deliver([deposit(method)], SystemOps(), desk)
    script = 'cat >/dev/null; printf "%s" "$1" >one; env -0 >two; pwd >three; umask >four; ls /proc/self/fd >five'
    method = ToCommand(("/bin/sh", "-c", script, "sh", hostile), {**PATH, "SENDER": hostile}, str(tmp_path))
    (result,) = deliver([deposit(method)], SystemOps(), desk)
    assert isinstance(result, Delivered)
    assert (tmp_path / "one").read_text() == hostile
    environment = dict(line.split("=", 1) for line in (tmp_path / "two").read_text().split("\0") if line)
    environment.pop("_", None)
    assert environment == {**PATH, "SENDER": hostile, "PWD": str(tmp_path)}
    assert (tmp_path / "three").read_text().strip() == str(tmp_path)
    assert (tmp_path / "four").read_text().strip() == "0077"
    assert not (tmp_path / "pwned").exists()


def test_a_program_holds_only_the_standard_descriptors(tmp_path: Path, desk: NotingDesk) -> None:
    run(desk, f"cat >/dev/null; ls /proc/$$/fd >{tmp_path}/got")
    # The shell itself keeps one for the script's redirection while ls runs.
    assert {int(name) for name in (tmp_path / "got").read_text().split()} <= {0, 1, 2, 10}


def test_a_missing_folder_is_replaced_by_the_root(tmp_path: Path, desk: NotingDesk) -> None:
    method = ToCommand(("/bin/sh", "-c", f"cat >/dev/null; pwd >{tmp_path}/got"), PATH, str(tmp_path / "gone"))
    deliver([deposit(method)], SystemOps(), desk)
    assert (tmp_path / "got").read_text() == "/\n"


def test_a_program_has_a_session_of_its_own(tmp_path: Path, desk: NotingDesk) -> None:
    run(desk, f"cat >/dev/null; cut -d' ' -f6 /proc/$$/stat >{tmp_path}/got; echo $$ >>{tmp_path}/got")
    session, pid = (tmp_path / "got").read_text().split()
    assert session == pid


@pytest.mark.parametrize("status", [71, 75])
def test_the_temporary_statuses_defer(desk: NotingDesk, status: int) -> None:
    result = run(desk, f"cat >/dev/null; echo first; echo 'over quota' >&2; exit {status}")
    assert isinstance(result, Deferred)
    assert result.stage is Stage.LOCAL
    assert result.reply.text.endswith('"over quota"')


@pytest.mark.parametrize(("status", "enhanced"), [(67, "5.1.1"), (77, "5.7.0"), (1, "5.3.0"), (99, "5.3.0")])
def test_every_other_status_fails_for_good(desk: NotingDesk, status: int, enhanced: str) -> None:
    result = run(desk, f"cat >/dev/null; echo no thanks; exit {status}")
    assert isinstance(result, Failed)
    assert result.reply.status == enhanced
    assert '"no thanks"' in result.reply.text


def test_a_program_that_says_nothing_exited_abnormally(desk: NotingDesk) -> None:
    result = run(desk, "cat >/dev/null; exit 3")
    assert isinstance(result, Failed)
    assert result.reply.text == "exited abnormally (status 3)"


def test_a_reason_is_one_printable_bounded_line(desk: NotingDesk) -> None:
    result = run(desk, r"cat >/dev/null; printf 'x\033[31m\377'; head -c 5000 /dev/zero | tr '\0' y; exit 1")
    assert isinstance(result, Failed)
    assert result.reply.text.isprintable()
    assert len(result.reply.text) < 400


def test_a_signal_is_temporary(desk: NotingDesk) -> None:
    result = run(desk, "cat >/dev/null; kill -SEGV $$")
    assert isinstance(result, Deferred)
    assert result.reply.text == f"terminated; signal {signal.SIGSEGV.value}"


def test_success_before_all_input_was_read_is_temporary(desk: NotingDesk) -> None:
    result = run(desk, "exec <&-; sleep 0.2; exit 0", b"x" * 300_000)
    assert isinstance(result, Deferred)
    assert result.reply.text == "mda exited prematurely"


def test_a_refusal_before_all_input_was_read_is_a_refusal(desk: NotingDesk) -> None:
    assert isinstance(run(desk, "echo no; exit 69", b"x" * 300_000), Failed)


def test_a_program_that_cannot_be_started_defers(desk: NotingDesk) -> None:
    (result,) = deliver([deposit(ToCommand(("no-such-mda",), PATH))], SystemOps(), desk)
    assert isinstance(result, Deferred)
    assert "no-such-mda" in result.reply.text


def test_a_program_out_of_time_is_ended_with_all_that_it_started(tmp_path: Path, desk: NotingDesk) -> None:
    started = time.monotonic()
    result = run(desk, f"sleep 60 & echo $! >{tmp_path}/child; wait", limit=0.5)
    assert isinstance(result, Deferred)
    assert result.reply.text == "terminated; timeout after 0.5 seconds"
    assert time.monotonic() - started < 10
    assert is_gone(int((tmp_path / "child").read_text()))


def test_a_program_is_ended_when_nobody_waits_for_it_any_more(tmp_path: Path, desk: NotingDesk) -> None:
    threading.Timer(0.3, desk.go_away).start()
    with pytest.raises(Abandoned):
        run(desk, f"echo $$ >{tmp_path}/pid; cat >/dev/null; sleep 60")
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_a_background_child_does_not_hold_up_its_parents_result(desk: NotingDesk) -> None:
    started = time.monotonic()
    assert isinstance(run(desk, "cat >/dev/null; sleep 3 & exit 0"), Delivered)
    assert time.monotonic() - started < 2


def test_a_program_never_sees_the_end_of_a_damaged_body(tmp_path: Path, desk: NotingDesk) -> None:
    octets = b"x" * 200_000
    result = run(desk, f"cat >/dev/null && echo whole >{tmp_path}/whole", large_body(tmp_path, octets, b"y" * 200_000))
    assert isinstance(result, Damaged)
    time.sleep(0.2)
    assert not (tmp_path / "whole").exists()


def is_gone(pid: int) -> bool:
    for _ in range(50):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
            return True
        time.sleep(0.05)
    return False
