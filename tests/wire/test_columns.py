"""What all records of a list have under one key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.values.record import resolve_time
from edge_agent.wire.columns import cuts, time_span, values_of

NOW = 1_795_341_600 * 10**9


def test_a_record_without_the_key_has_none() -> None:
    assert values_of("time", [{"time": 1}, {"t": 2}]) == [1, None]
    assert values_of("time", [{"time": 1}, {"time": 2}]) == [1, 2]


@given(
    st.lists(
        st.floats(1.6e9, 8e9) | st.integers(1_600_000_000, 8_000_000_000) | st.floats(-9, 9),
        min_size=1,
    )
)
def test_the_span_is_from_the_earliest_to_the_latest_resolved_time(times: list[object]) -> None:
    before = list(times)
    resolved = [resolve_time(value, NOW)[0] for value in times]
    assert time_span(times, NOW) == (min(resolved), max(resolved))
    assert times == before


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_nan_spoils_the_span_wherever_it_is(place: int) -> None:
    times: list[object] = [1.7e9, 1.8e9, 1.75e9]
    times[place] = float("nan")
    assert time_span(times, NOW) is None


def test_no_times_are_the_time_of_arrival() -> None:
    assert time_span(None, NOW) == (NOW, NOW)
    assert time_span([None, None], NOW) == (NOW, NOW)


@given(st.lists(st.integers(1, 30)), st.integers(1, 40))
def test_pieces_cover_everything_and_only_one_large_element_goes_over(
    sizes: list[int], limit: int
) -> None:
    found = list(cuts(sizes, limit))
    assert [index for begin, end in found for index in range(begin, end)] == list(range(len(sizes)))
    for begin, end in found:
        assert end - begin == 1 or sum(sizes[begin:end]) <= limit
