"""Numbers as people read them, the same on the page and in the terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from edge_agent.output.printable import grouped, often

#: Below how many seconds to say it in which unit.
_ROUGH = (
    (120, 1, "s"),
    (120 * 60, 60, "min"),
    (72 * 3600, 3600, "h"),
    (90 * 86_400, 86_400, "days"),
    (2 * 365.25 * 86_400, 30.44 * 86_400, "months"),
)


#: What is shown of a figure that is not known.
UNKNOWN = "–"


def amount(value: float | None) -> str:
    """``1 234``, ``12.3 k``, ``4.56 M``: three or four digits, whole below a thousand."""
    if value is None:
        return UNKNOWN
    if value < 10 and value != int(value):
        return f"{value:.2g}"
    if value < 10_000:
        return grouped(value)
    for unit in ("k", "M"):
        value /= 1000
        if value < 999.5:
            return f"{value:.3g} {unit}"
    return f"{value / 1000:.3g} G"


def size(value: float | None, base: int = 1024) -> str:
    """Bytes: ``512 B``, ``12.3 KiB``, ``1.5 GiB``; with 1000 ``2 GB``, as cards are sold."""
    units = ("KiB", "MiB", "GiB", "TiB") if base == 1024 else ("kB", "MB", "GB", "TB")
    if value is None:
        return UNKNOWN
    if value < 999.5:
        return f"{value:.0f} B"
    for unit in units:
        value /= base
        if value < 999.5 or unit == units[-1]:
            break
    return f"{value:.3g} {unit}"


def phase(word: str, retry_in_s: float | None, outlook: str | None = None) -> str:
    """An upstream's phase, and when it is tried again where that is waited for; of one that waits
    for a window its outlook, ``waits for 01:00``.
    """
    if word == "waiting" and outlook:
        return outlook
    return word if retry_in_s is None else f"{word}, next try in {duration(retry_in_s)}"


def to_second(time: str | None) -> str:
    """A time as `edge_agent.values.record.format_time` writes it, without its part of a second."""
    return re.sub(r"\.\d+Z$", "Z", time or "")


def taken(records_per_s: float | None, bytes_per_s: float | None) -> str:
    """What an upstream takes: ``120/s  3.4 KiB/s``."""
    if records_per_s is None:
        return UNKNOWN
    return f"{amount(records_per_s)}/s  {size(bytes_per_s)}/s"


def duration(seconds: float | None) -> str:
    """``850 µs``, ``12 ms``, ``3.2 s``, ``4 min``, ``5 h 12 min``, ``3 d 4 h``."""
    if seconds is None:
        return UNKNOWN
    if seconds <= 0:
        return "0 s"
    if seconds < 1:
        return f"{seconds * 1e6:.0f} µs" if seconds < 0.001 else f"{seconds * 1e3:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def rough(seconds: float) -> str:
    """One number and a unit, for what is to come: ``90 s``, ``14 min``, ``61 h``, ``14 years``."""
    for limit, factor, unit in _ROUGH:
        if seconds < limit:
            return f"{seconds / factor:.0f} {unit}"
    years = seconds / (365.25 * 86_400)
    return f"{years:.0f} years" if years < 100 else "more than 100 years"


def ago(nanoseconds: int) -> str:
    """``3 s ago``; a clock that was set back in between says ``just now``."""
    seconds = nanoseconds // 1_000_000_000
    return "just now" if seconds < 1 else f"{duration(seconds)} ago"


def ratio(value: float | None) -> str:
    """``0.37``, ``12.3``."""
    return UNKNOWN if value is None else f"{value:.3g}"


def percent(part: float) -> str:
    """``7 %``, ``0.4 %``."""
    return f"{part * 100:.2g} %" if part < 0.01 else f"{part * 100:.0f} %"


def bridging(one: Mapping[str, Any]) -> str | None:
    """What waits for an upstream that bridges, an `UpstreamStatus` as JSON has it; None where
    nothing does: ``acknowledgements to agents wait for it (bridge): 12.3 k records``.
    """
    # An agent of an earlier version does not say.
    waits = one.get("bridge") or {"records": 0, "turned_away": 0}
    if not any(waits.values()):
        return None
    told = f"acknowledgements to agents wait for it (bridge): {amount(waits['records'])} records"
    if times := waits["turned_away"]:
        told += f"; agents were asked to come back later {often(times)}"
    return told


def resending(one: Mapping[str, Any]) -> str:
    """A `ResendStatus` as JSON has it, in words: ``resend of log main 34 %, 12.3 k left``."""
    if (left := one.get("left_records")) is None:  # An agent of an earlier version does not say.
        left = max(0, one["last"] - one["floor"])
    done = one.get("done_records", one["floor"] - one["first"] + 1)
    told = f"resend of log {one['log']} {percent(done / max(done + left, 1))}, {amount(left)} left"
    if one["drains_in_s"] is not None:
        told += f", {rough(one['drains_in_s'])}"
    if one["gone_records"]:
        told += f", {amount(one['gone_records'])} no longer there"
    return f"{told}: {one['error'] or one['phase']}"
