"""The parts of the daemon that ``smtpctl pause`` and ``resume`` know."""

from __future__ import annotations

import logging
from typing import Final

from ingress.drop import DropReader
from ingress.listener import Ingress
from scheduler.limits import Traffic
from scheduler.runner import Runner

_log: Final = logging.getLogger(__name__)


class TrafficSwitch:
    """Deliveries of one kind; the scheduler remembers beyond a restart that they are paused."""

    def __init__(self, runner: Runner, traffic: Traffic) -> None:
        self._runner = runner
        self._traffic = traffic

    @property
    def running(self) -> bool:
        """Whether deliveries of this kind are made."""
        return self._traffic.value not in self._runner.snapshot().paused

    async def set_running(self, running: bool) -> bool:
        """Pause them, or let them go on; False when it was so before."""
        return await (self._runner.resume if running else self._runner.pause)(self._traffic)


class IngressSwitch:
    """New mail: while it is paused, clients are told to come again, and what ``sendmail`` leaves in the drop stays there."""

    def __init__(self, ingress: Ingress, drop: DropReader) -> None:
        self._ingress = ingress
        self._drop = drop

    @property
    def running(self) -> bool:
        """Whether mail is taken."""
        return not self._ingress.is_paused

    async def set_running(self, running: bool) -> bool:
        """Take no more mail, or take it again; False when it was so before."""
        if self.running is running:
            return False
        self._ingress.is_paused = self._drop.paused = not running
        _log.info("info: smtp %s", "resumed" if running else "paused")
        return True
