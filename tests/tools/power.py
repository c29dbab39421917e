"""What a disk may hold after a power cut, from a record of everything that a process did to a folder.

`record` runs a program under strace and keeps its writes, renames, unlinks and fsyncs, and what it said to standard output
in between. A `Disk` replays a beginning of that; `Disk.after_a_cut` makes a folder as a file system may leave it that keeps
its promise about fsync and nothing else: of what was not fsynced anything may be there, whole, torn or not at all, in any
order; of a directory's names, those that were not fsynced may be there up to any moment.

Files that are mapped (``-shm``) or hold nothing (``lock``, ``reserve``) are left out.
"""

from __future__ import annotations

import enum
import os
import random
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

#: Octets that a disk writes at once.
SECTOR = 512
_CALLS = "openat,write,writev,pwrite64,ftruncate,fallocate,fsync,fdatasync,rename,unlink,mkdir"
_LEFT_OUT = ("-shm", "/lock", "/lock.readers", "/reserve")
_LINE = re.compile(r"^\d+ +(\w+)\((.*)\) += (\d+)(?:<([^>]*)>)?$")
_UNFINISHED = re.compile(r"^(\d+) +(\w+)\((.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$")
_TEXT = re.compile(r'"([^"]*)"')
_FILE = re.compile(r"^\d+<([^>]*)>")
_DELETED = " (deleted)"


@dataclass(frozen=True, slots=True)
class Said:
    """A line of standard output."""

    line: str


@dataclass(frozen=True, slots=True)
class Made:
    """A new file, or a new folder."""

    path: str
    is_folder: bool = False


@dataclass(frozen=True, slots=True)
class Wrote:
    """Octets; at the end of the file without an offset."""

    path: str
    data: bytes
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """The file has this size now."""

    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Synced:
    """fsync or fdatasync, of a file or a folder."""

    path: str


@dataclass(frozen=True, slots=True)
class Renamed:
    """From one name to another."""

    path: str
    target: str


@dataclass(frozen=True, slots=True)
class Unlinked:
    """The name is gone."""

    path: str


Event: TypeAlias = Said | Made | Wrote | Cut | Synced | Renamed | Unlinked


def record(command: Sequence[str], folder: Path, trace: Path, cwd: Path) -> list[Event]:
    """Run ``command`` to its end; what it did below ``folder`` and what it said, in order."""
    strace = ["strace", "-f", "-qq", "-y", "-xx", "-s", "1000000", "-e", f"trace={_CALLS}", "-o", str(trace)]
    subprocess.run([*strace, *command], cwd=cwd, check=False, capture_output=True)
    return list(_events(trace, str(folder)))


def _events(trace: Path, folder: str) -> Iterator[Event]:
    begun: dict[str, str] = {}
    made: set[str] = set()
    with trace.open() as lines:
        for line in lines:
            if unfinished := _UNFINISHED.match(line):
                begun[unfinished[1]] = line.removesuffix(" <unfinished ...>\n")
                continue
            if resumed := _RESUMED.match(line):
                line = begun.pop(resumed[1]) + resumed[3]
            if found := _LINE.match(line.rstrip("\n")):
                yield from _event(found[1], found[2], _plain(found[4] or ""), folder, made)


def _event(call: str, arguments: str, opened: str, folder: str, made: set[str]) -> Iterator[Event]:
    texts = [bytes.fromhex(text.replace("\\x", "")) for text in _TEXT.findall(arguments)]
    file = _FILE.match(arguments)
    path = _plain(file[1]) if file else os.fsdecode(texts[0]) if texts else ""
    if call == "writev" and arguments.startswith("1<"):
        yield from (Said(line) for line in texts[0].decode().splitlines())
        return
    path = opened if call == "openat" else path.removesuffix(_DELETED)
    if not path.startswith(folder) or path.endswith(_LEFT_OUT):
        return
    numbers = arguments.rpartition('"')[2].split(", ")
    match call:
        case "openat" if "O_CREAT" in arguments and path not in made:
            made.add(path)
            yield Made(path)
        case "mkdir":
            yield Made(path, is_folder=True)
        case "write":
            yield Wrote(path, texts[0])
        case "pwrite64":
            yield Wrote(path, texts[0], int(numbers[-1]))
        case "ftruncate":
            yield Cut(path, int(arguments.rpartition(", ")[2]))
        case "fsync" | "fdatasync":
            yield Synced(path)
        case "rename":
            yield Renamed(path, os.fsdecode(texts[1]))
        case "unlink":
            made.discard(path)
            yield Unlinked(path)


def _plain(path: str) -> str:
    return os.fsdecode(bytes.fromhex(path.replace("\\x", ""))) if path.startswith("\\x") else path


@dataclass(slots=True)
class _File:
    """What is on the disk for sure, and what was done since: octets at an offset, or a size."""

    durable: bytearray = field(default_factory=bytearray)
    since: list[Wrote | Cut] = field(default_factory=list)
    size: int = 0

    def after_a_cut(self, chance: Chance) -> bytes:
        content = bytearray(self.durable)
        for change in chance.survivors(self.since):
            _apply(content, change)
        return bytes(content)


