"""An event loop that lives as long as a fuzzer does, and sees what went wrong in it: tasks that stay behind, exceptions that
nobody caught, log records that tell of one or are more than one line."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from control.journal import LineFormatter
from tests.fuzz.target import Finding, require

#: Seconds after which something that should have ended is stuck; it takes milliseconds, on a machine under load too.
PATIENCE: Final = 10.0
#: Turns of the loop in which tasks that were cancelled, and transports that were closed, come to their end.
TURNS: Final = 50
#: Descriptors that are opened once, when they are needed first.
_SLACK: Final = 8

_UNFIT: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class _Ear(logging.Handler):
    """Hears every record; ``heard`` are those that should not have been written."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(LineFormatter())
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if record.exc_info:
            self.heard.append(f"an exception in the log: {line}")
        elif _UNFIT.search(line):
            self.heard.append(f"not one line of the log: {line!r}")


class Arena:
    """See the module."""

    def __init__(self) -> None:
        self._ear = _Ear()
        root = logging.getLogger()
        self._level = root.level
        root.setLevel(logging.INFO)
        root.addHandler(self._ear)
        self._loop = asyncio.SelectorEventLoop()
        self._loop.set_exception_handler(self._noted)
        self._residents: set[asyncio.Task[Any]] = set()
        self.run(lambda: asyncio.sleep(0))
        self._descriptors = _descriptors()

    def settle(self) -> None:
        """What runs and is open now may stay."""
        self._residents = asyncio.all_tasks(self._loop)
        self._descriptors = _descriptors()

    def run(self, begin: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run this to its end. Raises `Finding` when it has none, or when something went wrong in it unseen."""
        try:
            self._loop.run_until_complete(self._watched(begin))
        except TimeoutError:
            raise Finding("stuck") from None
        finally:
            heard = self._ear.heard[:]
            self._ear.heard.clear()
        require(not heard, "\n".join(heard))

    async def _watched(self, begin: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async with asyncio.timeout(PATIENCE):
            await begin()
        for _ in range(TURNS):
            left = asyncio.all_tasks() - {asyncio.current_task()} - self._residents
            if not left:
                break
            await asyncio.sleep(0)
        require(not left, f"left behind: {left}")

    def close(self, end: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        """Raises `Finding` when descriptors were lost; ``end`` lets go of what was settled."""
        self.run(_moment)
        after = _descriptors()
        if end is not None:
            self._loop.run_until_complete(end())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()
        root = logging.getLogger()
        root.removeHandler(self._ear)
        root.setLevel(self._level)
        require(after <= self._descriptors + _SLACK, f"{after - self._descriptors} descriptors were lost")

    def _noted(self, _: object, context: dict[str, Any]) -> None:
        self._ear.heard.append(f"nobody caught this: {context.get('message')}: {context.get('exception')!r}")


async def _moment() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def resident_kib() -> int:
    """Memory that this process has, in KiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
