from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from edge_agent.config import Alarm, Duration
from edge_agent.live.alarm_state import TRAIL_MAX, AlarmStates
from edge_agent.live.window_state import AHEAD_NS_MAX
from edge_agent.store import STATE_BYTES_MAX
from edge_agent.system.clock import Reading
from edge_agent.values.record import Record
from tests.waist import NOW_NS, SECOND

Told = tuple[str, str, float, float, float | None]


def alarm(**given: Any) -> Alarm:
    for key in ("hold", "per", "absent"):
        if key in given:
            given[key] = Duration(given[key])
    if not given.keys() & {"where", "absent"}:
        given.setdefault("field", "t")
    return Alarm(**given)


def record(at_s: float, seq: int = 1, stream: str = "a", /, **fields: Any) -> Record:
    return Record(
        "main", seq, stream, NOW_NS + round(at_s * SECOND), "sensor", NOW_NS, True, "s", 0, fields
    )


def told(states: AlarmStates) -> list[Told]:
    return [
        (
            change.stream, "on" if change.is_on else "off", (change.time_ns - NOW_NS) / SECOND,
            (change.since_ns - NOW_NS) / SECOND, change.value,
        )
        for change in states.take_changes()
    ]  # fmt: skip


def at(second: float, *, synced: bool = True, boot: int = 1) -> Reading:
    """The agent's clocks at that second."""
    ns = round(second * SECOND)
    return Reading(NOW_NS + ns, ns, boot.to_bytes(16, "big"), synced)


UNSET = at(0, synced=False)


def run(states: AlarmStates, *pairs: tuple[float, Any]) -> list[Told]:
    """What becomes of these (second, t)."""
    for seq, (at, value) in enumerate(pairs, 1):
        states.add(record(at, seq, t=value), UNSET)
    return told(states)


def test_an_alarm_is_told_when_it_goes_on_and_off_and_never_in_between() -> None:
    states = AlarmStates(alarm(above=30))
    assert run(states, (0, 29), (1, 31), (2, 32), (3, 33), (4, 30), (5, 20), (6, 31.5)) == [
        ("a", "on", 1, 1, 31),
        ("a", "off", 4, 1, 30),
        ("a", "on", 6, 6, 31.5),
    ]


@pytest.mark.parametrize(
    "given, values",
    [
        ({"above": 30, "clear_below": 28}, (30, 31, 29, 28, 31, 27.5, 29)),
        ({"below": 5, "clear_above": 7}, (5, 4, 6, 7, 4, 8, 6)),
        ({"below": -5, "clear_above": -3}, (-5, -6, -4, -3, -6, -2, -4)),
    ],
    ids=str,
)
def test_between_where_it_goes_on_and_where_it_clears_nothing_changes(
    given: dict[str, float], values: tuple[float, ...]
) -> None:
    changes = run(AlarmStates(alarm(**given)), *enumerate(values))
    assert [(state, at, value) for _, state, at, _, value in changes] == [
        ("on", 1, values[1]),
        ("off", 5, values[5]),
    ]


def test_a_condition_must_have_held_so_long_by_the_records_own_time() -> None:
    states = AlarmStates(alarm(above=30, clear_below=28, hold=120))
    pairs = [(0, 31), (60, 31), (90, 29), (100, 31), (219, 32), (220, 33), (230, 27)]
    assert run(states, *pairs) == [
        ("a", "on", 220, 100, 33),
        ("a", "off", 230, 100, 27),
    ]


def test_a_rise_is_told_against_the_least_value_of_its_time() -> None:
    states = AlarmStates(alarm(rise=5, per=60, clear_below=1))
    pairs = [(0, 20), (30, 18), (60, 22), (90, 24), (91, 24), (120, 23), (151, 23.5)]
    assert run(states, *pairs) == [("a", "on", 90, 90, 6.0), ("a", "off", 151, 90, 0.5)]


def test_a_fall_is_told_as_a_rise_is() -> None:
    states = AlarmStates(alarm(fall=10, per=600))
    pairs = [(0, 100), (300, 95), (600, 89), (700, 88), (901, 87)]
    assert run(states, *pairs) == [("a", "on", 600, 600, 11.0), ("a", "off", 700, 600, 7.0)]


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(-20, 20)), max_size=60))
def test_rises_are_those_of_a_naive_computation(steps: list[tuple[int, int]]) -> None:
    at, pairs = 0, []
    for step, value in steps:
        at += step
        pairs.append((at, value))
    expected, is_on = [], False
    for index, (at, value) in enumerate(pairs):
        rise = value - min(v for t, v in pairs[: index + 1] if t >= at - 60)
        if (rise > 10) != is_on:
            is_on = not is_on
            expected.append(("on" if is_on else "off", at, rise))
    found = run(AlarmStates(alarm(rise=10, per=60)), *pairs)
    assert [(state, at, value) for _, state, at, _, value in found] == expected


