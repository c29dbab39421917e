"""Deposits for tests of local delivery, a desk that notes what is asked of it, and a file system that fails when told to."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from delivery.deposit import Abandoned, Deposit, Method, Refused, ToMaildir, ToMbox, deferred
from spool.bodies import Body, SmallBody
from spool.files import SystemOps
from spool.ids import EnvelopeId
from spool.intent import MboxIntent

MESSAGE: Final = b"Subject: hello\r\n\r\nhello\r\n"
HEADER: Final = b"Return-Path: <ann@example.com>\nDelivered-To: bob@example.org\n"
#: 2023-11-14 22:13:20 UTC, a Tuesday.
DATE: Final = 1_700_000_000.0


def deposit(method: Method, body: bytes | Body = MESSAGE, number: int = 1, *, tried_before: bool = False) -> Deposit:
    return Deposit(
        envelope=EnvelopeId(f"{'0' * 20}.{number}"),
        method=method,
        header=HEADER,
        address="bob@example.org",
        body=SmallBody(body) if isinstance(body, bytes) else body,
        tried_before=tried_before,
    )


def maildir_deposits(path: object, count: int = 1, *, folder: str = "") -> list[Deposit]:
    return [deposit(ToMaildir(str(path), f"1700000000.M{n}.test", folder), number=n) for n in range(1, count + 1)]


def mbox_deposits(path: object, *bodies: bytes) -> list[Deposit]:
    method = ToMbox(str(path), "ann@example.com", DATE)
    return [deposit(method, body, number) for number, body in enumerate(bodies or (MESSAGE,), 1)]


def again(deposits: Sequence[Deposit], intents: Sequence[MboxIntent] = ()) -> list[Deposit]:
    """The same at the next attempt, which knows what the one before intended."""
    earlier = {intent.envelope: intent for intent in intents}
    return [
        replace(
            one,
            tried_before=True,
            method=replace(one.method, earlier=earlier.get(one.envelope))
            if isinstance(one.method, ToMbox)
            else one.method,
        )
        for one in deposits
    ]


class NotingDesk:
    """Waits in earnest, and keeps what it was asked to commit."""

    def __init__(self, refusal: str = "") -> None:
        self.intents: list[MboxIntent] = []
        self.commits = 0
        self.waited = 0.0
        self.refusal = refusal
        self._near, self._far = socket.socketpair()
        self._is_gone = False

    def commit(self, intents: Sequence[MboxIntent]) -> None:
        if self.refusal:
            raise Refused(deferred("4.3.0", self.refusal))
        self.commits += 1
        self.intents.extend(intents)

    def wait(self, seconds: float) -> None:
        if self._is_gone:
            raise Abandoned
        self.waited += seconds
        time.sleep(seconds)

    def fileno(self) -> int:
        return self._near.fileno()

    def go_away(self) -> None:
        self._is_gone = True
        self._far.close()

    def close(self) -> None:
        self._near.close()
        self._far.close()


class FailingOps(SystemOps):
    """The kernel's own, but for one call of one kind, counted from 1, that fails; and a note of every instant reached."""

    def __init__(self, kind: str = "", number: int = 1, error: int = 0) -> None:
        self._kind = kind
        self._left = number
        self._error = error
        self.points: list[str] = []
        self.fsyncs = 0

    def write(self, descriptor: int, data: bytes) -> None:
        if self._fails("write"):
            super().write(descriptor, data[: len(data) // 2])
            raise OSError(self._error, os.strerror(self._error))
        super().write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        self.fsyncs += 1
        if self._fails("fsync"):
            raise OSError(self._error, os.strerror(self._error))
        super().fsync(descriptor)

    def reached(self, point: str) -> None:
        self.points.append(point)

    def _fails(self, kind: str) -> bool:
        if kind != self._kind:
            return False
        self._left -= 1
        return self._left == 0
