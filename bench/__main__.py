"""Measure Mailspool beside Postfix and OpenSMTPD, in turn, and print a table: ``python -m bench [options]``.

Needs root, for a machine of its own (`tests.peers.machine`), and Debian's ``postfix``; OpenSMTPD as ``.ci/run`` fetches it.
Every run has a fresh server; every figure is a median with its extremes. The load generators share the machine with the
servers, and machines vary from hour to hour: only ratios out of one call compare.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench.chart import chart
from bench.houses import HOUSES, House, Place
from bench.limits import Limits, limits_of
from bench.rows import ROWS, Figure, Row
from bench.table import Runs, head, line
from tests.peers.machine import Machine

#: What the short run leaves out: it takes three minutes.
SHORT = ("accept", "single", "relay", "maildir", "mbox", "alone")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked for."""
    options = _options(arguments)
    lacking = [tool for tool in ("postfix", "smtp-source", "smtp-sink", "nsenter") if shutil.which(tool) is None]
    if lacking or os.geteuid() != 0:
        sys.exit(f"bench: needs root{' and ' + ', '.join(lacking) if lacking else ''}")
    folder = Path(tempfile.mkdtemp(prefix="mailspool-bench-"))
    folder.chmod(0o755)
    try:
        limits = limits_of(folder)
        houses = {name: HOUSES[name] for name in options.houses}
        print(head(limits, list(houses.values()), options.runs), flush=True)
        with Machine(folder / "machine", "mx.bench.example") as machine:
            place = Place(machine, folder / "place")
            runs = [_row(row, place, houses, options) for row in _chosen(options)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _keep(options, limits, runs)


def _row(row: Row, place: Place, houses: dict[str, type[House]], options: argparse.Namespace) -> Runs:
    found: dict[str, list[Figure]] = {name: [] for name, house in houses.items() if house not in row.without}
    for _ in range(options.runs):
        for name, figures in found.items():
            figures.append(_once(row, place, houses[name], options.scale))
    runs = Runs(row.key, row.title, row.unit, row.aim, found)
    print(line(runs, verbose=options.verbose), flush=True)
    return runs


def _once(row: Row, place: Place, kind: type[House], scale: float) -> Figure:
    place.clear()
    house = kind(place)
    try:
        return row.measure(place, house, scale * house.parts.get(row.key, 1.0))
    except Exception:
        print(f"{row.key}, {house.name}:\n{place.machine.path(house.log).read_text()[-2000:]}", file=sys.stderr)
        raise
    finally:
        house.stop()


def _chosen(options: argparse.Namespace) -> list[Row]:
    return [row for row in ROWS if row.key in options.only]


def _keep(options: argparse.Namespace, limits: Limits, runs: list[Runs]) -> None:
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"machine": asdict(limits), "rows": [asdict(each) for each in runs]}, indent=1))
    if options.chart:
        options.chart.write_text(chart(runs))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    keys = [row.key for row in ROWS]
    parser = argparse.ArgumentParser(prog="python -m bench", description="Mailspool beside Postfix and OpenSMTPD.")
    parser.add_argument("--only", nargs="+", choices=keys, default=list(SHORT), metavar="ROW", help=", ".join(keys))
    parser.add_argument("--full", dest="only", action="store_const", const=keys, help="every row")
    parser.add_argument("--houses", nargs="+", choices=list(HOUSES), default=list(HOUSES), help="who is measured")
    parser.add_argument("--runs", type=int, default=1, help="runs of each, in turn")
    parser.add_argument("--scale", type=float, default=1.0, help="times the messages of a run")
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"), help="where the figures are kept")
    parser.add_argument("--chart", type=Path, help="where a chart of them goes (SVG)")
    parser.add_argument("-v", "--verbose", action="store_true", help="CPU and memory of each process")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
