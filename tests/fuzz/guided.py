"""Lets libFuzzer find inputs for one target, guided by what they cover (atheris), and ends with 1 at the first finding.

    python -m tests.fuzz.guided TARGET [SECONDS [SEED]]

What is found on the way is kept in ``.fuzz/TARGET``, and is where the next run begins; an input that is a finding is
written to ``.fuzz/TARGET-crash-...``. `tests.fuzz.keep` chooses from it what the tests replay.
"""

from __future__ import annotations

import importlib
import os
import random
import sys
import time
from hashlib import sha1
from pathlib import Path
from typing import Final

from tests.fuzz.arena import resident_kib
from tests.fuzz.target import TARGETS, Target, corpus, load, require

#: Octets of one input: several commands, each longer than any limit on it that a target sets.
LONGEST: Final = 4096
#: Executions before memory is looked at, so that caches are full and code is loaded.
WARM: Final = 2000
#: Growth from there on that is no noise, in KiB: libFuzzer's own corpus counts here too.
GROWTH: Final = 200 * 1024

#: Seconds after which libFuzzer ends the run itself, if it has not ended.
_MARGIN: Final = 60

_INSTRUMENTED: Final = ["spool", "policy", "ingress", "delivery", "control", "scheduler"]


class _Run:
    """One run, as libFuzzer calls it, which never returns: the process ends here."""

    def __init__(self, name: str, target: Target, seconds: int, seed: int) -> None:
        self._name = name
        self._target = target
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._seed = seed
        self._tried = 0
        self._warm_kib = 0

    def one(self, octets: bytes) -> None:
        self._tried += 1
        self._target.attempt(octets)
        if self._tried == WARM:
            self._warm_kib = resident_kib()
        if time.monotonic() > self._until:
            self._end()

    def _end(self) -> None:
        grown = resident_kib() - self._warm_kib if self._warm_kib else 0
        self._target.close()
        require(grown <= GROWTH, f"memory grew by {grown} KiB")
        print(
            f"{self._name}: seed {self._seed}, {self._tried} executions in {self._seconds} s, nothing found; "
            f"memory grew by {grown} KiB",
            flush=True,
        )
        # libFuzzer takes an ordinary end of the process for a crash.
        os._exit(0)


def main() -> int:
    """The command."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in TARGETS:
        print(f"usage: python -m tests.fuzz.guided {'|'.join(TARGETS)} [SECONDS [SEED]]")
        return 2
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.SystemRandom().randrange(1, 1 << 31)
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        print("atheris is not installed: pip install -c constraints.txt '.[fuzz]'")
        return 2
    with atheris.instrument_imports(include=_INSTRUMENTED):
        target = load(name)
    folder = Path(".fuzz") / name
    folder.mkdir(parents=True, exist_ok=True)
    for octets in [*target.seeds(), *(kept for _, kept in corpus(name))]:
        (folder / sha1(octets).hexdigest()).write_bytes(octets)
    options = {
        "max_total_time": seconds + _MARGIN,
        "seed": seed,
        "max_len": LONGEST,
        "timeout": 30,
        "rss_limit_mb": 2048,
        "artifact_prefix": f".fuzz/{name}-",
    }
    run = _Run(name, target, seconds, seed)
    atheris.Setup([sys.argv[0], str(folder), *(f"-{word}={value}" for word, value in options.items())], run.one)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
