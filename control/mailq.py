"""``mailq`` as Postfix prints it, because check_mailq, dashboards and scripts read that; ``mailq -j`` as ``postqueue -j``.

Guarantees: holds one message at a time, however long the queue is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter
from typing import Final

from control.printing import one_line
from control.protocol import EnvelopeRow

_HEAD: Final = "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------"
#: How far Postfix moves a recipient to the right.
_INDENT: Final = " " * 41
_EMPTY: Final = "Mail queue is empty"
#: Which of a message's envelopes names its queue, most telling first.
_QUEUES: Final = {"inflight": "active", "damaged": "corrupt", "held": "hold", "ready": "deferred"}


def listing(rows: Iterable[EnvelopeRow]) -> Iterator[str]:
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


def objects(rows: Iterable[EnvelopeRow]) -> Iterator[str]:
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
                "arrival_time": int(first.arrived),
                "message_size": first.size,
                "forced_expire": False,
                "sender": _sender(first),
                "recipients": recipients,
            }
        )


def _by_message(rows: Iterable[EnvelopeRow]) -> Iterator[list[EnvelopeRow]]:
    return (list(group) for _, group in groupby(rows, key=attrgetter("message")))


def _entry(message: list[EnvelopeRow]) -> Iterator[str]:
    first = message[0]
    mark = {"active": "*", "hold": "!", "corrupt": "#"}.get(_queue(message), " ")
    arrival = time.strftime("%a %b %e %H:%M:%S", time.localtime(first.arrived))
    yield f"{first.message:<11}{mark}{first.size:8} {arrival:<20} {one_line(_sender(first))}"
    reason = ""
    for row in message:
        if row.error and row.error != reason:
            reason = row.error
            yield f"({one_line(reason)})"
        yield _INDENT + one_line(row.destination)


def _queue(message: list[EnvelopeRow]) -> str:
    states = {row.state for row in message}
    return next(queue for state, queue in _QUEUES.items() if state in states)


def _sender(row: EnvelopeRow) -> str:
    return row.sender if row.sender and row.kind == "mail" else "MAILER-DAEMON"


def _kilobytes(octets: int) -> int:
    return (octets + 1023) // 1024
