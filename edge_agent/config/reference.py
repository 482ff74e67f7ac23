"""``docs/configuration.md``, made from the declarations: ``python -m edge_agent.config.reference``.

Keys, units, defaults and meanings come from `shape`, limits from `check`: what is written here is
how they belong together, and an example for each table. ``make docs`` writes the file; a test fails
while it is older than the declarations. The agent itself never imports this.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from msgspec import NODEFAULT
from msgspec.structs import FieldInfo, fields

from edge_agent.config.check import (
    LOGS_MAX,
    NAME_EXPECTED,
    ORDER,
    SHARES_MAX,
    UPSTREAM_ORDER,
    limits_of,
)
from edge_agent.config.databases import (
    InfluxTable,
    PostgresTable,
)
from edge_agent.config.quantities import Duration, Share, Size
from edge_agent.config.reference_tables import TABLES, TablePart
from edge_agent.config.render import comments_of, toml_value
from edge_agent.config.shape import (
    Alarm,
    Calibration,
    Conversion,
    Schema,
)
from edge_agent.config.units import BYTES, SECONDS, format_share
from edge_agent.config.upstreams import TABLES as KIND_TABLES
from edge_agent.config.upstreams import SecretFile

_HEAD: Final = f"""\
# Configuration

<!-- Made by `make docs` from edge_agent/config; what is changed here is overwritten. -->

One TOML file. `edge-agent config init` writes one with every key, `config check` says what is wrong
with one, and with which line; `config show` prints what is in force. A key that is left out keeps
its default; a key that is not known is an error. A change takes effect when the agent starts; what
changes in the files that it names (tokens, certificates, keys, secrets) does while it runs.

- A **duration** is text with a unit: {", ".join(SECONDS)}.
- A **size** is text with a unit: {", ".join(BYTES)} (a KiB has 1024 bytes, a kB 1000).
- A **share** is text in percent: `"70%"`.
- A number without a unit is a count, unless its line says otherwise.
- **Patterns** choose streams: `*` stands for one part of a name, `**` for any number of parts.
- Both **limits** belong to the range. "Not set" is the default of a key that may be missing.

## From the environment and the command line

Later ones win: default, file, environment, command line.

Every key has a **variable** `EDGE_AGENT__SECTION__KEY`, with two underscores between the parts. A
log, an upstream or a rule is meant by its name, in which capitals do not count and what is no
letter or digit is an underscore; a name that the file does not have makes a new one, in small
letters:

```sh
EDGE_AGENT__DRAIN_TIMEOUT=5s
EDGE_AGENT__STORE__SIZE=2GiB
EDGE_AGENT__LOG__MAIN__KEEP=7d
EDGE_AGENT__UPSTREAM__HUB__URL=wss://hub.example:8765/forward
EDGE_AGENT__UPSTREAM__HUB__STREAMS="greenhouse/**,cellar/*"
EDGE_AGENT__RULE__TIDY__STREAMS="greenhouse/**"
EDGE_AGENT__RULE__TIDY__RENAME="temp=t,hum=h"
```

Values are written without the quotes of TOML; lists and tables with commas, as above. An empty one
takes back what the file set, where a key may be not set. A variable that begins with `EDGE_AGENT__`
and names no key is an error.

`edge-agent run` takes some keys as **options**:

| Option | Key |
| --- | --- |
| `--config FILE` | the file itself; also `EDGE_AGENT_CONFIG` |
| `--data DIR` | `store.path` |
| `--listen HOST:PORT` | `listen.address` |
| `--http HOST:PORT`, `--http off` | `http.address` |
| `--upstream NAME=URL` | `upstream.NAME.url`; may be given several times |

