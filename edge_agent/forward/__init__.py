"""This package sends records on to the upstreams, in order; a position says how far each is.

One `Forwarder` per configured upstream, in it one lane per log, and at times one for its backlog::

    log.read ─▶ batches ─▶ sink.send ─▶ upstream
                              ▼ acknowledged
    log.acknowledge(consumer "upstream/NAME") ─▶ rides on the next commit

Promises
--------
- A position moves only after the upstream has acknowledged, and then up to what it acknowledged.
- Each lane keeps its order. A batch that fails is sent again before anything behind it.
- What is new does not wait for a backlog: that goes beside it, by a position and a connection of
  its own (``lanes/split.py``), unless the configuration says "in order".
- What a person wants sent once more goes by a lane of its own, behind all others
  (``lanes/resend``).
- To another agent (`sinks.agent`): exactly once, across breaks, kills and power cuts of both
  sides. If the hub loses its store, what is still held is sent again and the rest reported.
- To an HTTP server (`sinks.http`): at least once, under the same ``Idempotency-Key`` with the same
  bytes and under stable record ids. A batch that is cut off again and again is halved, and its
  halves have keys of their own (`batch_limit`). What the server refuses for good is in quarantine,
  and can be sent again from there; before that, and before anything is held up, other records are
  tried (`diagnosis`).
- To a folder (`sinks.file`): each file whole, synced before it is acknowledged, and written again
  over itself; brought in elsewhere exactly once (`carried`).
- A sink of somebody else's package (`own_sink`) ends nothing but its own attempts.
- A lane that fails on a mistake of ours begins anew from what is durable; nothing else ends.
- A backlog goes as fast as the hub commits it. Blocks go out as they are stored; messages fill an
  eighth of the hub's window, so that some are being sent while others are being committed; the next
  batch is read and packed meanwhile (2,000,000 records a second on two cores; see
  ``sinks/agent/messages.py``).
- While the disk refuses, what can be read goes on to other agents, the position being kept in
  memory. What has to be durable before it is sent (a plan, the epoch of a new hub) waits.
- Nothing is held in memory beyond two batches and what waits for the hub's window (`QUEUE_BYTES`
  in ``sinks/agent/connection.py``): the log is the buffer. What was sent is read again if it has to
  be sent again.

Where to read: ``lanes/lane_phases.py`` (the table), ``lanes/lane.py`` (the loop), ``sink.py`` (what
a sink is), ``batches/plan.py`` (why ranges are durable before they are sent),
``sinks/agent/resume.py`` (how a session with a hub begins again), ``sinks/http/answer.py`` (what
counts as an acknowledgement).
"""

from edge_agent.forward.batches.plan import (
    AGAIN_MAX,
    Again,
    again_of,
    shape_of,
    with_again,
    without_records,
)
from edge_agent.forward.consumer_orders import (
    LogRange,
    Order,
    OrderRefused,
    full_name,
    position_for,
    positions_for,
)
from edge_agent.forward.credentials import CredentialFiles, Credentials, client_context, read_token
from edge_agent.forward.forwarder import Forwarder, ForwarderStatistics
from edge_agent.forward.lanes.lane import Lane
from edge_agent.forward.lanes.lane_state import LaneStatistics
from edge_agent.forward.lanes.resend import (
    LogRecall,
    RecallSurvey,
    Resend,
    ResendOrder,
    ResendProgress,
    begun,
    ended,
    forgotten,
    note_name,
    read_order,
)
from edge_agent.forward.link.pacing import LastInLine, LinkPace
from edge_agent.forward.link.proxy import Proxy, proxy_of, proxy_refusal, unused
from edge_agent.forward.link.tls_clock import is_out_of_date
from edge_agent.forward.probing import ProbeStep
from edge_agent.forward.reload import UpstreamReload
from edge_agent.forward.sink import Sink
from edge_agent.forward.sinks.by_scheme import make_sink, probe_sink
from edge_agent.forward.upstreams import Upstreams

__all__ = [
    "AGAIN_MAX",
    "Again",
    "CredentialFiles",
    "Credentials",
    "Forwarder",
    "ForwarderStatistics",
    "Lane",
    "LaneStatistics",
    "LastInLine",
    "LinkPace",
    "LogRange",
    "LogRecall",
    "Order",
    "OrderRefused",
    "ProbeStep",
    "Proxy",
    "RecallSurvey",
    "Resend",
    "ResendOrder",
    "ResendProgress",
    "Sink",
    "UpstreamReload",
    "Upstreams",
    "again_of",
    "begun",
    "client_context",
    "ended",
    "forgotten",
    "full_name",
    "is_out_of_date",
    "make_sink",
    "note_name",
    "position_for",
    "positions_for",
    "probe_sink",
    "proxy_of",
    "proxy_refusal",
    "read_order",
    "read_token",
    "shape_of",
    "unused",
    "with_again",
    "without_records",
]
