"""The step that asks a function in Python: ``hook = "module:function"``.

It is called with a record's stream and a copy of its fields, and answers with fields, with None to
leave the record out, or with a list of (stream, fields). What it makes is looked at as if a sensor
had sent it. An exception sends the record to quarantine.

**Bounded in time.** The function runs in the event loop, and nothing can interrupt it: so each call
is measured. One that takes longer than the rule's ``hook_budget`` is counted, and the journal says
so once. After `SLOW_IN_A_ROW` of them the function is not called any more until the rules are read
again, its records pass as they are, and health says so.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from typing import Any

from edge_agent.errors import ConfigError
from edge_agent.metrics import Metrics
from edge_agent.rules.steps import Fields, Outcome, Spot, Unfit

logger = logging.getLogger(__name__)

Function = Callable[[str, dict[str, Any]], Any]

SLOW_IN_A_ROW = 100
#: Of the answer to one record.
RECORDS_MAX = 1000
CODE = "rule_failed"


def load_function(name: str, key: str) -> Function:
    """The function that ``module:function`` names.

    Raises:
        ConfigError: there is none, under the ``key`` of the configuration.
    """
    module, _, attribute = name.partition(":")
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:
        # Whatever a module raises while it is imported, an end of the process too: it cannot be
        # used, and the agent stays.
        raise ConfigError(key, "a function that can be imported", f"{name}: {error}") from error
    if not callable(function):
        raise ConfigError(key, "a function", f"{name}, which is none")
    named: Function = function
    return named


class Hook:
    """A function of somebody else's as a step; see the module.

    Args:
        rule: its rule's name.
        function: what is asked.
        budget_s: how long a call may take.
        timer: seconds that pass, for measuring.
        metrics: counts the calls that take longer.
    """

    def __init__(
        self,
        rule: str,
        function: Function,
        budget_s: float,
        timer: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self.rule = rule
        self.is_off = False
        self._function, self._budget_s = function, budget_s
        self._timer, self._metrics = timer, metrics
        self._slow_in_a_row = 0
        self._was_told = False

    def act(self, fields: Fields, spot: Spot) -> Outcome:
        """Ask it about one record."""
        if self.is_off:
            return fields
        begin = self._timer()
        try:
            answer = self._function(spot.stream, dict(fields))
        except Exception as error:
            raise Unfit(CODE, f"rule {self.rule}: {type(error).__name__}: {error}") from error
        finally:
            self._judge(self._timer() - begin)
        if answer is None or isinstance(answer, dict):
            return answer
        if not isinstance(answer, list) or len(answer) > RECORDS_MAX:
            raise Unfit(CODE, f"rule {self.rule}: the hook answered with {answer!r:.60}")
        return [self._pair(each) for each in answer]

    def _pair(self, each: object) -> tuple[str, Fields]:
        match each:
            case (str() as stream, dict() as fields):
                return stream, fields
        raise Unfit(CODE, f"rule {self.rule}: the hook answered with a list that has {each!r:.60}")

    def _judge(self, took_s: float) -> None:
        if took_s <= self._budget_s:
            self._slow_in_a_row = 0
            return
        self._slow_in_a_row += 1
        self._metrics.add("hook_calls_slow_total", 1, self.rule)
        if not self._was_told:
            self._was_told = True
            logger.warning(
                "rule %s: a call of its hook took %.1f ms, of %.1f ms that it may take; everything"
                " waits meanwhile (told once)",
                self.rule, took_s * 1000, self._budget_s * 1000,
            )  # fmt: skip
        if self._slow_in_a_row >= SLOW_IN_A_ROW:
            self.is_off = True
            logger.error(
                "rule %s: its hook was too slow %d times in a row and is not called any more; its"
                " records pass as they are",
                self.rule, SLOW_IN_A_ROW,
            )  # fmt: skip
