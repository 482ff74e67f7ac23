"""A bar chart with a logarithmic axis, as SVG that reads well on light and on dark ground."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.table import number

WIDTH, LEFT, RIGHT, TOP = 900, 20, 110, 92
BAR, STEP = 18, 50

#: One colour set for each ground; bars have names so that no colour stands in two places.
STYLE = """
    text { font: 14px system-ui, sans-serif; fill: #1f2328 }
    .title { font-size: 18px; font-weight: 600 }
    .small { font-size: 12px; fill: #59636e }
    .grid { stroke: #d1d9e0 }
    .ours { fill: #1a7f37 } .same { fill: #0969da } .weaker { fill: #9a6700; fill-opacity: .75 }
    @media (prefers-color-scheme: dark) {
      text { fill: #f0f6fc } .small { fill: #9198a1 } .grid { stroke: #3d444d }
      .ours { fill: #3fb950 } .same { fill: #4493f8 } .weaker { fill: #d29922 }
    }
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar; ``kind`` is a key of the chart's ``kinds``."""

    label: str
    value: float
    kind: str


def bar_chart(title: str, axis: str, bars: Sequence[Bar], kinds: dict[str, str]) -> str:
    """The chart; ``kinds`` maps a kind (``ours``, ``same``, ``weaker``) to its legend."""
    low, high = decades([bar.value for bar in bars])
    height = TOP + STEP * len(bars) + 34
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" role="img" aria-label="{escape(title)}">'
        ),
        f"  <style>{STYLE}  </style>",
        f'  <text class="title" x="{LEFT}" y="28">{escape(title)}</text>',
        *legend(kinds),
        *grid(low, high, height),
    ]
    for index, bar in enumerate(bars):
        top = TOP + STEP * index
        end = place(bar.value, low, high)
        parts += [
            f'  <text x="{LEFT}" y="{top + 14}">{escape(bar.label)}</text>',
            (
                f'  <rect class="{bar.kind}" x="{LEFT}" y="{top + 20}" '
                f'width="{end - LEFT:.1f}" height="{BAR}" rx="2"/>'
            ),
            f'  <text x="{end + 6:.1f}" y="{top + 34}">{number(bar.value)}</text>',
        ]
    parts += [f'  <text class="small" x="{LEFT}" y="{height - 4}">{escape(axis)}</text>', "</svg>"]
    return "\n".join(parts) + "\n"


def decades(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten between which the axis runs: the smallest value still has a bar."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return (low - 1 if math.log10(min(values)) - low < 0.1 else low), max(high, low + 1)


def place(value: float, low: int, high: int) -> float:
    """Where on the axis a value lies, in pixels from the left."""
    part = (math.log10(value) - low) / (high - low)
    return LEFT + part * (WIDTH - LEFT - RIGHT)


def legend(kinds: dict[str, str]) -> list[str]:
    """A square and a sentence for each kind, side by side."""
    parts, left = [], LEFT
    for kind, text in kinds.items():
        parts.append(f'  <rect class="{kind}" x="{left}" y="44" width="12" height="12" rx="2"/>')
        parts.append(f'  <text class="small" x="{left + 18}" y="54">{escape(text)}</text>')
        left += 40 + round(6.4 * len(text))
    return parts


def grid(low: int, high: int, height: int) -> list[str]:
    """A line and a number at each power of ten."""
    parts = []
    for power in range(low, high + 1):
        left = place(10.0**power, low, high)
        parts += [
            f'  <line class="grid" x1="{left:.1f}" x2="{left:.1f}" y1="{TOP}" y2="{height - 34}"/>',
            (
                f'  <text class="small" x="{left:.1f}" y="{height - 20}" text-anchor="middle">'
                f"{10**power:,}</text>"
            ),
        ]
    return parts