Where neither names a file, `edge-agent run` reads none, and the other commands read
`/etc/edge-agent/edge-agent.toml` where it is there. What those need to ask a running agent can
stand in `EDGE_AGENT_URL` (people's port), `EDGE_AGENT_SENSOR_URL`, and `EDGE_AGENT_TOKEN` or
`EDGE_AGENT_TOKEN_FILE`.
"""

#: The tables in the order of the file; together, the examples are one configuration.
_MORE: Final = {
    "log": f"NAME is {NAME_EXPECTED}. At most {LOGS_MAX} logs; all shares together are at most"
    f" {format_share(SHARES_MAX)}. `[log.main]` is there without being named.",
    "upstream": f"`name` is {NAME_EXPECTED}; each has one of its own.",
    "influx": "The table of a `[[upstream]]` above it: [lines](upstreams.md).",
    "postgres": "The table of a `[[upstream]]` above it: [rows](upstreams.md).",
    "alarm": "The table of a `[[rule]]` above it, or in one line: `alarm = { … }`. What each does,"
    " with examples: [rules](rules.md#alarms).",
    "nats": "The table of the `[[upstream]]` above it.",
    "kafka": "The table of the `[[upstream]]` above it.",
    "mqtt": "The table of the `[[upstream]]` above it.",
    "rule": f"`name` is {NAME_EXPECTED}; each has one of its own. What each action does, with"
    " examples: [rules](rules.md).",
}
_WORDS: Final[dict[object, str]] = {
    Duration: "duration", Size: "size", Share: "share", SecretFile: '`{ file = "PATH" }`',
    Conversion: '`{ units = "F->C" }`', Calibration: "`{ table = [[0, 1], [9, 9]] }`",
    Schema: "`{ types = {}, ranges = {} }`",
    Alarm: "table, see [below](#rulealarm)",
    InfluxTable: "table, see [below](#upstreaminflux)",
    PostgresTable: "table, see [below](#upstreampostgres)",
    str: "text", bool: "true or false", int: "whole number", float: "number",
}  # fmt: skip


def reference() -> str:
    """The whole document, as Markdown."""
    return "\n".join([_HEAD, *(_section(table) for table in TABLES)])


def keys_of(table: TablePart) -> tuple[FieldInfo, ...]:
    """The keys of a table that are no tables themselves; those have a section of their own."""
    heads = {each.name for each in TABLES} if not table.head else KIND_TABLES
    return tuple(field for field in fields(table.kind) if field.name not in heads)


def _section(table: TablePart) -> str:
    title = f"`{table.head}`" if table.head else "Outside of all tables"
    about = (inspect.getdoc(table.kind) or "").replace("``", "`") if table.head else ""
    paragraphs = [f"## {title}", about, _MORE.get(table.name, ""), _rows(table)]
    paragraphs.append(f"For example:\n\n```toml\n{table.example}\n```")
    return "\n\n".join(filter(None, paragraphs)) + "\n"


def _rows(table: TablePart) -> str:
    comments = comments_of(table.kind)
    lines = [
        "| Key | Kind | Default | Limits | What it is for |",
        "| --- | --- | --- | --- | --- |",
    ]
    for field in keys_of(table):
        limits = "; ".join(_limits(table, field))
        cells = (f"`{field.name}`", _words(field.type), _default(field), limits)
        row = " | ".join(cell.replace("|", "\\|") for cell in (*cells, comments[field.name]))
        lines.append(f"| {row} |")
    return "\n".join(lines)


def _words(kind: Any) -> str:
    """A type as a person says it who edits TOML."""
    parts = [part for part in get_args(kind) if part is not NoneType]
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(map(_words, parts))
    if get_origin(kind) is Literal:
        return ", ".join(f'`"{part}"`' for part in parts)
    if get_origin(kind) is tuple:
        return f"list of {_words(parts[0])}s"
    if get_origin(kind) is dict:
        return f"table of {_words(parts[1])}"
    return _WORDS[kind]


def _default(field: FieldInfo) -> str:
    if field.required:
        return "must be given"
    value = field.default if field.default_factory is NODEFAULT else field.default_factory()
    shown = toml_value(value)
    return "not set" if shown is None else f"`{shown}`"


def _limits(table: TablePart, field: FieldInfo) -> Iterator[str]:
    """The range of a key, and the keys that it must not exceed."""
    # What may be missing and has limits is a quantity, or like all others of a single type.
    quantities = (Duration, Size, float)
    kind = next((part for part in get_args(field.type) if part in quantities), field.type)
    if limits := limits_of(table.name, field.name, kind):
        yield limits
    order = UPSTREAM_ORDER if table.name == "upstream" else ORDER
    key = field.name if table.name == "upstream" else f"{table.name}.{field.name}"
    yield from (f"at most `{larger}`" for smaller, larger in order if smaller == key)


if __name__ == "__main__":
    sys.stdout.write(reference())
