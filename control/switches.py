"""The parts of the daemon that ``smtpctl pause`` and ``resume`` know."""

from __future__ import annotations

from scheduler.limits import Traffic
from scheduler.runner import Runner


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
