"""Seeds that once found something, and what; ``make test`` runs each."""

from __future__ import annotations

from typing import Final

#: Seed to what it found. The plan of a seed changes when ``plan.py`` does; then what it found has
#: its own test beside the module that was mended, and a new seed is looked for.
REGRESSIONS: Final[dict[int, str]] = {
    1: "A message larger than a log's share was refused for ever, by a log that was empty; and one"
    " of many small blocks was reckoned with a page for each.",
}
