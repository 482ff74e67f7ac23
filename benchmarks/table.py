"""A benchmark's rows and how they are printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Row:
    """What one run moved: ``records`` in ``seconds``, ``cpu_seconds`` of the measured process."""

    records: int
    seconds: float
    cpu_seconds: float
    facts: dict[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Transfer rate R = N/T, records per second."""
        return self.records / self.seconds if self.seconds else 0.0

    @property
    def efficiency(self) -> float:
        """Processing efficiency E = W/T_w, records per CPU second."""
        return self.records / self.cpu_seconds if self.cpu_seconds else 0.0


def markdown(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def number(value: float) -> str:
    """``1,234,567`` for large values, three digits for small ones."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
