"""One moment of an agent as lines of text, for a screen of any size.

Pure: what the agent answered goes in, lines with a style each come out. Nothing is wider than the
screen, and of streams there are as many as fit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from textwrap import wrap
from typing import Any

from rich.cells import cell_len, set_cell_size

from edge_agent.ops.text import (
    UNKNOWN,
    amount,
    duration,
    percent,
    phase,
    resending,
    rough,
    size,
)
from edge_agent.output.printable import counted, printable

Line = tuple[str, str]
"""Text, and its style in words of Rich's; "" for none."""

_BLOCKS = "▁▂▃▄▅▆▇█"
#: What stands in for it where a terminal has no more than ASCII.
_ASCII_BLOCKS = "_.:-=+*#"
_ASCII = str.maketrans({"…": "~", "·": "|", "–": "-", "µ": "u", "•": "*"})
_COLOURS = {"ok": "green", "degraded": "yellow", "failed": "red"}
_REASONS_SHOWN = 3
_UPSTREAMS_SHOWN = 6
#: How far back an upstream's rate looks, in seconds.
_RATE_S = 10.0


@dataclass(frozen=True, slots=True)
class Screen:
    """What there is to draw on; ``unicode``: whether its encoding has more than ASCII."""

    width: int
    height: int
    unicode: bool = True


@dataclass(frozen=True, slots=True)
class AgentMoment:
    """What is drawn.

    Attributes:
        status, streams: the answers of ``/api/status`` and ``/api/streams``.
        upstream_rates: records a second that each upstream takes, None where that is not known.
        trouble: why there is no newer picture, "" where there is.
    """

    status: dict[str, Any]
    streams: Sequence[dict[str, Any]]
    upstream_rates: dict[str, float | None]
    trouble: str = ""


@dataclass(slots=True)
class UpstreamRates:
    """Records a second that each upstream takes, from what it had taken a while ago."""

    _seen: deque[tuple[float, dict[str, int]]] = field(default_factory=lambda: deque(maxlen=60))

    def note(self, status: dict[str, Any]) -> dict[str, float | None]:
        """A newer picture; the rates by the name of the upstream."""
        at_s = status["agent"]["uptime_s"]
        taken = {one["name"]: one["acknowledged_records"] for one in status["upstreams"]}
        if self._seen and at_s < self._seen[-1][0]:
            self._seen.clear()  # It was restarted, and counts anew.
        while len(self._seen) > 1 and at_s - self._seen[0][0] > _RATE_S:
            self._seen.popleft()
        self._seen.append((at_s, taken))
        before_s, before = self._seen[0]
        if at_s <= before_s:
            forwarded = status["figures"]["now"]["forwarded"]["records_per_s"]
            # Where there is one upstream, the agent itself knows.
            return dict.fromkeys(taken, forwarded if len(taken) == 1 else None)
        passed_s = at_s - before_s
        return {
            name: (count - before[name]) / passed_s if name in before else None
            for name, count in taken.items()
        }


def draw(
    moment: AgentMoment, screen: Screen, sort: str, *, reverse: bool = False, has_keys: bool = False
) -> list[Line]:
    """The whole picture, ``sort`` by ``rate`` or ``name``; at most as many lines as fit.

    ``has_keys``: there is somebody who can press some.
    """
    head = [*_head(moment, screen), *_upstreams(moment)]
    order = f"by {sort}, reversed" if reverse else f"by {sort}"
    keys = " · q quits · s sorts by rate or name · r reverses" if has_keys else ""
    foot = [(f"{counted(len(moment.streams), 'stream')} {order}{keys}", "dim")]
    rows = list(_streams(moment, screen, sort, reverse))
    # A heading, and a line that says how many more there are.
    room = max(1, screen.height - len(head) - len(foot) - 2)
    shown = rows[: room + 1] if len(rows) <= room + 1 else rows[:room]
    if len(rows) > len(shown):
        shown.append((f"… and {len(rows) - len(shown)} more", "dim"))
    lines = [*head, _stream_heading(screen), *shown, *foot]
    return [(_fit(text, screen), style) for text, style in lines[: screen.height]]


