"""The tables of the configuration for upstreams that are databases."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

#: Units that a time may be written in, as the URL's ``precision`` says, in nanoseconds.
PRECISIONS: Final = {"ns": 1, "n": 1, "us": 1000, "u": 1000, "ms": 1_000_000, "s": 1_000_000_000}


class InfluxTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What lines look like where ``format`` is ``"line"``: InfluxDB's line protocol. Times are
    written as the URL's ``precision`` says, or as nanoseconds.
    """

    measurement: str = "{stream}"  # a name; "{stream}" is put in
    tags: tuple[str, ...] = ("agent", "source")  # which of agent, source and stream
    tag_fields: tuple[str, ...] = ()  # text fields that are tags instead
    integers: bool = False  # whole numbers as integers (i); false: as floats, like all others
    unique_times: bool = True  # times of one series differ, so that no record replaces another
    victoria: bool = False  # for VictoriaMetrics: no text, times as they are


class PostgresTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table that records go into at a PostgreSQL upstream."""

    table: str = "records"  # or SCHEMA.TABLE
    create: bool = True  # make it where it is missing


#: For docs/configuration.md: one table each, and both within an upstream's lines.
INFLUX_EXAMPLE: Final = """\
[[upstream]]
name = "influx"
url = "http://influx.example:8086/write?db=greenhouse&precision=ns"
format = "line"
[upstream.influx]
measurement = "edge"
tags = ["agent", "source", "stream"]
tag_fields = ["room"]"""
POSTGRES_EXAMPLE: Final = """\
[[upstream]]
name = "table"
url = "postgresql://edge@db.example/greenhouse"
password_file = "/etc/edge-agent/db-password"
[upstream.postgres]
table = "iot.records"
create = false"""
DATABASES_EXAMPLE: Final = """
[[upstream]]
name = "lines"
url = "http://influx.example:8086/write?db=greenhouse"
format = "line"
influx = { integers = true }

[[upstream]]
name = "rows"
url = "postgresql://edge@db.example/greenhouse?sslmode=require"
postgres = { table = "iot.readings" }"""
