"""The audit's words (`edge_agent.security.audit`) for an order, over HTTP or to a store at rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge_agent.ops.orders.orders import ConsumerOrder, QuarantineOrder
from edge_agent.ops.orders.resends import ResendGiven
from edge_agent.ops.orders.source_orders import SourceMove


def in_audit(
    given: ConsumerOrder | QuarantineOrder | SourceMove | ResendGiven,
) -> tuple[str, str]:
    """The name of an order in `edge_agent.security.audit.ORDERS`, and what it is about."""
    if isinstance(given, ConsumerOrder):
        where = f" in log {given.log}" if given.log else ""
        return f"consumer {given.order}", given.consumer + where + _to(given.to)
    if isinstance(given, SourceMove):
        numbers = " keeping numbers" if given.keep_numbers else ""
        return f"source {given.order}", given.source + _to(given.to) + numbers
    if isinstance(given, ResendGiven):
        span = "cancelled" if given.cancel else f"{given.since} to {given.until}"
        streams = f" of {', '.join(given.streams)}" if given.streams else ""
        return "upstream resend", f"{given.upstream}, {span}{streams}"
    named = "all" if given.numbers is None else ", ".join(map(str, given.numbers))
    return f"quarantine {given.order}", f"entries {named}"


def outcome_of(done: Sequence[dict[str, Any]]) -> str:
    """What came of an order: how many entries were settled, where some were not."""
    left = sum(not one.get("done", True) for one in done)
    return f"{len(done) - left} of {len(done)} done" if left else "done"


def _to(target: str | None) -> str:
    return f" to {target}" if target else ""
