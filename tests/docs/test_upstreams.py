"""Each configuration in ``docs/upstreams.md`` can be started with, and each statement is taken."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import trio

from edge_agent.config import parse
from edge_agent.forward import make_sink
from edge_agent.forward.sinks.postgres.connection import connect
from edge_agent.forward.sinks.postgres.table import Target
from tests.docs.examples import Example, examples_of
from tests.forward.sinks.postgres.server import new_database
from tests.forward.sinks.test_by_scheme import IDENTITY
from tests.forward.support import inline
from tests.manual_clock import ManualClock
from tests.own_sink.installed import installed
from tests.patience import PATIENCE_S

SNIPPETS = [*examples_of("upstreams.md", "toml"), *examples_of("fleet.md", "toml")]
STATEMENTS = examples_of("upstreams.md", "sql")


@pytest.mark.parametrize("example", SNIPPETS, ids=lambda one: one.title)
def test_each_snippet_is_a_configuration_with_a_sink(example: Example, tmp_path: Path) -> None:
    with installed(tmp_path / "site"):
        upstreams = parse(example.code, "docs").upstream
        assert upstreams
        for upstream in upstreams:
            made = make_sink(
                upstream, "main", identity=IDENTITY, clock=ManualClock(), run_blocking=inline
            )
            assert made.drained


@pytest.mark.needs("postgresql", "psycopg")
async def test_the_tables_are_taken_by_postgresql_and_fit() -> None:
    tables = [one for one in STATEMENTS if "CREATE TABLE" in one.code]
    (indexes,) = (one for one in STATEMENTS if one not in tables)
    assert len(tables) == 2
    for table in tables:
        server, database = await trio.to_thread.run_sync(new_database)
        # TimescaleDB is not to be had here.
        plain = table.code.partition("SELECT create_hypertable")[0]
        psql = partial(server.psql, plain + indexes.code, database=database)
        await trio.to_thread.run_sync(psql)
        where = {"port": server.port, "dbname": database, "user": "edge", "password": "secret"}
        connection = await connect(where, "127.0.0.1", PATIENCE_S)
        await Target("records", create=False).prepare(connection, PATIENCE_S)
        await connection.aclose()
