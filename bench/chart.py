"""A chart of ratios as SVG: a row has a bar for each peer, to the right where ours is better, else to the left."""

from __future__ import annotations

import math
from xml.sax.saxutils import escape

from bench.table import Runs

#: Pixels: the picture, a row of it, where the line of "as good" stands, and what twice as good is long.
WIDTH, ROW, LINE, TWICE = 900, 34, 440, 70
#: How many doublings a bar shows at most, and halvings; what is beyond says its number all the same.
MOST, LEAST = 5.0, -1.7
BAR = 12
#: The peers, with their colours.
PEERS = {"postfix": ("Postfix", "#2a6f97"), "opensmtpd": ("OpenSMTPD", "#c99a3a")}


def chart(rows: list[Runs]) -> str:
    """The picture."""
    shown = [row for row in rows if any(row.ratio(peer) for peer in PEERS)]
    height = ROW * (len(shown) + 1) + 8
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" '
        f'font-size="13"><rect width="100%" height="100%" fill="white"/>{_legend()}'
        f"{''.join(_row(number, row) for number, row in enumerate(shown, 1))}"
        f'<line x1="{LINE}" y1="{ROW - 6}" x2="{LINE}" y2="{height - 4}" stroke="#333"/></svg>\n'
    )


def _legend() -> str:
    places = zip(PEERS.values(), (LINE + 190, LINE + 280), strict=True)
    named = (f'<text x="{left}" y="18" fill="{colour}">{name}</text>' for (name, colour), left in places)
    return f'<text x="{LINE - 4}" y="18">how many times as good as</text>{"".join(named)}'


def _row(number: int, row: Runs) -> str:
    top = ROW * number
    text = f'<text x="270" y="{top + 17}" text-anchor="end">{escape(row.title)}</text>'
    bars = (
        _bar(top + place * BAR, ratio, colour)
        for place, (peer, (_, colour)) in enumerate(PEERS.items())
        if (ratio := row.ratio(peer)) is not None
    )
    return text + "".join(bars)


def _bar(top: int, ratio: float, colour: str) -> str:
    end = LINE + TWICE * min(max(math.log2(ratio), LEAST), MOST)
    left, width = min(LINE, end), abs(end - LINE)
    # The number stands at the end that points away from the line.
    place = f'x="{end + 5:.0f}"' if ratio >= 1 else f'x="{end - 5:.0f}" text-anchor="end"'
    said = f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}" if ratio >= 1 else f"{ratio:.2f}"
    return (
        f'<rect x="{left:.0f}" y="{top + 1}" width="{width:.0f}" height="{BAR - 1}" fill="{colour}"/>'
        f'<text {place} y="{top + 11}" font-size="11">{said}</text>'
    )
