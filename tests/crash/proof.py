"""What each part of ``make crash`` is: something that tries many ways to lose a record, and tells.

A part is a module with a function ``prove(scale, seed)``. ``python -m tests.crash`` runs all of
them at their full scale; ``make test`` runs each at a smaller one, from a test file beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is tried.

    Attributes:
        tries: what the part counts: states, failed calls, flips, outages, kills. 0 means that the
            part itself knows how many there are, such as every position of a run.
        processes: how many may be busy at one time.
    """

    tries: int
    processes: int = 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it.

    Attributes:
        lines: what is printed, the closing line last: counts, what was lost or doubled, the seed.
        failures: one sentence for each thing that went wrong, with what replays it.
    """

    lines: tuple[str, ...]
    failures: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing went wrong."""
        return not self.failures


Prove = Callable[[Scale, int], Outcome]
