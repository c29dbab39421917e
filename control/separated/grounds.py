"""The wall of each role, and what of the disk a configuration has to leave open behind it.

Walls are raised once and do not come down, so what a later configuration needs beyond them takes a restart of the daemon.

Guarantees: beside a role's own wall only the folders of databases are readable that tables name; the rights of the files in
them hold as ever.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from control.separated.accounts import Role
from control.walls.presets import Wall, delivery_wall, helper_wall, ingress_wall, queue_wall
from policy.config import Config
from policy.tables.database import DbTable
from policy.tables.sqlite import SqliteTable
from policy.tables.table import Table
from spool.layout import Layout


@dataclass(frozen=True, slots=True)
class Grounds:
    """What the roles have of the disk."""

    spool_dir: str
    #: Folders of the databases that tables are.
    databases: tuple[str, ...]

    def refusals(self, config: Config) -> list[str]:
        """What this configuration would have read that is behind the walls; a sentence each."""
        return [
            f"table {name}: the running processes cannot read the folder {folder}, which was in no table when they were "
            "started: restart smtpd"
            for name, folder in _databases(config)
            if folder not in self.databases
        ]


def grounds_of(places: Layout, config: Config) -> Grounds:
    """Those of a daemon that starts with this configuration."""
    return Grounds(places.spool_dir, tuple(sorted({folder for _, folder in _databases(config)})))


def wall_of(role: Role, grounds: Grounds) -> Wall:
    """What keeps that role in."""
    match role:
        case Role.QUEUE:
            wall = queue_wall(grounds.spool_dir)
        case Role.INGRESS:
            wall = ingress_wall()
        case Role.HELPER:
            return helper_wall()
        case Role.DELIVERY:
            wall = delivery_wall()
    return wall.with_files(grounds.databases)


def _databases(config: Config) -> Iterator[tuple[str, str]]:
    for name, table in config.tables.items():
        path = _path_of(table)
        if path is not None:
            yield name, os.path.dirname(path)


def _path_of(table: Table) -> str | None:
    match table:
        case DbTable():
            return table.path
        case SqliteTable():
            return table.dbpath
        case _:
            return None
