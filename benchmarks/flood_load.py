"""Single records at full speed for a given time, over a few connections.

Run as ``python -m benchmarks.flood_load '{"port": …, "connections": 4, "seconds": 60}'``; prints
one JSON object. The frames of `benchmarks.load`, encoded before the clock starts, are sent again
and again; when the time is up, every connection ends within two chunks and waits for its acks.
"""

from __future__ import annotations

import json
import sys
import time

from benchmarks.load import Task, session_flow
from benchmarks.pump import Flow, pump

#: Records of each connection that are encoded; then the same bytes go round.
ENCODED = 20_000
#: More than any server takes from one connection in a second.
RATE_MAX = 2_000_000


class Endless(Flow):
    """A flow that goes round and round until ``until``, on `time.perf_counter`'s clock."""

    until = float("inf")

    def send(self) -> bool:
        """As a flow does; past the time the present chunk is the last but one."""
        if time.perf_counter() >= self.until and len(self.chunks) > self.index + 2:
            # One more is kept, so that there is always an ack still to come.
            self.chunks = self.chunks[: self.index + 2]
            self.upto = self.upto[: self.index + 2]
        return Flow.send(self)


def endless(flow: Flow, seconds: float) -> Endless:
    """``flow`` with its chunks repeated for as long as ``seconds`` can last."""
    turns = 1 + int(seconds * RATE_MAX / flow.total)
    return Endless(
        flow.socket, list(flow.chunks) * turns,
        [turn * flow.total + upto for turn in range(turns) for upto in flow.upto],
        flow.window, flow.receive, flow.window_bytes, flow.source, rest=flow.rest,
    )  # fmt: skip


def main() -> None:
    """Flood as the JSON argument says."""
    options = json.loads(sys.argv[1])
    seconds = options.pop("seconds")
    task = Task(**options, records=ENCODED * options["connections"])
    flows = [endless(session_flow(task, index), seconds) for index in range(task.connections)]
    print("ready", flush=True)
    sys.stdin.readline()
    until = time.perf_counter() + seconds
    for flow in flows:
        flow.until = until
    took = pump(flows)
    print(json.dumps({"seconds": took, "acked": sum(flow.acked for flow in flows)}))


if __name__ == "__main__":
    main()
