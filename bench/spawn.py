"""How long a whole process takes: ``python -m bench.spawn COUNT INPUT COMMAND...``; prints milliseconds as a JSON list."""

from __future__ import annotations

import json
import subprocess
import sys
import time


def main(count: str, text: str, *command: str) -> None:
    """Run it so often, with ``text`` for its standard input."""
    times = []
    for _ in range(int(count)):
        started = time.monotonic()
        subprocess.run(command, input=text.encode(), check=True, stdout=subprocess.DEVNULL)
        times.append((time.monotonic() - started) * 1000)
    print(json.dumps(times))


if __name__ == "__main__":
    main(*sys.argv[1:])