class Chance:
    """Which of the things that were not fsynced survive."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        #: Nothing, everything, or some of it.
        self.mood = seed % 4

    def survivors(self, changes: Sequence[Wrote | Cut]) -> Iterator[Wrote | Cut]:
        """Some of these changes, torn perhaps."""
        match self.mood:
            case 0:
                return
            case 1:
                yield from changes
            case _:
                for change in changes:
                    yield from self._torn(change)

    def _torn(self, change: Wrote | Cut) -> Iterator[Wrote | Cut]:
        if self._random.random() < 0.5:
            return
        if isinstance(change, Cut) or change.offset is None or self._random.random() < 0.7:
            yield change
            return
        for start in range(0, len(change.data), SECTOR):
            if self._random.random() < 0.5:
                yield Wrote(change.path, change.data[start : start + SECTOR], change.offset + start)

    def names(self, count: int) -> int:
        """How many of a directory's changes survive."""
        return (0, count)[self.mood] if self.mood < 2 else self._random.randint(0, count)


def _apply(content: bytearray, change: Wrote | Cut) -> None:
    if isinstance(change, Cut):
        del content[change.size :]
        content.extend(bytes(change.size - len(content)))
        return
    assert change.offset is not None
    content.extend(bytes(max(0, change.offset - len(content))))
    content[change.offset : change.offset + len(change.data)] = change.data


class _Gone(enum.Enum):
    """In place of a file: the name leads nowhere."""

    GONE = enum.auto()


#: What a name leads to; None is a folder.
_Place: TypeAlias = _File | None


class Disk:
    """A folder's disk; ``honest`` is whether an fsync does what it says."""

    def __init__(self, folder: Path, *, honest: bool = True) -> None:
        self.said: list[str] = []
        self._folder = str(folder)
        self._honest = honest
        #: By path, as the process sees it and as the disk has it for sure.
        self._names: dict[str, _Place] = {}
        self._durable_names: dict[str, _Place] = {}
        #: Changes of names since their directory was fsynced, each of which happens as a whole.
        self._since: defaultdict[str, list[dict[str, _Place | _Gone]]] = defaultdict(list)

    @classmethod
    def holding(cls, folder: Path) -> Disk:
        """A disk that has for sure what is in the folder now."""
        disk = cls(folder)
        for path in sorted(folder.rglob("*")):
            if not str(path).endswith(_LEFT_OUT):
                content = bytearray(b"" if path.is_dir() else path.read_bytes())
                place = None if path.is_dir() else _File(content, [], len(content))
                disk._names[str(path)] = disk._durable_names[str(path)] = place
        return disk

    def replay(self, event: Event) -> None:
        """One more thing happened."""
        match event:
            case Said(line):
                self.said.append(line)
            case Made(path, is_folder):
                if path not in self._names:
                    self._renamed({path: None if is_folder else _File()})
            case Wrote() | Cut():
                self._changed(event)
            case Renamed(path, target):
                self._renamed({target: self._names[path], path: _Gone.GONE})
            case Unlinked(path):
                self._renamed({path: _Gone.GONE})
            case Synced(path):
                self._synced(path)

    def _renamed(self, change: dict[str, _Place | _Gone]) -> None:
        _lead(self._names, change)
        self._since[os.path.dirname(next(iter(change)))].append(change)

    def _changed(self, event: Wrote | Cut) -> None:
        file = self._names.get(event.path)
        if file is None:
            # Its name is gone, and so is it with the last descriptor.
            return
        if isinstance(event, Wrote) and event.offset is None:
            event = Wrote(event.path, event.data, file.size)
        file.since.append(event)
        if isinstance(event, Cut):
            file.size = event.size
        else:
            assert event.offset is not None
            file.size = max(file.size, event.offset + len(event.data))

    def _synced(self, path: str) -> None:
        if not self._honest:
            return
        file = self._names.get(path)
        if file is not None:
            for change in file.since:
                _apply(file.durable, change)
            file.since.clear()
        for renamed in self._since.pop(path, ()):
            _lead(self._durable_names, renamed)

    def after_a_cut(self, target: Path, seed: int) -> None:
        """Make ``target`` what the folder may be after the power went now."""
        chance = Chance(seed)
        names = dict(self._durable_names)
        for changes in self._since.values():
            for change in changes[: chance.names(len(changes))]:
                _lead(names, change)
        for path, file in sorted(names.items()):
            place = Path(str(target) + path.removeprefix(self._folder))
            if file is None:
                place.mkdir(parents=True, exist_ok=True)
            elif place.parent.is_dir():
                place.write_bytes(file.after_a_cut(chance))
                place.chmod(0o600)


def _lead(names: dict[str, _Place], change: dict[str, _Place | _Gone]) -> None:
    for path, place in change.items():
        if isinstance(place, _Gone):
            names.pop(path, None)
        else:
            names[path] = place
