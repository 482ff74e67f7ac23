"""A `Config` as the TOML text that a person would have written: every key, unit and reason.

Comments are the ones in ``shape.py``, read from its source, so that they stand in one place.
What `render_toml` prints loads back to an equal `Config`.
"""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from functools import cache

from msgspec import NODEFAULT, Struct
from msgspec.structs import fields

from edge_agent.config.check import limits_of
from edge_agent.config.quantities import Duration, Share, Size
from edge_agent.config.shape import Alarm, Config, LogConfig, Rule
from edge_agent.config.units import format_duration, format_share, format_size
from edge_agent.config.upstreams import SecretFile, Upstream

_HEAD = """\
# Configuration of edge-agent. Every key has its default here unless it says otherwise; a key that
# is left out keeps it. Sizes and durations have units. Each key can also be set by a variable of
# the environment, e.g. EDGE_AGENT__LOG__MAIN__KEEP="7d".
"""
#: What a newcomer sees of upstreams and rules while there are none; one of them with every key.
_EXAMPLES: dict[str, tuple[Struct, ...]] = {
    "upstream": (
        Upstream(name="hub", url="wss://hub.example:8765/forward"),
        Upstream(
            name="logs",
            url="https://logs.example/v1/in",
            headers={"X-Api-Key": SecretFile("/etc/edge-agent/logs-key")},
            proxy="http://proxy.example:3128",
        ),
    ),
    "rule": (
        Rule(name="tidy", streams=("greenhouse/**",), rename={"temp": "t"}),
        Rule(name="mute", streams=("kitchen/**",), drop=("debug",)),
        Rule(name="clock", streams=("meter/**",), time={"key": "ts", "format": "unix-ms"}),
        Rule(name="hourly", streams=("**",), window=Duration(3600), into="{stream}/1h"),
        Rule(
            name="hot",
            streams=("greenhouse/*",),
            alarm=Alarm(field="t", above=30, clear_below=28),
        ),
    ),
}
_WITH_EVERY_KEY = ("hub", "hourly")
_COMMENT_COLUMN = 34
_WIDTH = 100
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def render_toml(config: Config) -> str:
    """TOML text with every key of ``config``, commented; loads back to an equal `Config`."""
    blocks = [_HEAD, _line("", config, "drain_timeout")]
    for name in ("listen", "http", "store", "limits"):
        section = getattr(config, name)
        blocks.append(_about(type(section)) + _table(f"[{name}]", section))
    blocks.append(_about(LogConfig))
    blocks += [_table(f"[log.{_key(name)}]", log) for name, log in config.log.items()]
    blocks.append(_about(type(config.history)) + _table("[history]", config.history))
    blocks.append(_about(type(config.wear)) + _table("[wear]", config.wear))
    for name, examples in _EXAMPLES.items():
        blocks.append(_about(type(examples[0])))
        tables = getattr(config, name)
        blocks += [_table(f"[[{name}]]", table) for table in tables]
        if not tables:
            blocks += [_example(f"[[{name}]]", example) for example in examples]
    return "\n".join(blocks)


def _table(head: str, table: Struct) -> str:
    lines = [_line(head, table, name) for name in _names(type(table))]
    return f"{head}\n{''.join(lines)}"


def _example(head: str, table: Struct) -> str:
    """A commented-out table: every key, or what it needs and changes."""
    every = any(getattr(table, "name", "") == name for name in _WITH_EVERY_KEY)
    defaults = {
        field.name: field.default if field.default_factory is NODEFAULT else field.default_factory()
        for field in fields(table)
    }
    lines = [
        _line(head, table, name, "# ")
        for name in _names(type(table))
        if every or getattr(table, name) != defaults[name]
    ]
    return f"# {head}\n{''.join(lines)}"


def _about(kind: type[Struct]) -> str:
    """The docstring as comment lines."""
    paragraphs = (inspect.getdoc(kind) or "").replace("``", "`").split("\n\n")
    lines = [line for text in paragraphs for line in textwrap.wrap(text, width=98)]
    return "".join(f"# {line}\n" for line in lines)


def _line(head: str, table: Struct, name: str, before: str = "") -> str:
    """A key with its value, what it means, and its limits, which get a line where they need one."""
    value = getattr(table, name)
    shown = toml_value(value)
    line = before + (f'# {name} = ""' if shown is None else f"{name} = {shown}")
    comment = comments_of(type(table)).get(name, "")
    # What is not set and has limits is a duration.
    kind = Duration if value is None else type(value)
    if limits := limits_of(head.strip("[]").partition(".")[0], name, kind):
        comment += f"; {limits}" if comment else limits
    whole = f"{line:<{_COMMENT_COLUMN}}  # {comment}" if comment else line
    if limits and len(whole) > _WIDTH:
        whole = whole.removesuffix(limits).rstrip("; ") + f"\n{'#':<{_COMMENT_COLUMN}}  # {limits}"
    return f"{whole}\n"


@cache
def comments_of(kind: type[Struct]) -> dict[str, str]:
    """Key to the comment behind it in the source; nothing where the source was not installed."""
    try:
        source = inspect.getsource(kind)
    except OSError:
        return {}
    found = re.findall(r"^    (\w+): .*?  # (.+)$", source, re.MULTILINE)
    return dict(found)


def _names(kind: type[Struct]) -> list[str]:
    return [field.name for field in fields(kind)]


def toml_value(value: object) -> str | None:
    """A TOML value; None where TOML has none (a key that is not set, a table)."""
    if isinstance(value, Duration):
        return f'"{format_duration(value)}"'
    if isinstance(value, Size):
        return f'"{format_size(value)}"'
    if isinstance(value, Share):
        return f'"{format_share(value)}"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, tuple) and not any(isinstance(part, Struct) for part in value):
        return "[" + ", ".join(f"{toml_value(part)}" for part in value) + "]"
    if isinstance(value, Struct):
        # A table within a line: what it sets.
        shown = {field.name: getattr(value, field.name) for field in fields(value)}
        unset = {field.name for field in fields(value) if shown[field.name] == field.default}
        return toml_value({name: part for name, part in shown.items() if name not in unset})
    if isinstance(value, dict) and all(toml_value(part) for part in value.values()):
        pairs = ", ".join(f"{_key(k)} = {toml_value(v)}" for k, v in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    return None


def _text(value: str) -> str:
    # JSON's escapes are TOML's, except that TOML also wants DEL escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _text(name)
