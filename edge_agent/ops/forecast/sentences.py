"""Sentences about what is to come: the card's life, the budget, the room left, the backlog.

In one place, so that the page, the terminal and the verdict on health say the same words. None
where nothing can be said yet, or nothing needs saying.
"""

from __future__ import annotations

from edge_agent.ops.forecast.capacity import Drain, Loss
from edge_agent.ops.text import amount, duration, rough, size
from edge_agent.wear import Stretch, Wear

#: What happens to the oldest undelivered record when a log's share is used up, by ``when_full``.
_WHEN_FULL = {
    "discard-oldest": "until the oldest undelivered record is lost",
    "refuse": "until senders are told to wait",
    "thin-oldest": "until the oldest undelivered records are thinned",
}
_NOW = {
    "discard-oldest": "the oldest undelivered records are being lost",
    "refuse": "senders are told to wait",
}
#: A log that thins has no loss ahead but that of detail, as long as there is something to thin.
_THINNING = "the oldest undelivered records are being thinned"
_THINNING_S = 60.0


def about_log(loss: Loss | None, when_full: str, *, now: bool) -> str | None:
    """``at today's rate 61 h until the oldest undelivered record is lost``.

    ``now``: it has come to that within the last minutes.
    """
    if now:
        return _NOW.get(when_full, _NOW["discard-oldest"])
    if loss is None:
        return None
    if when_full == "thin-oldest" and loss.ending == "share" and loss.seconds < _THINNING_S:
        return _THINNING
    if loss.ending == "age":
        what = "until the oldest undelivered record is too old to be kept"
    else:
        what = _WHEN_FULL.get(when_full, _WHEN_FULL["discard-oldest"])
    return f"at today's rate {rough(loss.seconds)} {what}"


def about_upstream(drain: Drain | None) -> str | None:
    """``the backlog drains in 14 min at this link``."""
    if drain is None:
        return None
    if drain.seconds is None:
        return (
            "the backlog does not drain at this link:"
            f" {amount(drain.out_per_s)} records/s go out, {amount(drain.into_per_s)} come in"
        )
    return f"the backlog drains in {rough(drain.seconds)} at this link"


def about_wear(wear: Wear) -> tuple[str, ...]:
    """Everything there is to say about the card and the budget."""
    return tuple(told for told in (about_card(wear), about_budget(wear)) if told is not None)


def about_card(wear: Wear) -> str | None:
    """``the card lasts about 14 years at today's rate``."""
    if wear.life_s is None or wear.endurance_bytes is None:
        return None
    stated = size(wear.endurance_bytes, 1000)
    if wear.life_s <= 0:
        return f"the {stated} that the card is made for have been written"
    return f"the {stated} that the card is made for last about {rough(wear.life_s)} at today's rate"


def about_budget(wear: Wear) -> str | None:
    """``commits are spread to 12 s to keep 2 GB a day``; where that cannot be, why not."""
    budget = wear.budget
    if budget is None:
        return None
    allowed = f"{size(budget.bytes_per_day_max, 1000)} a day"
    if not budget.kept:
        written = wear.hour.written_per_day or wear.hour.card_per_day or 0.0
        told = (
            f"{size(written, 1000)} a day are written, more than the budget of {allowed}, though"
            f" commits are spread to {duration(budget.interval_s)}"
        )
        blocks = _blocks_per_day(wear.hour)
        if blocks is not None and blocks >= budget.bytes_per_day_max:
            told += f"; the records alone are {size(blocks, 1000)}, so no interval can keep it"
        return told
    if budget.factor > 1:
        return f"commits are spread to {duration(budget.interval_s)} to keep {allowed}"
    return None


def _blocks_per_day(hour: Stretch) -> float | None:
    """Bytes of the blocks alone, by the hour's rate."""
    per_day, ours, blocks = hour.written_per_day, hour.amplification, hour.block_amplification
    return None if per_day is None or not ours or blocks is None else per_day / ours * blocks
