"""Windows: the sum is bounded, the hungry get more, the idle give back."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.server.flow_control import FLOOR_BYTES, SessionWindow, SessionWindows

MIB = 1024 * 1024


def test_the_first_session_gets_a_generous_window() -> None:
    windows = SessionWindows(32 * MIB, 8 * MIB, 200)
    window = windows.open()
    assert 6 * MIB < window.granted <= 8 * MIB
    assert window.told == window.granted


def test_every_session_up_to_the_limit_gets_at_least_the_floor() -> None:
    windows = SessionWindows(32 * MIB, 8 * MIB, 200)
    opened = [windows.open() for _ in range(200)]
    assert min(window.granted for window in opened) >= FLOOR_BYTES
    assert windows.granted_bytes <= 32 * MIB


def test_tiny_limits_still_give_everybody_something() -> None:
    windows = SessionWindows(1000, 8 * MIB, 200)
    assert [windows.open().granted >= 1 for _ in range(200)] == [True] * 200
    assert windows.granted_bytes <= 1000


def test_a_hungry_session_takes_from_idle_ones() -> None:
    windows = SessionWindows(32 * MIB, 8 * MIB, 200)
    opened = [windows.open() for _ in range(100)]
    last = opened[-1]
    before = last.granted
    for _ in range(10):
        last.peak = last.granted
        windows.review(last, 0)
    assert last.granted > 8 * before
    assert opened[0].granted < opened[0].told
    assert windows.granted_bytes <= 32 * MIB


def test_nothing_is_taken_from_those_who_use_theirs() -> None:
    windows = SessionWindows(4 * MIB, 4 * MIB, 2)
    first, second = windows.open(), windows.open()
    windows.review(first, first.granted)
    windows.review(first, first.granted)
    held = first.granted
    for _ in range(10):
        windows.review(second, second.granted)
    assert first.granted == held


def test_a_session_that_uses_little_does_not_grow() -> None:
    windows = SessionWindows(32 * MIB, 8 * MIB, 200)
    for _ in range(50):
        windows.open()
    window = windows.open()
    before = window.granted
    windows.review(window, before // 4)
    assert window.granted == before


def test_what_a_session_held_is_free_after_it() -> None:
    windows = SessionWindows(32 * MIB, 8 * MIB, 200)
    first = windows.open()
    held = first.granted
    windows.close(first)
    assert windows.granted_bytes == 0
    assert windows.open().granted == held


def test_closing_one_of_two_sessions_with_equal_windows_leaves_the_other() -> None:
    windows = SessionWindows(200, 1, 50)
    first, second = windows.open(), windows.open()
    windows.close(second)
    second.granted = 7
    windows.close(first)
    assert windows.granted_bytes == 0


@settings(max_examples=100)
@given(
    total=st.integers(200, 10**8),
    most=st.integers(1, 10**7),
    steps=st.lists(st.tuples(st.sampled_from("ocr"), st.integers(0, 50), st.floats(0, 1))),
)
def test_the_sum_never_exceeds_the_limit(
    total: int, most: int, steps: list[tuple[str, int, float]]
) -> None:
    windows = SessionWindows(total, most, 50)
    opened: list[SessionWindow] = []
    for step, which, part in steps:
        if step == "o" and len(opened) < 50:
            opened.append(windows.open())
        elif opened and step == "c":
            windows.close(opened.pop(which % len(opened)))
        elif opened and step == "r":
            window = opened[which % len(opened)]
            windows.review(window, int(window.granted * part))
        assert windows.granted_bytes <= total
        assert all(window.granted >= 1 for window in opened)
