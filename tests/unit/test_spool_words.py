"""The small words of mail: replies, ids, selections, spool time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spool.clock import SpoolClock, SystemClock
from spool.ids import MESSAGE_ID_LENGTH, IdSyntaxError, MessageId, envelope_id, new_message_id, split_id
from spool.outcome import Attempt, Stage
from spool.reply import MAX_REPLY_LINE, MAX_TEXT, EnhancedStatus, Reply, printable
from spool.selection import EVERYTHING, Selection, select
from tests.tools.spooled import DONE, HOUR, HandClock

# -- replies --------------------------------------------------------------------------------------------------------------


@given(st.text(max_size=2000))
def test_the_text_of_a_reply_is_one_printable_line(text: str) -> None:
    line = Reply(550, "5.1.1", text).encode()
    assert line.endswith(b"\r\n")
    assert len(line) <= MAX_REPLY_LINE + 2
    assert all(octet >= 0x20 and octet != 0x7F for octet in line[:-2])
    line.decode()


def test_a_long_text_is_cut_and_says_so() -> None:
    assert printable("x" * (MAX_TEXT + 1)) == "x" * (MAX_TEXT - 3) + "..."


def test_a_reply_without_a_status_has_no_gap() -> None:
    assert str(Reply(250, "", "ok")) == "250 ok"


@pytest.mark.parametrize(
    ("code", "positive", "permanent"), [(250, True, False), (451, False, False), (550, False, True)]
)
def test_the_first_digit_says_what_a_reply_means(code: int, positive: bool, permanent: bool) -> None:
    reply = Reply(code, "", "")
    assert (reply.is_positive, reply.is_permanent) == (positive, permanent)


def test_a_reply_can_say_something_else() -> None:
    assert Reply(550, "5.1.1", "a").saying("b") == Reply(550, "5.1.1", "b")


@pytest.mark.parametrize("text", ["5.1.1", "2.0.0", "4.999.1"])
def test_an_enhanced_status_is_read_and_written(text: str) -> None:
    assert str(EnhancedStatus.parse(text)) == text


@pytest.mark.parametrize("text", ["", "3.1.1", "5.1", "5.1.1000", "5.1.1 "])
def test_what_is_no_enhanced_status_is_none(text: str) -> None:
    assert EnhancedStatus.parse(text) is None


# -- ids ------------------------------------------------------------------------------------------------------------------


def test_message_ids_sort_by_time_and_never_meet() -> None:
    ids = [new_message_id(milliseconds) for milliseconds in range(0, 1 << 48, 1 << 42)]
    assert ids == sorted(ids)
    assert all(len(name) == MESSAGE_ID_LENGTH for name in ids)
    assert new_message_id(5) != new_message_id(5)


@pytest.mark.parametrize("milliseconds", [0, 1, 1_764_000_000_123, (1 << 48) - 1])
def test_a_message_id_is_its_time_and_48_random_bits_in_digits_of_five(milliseconds: int) -> None:
    name = new_message_id(milliseconds)
    assert (len(name), name, int(name, 32) >> 52, int(name, 32) & 15) == (
        MESSAGE_ID_LENGTH,
        name.lower(),
        milliseconds,
        0,
    )


def test_an_envelope_id_is_split_again() -> None:
    name = new_message_id(1)
    assert split_id(envelope_id(name, 17)) == (name, 17)
    assert split_id(name.upper()) == (name, None)


@pytest.mark.parametrize("text", ["", "xyz!", "0" * 21, "abc.1", "0" * 20 + ".0", "0" * 20 + ".", ".1", "w"])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(IdSyntaxError):
        split_id(text)


def test_an_attempt_knows_its_message() -> None:
    name = new_message_id(1)
    assert Attempt(envelope_id(name, 3), 0, 0, "", DONE).message == name


def test_a_selection_is_all_a_message_or_an_envelope() -> None:
    name = MessageId("0" * 20)
    assert select("all") == EVERYTHING
    assert select("00ab") == Selection("00ab")
    assert select(envelope_id(name, 2)) == Selection(name, 2)


def test_only_reaching_the_next_hop_closes_a_lane() -> None:
    closing = {stage for stage in Stage if stage.closes_lane}
    assert closing == {Stage.ROUTE, Stage.CONNECT, Stage.TLS, Stage.AUTH}


# -- spool time -----------------------------------------------------------------------------------------------------------


def test_spool_time_is_not_moved_by_the_wall_clock() -> None:
    clock = HandClock()
    spool = SpoolClock(clock, None)
    before = spool.now()
    clock.wall_s -= 1e9
    clock.boot_ms += 5
    assert spool.now() == before + 5


def test_spool_time_is_shown_as_wall_time() -> None:
    clock = HandClock()
    spool = SpoolClock(clock, None)
    assert spool.wall_at(spool.now() + HOUR) == pytest.approx(clock.wall_s + 3600)


def test_a_mark_of_the_future_in_this_boot_holds_time_still() -> None:
    clock = HandClock()
    mark = SpoolClock(clock, None).mark()
    clock.boot_ms -= 1000
    assert SpoolClock(clock, mark).now() == mark.spool_ms


def test_the_machines_own_clocks_tick() -> None:
    spool = SpoolClock(SystemClock(), None)
    assert spool.now() - spool.mark().spool_ms + 1000 >= 0
    assert spool.mark().boot_id
