"""Supervision: a task that fails on a mistake of ours is reported, and run again after a wait.

For tasks without which the agent can still take and keep what it is sent. An exception that nobody
expected ends such a task alone; without this it would end the nursery, and with it the agent, which
then would meet the same mistake again after each restart. The table in ``agent.py`` says which
tasks are supervised, and which must end the agent.

The same mistake is told with its stack once an hour; in between it is only counted
(``own_mistakes_total``). While a task rests after one, ``task_resting`` and health say so.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import trio

from edge_agent.metrics import Metrics

logger = logging.getLogger(__name__)

#: The first wait doubles up to the longest; a task that has run for so long begins anew.
WAIT_S, WAIT_MAX_S, LASTING_S = 1.0, 300.0, 600.0
#: The same mistake shows its stack this often.
TOLD_EVERY_S = 3600.0
#: Mistakes that are remembered as told; when there are more, all are forgotten.
_REMEMBERED = 100

Started = TypeVar("Started")
Rest = Callable[[Exception, float], Awaitable[None]]
"""Waits after a mistake for about so many seconds, in the task's own way."""


class FirstStart(Generic[Started]):
    """Passes on that the task has started, the first time."""

    def __init__(self, inner: trio.TaskStatus[Started]) -> None:
        self._inner = inner
        self.has_started = False

    def started(self, value: Started) -> None:
        """As ``trio.TaskStatus.started``."""
        if not self.has_started:
            self.has_started = True
            self._inner.started(value)


class Mistakes:
    """Tells of mistakes, each with its stack now and then; and counts them."""

    def __init__(self, what: str, metrics: Metrics) -> None:
        self._what, self._metrics = what, metrics
        self._told: dict[str, float] = {}

    def tell(self, group: ExceptionGroup[Exception], wait_s: float) -> None:
        """``group`` ended the task, which is run again in ``wait_s``."""
        self._metrics.add("own_mistakes_total", 1, self._what)
        which, now = _place_of(group), trio.current_time()
        if now - self._told.get(which, -TOLD_EVERY_S) < TOLD_EVERY_S:
            logger.debug("%s failed again: %s", self._what, which)
            return
        if len(self._told) >= _REMEMBERED:
            self._told.clear()
        self._told[which] = now
        text = "%s failed on a mistake of the agent's own (%s); everything else goes on, and it is run again in %.0f s. Please report this:"  # noqa: E501 - one sentence
        logger.error(text, self._what, in_a_word(group), wait_s, exc_info=group)


async def supervised(
    what: str,
    task: Callable[[], Awaitable[None]],
    *,
    metrics: Metrics,
    rest: Rest | None = None,
    longest_s: float = WAIT_MAX_S,
) -> None:
    """Run ``task`` until it returns, and again where it fails.

    Args:
        what: the task, as a person would call it.
        task: starts from nothing each time.
        metrics: where mistakes are counted.
        rest: how to wait in between; a plain sleep where it is None.
        longest_s: the longest wait; less for a task that others wait for.
    """
    mistakes, failures = Mistakes(what, metrics), 0
    while True:
        began = trio.current_time()
        found: list[Exception] = []
        wait_s = min(WAIT_S * 2 ** min(failures, 30), longest_s)
        try:
            await task()
        except* Exception as group:  # noqa: BLE001 - a mistake is what nobody foresaw
            # With a cancellation beside it this is all that is left of the mistake.
            mistakes.tell(group, wait_s)
            found.append(group)
        if not found:
            return
        lasted = trio.current_time() - began >= LASTING_S
        failures = 1 if lasted else failures + 1
        if rest is None:
            metrics.set("task_resting", 1, what)
            await trio.sleep(wait_s)
            metrics.set("task_resting", 0, what)
        else:
            await rest(found[0], wait_s)


async def supervised_once_started(
    what: str,
    task: Callable[[FirstStart[Started]], Awaitable[None]],
    *,
    metrics: Metrics,
    task_status: trio.TaskStatus[Started] = trio.TASK_STATUS_IGNORED,
) -> None:
    """As `supervised`; what fails before it has started for the first time is the caller's."""
    once = FirstStart(task_status)
    before: list[Exception] = []

    async def attempt() -> None:
        try:
            await task(once)
        except Exception as error:
            if once.has_started:
                raise
            before.append(error)

    await supervised(what, attempt, metrics=metrics)
    if before:
        raise before[0]


def in_a_word(error: BaseException) -> str:
    """``ZeroDivisionError: division by zero``; of several together, the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _place_of(error: BaseException) -> str:
    """What kind of mistake, and where: not what it says, which may differ each time."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__} at {where}"
