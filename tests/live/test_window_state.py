from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from edge_agent.live import window_state
from edge_agent.live.window_state import AHEAD_NS_MAX, OpenWindows
from edge_agent.store.types import STATE_BYTES_MAX
from edge_agent.values.aggregates import FIELDS_MAX, Summary
from edge_agent.values.record import Record
from tests.waist import NOW_NS, SECOND

MINUTE = 60 * SECOND
BASE = NOW_NS - NOW_NS % MINUTE


def record(at_s: float, stream: str = "a", /, **fields: Any) -> Record:
    record.seq += 1  # type: ignore[attr-defined]  # a counter that nobody resets
    return Record(
        "main", record.seq, stream, BASE + round(at_s * SECOND), "sensor",  # type: ignore[attr-defined]  # as above
        NOW_NS, True, "s", 0, fields or {"t": at_s},
    )  # fmt: skip


record.seq = 0  # type: ignore[attr-defined]  # as above


def windows(**rest: Any) -> OpenWindows:
    return OpenWindows(**({"window_ns": MINUTE, "lateness_ns": 10 * SECOND} | rest))


def starts(made: OpenWindows) -> list[tuple[str, int]]:
    return [(w.stream, (w.start_ns - BASE) // SECOND) for w in made.take_closed()]


def test_a_window_closes_when_the_watermark_reaches_its_end() -> None:
    made = windows()
    for at in (0, 30, 59.9, 60, 69.9):
        made.add(record(at), None)
    assert made.closed == 0
    made.add(record(70), None)
    (closed,) = made.take_closed()
    assert (closed.stream, closed.start_ns) == ("a", BASE)
    assert closed.fields["t"].figures()["count"] == 3
    assert made.open == 1


def test_out_of_order_records_count_until_their_window_closes_then_they_are_late() -> None:
    made = windows()
    for at in (50, 65, 40, 69, 59):
        made.add(record(at), None)
    assert made.late == 0
    made.add(record(71), None)
    (closed,) = made.take_closed()
    assert closed.fields["t"].figures()["count"] == 3
    assert closed.fields["t"].last == 59
    made.add(record(58), None)
    assert (made.late, made.closed) == (1, 0)


def test_streams_have_watermarks_of_their_own() -> None:
    made = windows()
    made.add(record(0, "slow"), None)
    made.add(record(1000, "quick"), None)
    assert starts(made) == []
    made.add(record(100, "slow"), None)
    assert starts(made) == [("slow", 0)]


def test_windows_are_aligned_to_utc() -> None:
    day = 86_400 * SECOND
    made = windows(window_ns=day)
    made.add(record(0), None)
    made.add(record(2 * 86_400), None)
    (closed,) = made.take_closed()
    assert closed.start_ns % day == 0


def test_only_named_fields_and_only_numbers_are_summarised() -> None:
    made = windows(fields=("t", "h"))
    made.add(record(0, t=1, h="text", x=5), None)
    made.add(record(1, t=True, h=2.5), None)
    made.add(record(2, x=1), None)
    made.close_all()
    (closed,) = made.take_closed()
    counts = {field: summary.count for field, summary in closed.fields.items()}
    assert counts == {"t": 1, "h": 1}


def test_without_names_every_number_is_up_to_a_limit() -> None:
    made = windows()
    many: dict[str, Any] = {f"f{i}": i for i in range(100)}
    made.add(record(0, **{"n" * 101: 1}, **many), None)
    made.close_all()
    (closed,) = made.take_closed()
    assert len(closed.fields) == FIELDS_MAX
    assert "n" * 101 not in closed.fields


def test_one_wild_clock_reading_does_not_make_what_follows_late() -> None:
    made = windows()
    clock_ns = BASE + 5 * SECOND
    made.add(record(5), clock_ns)
    made.add(record(AHEAD_NS_MAX / SECOND + 60), clock_ns)
    assert made.late == 1
    made.add(record(3600), clock_ns + SECOND)
    for at in (7, 20, 59):
        made.add(record(at), BASE + at * SECOND)
    assert made.late == 1
    made.add(record(70.1), BASE + 71 * SECOND)
    closed = made.take_closed()
    assert [(c.start_ns - BASE) // MINUTE for c in closed] == [0]
    assert closed[0].fields["t"].count == 4


def test_without_a_synced_clock_the_records_alone_decide() -> None:
    made = windows()
    made.add(record(0), None)
    made.add(record(10**9), None)
    assert (made.late, made.closed) == (0, 1)


def test_the_oldest_window_closes_early_when_there_are_too_many() -> None:
    made = windows(open_max=2)
    made.add(record(60, "a"), None)
    made.add(record(0, "b"), None)
    made.add(record(120, "c"), None)
    assert starts(made) == [("b", 0)]
    assert (made.early, made.open) == (1, 2)
    # Its stream's records for it are late now, as is whatever would be the oldest of all.
    made.add(record(30, "b"), None)
    made.add(record(0, "d"), None)
    assert (made.late, made.open) == (2, 2)


def test_a_silent_stream_closes_what_has_ended_or_everything() -> None:
    made = windows(lateness_ns=1000 * SECOND)
    for at in (0, 60, 120):
        made.add(record(at), None)
    assert list(made.waiting()) == [("a", BASE + MINUTE)]
    made.close_idle("a", BASE + 2 * MINUTE)
    assert starts(made) == [("a", 0), ("a", 60)]
    made.close_idle("a", None)
    assert starts(made) == [("a", 120)]
    made.add(record(130), None)
    assert made.late == 1


def test_a_state_that_is_too_large_closes_the_oldest_windows() -> None:
    made, seeded = windows(open_max=100_000), random.Random(3)
    for number in range(2000):
        name = f"{number:04}" + "x" * 150
        fields: dict[str, Any] = {f"field{i}": seeded.random() for i in range(10)}
        made.add(record(60 * (2000 - number), name, **fields), None)
    state = made.encode()
    assert len(state) <= STATE_BYTES_MAX
    assert 0 < made.early < 2000
    assert made.early == made.closed
    kept = min(end for _, end in made.waiting())
    assert all(closed.start_ns < kept for closed in made.take_closed())


def test_watermarks_of_quiet_streams_are_forgotten_but_not_windows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(window_state, "STREAMS_MAX", 20)
    made = windows()
    made.add(record(0, "kept"), None)
    for number in range(200):
        made.add(record(0, f"s{number}", text="no number"), None)
    assert len(made._streams) <= 23
    assert list(made.waiting()) == [("kept", BASE + MINUTE)]


def test_states_are_equal_for_equal_windows_and_tell_another_length() -> None:
    one, other = windows(), windows()
    for made, names in ((one, "ab"), (other, "ba")):
        for name in names:
            made.add(Record("main", 1, name, BASE, "sensor", 0, True, "s", 0, {"t": 1}), None)
    assert one.encode() == other.encode()
    assert windows().decode(one.encode()) == 0
    longer = windows(window_ns=2 * MINUTE)
    assert longer.decode(one.encode()) == 2
    assert (longer.open, longer.early, starts(longer)) == (0, 2, [("a", 0), ("b", 0)])


Event = tuple[str, int, int]
EVENTS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 400), st.integers(-9, 9)), max_size=80
)


