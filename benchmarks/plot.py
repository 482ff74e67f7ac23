"""A bar chart with a logarithmic axis, as SVG that reads well on light and on dark ground."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.table import number

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 900, 20, 190, 80, 48
#: Height of a bar, of a label above a group of bars, and what lies between two groups.
BAR, LABEL, GAP = 12, 18, 14

#: One colour set for each ground; bars have names so that no colour stands in two places.
STYLE = """
    text { font: 14px system-ui, sans-serif; fill: #1f2328 }
    .figure { font-size: 12px }
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
class Group:
    """Bars under one label, each with a name; ``kind`` is a key of the chart's ``kinds``."""

    label: str
    bars: tuple[tuple[str, float], ...]
    kind: str

    @property
    def height(self) -> int:
        """With its label and the gap below."""
        return LABEL + (BAR + 3) * len(self.bars) + GAP


def bar_chart(title: str, axis: str, groups: Sequence[Group], kinds: dict[str, str]) -> str:
    """The chart; ``kinds`` maps a kind (``ours``, ``same``, ``weaker``) to its legend."""
    low, high = axis_of([value for group in groups for _, value in group.bars])
    height = TOP + sum(group.height for group in groups) + BOTTOM
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" role="img" aria-label="{escape(title)}">'
        ),
        f"  <style>{STYLE}  </style>",
        f'  <text class="title" x="{LEFT}" y="28">{escape(title)}</text>',
        *legend(kinds),
        *grid(low, high, height - BOTTOM),
    ]
    top = TOP
    for group in groups:
        parts.append(f'  <text x="{LEFT}" y="{top + 12}">{escape(group.label)}</text>')
        for index, (name, value) in enumerate(group.bars):
            end, upper = place(value, low, high), top + LABEL + (BAR + 3) * index
            parts += [
                (
                    f'  <rect class="{group.kind}" x="{LEFT}" y="{upper}" '
                    f'width="{end - LEFT:.1f}" height="{BAR}" rx="2"/>'
                ),
                (
                    f'  <text class="figure" x="{end + 6:.1f}" y="{upper + 10}">{number(value)}'
                    f'<tspan class="small"> · {escape(name)}</tspan></text>'
                ),
            ]
        top += group.height
    parts += [f'  <text class="small" x="{LEFT}" y="{height - 8}">{escape(axis)}</text>', "</svg>"]
    return "\n".join(parts) + "\n"


def axis_of(values: Sequence[float]) -> tuple[int, float]:
    """Logarithms of the axis's ends: a power of ten below all values, and the largest of them."""
    first, last = math.log10(min(values)), math.log10(max(values))
    low = math.floor(first)
    low -= first - low < 0.1  # so that the smallest value has a bar as well
    return low, last


def place(value: float, low: int, high: float) -> float:
    """Where on the axis a value lies, in pixels from the left."""
    part = (math.log10(value) - low) / (high - low)
    return LEFT + part * (WIDTH - LEFT - RIGHT)


def legend(kinds: dict[str, str]) -> list[str]:
    """A square and a sentence for each kind, side by side."""
    parts, left = [], LEFT
    for kind, text in kinds.items():
        parts.append(f'  <rect class="{kind}" x="{left}" y="44" width="12" height="12" rx="2"/>')
        parts.append(f'  <text class="small" x="{left + 18}" y="54">{escape(text)}</text>')
        left += 44 + round(6.6 * len(text))
    return parts


def grid(low: int, high: float, bottom: int) -> list[str]:
    """A line down to ``bottom`` and a number at each power of ten."""
    parts = []
    for power in range(low, math.floor(high) + 1):
        left = place(10.0**power, low, high)
        parts += [
            f'  <line class="grid" x1="{left:.1f}" x2="{left:.1f}" y1="{TOP - 8}" y2="{bottom}"/>',
            (
                f'  <text class="small" x="{left:.1f}" y="{bottom + 16}" text-anchor="middle">'
                f"{10**power:,}</text>"
            ),
        ]
    return parts
