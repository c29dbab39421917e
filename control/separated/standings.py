"""What the supervisor knows of the walls of its processes, and the way to the log daemon that some of them leave closed.

A process tells which walls it has raised before it hears anything; what it tells later is not believed, since a stranger may
have taken it over. One whose log daemon was started anew asks for a new socket to it, because it may connect nowhere.

Guarantees: what is shown of a process is made of two numbers from it, and words from here.

Failure: without a log daemon no socket comes, and the process asks again.
"""

from __future__ import annotations

from control.journal import syslog_socket
from control.separated.accounts import Seat
from control.separated.bonds import LOG_SOCKET, SHOW_WALLS, STANDS, Stands
from control.walls.landlock import Fence
from control.walls.raising import Standing
from spool.channel import Descriptors, Offer, Parcel


class Standings:
    """The walls of each seat's present process."""

    def __init__(self) -> None:
        self._standings: dict[Seat, Standing] = {}

    def offers(self, seat: Seat) -> list[Offer]:
        """For a new process there."""
        self._standings.pop(seat, None)

        async def hear(told: Stands, _: Descriptors) -> None:
            standing = Standing(seat.name, Fence(told.landlock), told.refused)
            self._standings.setdefault(seat, standing)

        return [Offer(STANDS, hear), Offer(LOG_SOCKET, _give_log_socket), Offer(SHOW_WALLS, self._show)]

    async def _show(self, _: None, __: Descriptors) -> list[str]:
        return [one.describe() for one in self._standings.values()]


async def _give_log_socket(_: None, __: Descriptors) -> Parcel[None] | None:
    try:
        connected = syslog_socket()
    except OSError:
        return None
    return Parcel(None, [connected.detach()], is_given=True)
