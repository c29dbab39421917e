"""Delivery into an mbox: one lock, one intent, one append and one fsync for all messages of a batch.

A message is ``From SENDER DATE`` (UTC, asctime(3)), its lines quoted by the mboxrd rule (see `delivery.content`), and an
empty line. Before the first octet is appended, the spool keeps where everything will go and what it is.

Guarantees: a repetition compares the mailbox with the intent of the attempt before. What is there whole is not appended
again; a torn end of our own is undone first; what a reader has moved by removing others is searched for in the whole
mailbox. After an error the mailbox has the length that it had. The octets of others are never written to. The mailbox is a
regular file with one link that belongs to the user we are, opened without following a link.

Failure: `Deferred` for everything about the mailbox. `Damaged` for a message whose body is; the others of the batch go on.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final

from delivery.content import rd_quoted, unix_lines
from delivery.deposit import Deposit, Desk, Refused, Result, ToMbox, deferred, delivered
from delivery.locks import Busy, MailboxLock
from delivery.mbox_search import is_copy, place_of, traces
from delivery.trouble import mailbox_trouble, trouble
from spool.errors import BodyDamaged
from spool.files import Ops
from spool.intent import MboxIntent
from spool.outcome import Damaged, Stage

#: Seconds that we wait for other programs' locks; then the mail waits in the queue and not in a process.
PATIENCE: Final = 20.0
#: Octets collected before they are written, and read at a time.
_CHUNK: Final = 256 * 1024
_CHECKSUM_SIZE: Final = 16

#: Octets of a torn end that become empty lines at a time: no write of a page is seen in part.
_PAGE: Final = 4096
#: Octets of a separator that are looked at.
_SEPARATOR_OCTETS: Final = 1024
#: How another program begins a message, at the end of a line of ours that was never finished.
_SEPARATOR: Final = re.compile(rb"(?=\n{0,2}From \S+ +\S.*\d:\d\d)")

#: Read too: for what an earlier attempt left. Not blocking: for a pipe in place of the mailbox.
_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class _Planned:
    """A message that will be appended."""

    place: int
    deposit: Deposit
    length: int
    checksum: bytes


def deliver(deposits: Sequence[Deposit], ops: Ops, desk: Desk, patience: float = PATIENCE) -> list[Result]:
    """Append messages for one mailbox (the same path) to it; one result for each."""
    path = _method(deposits[0]).path
    try:
        with _opened(path, ops) as descriptor, MailboxLock(descriptor, path, desk, patience):
            # A reader may have put a new file in its place while we waited.
            _check(descriptor, path)
            ops.reached("mbox.locked")
            return _Mailbox(descriptor, path, ops).deliver(deposits, desk)
    except Refused as refused:
        return [refused.outcome] * len(deposits)
    except Busy as busy:
        return [deferred("4.2.0", str(busy), Stage.CONNECT)] * len(deposits)
    except OSError as error:
        return [mailbox_trouble(error, path)] * len(deposits)


class _Mailbox:
    """An open and locked mailbox."""

    def __init__(self, descriptor: int, path: str, ops: Ops) -> None:
        self._descriptor = descriptor
        self._path = path
        self._ops = ops
        found = os.fstat(descriptor)
        self._identity = (found.st_dev, found.st_ino)

    def deliver(self, deposits: Sequence[Deposit], desk: Desk) -> list[Result]:
        results: list[Result | None] = [None] * len(deposits)
        arrived = self._arrived(deposits)
        planned = self._plan(deposits, arrived, results)
        if planned or arrived:
            self._end_message()
        start = self._size()
        if planned:
            desk.commit(self._intents(planned, start))
            self._ops.reached("mbox.intended")
            self._append(planned, start)
            self._ops.reached("mbox.appended")
        # What an earlier attempt left may be in the page cache only.
        self._sync(planned, start)
        self._ops.reached("mbox.fsynced")
        done = delivered("Delivered to mbox")
        return [done if result is None else result for result in results]

    def _size(self) -> int:
        return os.fstat(self._descriptor).st_size

    # -- what an earlier attempt left ---------------------------------------------------------------------------------

    def _arrived(self, deposits: Sequence[Deposit]) -> set[int]:
        """Places of the deposits whose message is here already. Undoes what is torn of ours, the last one first."""
        earlier = [
            (intent.offset, place, intent)
            for place, deposit in enumerate(deposits)
            if (intent := _method(deposit).earlier) is not None
        ]
        arrived = set()
        #: Where those stand that are accounted for.
        taken = set()
        missing = []
        for _, place, intent in sorted(earlier, key=lambda item: -item[0]):
            is_same_file = (intent.device, intent.inode) == self._identity
            if is_same_file and self._holds(intent):
                arrived.add(place)
                taken.add(intent.offset)
                continue
            if is_same_file:
                self._undo(intent.offset, deposits[place])
            missing.append(place)
        return arrived | self._find([(place, deposits[place]) for place in missing], taken)

    def _holds(self, intent: MboxIntent) -> bool:
        if self._size() < intent.offset + intent.length:
            return False
        running = hashlib.blake2b(digest_size=_CHECKSUM_SIZE)
        for piece in self._read(intent.offset, intent.length):
            running.update(piece)
        return running.digest() == intent.checksum

    def _find(self, missing: Sequence[tuple[int, Deposit]], taken: set[int]) -> set[int]:
        """Places of those that are elsewhere: a reader that removed others has moved them, in this file or into a new one.

        Only a message that has its id in a Received field can be known from others. Torn ends of ours on the way are undone
        too, if they are long enough to have that id in them.
        """
        wanted: dict[bytes, list[tuple[int, Deposit]]] = {}
        for place, deposit in missing:
            wanted.setdefault(_trace(deposit), []).append((place, deposit))
        arrived: set[int] = set()
        if not wanted:
            return arrived
        for name, offset in traces(self._descriptor, wanted):
            for place, deposit in wanted[name]:
                found = place_of(self._descriptor, deposit.header, offset)
                if place in arrived or found is None or found.separator in taken:
                    continue
                # A damaged body cannot be compared; whoever reads it next says so.
                with contextlib.suppress(BodyDamaged):
                    if is_copy(self._descriptor, found, islice(_record(deposit), 1, None)):
                        arrived.add(place)
                        taken.add(found.separator)
                    else:
                        self._undo(found.separator, deposit, offset + len(name) - found.separator)
        return arrived

    def _undo(self, offset: int, deposit: Deposit, least: int = 1) -> None:
        """Take away a part of ours that begins there, of so many octets at least."""
        common = self._common(offset, deposit)
        if common >= least and offset + common == self._size():
            os.ftruncate(self._descriptor, offset)
            self._ops.reached("mbox.cut")
        elif (torn := self._followed(offset, common)) >= least:
            self._blank(offset, torn, len(next(_record(deposit))))
            self._ops.reached("mbox.blanked")

    def _common(self, offset: int, deposit: Deposit) -> int:
        """Octets from that offset on that are a part of ours, as far as the file and ours go.

        A file system that lost its power may give back NULs for octets that were never written; where another attempt began
        to make empty lines of them, there are line ends.
        """
        if os.pread(self._descriptor, 1, offset) not in (b"F", b"\0"):
            return 0
        start = offset
        with contextlib.suppress(BodyDamaged):
            for piece in _record(deposit):
                found = os.pread(self._descriptor, len(piece), offset)
                same = _common_length(found, piece)
                offset += same
                if same < len(piece):
                    break
        return offset - start

    def _followed(self, offset: int, common: int) -> int:
        """Octets of ours before the separator of a message that another delivery put behind our torn end; 0: none did."""
        # Ours may go on like theirs by chance: then their separator begins a little before what is common ends.
        start = max(0, common - _SEPARATOR_OCTETS)
        found = os.pread(self._descriptor, 2 * _SEPARATOR_OCTETS, offset + start)
        places = (start + match.start() for match in _SEPARATOR.finditer(found))
        return max((place for place in places if place <= common), default=0)

    def _blank(self, offset: int, length: int, separator: int) -> None:
        """Make empty lines of a torn end that others follow: their octets stay where they are.

        At the beginning of the file the separator stays, because a mailbox begins with one. The first octets come last, so
        that it is still recognised if this is interrupted. Not through our own descriptor, which can only append.
        """
        kept = separator if offset == 0 and length > separator else 0
        descriptor = os.open(f"/proc/self/fd/{self._descriptor}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            for start in reversed(range(kept, length, _PAGE)):
                os.lseek(descriptor, offset + start, os.SEEK_SET)
                self._ops.write(descriptor, b"\n" * min(_PAGE, length - start))
        finally:
            os.close(descriptor)

    def _read(self, offset: int, length: int) -> Iterator[bytes]:
        end = offset + length
        while offset < end:
            piece = os.pread(self._descriptor, min(_CHUNK, end - offset), offset)
            if not piece:
                return
            offset += len(piece)
            yield piece

    # -- the new ones -------------------------------------------------------------------------------------------------

    def _plan(self, deposits: Sequence[Deposit], arrived: set[int], results: list[Result | None]) -> list[_Planned]:
        planned = []
        for place, deposit in enumerate(deposits):
            if place in arrived:
                continue
            length = 0
            running = hashlib.blake2b(digest_size=_CHECKSUM_SIZE)
            try:
                for piece in _record(deposit):
                    running.update(piece)
                    length += len(piece)
            except BodyDamaged as damage:
                results[place] = Damaged(deposit.envelope, str(damage))
            else:
                planned.append(_Planned(place, deposit, length, running.digest()))
        return planned

    def _end_message(self) -> None:
        """A separator must stand behind an empty line, whatever another program left at the end."""
        size = self._size()
        end = os.pread(self._descriptor, 2, max(0, size - 2))
        missing = 2 - (len(end) - len(end.rstrip(b"\n"))) if size else 0
        if missing:
            try:
                self._ops.write(self._descriptor, b"\n" * missing)
            except OSError:
                os.ftruncate(self._descriptor, size)
                raise

    def _intents(self, planned: Sequence[_Planned], offset: int) -> list[MboxIntent]:
        intents = []
        device, inode = self._identity
        for one in planned:
            intents.append(
                MboxIntent(one.deposit.envelope, self._path, device, inode, offset, one.length, one.checksum)
            )
            offset += one.length
        return intents

    def _append(self, planned: Sequence[_Planned], start: int) -> None:
        try:
            for octets in _gathered(chain.from_iterable(_record(one.deposit) for one in planned)):
                self._ops.write(self._descriptor, octets)
                self._ops.reached("mbox.writing")
        except BodyDamaged as damage:
            self._cut_back(planned, start)
            raise Refused(deferred("4.3.0", f"a body was damaged while it was read: {damage}")) from damage
        except OSError as error:
            self._cut_back(planned, start)
            raise Refused(trouble(error)) from error

    def _sync(self, planned: Sequence[_Planned], start: int) -> None:
        try:
            self._ops.fsync(self._descriptor)
        except OSError as error:
            self._cut_back(planned, start)
            raise Refused(trouble(error)) from error

    def _cut_back(self, planned: Sequence[_Planned], start: int) -> None:
        """Best effort: what cannot be cut now is recognised as a torn end by the repetition."""
        with contextlib.suppress(OSError):
            # More than ours means that somebody writes without a lock: his octets are not for us to cut.
            if self._size() <= start + sum(one.length for one in planned):
                os.ftruncate(self._descriptor, start)


def make_directory(path: str) -> None:
    """Make the directory of the users' mailboxes where the system has none; raises `OSError`."""
    if not os.path.isdir(path):
        os.makedirs(path, 0o755 if os.geteuid() == 0 else 0o700, exist_ok=True)