def test_what_a_rise_remembers_is_bounded() -> None:
    states = AlarmStates(alarm(rise=10**6, per=60))
    run(states, *((n / 100, n) for n in range(20_000)))
    (stream,) = states._streams.values()
    assert len(stream.trail) <= TRAIL_MAX + 1


def test_a_filter_is_a_condition_too() -> None:
    states = AlarmStates(alarm(where='open and not site == "north"', hold=10))
    found: list[tuple[float, dict[str, Any]]] = [
        (0, {"open": True}),
        (10, {"open": True}),
        (20, {"open": True, "site": "north"}),
        (30, {}),
    ]
    for seq, (at, fields) in enumerate(found):
        states.add(record(at, seq, **fields), UNSET)
    assert told(states) == [("a", "on", 10, 0, None), ("a", "off", 20, 0, None)]


@pytest.mark.parametrize(
    "field", ['params."switch:0".apower', "`params.x`", "params.list.1", "params.x"]
)
def test_a_field_within_maps_is_found_by_its_path(field: str) -> None:
    states = AlarmStates(alarm(field=field, above=5))
    params = {"switch:0": {"apower": 9}, "list": [1, 9]}
    states.add(record(0, 1, params=params, **{"params.x": 9}), UNSET)
    assert [state for _, state, *_ in told(states)] == ["on"]


@pytest.mark.parametrize("value", [None, "hot", True, float("nan"), [40]])
def test_what_is_no_number_changes_nothing(value: Any) -> None:
    states = AlarmStates(alarm(above=30))
    assert run(states, (0, 31), (1, value), (2, 31)) == [("a", "on", 0, 0, 31)]
    states.add(record(3, 9, h=1), UNSET)
    assert told(states) == []


def test_what_is_older_than_the_newest_says_nothing_about_now() -> None:
    states = AlarmStates(alarm(above=30))
    assert run(states, (10, 31), (9, 20), (10, 20)) == [
        ("a", "on", 10, 10, 31),
        ("a", "off", 10, 10, 20),
    ]
    assert states.late == 1


def test_one_wild_clock_reading_does_not_silence_an_alarm() -> None:
    states = AlarmStates(alarm(above=30))
    states.add(record(AHEAD_NS_MAX / SECOND + 9, 1, t=1), at(0))
    states.add(record(3600, 2, t=31), at(0))
    states.add(record(5, 3, t=20), at(5))
    assert told(states) == [("a", "on", 0, 0, 31), ("a", "off", 5, 0, 20)]
    assert states.late == 1


def test_with_another_world_holding_begins_anew_and_what_is_on_stays_on() -> None:
    states, boot = AlarmStates(alarm(above=30, hold=60)), ("", b"b" * 16)

    def unset(at_s: float, t: float) -> Record:
        return structs.replace(record(at_s, t=t), quality="arrival", synced=False)

    in_2099_s = 73 * 365 * 86_400
    states.add(unset(in_2099_s, 31), UNSET, boot)
    states.add(record(100, t=31), at(100))
    assert told(states) == []
    states.add(record(160, t=32), at(160))
    assert [change.clock_unset for change in states.take_changes()] == [False]
    states.add(unset(in_2099_s, 31), UNSET, boot)
    assert told(states) == []
    states.add(unset(in_2099_s + 1, 9), UNSET, boot)
    (change,) = states.take_changes()
    assert (change.is_on, change.clock_unset, change.since_ns) == (
        False, True, NOW_NS + 100 * SECOND,
    )  # fmt: skip


def test_no_data_for_so_long_is_told_and_the_next_record_ends_it() -> None:
    states = AlarmStates(alarm(absent=300))
    states.add(record(-5), at(0))
    assert states.absences_due(at(100)) == 200 * SECOND
    states.pass_time(at(299))
    assert told(states) == []
    states.pass_time(at(310))
    assert told(states) == [("a", "on", 300, 0, 300)]
    assert states.absences_due(at(310)) is None
    assert list(states.active()) == [("a", NOW_NS, 300)]
    states.add(record(350), at(400))
    assert told(states) == [("a", "off", 400, 0, 400)]
    assert states.absences_due(at(400)) == 300 * SECOND


