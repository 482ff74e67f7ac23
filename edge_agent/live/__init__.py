"""Asking and processing: readers of the log that live in the agent itself.

- `Live` answers bounded questions (`query.py`) and keeps live views (`subscribe.py`); both select
  by stream pattern, time and a small filter (`edge_agent.filter`), and are shown by
  `edge_agent.render` as JSON, lines of JSON or CSV.
- `run_windows` derives records after storing (`windows.py`): tumbling windows per stream, by the
  records' own time, exactly once. Its docstring says when windows close and what late means.

Readers never hold writers up, cost bounded memory, and say what they left out.
"""

from __future__ import annotations

from edge_agent.live.query import Query, QueryAnswer
from edge_agent.live.subscribe import LiveBatch, Start, Subscription
from edge_agent.live.view import Live
from edge_agent.live.windows import run_windows, window_consumer

__all__ = [
    "Live",
    "LiveBatch",
    "Query",
    "QueryAnswer",
    "Start",
    "Subscription",
    "run_windows",
    "window_consumer",
]
