"""``mailq`` as Postfix prints it, because check_mailq, dashboards and scripts read that; ``mailq -j`` as ``postqueue -j``.

Guarantees: holds a page of the queue, or one message if that is more, however long the queue is. Imports little, because
monitoring starts it again and again.

Failure: see `control.program`; 64 for arguments that make no sense.
"""

from __future__ import annotations

import getopt
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from typing import Final

from control.client import ConnectionLost, look_up
from control.printing import one_line
from control.program import print_lines, run
from control.protocol import AnyAnswer, Chunk, MailRow, ProtocolError, ShowMail, read_mail
from spool.layout import nearest_layout

_USAGE: Final = "usage: mailq [-j] [--root directory]"
_HEAD: Final = "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------"
#: How far Postfix moves a recipient to the right.
_INDENT: Final = " " * 41
_EMPTY: Final = "Mail queue is empty"
#: Which of a message's envelopes names its queue, most telling first.
_QUEUES: Final = {"inflight": "active", "damaged": "corrupt", "held": "hold", "ready": "deferred"}


def main() -> int:
    """``mailq``."""
    return run("mailq", _mailq)


def _mailq(arguments: Sequence[str]) -> int:
    try:
        options, operands = getopt.gnu_getopt(list(arguments), "j", ["root="])
    except getopt.GetoptError as error:
        print(f"mailq: {error.msg}", _USAGE, sep="\n", file=sys.stderr)
        return os.EX_USAGE
    if operands:
        print(_USAGE, file=sys.stderr)
        return os.EX_USAGE
    given = dict(options)
    rows = mail_rows(look_up(nearest_layout(given.get("--root", "")), ShowMail()).rows)
    print_lines(objects(rows) if "-j" in given else listing(rows))
    return os.EX_OK


def mail_rows(answers: Iterable[AnyAnswer]) -> Iterator[MailRow]:
    """The rows in an answer to `ShowMail`; raises `ConnectionLost` when they are none."""
    rest = b""
    for answer in answers:
        assert isinstance(answer, Chunk)
        *lines, rest = (rest + answer.data).split(b"\n")
        for line in lines:
            try:
                yield from read_mail(line)
            except ProtocolError as error:
                raise ConnectionLost(str(error)) from error


def listing(rows: Iterable[MailRow]) -> Iterator[str]:
    """The lines of ``mailq`` for rows that come message by message."""
    messages = octets = 0
    for message in _by_message(rows):
        if not messages:
            yield _HEAD
        messages += 1
        octets += message[0].size
        yield from _entry(message)
        yield ""
    yield f"-- {_kilobytes(octets)} Kbytes in {messages} Request{'s'[: messages != 1]}." if messages else _EMPTY


def objects(rows: Iterable[MailRow]) -> Iterator[str]:
    """The lines of ``mailq -j``: one JSON object a message."""
    for message in _by_message(rows):
        first = message[0]
        recipients = []
        for row in message:
            recipient = {"address": row.destination}
            if row.error:
                recipient["delay_reason"] = row.error
            recipients.append(recipient)
        yield json.dumps(
            {
                "queue_name": _queue(message),
                "queue_id": first.message,
                "arrival_time": first.arrived,
                "message_size": first.size,
                "forced_expire": False,
                "sender": _sender(first),
                "recipients": recipients,
            }
        )


def _by_message(rows: Iterable[MailRow]) -> Iterator[list[MailRow]]:
    return (list(group) for _, group in groupby(rows, key=attrgetter("message")))


def _entry(message: list[MailRow]) -> Iterator[str]:
    first = message[0]
    mark = {"active": "*", "hold": "!", "corrupt": "#"}.get(_queue(message), " ")
    minute, second = divmod(first.arrived, 60)
    yield f"{first.message:<11}{mark}{first.size:8} {_minute(minute)}:{second:02}  {one_line(_sender(first))}"
    reason = ""
    for row in message:
        if row.error and row.error != reason:
            reason = row.error
            yield f"({one_line(reason)})"
        yield _INDENT + one_line(row.destination)


@lru_cache(1024)
def _minute(number: int) -> str:
    """A minute since 1970 in local time: messages that follow one another often share it."""
    return time.strftime("%a %b %e %H:%M", time.localtime(number * 60))


def _queue(message: list[MailRow]) -> str:
    if len(message) == 1:
        return _QUEUES[message[0].state]
    states = {row.state for row in message}
    return next(queue for state, queue in _QUEUES.items() if state in states)


def _sender(row: MailRow) -> str:
    return row.sender or "MAILER-DAEMON"


def _kilobytes(octets: int) -> int:
    return (octets + 1023) // 1024
