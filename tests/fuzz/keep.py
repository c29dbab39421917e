"""Chooses the inputs that the tests replay from what a fuzzer has found: ``python -m tests.fuzz.keep TARGET``.

Inputs are taken greedily, each time the one that adds most lines of our own code to those that are covered, until none
adds any or the bounds are reached. What was a finding once is kept whatever it covers: its name begins with ``found-``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from hashlib import sha1
from pathlib import Path
from types import FrameType
from typing import Any, Final

from tests.fuzz.target import CORPUS, TARGETS, Target, corpus, load

#: Files and octets of one target's corpus: all of them together stay below 300 files and 500 KB.
FILES: Final = 30
OCTETS: Final = 50 * 1024
#: Inputs that are looked at, shortest first.
_LOOKED_AT: Final = 1500

_ROOT: Final = str(Path(__file__).parents[2])
_OURS: Final = tuple(
    f"{_ROOT}/{package}/" for package in ("spool", "policy", "ingress", "scheduler", "delivery", "control")
)


def covered(target: Target, octets: bytes) -> set[tuple[str, int]]:
    """The steps from line to line of our own code that an input takes: file, and both lines in one number."""
    steps: set[tuple[str, int]] = set()

    def begin(frame: FrameType, _event: str, _argument: Any) -> Callable[[FrameType, str, Any], Any] | None:
        name = frame.f_code.co_filename
        if not name.startswith(_OURS):
            return None
        before = 0

        def step(frame: FrameType, event: str, _argument: Any) -> Any:
            nonlocal before
            if event == "line":
                steps.add((name, before << 20 | frame.f_lineno))
                before = frame.f_lineno
            return step

        return step

    sys.settrace(begin)
    try:
        target.attempt(octets)
    finally:
        sys.settrace(None)
    return steps


def choose(target: Target, inputs: list[bytes]) -> list[bytes]:
    """The best of ``inputs`` within the bounds."""
    left = {octets: covered(target, octets) for octets in sorted(set(inputs), key=len)[:_LOOKED_AT]}
    chosen: list[bytes] = []
    seen: set[tuple[str, int]] = set()
    while left and len(chosen) < FILES:
        best = max(left, key=lambda octets: (len(left[octets] - seen), -len(octets)))
        new = left.pop(best) - seen
        if not new or sum(map(len, chosen)) + len(best) > OCTETS:
            break
        seen |= new
        chosen.append(best)
    return chosen


def main() -> int:
    """The command."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in TARGETS:
        print(f"usage: python -m tests.fuzz.keep {'|'.join(TARGETS)}")
        return 2
    target = load(name)
    kept = {octets: file for file, octets in corpus(name)}
    found = [path.read_bytes() for path in (Path(".fuzz") / name).iterdir()]
    chosen = choose(target, [*target.seeds(), *kept, *found])
    target.close()
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    for octets, file in kept.items():
        if octets not in chosen and not file.startswith("found-"):
            (folder / file).unlink()
    for octets in chosen:
        if octets not in kept:
            (folder / sha1(octets).hexdigest()[:16]).write_bytes(octets)
    print(f"{name}: {len(chosen)} of {len(found)} inputs, {sum(map(len, chosen))} octets")
    return 0


if __name__ == "__main__":
    sys.exit(main())
