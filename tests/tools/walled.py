"""A forked child behind walls, and what came of something that it tried there."""

from __future__ import annotations

import os
import pickle
import pwd
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from control.walls.presets import Wall
from control.walls.raising import raise_walls


@dataclass(frozen=True, slots=True)
class Somebody:
    name: str
    uid: int
    gid: int


def somebody(name: str) -> Somebody:
    found = pwd.getpwnam(name)
    return Somebody(name, found.pw_uid, found.pw_gid)


#: A user whom every Debian has, and who owns nothing.
GAMES = somebody("games") if os.geteuid() == 0 else None


class Killed(Exception):
    """The child was ended by a signal."""


def in_child(act: Callable[[], object]) -> Any:
    """What ``act`` returned in a forked child; raises what it raised there, or `Killed`."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            result = (True, act())
        except BaseException as error:
            result = (False, error)
        try:
            octets = pickle.dumps(result)
        except BaseException as error:
            octets = pickle.dumps((False, AssertionError(f"{error!r}: {result!r}")))
        with open(write, "wb") as end:
            end.write(octets)
        os._exit(0)
    os.close(write)
    with open(read, "rb") as end:
        octets = end.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status < 0:
        raise Killed(-status)
    went_well, result = pickle.loads(octets)
    if not went_well:
        raise result
    return result


def behind(wall: Wall, act: Callable[[], object], person: Somebody | None = GAMES) -> Any:
    """What ``act`` came to behind the wall."""

    def walled() -> object:
        raise_walls(wall, person)
        return act()

    return in_child(walled)
