"""Delivery into a Maildir.

Each message is written to ``tmp``, fsynced, and linked into ``new`` under a name that is the same at every attempt; then
``new`` is fsynced once for all messages of a batch.

Guarantees: a reader sees a whole message or none. A repetition finds the copy of an earlier attempt in ``new``, or in
``cur`` where a reader has moved it, and makes no second one. A lock on ``tmp`` keeps a repetition out while an agent of an
earlier start still works (not on NFS, which locks no directories). Neither the Maildir nor a directory in it is followed if
it is a symbolic link, and all of it must belong to the user we are.

Failure: `Deferred` for everything about the mailbox; nothing of the message is in ``new`` or ``cur`` then, unless the
fsync of ``new`` failed: the repetition finds it there. `Damaged` when the body is; nothing of it is left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from delivery.content import unix_lines
from delivery.deposit import JUNK, Deposit, Desk, Refused, Result, ToMaildir, deferred, delivered
from delivery.trouble import mailbox_trouble, trouble
from spool.errors import BodyDamaged
from spool.files import Ops
from spool.outcome import Damaged, Stage

#: Seconds that a repetition waits for the agent of an earlier start to end: as long as it may take to write a batch.
PATIENCE: Final = 20.0
#: Seconds between two looks.
_LOOK: Final = 0.1
#: Messages that are open in ``tmp`` at a time: few descriptors, yet the fsync of ``new`` is shared by many.
MAX_OPEN: Final = 64
#: Octets collected before they are written.
_WRITE: Final = 256 * 1024

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class _Staged:
    """A message that is whole in ``tmp``."""

    place: int
    deposit: Deposit
    name: str
    descriptor: int


def deliver(deposits: Sequence[Deposit], ops: Ops, desk: Desk, patience: float = PATIENCE) -> list[Result]:
    """Put messages for one Maildir (the same path and folder) into it; one result for each."""
    method = _method(deposits[0])
    try:
        with contextlib.ExitStack() as stack:
            box = stack.enter_context(_opened(method, ops))
            box.lock(any(deposit.tried_before for deposit in deposits), desk, patience)
            return [result for some in _runs(deposits) for result in box.deliver(some)]
    except Refused as refused:
        return [refused.outcome] * len(deposits)
    except OSError as error:
        return [mailbox_trouble(error, method.path)] * len(deposits)


def _runs(deposits: Sequence[Deposit]) -> Iterator[Sequence[Deposit]]:
    """Runs of at most `MAX_OPEN`."""
    return (deposits[start : start + MAX_OPEN] for start in range(0, len(deposits), MAX_OPEN))


def is_copy(found: str, name: str) -> bool:
    """Whether the file ``found`` in ``cur`` or ``tmp`` is our ``name`` with what a reader or an attempt has added to it."""
    return found == name or (found.startswith(name) and found[len(name)] in ":;!,.")


class _Maildir:
    """Descriptors of an open Maildir's directories."""

    def __init__(self, tmp: int, new: int, cur: int, ops: Ops) -> None:
        self._tmp = tmp
        self._new = new
        self._cur = cur
        self._ops = ops
        #: Directories whose names must be durable before anybody is told.
        self._unsettled = {new}
        #: What ``cur`` and ``tmp`` held when a repetition looked first, and only then.
        self._read: list[str] | None = None
        self._left: list[str] | None = None
        #: Whether nobody else of ours is at work here.
        self._is_alone = False

    def lock(self, alone: bool, desk: Desk, patience: float) -> None:
        """Fresh messages may be written side by side; a repetition wants nobody else at work."""
        kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        waited = 0.0
        while True:
            try:
                fcntl.flock(self._tmp, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if waited >= patience:
                    raise Refused(deferred("4.2.0", "another delivery is still at work in this Maildir")) from None
                desk.wait(_LOOK)
                waited += _LOOK
            except OSError:
                return
            else:
                self._is_alone = alone
                return

    def deliver(self, deposits: Sequence[Deposit]) -> list[Result]:
        results: list[Result | None] = [None] * len(deposits)
        staged: list[_Staged] = []
        arrived: list[int] = []
        try:
            for place, deposit in enumerate(deposits):
                if self._has(deposit):
                    arrived.append(place)
                else:
                    self._stage(place, deposit, staged, results)
            for one in staged:
                self._publish(one, arrived, results)
        finally:
            self._clear(staged)
        outcome = self._settle()
        for place in arrived:
            results[place] = outcome
        return [result for result in results if result is not None]

    def _has(self, deposit: Deposit) -> bool:
        name = _method(deposit).name
        if deposit.tried_before and self._was_moved(name):
            self._unsettled.add(self._cur)
            return True
        return self._exists(name)

    def _was_moved(self, name: str) -> bool:
        """Whether a reader has moved our copy to ``cur``. What dead attempts left in ``tmp`` is removed."""
        if self._left is None or self._read is None:
            self._left, self._read = os.listdir(self._tmp), os.listdir(self._cur)
        for left in [found for found in self._left if is_copy(found, name) or self._is_dead(found, name)]:
            self._left.remove(left)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(left, dir_fd=self._tmp)
        return any(is_copy(found, name) for found in self._read)

    def _is_dead(self, found: str, name: str) -> bool:
        """Whether it is from this spool: a name in ``tmp`` that could not be removed is nobody's when we are alone."""
        instance = name.rpartition(".")[2]
        return self._is_alone and found.rpartition(".")[0].endswith(f".{instance}")

    def _exists(self, name: str) -> bool:
        try:
            os.stat(name, dir_fd=self._new, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def _stage(self, place: int, deposit: Deposit, staged: list[_Staged], results: list[Result | None]) -> None:
        name = f"{_method(deposit).name}.{os.urandom(4).hex()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(name, flags, 0o600, dir_fd=self._tmp)
        except OSError as error:
            results[place] = trouble(error)
            return
        staged.append(_Staged(place, deposit, name, descriptor))
        self._ops.reached("maildir.created")
        try:
            self._write(descriptor, deposit)
        except BodyDamaged as damage:
            results[place] = Damaged(deposit.envelope, str(damage))
        except OSError as error:
            results[place] = trouble(error)
        self._ops.reached("maildir.written")

    def _write(self, descriptor: int, deposit: Deposit) -> None:
        waiting: list[bytes] = []
        octets = 0
        for piece in chain((deposit.header,), unix_lines(deposit.body.chunks())):
            waiting.append(piece)
            octets += len(piece)
            if octets >= _WRITE:
                self._ops.write(descriptor, b"".join(waiting))
                waiting, octets = [], 0
        self._ops.write(descriptor, b"".join(waiting))

    def _publish(self, one: _Staged, arrived: list[int], results: list[Result | None]) -> None:
        if results[one.place] is not None:
            return
        try:
            self._ops.fsync(one.descriptor)
            self._ops.reached("maildir.fsynced")
            # A link, because rename(2) would replace what another agent of ours put there meanwhile.
            with contextlib.suppress(FileExistsError):
                name = _method(one.deposit).name
                os.link(one.name, name, src_dir_fd=self._tmp, dst_dir_fd=self._new, follow_symlinks=False)
            self._ops.reached("maildir.linked")
        except OSError as error:
            results[one.place] = trouble(error)
        else:
            arrived.append(one.place)

    def _clear(self, staged: Sequence[_Staged]) -> None:
        for one in staged:
            os.close(one.descriptor)
            with contextlib.suppress(OSError):
                os.unlink(one.name, dir_fd=self._tmp)

    def _settle(self) -> Result:
        """Make the names durable; those found from an earlier attempt may not be yet."""
        self._ops.reached("maildir.unlinked")
        try:
            for directory in self._unsettled:
                self._ops.fsync(directory)
        except OSError as error:
            return trouble(error)
        self._ops.reached("maildir.settled")
        return delivered("Delivered to Maildir")


def _method(deposit: Deposit) -> ToMaildir:
    assert isinstance(deposit.method, ToMaildir)
    return deposit.method


@contextlib.contextmanager
def _opened(method: ToMaildir, ops: Ops) -> Iterator[_Maildir]:
    """The Maildir, or its folder if there is one; made when missing."""
    with contextlib.ExitStack() as stack:

        def enter(descriptor: int) -> int:
            stack.callback(os.close, descriptor)
            return descriptor

        _make_path(method.path, ops)
        root = enter(_open_own(method.path))
        if method.sorts_junk:
            _make_junk(root, ops)
        folder = f".{method.folder}"
        if method.folder and _is_directory(folder, root):
            root = enter(_open_own(folder, root))
        tmp, new, cur = (enter(_open_made(name, root, ops)) for name in ("tmp", "new", "cur"))
        yield _Maildir(tmp, new, cur, ops)


def _make_junk(root: int, ops: Ops) -> None:
    """The folder for junk, whole, so that readers show it before the first junk comes; if that name is taken, it stays."""
    try:
        os.mkdir(f".{JUNK}", 0o700, dir_fd=root)
    except FileExistsError:
        return
    ops.fsync(root)
    folder = _open_own(f".{JUNK}", root)
    try:
        for name in ("tmp", "new", "cur"):
            os.close(_open_made(name, folder, ops))
    finally:
        os.close(folder)


def _make_path(path: str, ops: Ops) -> None:
    """Make the directory and those above it, durably; the file system says whether we may."""
    if os.path.isdir(path):
        return
    above = os.path.dirname(path)
    _make_path(above, ops)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    ops.fsync_directory(above)


def _open_made(name: str, root: int, ops: Ops) -> int:
    try:
        return _open_own(name, root)
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=root)
        ops.fsync(root)
        return _open_own(name, root)


def _open_own(path: str, root: int | None = None) -> int:
    """A directory that is no link and is ours."""
    try:
        descriptor = os.open(path, _DIRECTORY, dir_fd=root)
    except NotADirectoryError:
        raise Refused(deferred("4.2.0", f"{path} is not a directory, or is a symbolic link", Stage.CONNECT)) from None
    if os.fstat(descriptor).st_uid != os.geteuid():
        os.close(descriptor)
        raise Refused(deferred("4.2.0", f"{path} belongs to another user", Stage.CONNECT))
    return descriptor


def _is_directory(name: str, root: int) -> bool:
    try:
        descriptor = os.open(name, _DIRECTORY, dir_fd=root)
    except OSError:
        return False
    os.close(descriptor)
    return True
