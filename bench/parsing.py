"""Print how long a configuration of 4,000 lines takes to be read, understood and checked: ``python -m bench.parsing``."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from policy.parser import load_config
from spool.layout import layout

RUNS: Final = 15
#: Five lines a block: every kind of line that a long configuration is made of.
BLOCK: Final = """\
table t{0} {{ "a{0}.example", "b{0}.example" }}
action "a{0}" maildir "~/Mail/{0}" alias {{ x = y }} ttl 4d
match from any for domain <t{0}> action "a{0}"
match auth from any for domain "d{0}.example" mail-from {{ "@x{0}" }} action "a{0}"
match ! from local for domain {{ d{0}.org, "e{0}.org" }} reject
"""


def main() -> None:
    """The command."""
    text = "".join(BLOCK.format(number) for number in range(800))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "smtpd.conf"
        path.write_text(text)
        reading = _median_ms(path.read_text)
        loading = _median_ms(lambda: load_config(str(path), layout(folder), {}))
    lines = text.count("\n")
    print(f"{lines} lines, {len(text)} octets: {loading:.0f} ms, {loading / reading:.0f} times reading the file")


def _median_ms(work: Callable[[], object]) -> float:
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


if __name__ == "__main__":
    main()
