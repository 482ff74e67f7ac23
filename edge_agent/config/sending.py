"""The rule that ``send = "1m means"`` stands for, and the streams that are sent then. Pure.

::

    [[upstream]]                       [[rule]]                      [[upstream]]
    name = "hub"                ─▶     name = "send-1m"              name = "hub"
    streams = ["greenhouse/**"]        streams = ["greenhouse/**"]   streams = ["1m/greenhouse/**"]
    send = "1m means"                  window = "1m"
                                       into = "1m/{stream}"

So all that is promised of windows holds for what is sent: each is derived once, and forwarded as
any record is.
"""

from __future__ import annotations

from msgspec import structs

from edge_agent.config.quantities import Duration
from edge_agent.config.shape import Config, Rule
from edge_agent.config.units import format_duration, parse_duration

EXPECTED = '"records", or how long each mean is over: "1m means", "1h means"'


def step_of(send: str) -> Duration | None:
    """The length of the windows, None for the records themselves.

    Raises:
        ValueError: with what was expected.
    """
    if send == "records":
        return None
    length, _, word = send.strip().partition(" ")
    if word.strip() != "means":
        raise ValueError(EXPECTED)
    try:
        return parse_duration(length)
    except ValueError:
        raise ValueError(EXPECTED) from None


def rule_name(step: Duration) -> str:
    """Of the rule that sums up for all upstreams that are sent windows of this length."""
    return f"send-{format_duration(step)}"


def with_sending(config: Config) -> Config:
    """``config`` with these rules, behind all others, and streams written out; to be used by
    whoever runs it.
    """
    rules = {rule.name: rule for rule in config.rule}
    upstreams = []
    for one in config.upstream:
        step = step_of(one.send)
        if step is not None:
            prefix, name = format_duration(step), rule_name(step)
            into = f"{prefix}/{{stream}}"
            rules[name] = Rule(name=name, streams=one.streams, window=step, into=into)
            streams = tuple(f"{prefix}/{pattern.removeprefix('$')}" for pattern in one.streams)
            one = structs.replace(one, streams=streams, send="records")
        upstreams.append(one)
    return structs.replace(config, upstream=tuple(upstreams), rule=tuple(rules.values()))
