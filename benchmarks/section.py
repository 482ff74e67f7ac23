"""What a file of benchmarks hands to `benchmarks.__main__`: a chapter, and the figures in it."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.plot import Group


@dataclass(frozen=True, slots=True)
class Section:
    """A chapter of the results.

    ``text`` is Markdown that begins with its heading ``## …``. ``figures`` maps the names of
    `benchmarks.goals.GOALS` to what was measured here, for the table of goals;
    ``bars`` go into the plot.
    """

    text: str
    figures: dict[str, float] = field(default_factory=dict)
    bars: tuple[Group, ...] = ()
