"""Raise the walls of a process, all at once, before it hears a word from anybody.

Guarantees: when `raise_walls` returns, the process is its user for good, and every wall that the kernel has stands, for all
threads that come later. The first thing that fails ends it: nobody goes on behind half of the walls.

Failure: `WallsBroken`; the process must end. What the kernel does not have is no failure: `Standing` tells it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from control.walls.landlock import Fence, Ruleset
from control.walls.presets import Wall
from control.walls.privileges import Person, forget_privileges
from control.walls.seccomp import fence_calls, refused, rules_of


class WallsBroken(Exception):
    """A wall could not be raised."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Which walls stand."""

    #: The role.
    name: str
    fence: Fence
    #: How many system calls are refused; 0 without seccomp.
    refused: int

    @property
    def is_whole(self) -> bool:
        """Whether the kernel has all that we know to use."""
        return not self.fence.gaps and self.refused > 0

    def describe(self) -> str:
        """One line for the log and for ``smtpctl show status``."""
        landlock = f"Landlock {self.fence.version}" if self.fence.version else "no Landlock (the kernel has none)"
        if self.fence.version and self.fence.gaps:
            landlock += f" (the kernel does not hold back {' and '.join(self.fence.gaps)})"
        calls = f"{self.refused} system calls refused" if self.refused else "no seccomp (the kernel has none)"
        return f"{self.name}: no privileges, {landlock}, {calls}"


def raise_walls(wall: Wall, person: Person | None) -> Standing:
    """Become that user and stay behind this wall, for good; without a user, as whoever this is. Raises `WallsBroken`."""
    try:
        if len(os.listdir("/proc/self/task")) != 1:
            raise WallsBroken(f"{wall.name}: a wall holds for one thread, and this process has more already")
        # Root may look at folders that the user cannot look into.
        ruleset = Ruleset(wall.reach)
        forget_privileges(person)
        fence = ruleset.enforce()
        is_filtered = fence_calls(wall.ban)
    except OSError as error:
        raise WallsBroken(f"{wall.name}: {error}") from error
    return Standing(wall.name, fence, refused(rules_of(wall.ban, os.getpid())) if is_filtered else 0)