def sparkline(values: Sequence[float], width: int, blocks: str = _BLOCKS) -> str:
    """The last ``width`` values, lowest to highest."""
    shown = values[-width:] if width > 0 else []
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    if high <= low:
        return blocks[len(blocks) // 2 - 1] * len(shown)
    # Halves, as the whole way from the lowest to the highest float is more than a float holds.
    reach = high / 2 - low / 2
    steps = (int((value / 2 - low / 2) / reach * (len(blocks) - 1) + 0.5) for value in shown)
    return "".join(blocks[step] for step in steps)


def _head(moment: AgentMoment, screen: Screen) -> Iterator[Line]:
    status = moment.status
    agent, health, now = status["agent"], status["health"], status["figures"]["now"]
    colour = _COLOURS.get(health["status"], "")
    for line in wrap(printable(moment.trouble), screen.width):
        yield line, "bold red"
    parts = [
        f"edge-agent {agent['id']} {agent['version']}",
        f"up {duration(agent['uptime_s'])}",
        health["status"],
    ]
    yield " · ".join(parts), f"bold {colour}".strip()
    told = [*health["reasons"], *health["warnings"]]
    for reason in told[:_REASONS_SHOWN]:
        for line in wrap(
            f"• {printable(reason['message'])}", screen.width, max_lines=2, placeholder=" …"
        ):
            yield line, colour
    if len(told) > _REASONS_SHOWN:
        yield f"  … and {len(told) - _REASONS_SHOWN} more: edge-agent status", "dim"
    parts = [
        f"in {amount(now['received']['records_per_s'])}/s",
        f"out {amount(now['forwarded']['records_per_s'])}/s",
        f"CPU {percent(now['cpu'])}",
        counted(status["connections_open"], "connection"),
    ]
    yield " · ".join(parts), ""
    yield " · ".join(_store(status)), ""
    yield "", ""


def _store(status: dict[str, Any]) -> Iterator[str]:
    store, wear = status["store"], status["wear"]
    yield f"store {percent(store['fill'])} of {size(store['size_bytes'])}"
    for log in status["logs"]:
        yield f"log {log['name']} {percent(log['fill'])}"
    if wear["life_s"] is not None:
        yield f"card lasts {rough(wear['life_s'])}"
    elif wear["hour"]["written_per_day"] is not None:
        # How long it lasts is known once wear.endurance is.
        yield f"{size(wear['hour']['written_per_day'], 1000)} a day to the card"
    if store["quarantine_entries"]:
        yield f"{amount(store['quarantine_entries'])} in quarantine"


def _upstreams(moment: AgentMoment) -> Iterator[Line]:
    upstreams = moment.status["upstreams"]
    if not upstreams:
        return
    yield _upstream_row("UPSTREAM", "BACKLOG", "RATE", "BYTES", "DRAINS IN", "PHASE"), "bold"
    for one in upstreams[:_UPSTREAMS_SHOWN]:
        rate = moment.upstream_rates.get(one["name"])
        drains_s = one["drains_in_s"]
        told = one["error"]
        yield (
            _upstream_row(
                printable(one["name"]),
                amount(one["backlog_records"]),
                UNKNOWN if rate is None else f"{amount(rate)}/s",
                # An agent of an earlier version does not say.
                UNKNOWN if (each := one.get("bytes_per_s")) is None else f"{size(each)}/s",
                UNKNOWN if drains_s is None else rough(drains_s),
                printable(phase(one["phase"], one["retry_in_s"], one["outlook"]))
                + (f": {printable(told)}" if told else ""),
            ),
            "red" if one["error"] else "",
        )
        for resend in one.get("resends", ()):
            yield f"  {printable(resending(resend))}", ""
    if len(upstreams) > _UPSTREAMS_SHOWN:
        yield f"… and {len(upstreams) - _UPSTREAMS_SHOWN} more", "dim"
    yield "", ""


def _upstream_row(name: str, backlog: str, rate: str, each: str, drains: str, rest: str) -> str:
    return f"{set_cell_size(name, 16)} {backlog:>9} {rate:>9} {each:>10} {drains:>10}  {rest}"


def _stream_heading(screen: Screen) -> Line:
    name, last, _ = _widths(screen)
    title = set_cell_size("STREAM", name)
    return f"{title} {'REC/S':>7} {'AGE':>7}  {set_cell_size('LAST', last)}", "bold"


def _streams(moment: AgentMoment, screen: Screen, sort: str, reverse: bool) -> Iterator[Line]:
    now = _moment(moment.status["agent"]["time"])
    name, last, spark = _widths(screen)
    blocks = _BLOCKS if screen.unicode else _ASCII_BLOCKS
    for one in _sorted(moment.streams, sort, reverse):
        age_s = max(0.0, (now - _moment(one["last_stored"])).total_seconds())
        age = duration(float(int(age_s)))
        rate = amount(one["rate"])
        shown = _cut(one["stream"], name, screen), _cut(_values(one), last, screen)
        line = sparkline(one["spark"], spark, blocks)
        yield f"{shown[0]} {rate:>7} {age:>7}  {shown[1]} {line}", ""


def _sorted(streams: Iterable[dict[str, Any]], sort: str, reverse: bool) -> list[dict[str, Any]]:
    found = sorted(streams, key=lambda one: str(one["stream"]))
    if sort == "rate":
        found.sort(key=lambda one: -float(one["rate"]))
    return found[::-1] if reverse else found


def _widths(screen: Screen) -> tuple[int, int, int]:
    """Of the columns with names, last values and sparklines: what is left is shared."""
    left = max(24, screen.width - 19)
    spark = min(60, left // 4)
    name = min(40, (left - spark) // 2)
    return name, left - spark - name, spark


def _values(stream: dict[str, Any]) -> str:
    told = {name: _number(value) for name, value in stream["last"].items()}
    # An agent of an earlier version says no words.
    told |= stream.get("words", {})
    return printable("  ".join(f"{name}={value}" for name, value in told.items()))


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) and abs(value) < 10**9 else f"{value:.5g}"


def _cut(text: str, width: int, screen: Screen) -> str:
    """Exactly so wide; what was cut off is marked."""
    if cell_len(text) > width:
        text = set_cell_size(text, width - 1) + ("…" if screen.unicode else "~")
    return set_cell_size(text, width)


def _fit(text: str, screen: Screen) -> str:
    shown = text.rstrip()
    if cell_len(shown) > screen.width:
        shown = _cut(shown, screen.width, screen).rstrip()
    if not screen.unicode:
        shown = shown.translate(_ASCII).encode("ascii", "replace").decode()
    return shown


def _moment(text: str) -> datetime:
    # Nanoseconds are more than Python reads.
    whole, _, rest = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{rest[:6]:0<6}+00:00")
