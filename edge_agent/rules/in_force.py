"""The rules that are in force now, for everybody who needs them: they may be replaced (SIGHUP)."""

from __future__ import annotations

from collections import Counter as Tally

from edge_agent.metrics import Metrics
from edge_agent.rules.apply import CompiledRules, Ruled
from edge_agent.rules.time_keys import TimeKeyOf
from edge_agent.values.record import Run

#: Records that rules work on without a rest: a millisecond or two.
TURN_RECORDS = 64
#: The same where somebody else's functions are asked, which may take as long as their budget.
TURN_RECORDS_WITH_HOOKS = 4


class RulesInForce:
    """Applies rules, and counts in ``metrics`` what they leave out.

    Attributes:
        are_any: whether any rule acts before storing.
        are_for: whether any is for the streams of these runs; else nothing becomes of them.
        time_key: where streams have their time; None where no rule says so.
    """

    def __init__(self, rules: CompiledRules, metrics: Metrics) -> None:
        self._metrics = metrics
        self.replace(rules)

    def replace(self, rules: CompiledRules) -> None:
        """From now on these are in force; what the old ones remember of streams is forgotten."""
        self._rules = rules
        self.are_any = bool(rules.steps)
        self.are_for = rules.are_for
        self.time_key: TimeKeyOf | None = rules.time_key

    def apply(self, runs: tuple[Run, ...], *, again: bool = False) -> Ruled:
        """What is to be stored of ``runs``, and set aside."""
        ruled = self._rules.apply(runs, again=again)
        if ruled.left_out:
            for name, times in Tally(step.name for step in ruled.left_out).items():
                self._metrics.add("records_dropped_total", times, name)
        return ruled

    def turn_of(self, runs: tuple[Run, ...]) -> int:
        """How many of these records are to be dealt with before others have their turn; 0 for all:
        no rule is for them.
        """
        if not self.are_for(runs):
            return 0
        return TURN_RECORDS_WITH_HOOKS if self._rules.hooks else TURN_RECORDS

    def hooks_off(self) -> tuple[str, ...]:
        """Rules whose hooks were too slow and are not called any more."""
        return tuple(hook.rule for hook in self._rules.hooks if hook.is_off)
