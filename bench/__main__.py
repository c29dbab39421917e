"""Measure Mailspool beside Postfix and OpenSMTPD, in turn, and print a table: ``python -m bench [options]``.

Needs root, for a machine of its own (`tests.peers.machine`), and Debian's ``postfix``; OpenSMTPD is fetched if need be.
Every run has a fresh server; every figure is a median with its extremes. The load generators share the machine with the
servers, and machines vary from hour to hour: only ratios out of one row compare.

*Failure*: whatever ends it, by an error or by a signal, ends the servers and removes their folders; rows that were measured
are kept.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from bench.chart import chart
from bench.houses import HOUSES, House, Place
from bench.kept import Kept, add, read
from bench.limits import limits_of
from bench.rows import ROWS, Figure, Row
from bench.table import Runs, head, line
from tests.peers.machine import Machine

#: What the short run leaves out: it takes three minutes.
SHORT = ("accept", "single", "relay", "maildir", "mbox", "alone")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked for."""
    options = _options(arguments)
    if options.print:
        _print(options)
    else:
        _measure(options)
    if options.chart:
        options.chart.write_text(chart([each.runs for each in read(options.json).values()]))


def _measure(options: argparse.Namespace) -> None:
    # Before anything is measured that could not be added to it.
    read(options.json)
    with place_for_one() as (folder, place):
        houses = {name: HOUSES[name] for name in options.houses}
        for house in houses.values():
            house.prepare()
        limits = limits_of(folder)
        print(head(limits, list(houses.values()), options.runs), flush=True)
        for row in (row for row in ROWS if row.key in options.only):
            runs = _row(row, place, houses, options)
            add(options.json, Kept(datetime.now(UTC).isoformat(timespec="seconds"), limits, runs))


@contextmanager
def place_for_one() -> Iterator[tuple[Path, Place]]:
    """A folder, and a place in a machine, that are gone at the end, whatever ends it."""
    lacking = [tool for tool in ("postfix", "smtp-source", "smtp-sink", "nsenter") if shutil.which(tool) is None]
    if lacking or os.geteuid() != 0:
        sys.exit(f"bench: needs root{' and ' + ', '.join(lacking) if lacking else ''}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    folder = Path(tempfile.mkdtemp(prefix="mailspool-bench-"))
    folder.chmod(0o755)
    try:
        with Machine(folder / "machine", "mx.bench.example") as machine:
            yield folder, Place(machine, folder / "place")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _row(row: Row, place: Place, houses: dict[str, type[House]], options: argparse.Namespace) -> Runs:
    found: dict[str, list[Figure]] = {name: [] for name, house in houses.items() if house not in row.without}
    for _ in range(min(options.runs, row.most)):
        for name, figures in found.items():
            figures.append(_once(row, place, houses[name], options.scale))
    runs = Runs(row.key, row.title, row.unit, row.aim, found)
    print(line(runs, verbose=options.verbose), flush=True)
    return runs


def _once(row: Row, place: Place, kind: type[House], scale: float) -> Figure:
    place.clear()
    house = kind(place)
    try:
        figure = row.measure(place, house, scale * house.parts.get(row.key, 1.0))
    except Exception:
        # It need not be stopped: the whole machine ends.
        print(f"{row.key}, {house.name}:\n{place.machine.path(house.log).read_text()[-2000:]}", file=sys.stderr)
        raise
    house.stop()
    return figure


def _print(options: argparse.Namespace) -> None:
    last = None
    for each in read(options.json).values():
        houses = [HOUSES[name] for name in each.runs.figures]
        runs = max(len(figures) for figures in each.runs.figures.values())
        about = head(each.machine, houses, runs)
        print(*([] if about == last else [f"{each.at}: {about}"]), line(each.runs, verbose=options.verbose), sep="\n")
        last = about


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    keys = [row.key for row in ROWS]
    parser = argparse.ArgumentParser(prog="python -m bench", description="Mailspool beside Postfix and OpenSMTPD.")
    parser.add_argument("--only", nargs="+", choices=keys, default=list(SHORT), metavar="ROW", help=", ".join(keys))
    parser.add_argument("--full", dest="only", action="store_const", const=keys, help="every row")
    parser.add_argument("--houses", nargs="+", choices=list(HOUSES), default=list(HOUSES), help="who is measured")
    parser.add_argument("--runs", type=int, default=1, help="runs of each, in turn")
    parser.add_argument("--scale", type=float, default=1.0, help="times the messages of a run")
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"), help="where the figures are kept")
    parser.add_argument("--print", action="store_true", help="measure nothing, print what is kept there")
    parser.add_argument("--chart", type=Path, help="where a chart of them goes (SVG)")
    parser.add_argument("-v", "--verbose", action="store_true", help="CPU and memory of each process")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
