"""Looking in: what people, Prometheus and systemd see of the agent.

One picture (`status`), made on demand by `Watch` from what the parts tell about themselves
(`Sources`), is all that the page, the JSON, the metrics' gauges and the verdict on health are made
of, so that they cannot disagree. Nothing here is on the data path: at rest there is one tick every
ten seconds, which also keeps the budget of bytes written (`edge_agent.wear`), and the list of
streams is an ordinary reader of the log.

The agent makes one `Watch`, runs it, and feeds systemd's watchdog (`Notifier`, `run_watchdog`).
The people's port is `edge_agent.ops.port.serve_people`, which is not imported here: whoever turns
the port off does not pay for Starlette. prometheus-client is loaded with the first look at
``/metrics``.
"""

from edge_agent.ops.facts import Sources, in_words, upstream_status
from edge_agent.ops.health import FilesFact
from edge_agent.ops.sampler import Watch
from edge_agent.ops.status import BridgeStatus, ConnectionStatus, Status, UpstreamStatus
from edge_agent.ops.systemd import Notifier, run_watchdog

__all__ = [
    "BridgeStatus",
    "ConnectionStatus",
    "FilesFact",
    "Notifier",
    "Sources",
    "Status",
    "UpstreamStatus",
    "Watch",
    "in_words",
    "run_watchdog",
    "upstream_status",
]
