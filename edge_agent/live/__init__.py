"""Asking and processing: readers of the log that live in the agent itself.

- `Live` answers bounded questions (`query.py`) and keeps live views (`subscribe.py`); both select
  by stream pattern, time and a small filter (`edge_agent.values.filter`), and are shown by
  `edge_agent.output.render` as JSON, lines of JSON or CSV.
- `run_windows` and `run_alarms` derive records after storing, each once through any crash
  (`derive.py`): sums over tumbling and sliding windows per stream, by the records' own time
  (`windows.py`; `window_state.py` says when they close and what late means), and a record whenever
  an alarm goes on or off (`alarms.py`, `alarm_state.py`).

Readers never hold writers up, cost bounded memory, and say what they left out.
"""

from __future__ import annotations

from edge_agent.live.alarms import AlarmBoard, AlarmOn, run_alarms
from edge_agent.live.derive import RULE, rule_consumer
from edge_agent.live.erased import state_without
from edge_agent.live.query import Query, QueryAnswer
from edge_agent.live.subscribe import LiveBatch, Start, Subscription
from edge_agent.live.view import Live
from edge_agent.live.windows import run_windows

__all__ = [
    "RULE",
    "AlarmBoard",
    "AlarmOn",
    "Live",
    "LiveBatch",
    "Query",
    "QueryAnswer",
    "Start",
    "Subscription",
    "rule_consumer",
    "run_alarms",
    "run_windows",
    "state_without",
]
