"""The controller of a budget: how far commits are spread, for so many bytes a day. Pure.

A store that commits ``n`` times writes about ``D + n * K``: D for the records, K for each commit
however little it holds. Commits that are ``f`` times as far apart write ``D + n * K / f``. So each
judgement multiplies the factor by what was written over what may be: ``f * (D + n * K / f) / goal``
comes nearer to the right factor from either side, without overshooting, wherever the goal is above
D, and without knowing D or K. Where it is not, the factor ends at its bound.

What may be is the budget's even pace, less a margin, plus a **balance**: what was saved before, or
minus what was overspent, to be evened out within an hour. It is bounded: at most one hour's pace
is saved (a burst now and then changes nothing), at most six hours' are owed (when the load has
gone, acks are soon quick again). Thus any 24 hours hold at most margin x 25/24 = 0.98 of the
budget, once the factor has found its place, and an error of one judgement is made good by the next.

One judgement widens to at most four times and narrows to half: a minute without records says little
about the next.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edge_agent.values.record import DAY_S

#: The part of the budget that is aimed at; see above for what is left.
MARGIN = 0.94
#: A balance is evened out over this long, and so much of the pace may be saved.
EVEN_S = 3600.0
#: So much of the pace may be owed.
OWED_S = 6 * 3600.0
WIDEN_MAX = 4.0
NARROW_MAX = 2.0
#: The goal never falls below this part of the pace, however much is owed.
GOAL_MIN = 0.25
#: An interval of 0 is spread as if it were this long: that is about how long a commit takes.
INTERVAL_MIN_S = 0.005
#: A judgement needs so many commits, so that one more or less changes little, and so much time …
COMMITS_MIN = 20
PERIOD_MIN_S = 60.0
#: … but comes after this long in any case.
PERIOD_MAX_S = 900.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How far commits are spread, and the balance in bytes: saved, or owed where negative."""

    factor: float = 1.0
    balance: float = 0.0


def is_due(seconds: float, commits: int) -> bool:
    """Whether enough has happened since the last judgement for the next."""
    return seconds >= PERIOD_MAX_S or (seconds >= PERIOD_MIN_S and commits >= COMMITS_MIN)


def judge(before: Pace, seconds: float, written: float, per_day: float, factor_max: float) -> Pace:
    """The pace from now on, after ``written`` bytes in ``seconds`` under the pace ``before``.

    ``factor_max``: beyond it no log's interval can be spread any further.
    """
    pace = MARGIN * per_day / DAY_S
    balance = before.balance + pace * seconds - written
    balance = min(max(balance, -OWED_S * pace), EVEN_S * pace)
    goal = max(pace + balance / EVEN_S, GOAL_MIN * pace)
    wanted = before.factor * (written / seconds) / goal
    wanted = min(max(wanted, before.factor / NARROW_MAX), before.factor * WIDEN_MAX)
    return Pace(min(max(wanted, 1.0), factor_max), balance)


def spread(interval_s: float, factor: float, bound_s: float) -> float:
    """A log's interval under the factor: never below its own, never above the larger of it and
    ``bound_s``.
    """
    if factor <= 1.0:
        return interval_s
    return max(interval_s, min(bound_s, max(interval_s, INTERVAL_MIN_S) * factor))


def factor_max(logs: Iterable[tuple[float, float]]) -> float:
    """The factor beyond which no log, given as interval and bound, can be spread any further."""
    return max(
        (max(1.0, bound_s / max(interval_s, INTERVAL_MIN_S)) for interval_s, bound_s in logs),
        default=1.0,
    )
