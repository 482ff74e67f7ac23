from __future__ import annotations

import logging
from itertools import pairwise

import pytest
import trio
import trio.testing

from edge_agent.metrics import Metrics
from edge_agent.supervise import (
    TOLD_EVERY_S,
    FirstStart,
    in_a_word,
    supervised,
    supervised_once_started,
)

Clock = trio.testing.MockClock


async def test_a_task_that_fails_is_run_again_until_it_returns(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    times: list[float] = []

    async def task() -> None:
        times.append(trio.current_time())
        if len(times) < 4:
            raise ZeroDivisionError("by zero")

    metrics = Metrics()
    await supervised("the thing", task, metrics=metrics)
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert waits == [1.0, 2.0, 4.0]
    assert metrics.get("own_mistakes_total", "the thing") == 3
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1 and errors[0].exc_info is not None
    assert "the thing failed" in errors[0].getMessage()
    assert "ZeroDivisionError: by zero" in errors[0].getMessage()


async def test_a_mistake_is_told_once_an_hour_and_another_one_at_once(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async def task() -> None:
        if trio.current_time() > 1.5 * TOLD_EVERY_S:
            raise ValueError(f"at {trio.current_time()}")
        raise KeyError(f"at {trio.current_time()}")

    with trio.move_on_after(2.2 * TOLD_EVERY_S):
        await supervised("it", task, metrics=Metrics())
    told = [
        record.getMessage().split("(")[1].split(":")[0]
        for record in caplog.records
        if record.levelno >= logging.ERROR
    ]
    assert told == ["KeyError", "KeyError", "ValueError"]


async def test_cancelling_ends_it_and_a_mistake_beside_the_cancellation_is_still_told(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async def task() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ZeroDivisionError

    with trio.move_on_after(1):
        await supervised("it", task, metrics=Metrics())
    assert "ZeroDivisionError" in caplog.text


async def test_what_is_no_exception_passes(autojump_clock: Clock) -> None:
    async def task() -> None:
        raise SystemExit(3)

    with pytest.raises((SystemExit, BaseExceptionGroup)):
        await supervised("it", task, metrics=Metrics())


async def test_what_fails_before_it_has_started_is_the_callers(autojump_clock: Clock) -> None:
    async def task(status: FirstStart[str]) -> None:
        raise OSError("taken")

    async with trio.open_nursery() as nursery:
        with pytest.raises(OSError, match="taken"):
            await nursery.start(_starting, task)


async def test_what_fails_after_it_has_started_is_run_again(autojump_clock: Clock) -> None:
    runs: list[int] = []

    async def task(status: FirstStart[str]) -> None:
        runs.append(1)
        status.started(f"run {len(runs)}")
        if len(runs) < 3:
            raise ZeroDivisionError
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        assert await nursery.start(_starting, task) == "run 1"
        await trio.sleep(10)
        assert len(runs) == 3
        nursery.cancel_scope.cancel()


async def _starting(
    task: object, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
) -> None:
    await supervised_once_started(
        "it",
        task,  # type: ignore[arg-type]  # nursery.start hands its arguments on untyped
        metrics=Metrics(),
        task_status=task_status,
    )


def test_in_a_word_is_the_first_of_many_on_one_line() -> None:
    group = ExceptionGroup("many", [ExceptionGroup("more", [ValueError("a\nb")]), KeyError(1)])
    assert in_a_word(group) == "ValueError: a b"
    assert in_a_word(ZeroDivisionError()) == "ZeroDivisionError"
