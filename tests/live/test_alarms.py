from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import trio
from trio.testing import MockClock

from edge_agent.config import Alarm, Duration, Rule
from edge_agent.live import AlarmBoard, rule_consumer, run_alarms
from edge_agent.live.alarms import in_words
from edge_agent.values.record import format_time
from tests.manual_clock import ManualClock
from tests.waist import NOW_NS, SECOND, Waist, open_waist, run_of

BASE_S = NOW_NS // SECOND - 3600
HOT = Alarm(field="t", above=30, clear_below=28)
SILENT = Alarm(absent=Duration(300))


def rule(alarm: Alarm = HOT, **rest: Any) -> Rule:
    known: dict[str, Any] = {"name": "hot", "streams": ("s/*",), "into": "alarm/{stream}"}
    return Rule(alarm=alarm, **(known | rest))


def readings(*pairs: tuple[float, float], stream: str = "s/1") -> Any:
    """A run of one record for each (second, value)."""
    return run_of(*({"time": BASE_S + at, "t": value} for at, value in pairs), stream=stream)


async def told(waist: Waist) -> list[tuple[str, int, dict[str, Any]]]:
    return [
        (record.stream, record.time_ns // SECOND - BASE_S, record.fields)
        for record in await waist.records()
        if record.source.startswith("$rule/")
    ]


def since(at: float) -> str:
    return format_time((BASE_S + round(at)) * SECOND)


def start(waist: Waist, nursery: trio.Nursery, *rules: Rule) -> AlarmBoard:
    board = AlarmBoard(waist.metrics)

    async def run(one: Rule) -> None:
        await run_alarms(waist.log, one, clock=waist.clock, metrics=waist.metrics, board=board)

    for one in rules or (rule(),):
        nursery.start_soon(run, one)
    return board


async def turn(waist: Waist, seconds: int) -> None:
    """Let time pass on all clocks."""
    for _ in range(seconds // 10):
        waist.clock.advance(10)
        await trio.sleep(10)


async def test_an_alarm_becomes_a_record_when_it_goes_on_and_when_it_goes_off(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_waist(tmp_path) as waist, trio.open_nursery() as nursery:
        board = start(waist, nursery)
        await waist.put(readings((0, 20), (1, 31), (2, 33)))
        await trio.sleep(1)
        on = {"state": "on", "value": 31, "since": since(1), "of": "s/1"}
        assert await told(waist) == [("alarm/s/1", 1, on)]
        (shown,) = board.listing()
        assert (shown.rule, shown.meaning, shown.stream) == ("hot", "t above 30", "s/1")
        assert (shown.since_ns, shown.value) == ((BASE_S + 1) * SECOND, 31)
        assert waist.metrics.get("alarm_active", "hot") == 1
        await waist.put(readings((3, 29), (4, 27)))
        await trio.sleep(1)
        off = {"state": "off", "value": 27, "since": since(1), "of": "s/1"}
        assert await told(waist) == [("alarm/s/1", 1, on), ("alarm/s/1", 4, off)]
        assert board.listing() == []
        assert waist.metrics.get("alarm_active", "hot") == 0
        await waist.put(readings((1, 40)))
        await trio.sleep(1)
        assert waist.metrics.get("records_late_total", "hot") == 1
        nursery.cancel_scope.cancel()


async def test_without_a_name_for_it_the_stream_is_the_agents_own(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_waist(tmp_path) as waist, trio.open_nursery() as nursery:
        start(waist, nursery, rule(into=None))
        await waist.put(readings((0, 31)))
        await trio.sleep(1)
        assert [stream for stream, _, _ in await told(waist)] == ["$rule/hot/s/1"]
        nursery.cancel_scope.cancel()


async def test_an_alarm_may_be_about_what_another_rule_derived(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    again = rule(
        Alarm(where='state == "on"'), name="again", streams=("alarm/**",), into="x", derived=True
    )
    async with open_waist(tmp_path) as waist, trio.open_nursery() as nursery:
        start(waist, nursery, rule(), again)
        await waist.put(readings((0, 31)))
        await trio.sleep(1)
        assert [stream for stream, _, _ in await told(waist)] == ["alarm/s/1", "x"]
        nursery.cancel_scope.cancel()


async def test_what_is_on_is_shown_again_after_a_restart(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    clock = ManualClock(NOW_NS)
    for _ in range(2):
        async with open_waist(tmp_path, clock=clock) as waist, trio.open_nursery() as nursery:
            board = start(waist, nursery)
            if not await waist.records():
                await waist.put(readings((0, 31)))
            await trio.sleep(1)
            assert [one.stream for one in board.listing()] == ["s/1"]
            assert len(await told(waist)) == 1
            nursery.cancel_scope.cancel()


async def test_a_silent_stream_is_told_once_and_so_is_its_return(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_waist(tmp_path) as waist, trio.open_nursery() as nursery:
        start(waist, nursery, rule(SILENT))
        await waist.put(readings((0, 1)), readings((0, 1), stream="s/2"))
        for _ in range(5):
            await turn(waist, 100)
            await waist.put(readings((0, 1), stream="s/2"))
        assert await told(waist) == [
            ("alarm/s/1", 3900, {"state": "on", "value": 300, "since": since(3600), "of": "s/1"})
        ]
        await waist.put(readings((0, 1)))
        await trio.sleep(1)
        assert (await told(waist))[1:] == [
            ("alarm/s/1", 4100, {"state": "off", "value": 500, "since": since(3600), "of": "s/1"})
        ]
        nursery.cancel_scope.cancel()


async def test_absence_is_told_although_the_clock_was_never_set(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    clock = ManualClock(NOW_NS, synced=False)
    async with open_waist(tmp_path, clock=clock) as waist, trio.open_nursery() as nursery:
        start(waist, nursery, rule(SILENT))
        await waist.put(readings((0, 1)))
        await turn(waist, 290)
        assert await told(waist) == []
        await turn(waist, 20)
        ((_, at, fields),) = await told(waist)
        assert (at, fields["state"], fields["clock_unset"]) == (3900, "on", True)
        nursery.cancel_scope.cancel()


async def test_what_was_due_while_the_agent_was_down_is_told_a_minute_after_its_start(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    clock = ManualClock(NOW_NS)
    async with open_waist(tmp_path, clock=clock) as waist, trio.open_nursery() as nursery:
        start(waist, nursery, rule(SILENT))
        await waist.put(readings((0, 1)), readings((0, 1), stream="s/2"))
        nursery.cancel_scope.cancel()
    clock.advance(10_000)
    async with open_waist(tmp_path, clock=clock) as waist, trio.open_nursery() as nursery:
        start(waist, nursery, rule(SILENT))
        await turn(waist, 30)
        await waist.put(readings((0, 1), stream="s/2"))
        await turn(waist, 20)
        assert await told(waist) == []
        await turn(waist, 20)
        assert [(stream, at) for stream, at, _ in await told(waist)] == [("alarm/s/1", 3900)]
        nursery.cancel_scope.cancel()


async def test_cuts_between_any_two_steps_change_nothing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    rules = (
        rule(Alarm(field="t", above=60, clear_below=40, hold=Duration(5)), name="high"),
        rule(Alarm(field="t", fall=50, per=Duration(30)), name="fall", into="fall/{stream}"),
    )
    chance, clock = random.Random(5), ManualClock(NOW_NS)
    events = [
        (f"s/{chance.randrange(3)}", step * 3 + chance.randrange(-5, 5), chance.randrange(100))
        for step in range(120)
    ]
    (tmp_path / "cut").mkdir()
    (tmp_path / "whole").mkdir()
    sent, cuts = 0, 0
    while sent < len(events):
        cuts += 1
        async with open_waist(tmp_path / "cut", clock=clock) as waist:
            with trio.move_on_after(chance.random() * 0.2):
                async with trio.open_nursery() as nursery:
                    start(waist, nursery, *rules)
                    await trio.sleep(chance.random() * 0.1)
                    while sent < len(events):
                        stream, at, value = events[sent]
                        sent += 1
                        with trio.CancelScope(shield=True):
                            await waist.put(readings((at, value), stream=stream))
                        await trio.sleep(chance.random() * 0.02)
    assert cuts > 5
    found = []
    for name in ("cut", "whole"):
        async with (
            open_waist(tmp_path / name, clock=clock) as waist,
            trio.open_nursery() as nursery,
        ):
            if name == "whole":
                await waist.put(
                    *(readings((at, value), stream=stream) for stream, at, value in events)
                )
            start(waist, nursery, *rules)
            await trio.sleep(10)
            floor, _ = await waist.log.position(rule_consumer("high"), "main")
            assert floor > 0
            found.append(
                {
                    derived: [one[1:] for one in await told(waist) if one[0] == derived]
                    for derived, _, _ in await told(waist)
                }
            )
            nursery.cancel_scope.cancel()
    assert found[0] == found[1]
    assert len(found[0]) == 6


def test_an_alarm_is_told_in_words() -> None:
    hold = Duration(120)
    words = {
        in_words(alarm)
        for alarm in (
            HOT,
            Alarm(field="t", below=2.5, hold=hold),
            Alarm(field="t", rise=5, per=hold),
            Alarm(field="t", fall=5, per=hold),
            Alarm(where="open and not staff", hold=hold),
            SILENT,
        )
    }
    assert words == {
        "t above 30", "t below 2.5 for 2m", "t up by more than 5 in 2m",
        "t down by more than 5 in 2m", "open and not staff for 2m", "no data for 5m",
    }  # fmt: skip
