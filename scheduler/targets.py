"""What a lane leads to by the present configuration, and which limits that has.

Guarantees: a configuration that was switched is looked at from the next question on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from policy.config import AnyAction, Config, LocalAction
from policy.route import Route, Unroutable, leads_to_command, route_of
from scheduler.limits import Bounds, Traffic, bounds_of, command_bounds, traffic_of
from spool.lane import REPORTS, Lane

#: The route of the lane of reports, which is no action's; also what their history says.
REPORT_ROUTE: Final = "report"
#: Lanes whose targets are remembered: more than can be in hand.
REMEMBERED: Final = 4096


@dataclass(frozen=True, slots=True)
class Target:
    """Where a lane leads. ``route`` is None for reports, which are made in this process."""

    name: str
    route: Route | None
    action: AnyAction | None
    traffic: Traffic
    bounds: Bounds


class Targets:
    """Targets of lanes, remembered as long as the configuration stays."""

    def __init__(self, config: Callable[[], Config]) -> None:
        self._config = config
        self._of: Config | None = None
        self._known: dict[Lane, Target | Unroutable] = {}

    def __call__(self, lane: Lane) -> Target | Unroutable:
        """Where ``lane`` leads, or why nowhere."""
        config = self._config()
        if config is not self._of or len(self._known) >= REMEMBERED:
            self._of = config
            self._known.clear()
        target = self._known.get(lane)
        if target is None:
            target = self._known[lane] = target_of(config, lane)
        return target


def target_of(config: Config, lane: Lane) -> Target | Unroutable:
    """Where ``lane`` leads by ``config``, or why nowhere."""
    if lane == REPORTS:
        return Target(REPORT_ROUTE, None, None, Traffic.REPORTS, bounds_of(None))
    route = route_of(config, lane)
    if isinstance(route, Unroutable):
        return route
    if isinstance(route.action, LocalAction) and not lane.key:
        return Unroutable(f'action "{lane.action}" delivers to users now, but this mail was queued for a relay')
    if isinstance(route.action, LocalAction) and leads_to_command(lane.key):
        bounds = command_bounds(config.limits)
    else:
        bounds = bounds_of(route.action, route.relay, config.limits)
    return Target(route.name, route, route.action, traffic_of(route.action), bounds)
