"""Rules that say where a stream has its time: they act before all others, while a message is read.

``time = {key = "ts", format = "unix-ms", zone = "Europe/Berlin"}``; see `edge_agent.wire.TimeKey`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from edge_agent.config import Rule
from edge_agent.rules.apply import STREAMS_REMEMBERED
from edge_agent.values.stream_names import compile_patterns
from edge_agent.values.time_format import parse_format
from edge_agent.wire import TimeKey

TimeKeyOf = Callable[[str], TimeKey | None]
"""Where a stream's records have their time; None where no rule says so."""


def compile_time_keys(rules: Iterable[Rule]) -> TimeKeyOf | None:
    """The function that answers for each stream; the first rule that names it wins. None where no
    rule is about times, so that nobody has to ask.

    Raises:
        ConfigError: a format or a zone is none.
    """
    keys = [(compile_patterns(rule.streams), _time_key(rule)) for rule in rules if rule.time]
    if not keys:
        return None
    known: dict[str, TimeKey | None] = {}

    def time_key(stream: str) -> TimeKey | None:
        if stream not in known:
            if len(known) >= STREAMS_REMEMBERED:
                known.clear()
            known[stream] = next((key for matches, key in keys if matches(stream)), None)
        return known[stream]

    return time_key


def _time_key(rule: Rule) -> TimeKey:
    given = rule.time or {}
    where = f"rule.{rule.name}.time"
    form = parse_format(
        given.get("format"),
        given.get("zone"),
        form_key=f"{where}.format",
        zone_key=f"{where}.zone",
    )
    return TimeKey(given.get("key", "time"), form)