def make(path: str, uid: int, gid: int) -> None:
    """Make an empty mailbox for that user where there is none; raises `OSError`. For those who may give files away.

    Nothing need be durable yet: the fsync of the first message is that of the file's name too.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    try:
        os.fchown(descriptor, uid, gid)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _opened(path: str, ops: Ops) -> Iterator[int]:
    descriptor = _open(path, ops)
    try:
        _check(descriptor, path)
        yield descriptor
    finally:
        os.close(descriptor)


def _open(path: str, ops: Ops) -> int:
    try:
        return os.open(path, _FLAGS)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise _unfit(path, "is not a regular file") from error
        if error.errno != errno.ENOENT:
            raise
        with contextlib.suppress(FileExistsError):
            made = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
            # Its name is durable with the first message's fsync on the file systems that matter; ask all the same.
            with contextlib.suppress(PermissionError):
                ops.fsync_directory(os.path.dirname(path))
            return made
        return os.open(path, _FLAGS)


def _check(descriptor: int, path: str) -> None:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise _unfit(path, "is not a regular file")
    if found.st_nlink != 1:
        raise _unfit(path, f"has {found.st_nlink} links")
    if found.st_uid != os.geteuid():
        raise _unfit(path, "belongs to another user")
    named = os.stat(path, follow_symlinks=False)
    if (named.st_dev, named.st_ino) != (found.st_dev, found.st_ino):
        raise _unfit(path, "was replaced while we waited for its lock")


def _unfit(path: str, why: str) -> Refused:
    return Refused(deferred("4.2.0", f"{path} {why}", Stage.CONNECT))


def _method(deposit: Deposit) -> ToMbox:
    assert isinstance(deposit.method, ToMbox)
    return deposit.method


def _record(deposit: Deposit) -> Iterator[bytes]:
    """The octets of one message in the mailbox: a function of the deposit alone."""
    method = _method(deposit)
    sender = "-".join(method.sender.split()) or "MAILER-DAEMON"
    yield f"From {sender} {time.asctime(time.gmtime(method.date))}\n".encode("utf-8", "surrogateescape")
    yield deposit.header
    # The empty line belongs to the last piece: no write ends just before it, where only another program's would follow.
    held = b""
    for piece in rd_quoted(unix_lines(deposit.body.chunks())):
        if piece:
            yield held
            held = piece
    yield held + (b"\n" if held.endswith(b"\n") or not held else b"\n\n")


def _trace(deposit: Deposit) -> bytes:
    """The message's id, as its Received field tells it."""
    return deposit.envelope.partition(".")[0].encode()


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same octets in pieces of about `_CHUNK`."""
    waiting: list[bytes] = []
    octets = 0
    for piece in pieces:
        waiting.append(piece)
        octets += len(piece)
        if octets >= _CHUNK:
            yield b"".join(waiting)
            waiting, octets = [], 0
    yield b"".join(waiting)


def _common_length(found: bytes, ours: bytes) -> int:
    """Octets at the beginning of ``found`` that could be ours."""
    if found == ours[: len(found)]:
        return len(found)
    pairs = zip(found, ours, strict=False)
    return next((place for place, (octet, mine) in enumerate(pairs) if octet not in (mine, 0, 10)), len(found))
