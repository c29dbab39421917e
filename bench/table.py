"""The table that `bench` prints: a row for each way through, a column for each server, and ratios."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from bench.houses import HOUSES, House
from bench.limits import Limits
from bench.rows import Figure

#: Ours first; beside it the ratios count.
OURS = "mailspool"


@dataclass(frozen=True, slots=True)
class Runs:
    """All runs of a row, by server."""

    key: str
    title: str
    unit: str
    aim: str
    figures: dict[str, list[Figure]]

    def median(self, house: str) -> float:
        """Of its values."""
        return statistics.median(each.value for each in self.figures[house])

    def ratio(self, house: str) -> float | None:
        """How many times better ours is; None when one of the two was not measured, or came to nothing."""
        if house == OURS or OURS not in self.figures or house not in self.figures:
            return None
        ours, theirs = self.median(OURS), self.median(house)
        if not ours or not theirs:
            return None
        return ours / theirs if self.unit.endswith("/s") else theirs / ours


def head(limits: Limits, houses: list[type[House]], runs: int) -> str:
    """What the figures depend on."""
    syncing = ", ".join(house.name for house in houses if house.syncs)
    others = ", ".join(house.name for house in houses if not house.syncs)
    return (
        f"{limits.cores} cores, which the load shares; {limits.fsyncs:.0f} fsync/s, {limits.files:.0f} files/s created, "
        f"fsynced and renamed, SQLite {limits.commits:.0f} commits/s of 4 KiB, {limits.rows:.0f} rows/s a hundred a commit\n"
        f"on disk before 250: {syncing}{f'; not so: {others}' if others else ''}. "
        f"Runs: {runs} of each, in turn; 4 KB where nothing else stands"
    )


def line(runs: Runs, *, verbose: bool) -> str:
    """A row: medians with extremes, and how many times better ours is."""
    cells = [f"{runs.title} ({runs.unit}; aim: {runs.aim})"]
    for name, figures in runs.figures.items():
        values = [each.value for each in figures]
        spread = f" ({_text(min(values))} to {_text(max(values))})" if len(values) > 1 else ""
        ratio = runs.ratio(name)
        beside = f"   ours is {ratio:.2f} times as good" if ratio is not None else ""
        part = HOUSES[name].parts.get(runs.key, 1.0)
        fewer = f"   ({part:.0%} of the messages)" if part < 1 else ""
        middle = _text(statistics.median(values))
        cells.append(f"    {HOUSES[name].name:24} {middle:>8}{spread}{_more(figures)}{beside}{fewer}")
        if verbose:
            cells += _costs(figures)
    return "\n".join(cells)


def _more(figures: list[Figure]) -> str:
    names = figures[0].more
    return "".join(f", {name} {_text(statistics.median(each.more[name] for each in figures))}" for name in names)


def _costs(figures: list[Figure]) -> list[str]:
    names = sorted({name for each in figures for name in each.cpu})
    cpu = [f"{name} {statistics.median(each.cpu.get(name, 0.0) for each in figures):.3f}" for name in names]
    pss = statistics.median(each.pss for each in figures)
    if not pss:
        return []
    processes = int(statistics.median(each.processes for each in figures))
    told = f"; ms of CPU a message: {', '.join(cpu)}" if cpu else ""
    return [f"        {processes} processes, {pss:.0f} MiB{told}"]


def _text(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