def test_within_a_boot_absence_is_told_whatever_happens_to_the_wall_clock() -> None:
    states = AlarmStates(alarm(absent=300))
    states.add(record(-5), at(0, synced=False))
    states.pass_time(structs.replace(at(299), wall_ns=0))
    assert told(states) == []
    states.pass_time(structs.replace(at(300), wall_ns=0))
    (change,) = states.take_changes()
    assert (change.is_on, change.time_ns, change.clock_unset) == (True, NOW_NS + 300 * SECOND, True)
    states.add(record(-5), structs.replace(at(301), wall_ns=2 * NOW_NS))
    (change,) = states.take_changes()
    assert (change.is_on, change.value, change.clock_unset) == (False, 301, False)


def test_over_a_reboot_absence_goes_by_the_wall_clock_where_both_boots_had_it_set() -> None:
    for was_set, is_set, expected in (
        (True, True, 300), (True, False, 1300), (False, True, 1300), (False, False, 1300),
    ):  # fmt: skip
        states = AlarmStates(alarm(absent=300))
        states.add(record(-5), at(0, synced=was_set))
        again = AlarmStates(alarm(absent=300))
        again.decode(states.encode())
        for second in (1000, 1299, 1300):
            again.pass_time(at(second, boot=2, synced=is_set))
        (change,) = told(again)
        assert change[:3] == ("a", "on", expected)


def test_a_clock_that_was_ahead_before_a_reboot_delays_an_absence_by_no_more_than_its_time() -> (
    None
):
    states = AlarmStates(alarm(absent=300))
    states.add(record(0), at(10**6))
    states.pass_time(at(0, boot=2))
    states.pass_time(at(300, boot=2))
    assert told(states) == [("a", "on", 300, 0, 300)]


def test_a_rule_that_says_something_else_keeps_what_is_on_until_a_record_says_otherwise() -> None:
    before = AlarmStates(alarm(above=30))
    run(before, (0, 31))
    states = AlarmStates(alarm(above=40, hold=60))
    states.decode(before.encode())
    assert [name for name, *_ in states.active()] == ["a"]
    assert run(states, (1, 35)) == [("a", "off", 1, 0, 35)]


def test_streams_that_nothing_is_known_of_make_room_and_others_are_left_out() -> None:
    states = AlarmStates(alarm(above=30), streams_max=10)
    for number in range(40):
        states.add(record(number, number, f"s{number}", t=1), UNSET)
    assert (len(states._streams), states.left_out) == (10, 0)
    for number in range(40):
        states.add(record(number, number, f"on{number}", t=31), UNSET)
    assert (len(states._streams), states.left_out) == (10, 30)


def test_absence_forgets_no_stream_for_want_of_room() -> None:
    states = AlarmStates(alarm(absent=300), streams_max=10)
    for number in range(12):
        states.add(record(number, number, f"s{number}"), at(0))
    states.pass_time(at(300))
    assert [stream for stream, *_ in told(states)] == sorted(f"s{n}" for n in range(10))
    assert states.left_out == 2


def test_a_state_that_is_too_large_leaves_streams_out_and_counts_them() -> None:
    states = AlarmStates(alarm(absent=300), streams_max=10_000)
    for number in range(10_000):
        name = f"{pow(3, number, 2**61 - 1):064x}".encode().hex()
        states.add(record(number, number, name), at(number))
    assert len(states.encode()) <= STATE_BYTES_MAX
    assert states.left_out == 10_000 - len(states._streams) or states.left_out == 0


CONDITIONS = [
    {"above": 5, "clear_below": 2},
    {"below": -2, "hold": 8},
    {"rise": 8, "per": 60, "clear_below": 2},
    {"fall": 8, "per": 60, "hold": 20},
    {"where": "t > 3", "hold": 10},
]


@pytest.mark.parametrize("given_", CONDITIONS, ids=str)
def test_wherever_it_is_cut_and_taken_up_again_the_changes_are_the_same(
    given_: dict[str, Any],
) -> None:
    seeded = random.Random(str(given_))
    records = [
        record(seq * 7 + seeded.randrange(-10, 10), seq, seeded.choice("ab"),
               t=seeded.randrange(-9, 9))
        for seq in range(1, 80)
    ]  # fmt: skip

    def changes(cuts: set[int]) -> list[Told]:
        states, found = AlarmStates(alarm(**given_)), []
        for index, one in enumerate(records):
            if index in cuts:
                found += told(states)
                state, states = states.encode(), AlarmStates(alarm(**given_))
                states.decode(state)
            states.add(one, UNSET)
        return found + told(states)

    whole = changes(set())
    assert len(whole) > 3
    for cut in range(len(records)):
        assert changes({cut}) == whole
    assert changes(set(range(len(records)))) == whole
