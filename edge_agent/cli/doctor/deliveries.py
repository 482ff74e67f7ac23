"""Says in words how deliveries to an upstream went, for `doctor` and ``status``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edge_agent.cli.doctor.verdict import Finding, fail, ok, warn
from edge_agent.ops.text import amount, duration, size

#: Where the words are explained.
DOCS = "docs/upstream-trouble.md"


def delivery_findings(status: Mapping[str, Any]) -> list[Finding]:
    """What the last real batch to each upstream met."""
    return [
        _finding(upstream, lane)
        for upstream in status["upstreams"]
        for lane in upstream.get("lanes", ())
        # An agent of an earlier version tells nothing of it.
        if "last_batch" in lane
    ]


def limits(lane: Mapping[str, Any]) -> Iterator[str]:
    """What is known of what gets through; nothing where nothing was found out."""
    passed, failed = lane.get("largest_passed_bytes", 0), lane.get("smallest_failed_bytes", 0)
    if failed:
        yield (
            f"bodies of {size(failed)} do not get through"
            + (f", up to {size(passed)} do" if passed else ", and none has yet")
        )
    if lane.get("uncompressed"):
        yield "sent uncompressed, because it refuses the compression that is configured"


def _finding(upstream: Mapping[str, Any], lane: Mapping[str, Any]) -> Finding:
    name = f"delivery to {upstream['name']}"
    if len(upstream["lanes"]) > 1:
        name += f", log {lane['log']}"
    found = "; ".join((_last_batch(lane), *limits(lane)))
    if lane["phase"] == "stopped":
        return fail(name, found, f"it refuses whatever it is sent: see {DOCS}")
    last = lane["last_batch"]
    if last is not None and last["outcome"] != "acknowledged":
        return warn(name, found, f"the records are kept; what that means is in {DOCS}")
    if any(limits(lane)):
        return warn(name, found, f"nothing, or raise what lies between: see {DOCS}")
    return ok(name, found)


def _last_batch(lane: Mapping[str, Any]) -> str:
    last = lane["last_batch"]
    if last is None:
        waits = lane["backlog_records"]
        return f"nothing was sent yet, {amount(waits)} records wait" if waits else "nothing to send"
    records = f"records {last['first_seq']} to {last['last_seq']}"
    text = f"last batch: {records}, {size(last['bytes'])}, {last['outcome']}"
    if last["http_status"]:
        text += f" with HTTP {last['http_status']}"
    if last["seconds"]:
        text += f" after {duration(last['seconds'])}"
    text += f" at {last['time'][:19]}Z"
    return f"{text}: {last['cause']}" if last["cause"] else text