@pytest.mark.parametrize("panes", [1, 2, 5], ids="{} panes".format)
@settings(max_examples=60)
@given(EVENTS, st.lists(st.integers(0, 80), max_size=4))
def test_windows_are_those_of_a_naive_computation_however_often_they_are_taken_up_again(
    panes: int, events: list[Event], restarts: list[int]
) -> None:
    rest = {"window_ns": panes * MINUTE, "every_ns": MINUTE}
    made, closed = windows(**rest), []
    late = 0
    for index, (stream, at, value) in enumerate(events):
        if index in restarts:
            closed += made.take_closed()
            late += made.late
            state, made = made.encode(), windows(**rest)
            assert made.decode(state) == 0
        made.add(record(at, stream, v=value), None)
    late += made.late
    made.close_all()
    closed += made.take_closed()
    found = {
        (c.stream, (c.start_ns - BASE) // MINUTE): (
            c.fields["v"].count, c.fields["v"].minimum, c.fields["v"].maximum,
            c.fields["v"].mean, c.fields["v"].last,
        )
        for c in closed
    }  # fmt: skip
    assert len(found) == len(closed)
    assert (found, late) == naive(events, panes)


def naive(events: list[Event], panes: int) -> tuple[dict[tuple[str, int], Any], int]:
    newest: dict[str, int] = defaultdict(lambda: -(10**9))
    values: dict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
    late = 0
    for stream, at, value in events:
        starts = [
            start
            for start in range(at // 60 - panes + 1, at // 60 + 1)
            if (start + panes) * 60 > newest[stream] - 10
        ]
        late += not starts
        for start in starts:
            values[stream, start].append((at, value))
        if starts:
            newest[stream] = max(newest[stream], at)
    figures = {}
    for key, found in values.items():
        numbers = [value for _, value in found]
        latest = max(at for at, _ in found)
        last = [value for at, value in found if at == latest][-1]
        mean = pytest.approx(sum(numbers) / len(numbers), abs=1e-12)
        figures[key] = (len(numbers), min(numbers), max(numbers), mean, last)
    return figures, late


def test_a_sliding_window_ends_every_so_often_and_has_all_of_its_length() -> None:
    made = windows(window_ns=3 * MINUTE, every_ns=MINUTE, lateness_ns=0)
    for at in range(0, 361, 30):
        made.add(record(at, v=at), None)
    found = [
        ((w.start_ns - BASE) // SECOND, w.fields["v"].count, w.fields["v"].minimum)
        for w in made.take_closed()
    ]
    assert found == [
        (-120, 2, 0), (-60, 4, 0), (0, 6, 0), (60, 6, 60), (120, 6, 120), (180, 6, 180),
    ]  # fmt: skip


def test_a_record_that_some_of_its_windows_have_not_waited_for_counts_in_the_others() -> None:
    made = windows(window_ns=2 * MINUTE, every_ns=MINUTE, lateness_ns=0)
    for at in (0, 65, 30):
        made.add(record(at), None)
    made.add(record(185), None)
    assert made.late == 0
    assert [w.fields["t"].count for w in made.take_closed()] == [1, 3, 1]
    made.add(record(59), None)
    assert made.late == 1


def test_the_last_windows_of_a_silent_stream_close_as_their_ends_are_reached() -> None:
    made = windows(window_ns=3 * MINUTE, every_ns=MINUTE)
    made.add(record(0), None)
    assert list(made.waiting()) == [("a", BASE + MINUTE)]
    made.close_idle("a", BASE + 2 * MINUTE)
    assert starts(made) == [("a", -120), ("a", -60)]
    assert list(made.waiting()) == [("a", BASE + 3 * MINUTE)]
    made.close_idle("a", BASE + 3 * MINUTE)
    assert starts(made) == [("a", 0)]
    assert made.open == 0


def test_no_record_is_late_for_windows_of_a_new_length_because_the_old_ones_closed_early() -> None:
    before = windows(window_ns=60 * MINUTE, lateness_ns=0)
    before.add(record(0), None)
    made = windows(lateness_ns=0)
    assert made.decode(before.encode()) == 1
    made.add(record(61), None)
    assert made.late == 0


def test_a_state_of_a_version_without_sliding_windows_is_taken_up() -> None:
    summary = Summary()
    summary.add(5, BASE + 7)
    stream = ["a", BASE + 7, -(2**63), 9, [[BASE, [["t", summary.state()]]]]]
    made = windows()
    assert made.decode(msgpack.packb([1, MINUTE, [stream]])) == 0
    made.add(record(71), None)
    assert starts(made) == [("a", 0)]


def test_a_year_of_hours_gives_the_days_of_a_naive_computation() -> None:
    made = windows(window_ns=86_400 * SECOND, lateness_ns=3600 * SECOND)
    seeded, days = random.Random(2), defaultdict(list)
    origin = 1_609_459_200  # 2021-01-01, years before the agent's clock
    for hour in range(8760):
        value = round(seeded.gauss(12, 6), 1)
        days[hour // 24].append(value)
        time_ns = (origin + hour * 3600) * SECOND
        made.add(
            Record("main", hour + 1, "t", time_ns, "sensor", NOW_NS, True, "s", 0, {"t": value}),
            NOW_NS,
        )
    made.close_idle("t", NOW_NS)
    closed = made.take_closed()
    assert made.late == 0
    assert [(c.start_ns // SECOND - origin) // 86_400 for c in closed] == list(range(365))
    for day, window in enumerate(closed):
        figures = window.fields["t"].figures()
        assert (figures["min"], figures["max"]) == (min(days[day]), max(days[day]))
        assert figures["mean"] == pytest.approx(sum(days[day]) / 24)
        assert (figures["count"], figures["last"]) == (24, days[day][-1])


def dated(at_s: float, *, synced: bool, corrected: bool = False) -> Record:
    """A record that our clock dated."""
    return structs.replace(record(at_s), quality="arrival", synced=synced, corrected=corrected)


def test_what_a_clock_not_set_said_makes_nothing_late_that_comes_once_it_is_set() -> None:
    made, boot = windows(), ("", b"b" * 16)
    in_2099_s = 73 * 365 * 86_400
    for at in (0, 30, 65):
        made.add(dated(in_2099_s + at, synced=False), None, boot)
    for at in (0, 30, 71):
        made.add(dated(at, synced=True), BASE + round(at * SECOND), None)
    # Put right meanwhile: it belongs to the others.
    made.add(dated(80, synced=False, corrected=True), BASE + 80 * SECOND, boot)
    assert made.late == 0
    (closed,) = made.take_closed()
    assert (closed.stream, closed.start_ns, closed.clock_unset) == ("a", BASE, False)
    assert closed.fields["t"].count == 2


def test_windows_by_a_clock_not_set_close_when_silent_and_say_what_they_are() -> None:
    made = windows()
    for boot in (b"1" * 16, b"2" * 16):
        made.add(dated(10, synced=False), None, ("", boot))
    again = windows()
    assert again.decode(made.encode()) == 0
    waiting = list(again.waiting())
    assert [end for _, end in waiting] == [0, 0]
    for name, _ in waiting:
        again.close_idle(name, BASE - 1)
    assert [(w.stream, w.clock_unset) for w in again.take_closed()] == [("a", True)] * 2


def test_times_before_1970_are_times() -> None:
    made = windows()
    made.add(dated(-(NOW_NS // SECOND) - 300, synced=False), None, ("", b"b" * 16))
    assert (made.late, made.open) == (0, 1)
