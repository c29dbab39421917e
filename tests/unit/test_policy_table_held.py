"""Tables in processes that may not read their files."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import pytest

from policy.errors import TableUnavailable
from policy.tables.database import DbTable, write_database
from policy.tables.file import FileTable
from policy.tables.held import HeldTable, portable
from policy.tables.secret import secret_of
from policy.tables.service import SECRETS
from policy.tables.sourced import SourcedTable
from policy.tables.table import Shape, Table


@dataclass
class Memory:
    """A source whose text is the test's."""

    text: bytes
    lifetime: float | None = None
    written: str = "exec:/bin/secret"

    def read(self) -> bytes:
        return self.text


@pytest.fixture
def aliases(tmp_path: Path) -> FileTable:
    (tmp_path / "aliases").write_text("root: ann\n@example.org: bob\n")
    table = FileTable("aliases", str(tmp_path / "aliases"))
    table.load()
    return table


def carried(table: Table, withheld: tuple[str, ...] = ()) -> Table:
    """As it arrives in another process."""
    arrived = pickle.loads(portable(table, withheld))
    assert isinstance(arrived, HeldTable)
    return arrived


def test_a_held_table_answers_as_the_file_did(aliases: FileTable) -> None:
    held = carried(aliases)
    Path(aliases.path).unlink()
    assert (held.lookup("ROOT"), held.lookup("nobody")) == ("ann", None)
    assert list(held.keys()) == ["root", "@example.org"]
    assert (held.name, held.written, held.shape) == (aliases.name, aliases.written, Shape.MAPPING)


def test_a_file_that_is_gone_is_a_table_that_cannot_be_asked(aliases: FileTable) -> None:
    Path(aliases.path).unlink()
    held = carried(aliases)
    assert "No such file" in held.trouble
    with pytest.raises(TableUnavailable, match="No such file"):
        held.lookup("root")


def test_a_withheld_table_is_not_in_the_octets(aliases: FileTable) -> None:
    assert b"ann" not in portable(aliases, ["aliases"])
    with pytest.raises(TableUnavailable, match="table aliases is withheld"):
        carried(aliases, ("aliases",)).lookup("root")


def test_a_lone_secret_is_one_for_every_label_there_too() -> None:
    table = SourcedTable("secrets", Memory(b"ann:geheim\n"))
    table.load()
    held = carried(table.serving(Shape.EITHER, SECRETS))
    found = secret_of(held, "provider")
    assert found is not None
    assert found.password == "geheim"


def test_one_table_in_several_places_stays_one(aliases: FileTable) -> None:
    first, second = pickle.loads(portable([aliases, aliases]))
    assert first is second


def test_databases_are_opened_where_they_are_asked(tmp_path: Path) -> None:
    write_database(str(tmp_path / "vusers.db"), Shape.MAPPING, [("ann@example.org", "ann")])
    table = DbTable("vusers", str(tmp_path / "vusers.db"))
    table.load()
    assert table.lookup("ann@example.org") == "ann"
    assert pickle.loads(portable(table)).lookup("ann@example.org") == "ann"
