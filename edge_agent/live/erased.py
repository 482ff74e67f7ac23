"""A rule's memory without the streams that are erased from the store."""

from __future__ import annotations

from collections.abc import Callable

from edge_agent.live.alarm_state import alarms_without
from edge_agent.live.window_state import windows_without


def state_without(state: bytes, matches: Callable[[str], bool]) -> bytes:
    """A rule's stored state, as if the streams that match had never been."""
    for without in (windows_without, alarms_without):
        found = without(state, matches)
        if found is not None:
            return found
    return state
