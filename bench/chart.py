"""A chart of ratios as SVG: a bar for each row, as long as ours is better than Postfix."""

from __future__ import annotations

from xml.sax.saxutils import escape

from bench.table import Runs

#: Pixels.
WIDTH, LINE, LEFT, UNIT = 860, 26, 300, 60
#: The longest bar; longer ones are cut, and say their number.
LONGEST = 8.0
BESIDE = "postfix"


def chart(runs: list[Runs]) -> str:
    """The picture."""
    shown = [(each, ratio) for each in runs if (ratio := each.ratio(BESIDE)) is not None]
    height = LINE * (len(shown) + 2)
    bars = "".join(_bar(number, each, ratio) for number, (each, ratio) in enumerate(shown, 1))
    one = LEFT + UNIT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" '
        f'font-size="13"><rect width="100%" height="100%" fill="white"/>'
        f'<text x="{LEFT}" y="17" fill="#555">how many times as good as Postfix, which is the line</text>{bars}'
        f'<line x1="{one}" y1="{LINE}" x2="{one}" y2="{height - LINE // 2}" stroke="#555"/></svg>\n'
    )


def _bar(number: int, runs: Runs, ratio: float) -> str:
    top = LINE * number
    width = UNIT * min(ratio, LONGEST)
    colour = "#2a7f62" if ratio >= 1 else "#b3452c"
    return (
        f'<text x="{LEFT - 8}" y="{top + 17}" text-anchor="end">{escape(runs.title)}</text>'
        f'<rect x="{LEFT}" y="{top + 4}" width="{width:.0f}" height="{LINE - 8}" fill="{colour}"/>'
        f'<text x="{LEFT + width + 6:.0f}" y="{top + 17}">{ratio:.1f}</text>'
    )
