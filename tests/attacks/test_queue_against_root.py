"""A queue process that was taken over owns the spool's folder: what it plants there must not turn root against others."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.separated.accounts import Account
from control.separated.premises import hand_over_spool
from ingress.dropdoor import DropFolder, make_drop
from spool.layout import Layout, layout

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")]

QUEUE = Account("_smtpq", 32101, 32101)


@pytest.fixture
def places(tmp_path: Path) -> Layout:
    return layout(str(tmp_path))


@pytest.fixture
def others(tmp_path: Path) -> Iterator[Path]:
    """A file that is nobody's business here."""
    path = tmp_path / "shadow"
    path.write_text("root:x\n")
    yield path
    assert (path.read_text(), path.stat().st_uid) == ("root:x\n", 0)


def spool_of(places: Layout) -> Path:
    """As root kept it before."""
    folder = Path(places.spool_dir)
    (folder / "msg/aa").mkdir(parents=True)
    (folder / "msg/aa/body").write_text("body")
    (folder / "state.db").write_text("rows")
    return folder


def test_the_spool_of_root_is_handed_over_whole(places: Layout) -> None:
    folder = spool_of(places)
    assert hand_over_spool(places, QUEUE) == 6
    assert {path.stat().st_uid for path in (folder, *folder.rglob("*"))} == {QUEUE.uid}
    assert hand_over_spool(places, QUEUE) == 0


@pytest.mark.parametrize("plant", [os.symlink, os.link], ids=["a symbolic link", "another name"])
@pytest.mark.parametrize("name", ["state.db", "msg/aa/body", "lock", "lock.readers"])
def test_what_is_planted_for_root_to_give_away_is_refused(
    places: Layout, others: Path, plant: object, name: str
) -> None:
    folder = spool_of(places)
    hand_over_spool(places, QUEUE)
    # Root was there since, as a start with one process for all is: it looks at everything again.
    (folder / "left by root").touch()
    (folder / name).unlink(missing_ok=True)
    plant(others, folder / name)  # type: ignore[operator]
    with pytest.raises(OSError, match=r"no plain file|Too many levels of symbolic links"):
        hand_over_spool(places, QUEUE)


def test_a_body_that_a_backup_of_root_shares_is_handed_over(places: Layout, tmp_path: Path) -> None:
    body = spool_of(places) / "msg/aa/body"
    os.link(body, tmp_path / "copy")
    hand_over_spool(places, QUEUE)
    assert body.stat().st_uid == QUEUE.uid


def test_a_drop_that_leads_elsewhere_does_not_open_that_place(places: Layout, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    spool_of(places)
    os.symlink(elsewhere, places.drop_dir)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        make_drop(places)
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o700


def test_nothing_is_set_aside_into_a_place_that_a_link_leads_to(places: Layout, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    spool_of(places)
    make_drop(places)
    (Path(places.drop_dir) / "abc").write_text("* * * * * root id\n")
    os.symlink(elsewhere, places.drop_damaged_dir)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        DropFolder.of(places).set_aside("abc")
    assert list(elsewhere.iterdir()) == []


def test_nothing_is_set_aside_into_a_folder_of_somebody_else(places: Layout) -> None:
    spool_of(places)
    make_drop(places)
    (Path(places.drop_dir) / "abc").write_text("nonsense")
    Path(places.drop_damaged_dir).mkdir()
    os.chown(places.drop_damaged_dir, QUEUE.uid, QUEUE.gid)
    with pytest.raises(PermissionError, match="belongs to somebody else"):
        DropFolder.of(places).set_aside("abc")
