"""A table is made, or is found to fit, or is told why it does not; by a real PostgreSQL."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from edge_agent.errors import SinkUnavailable
from edge_agent.forward.sinks.postgres.connection import PostgresConnection, connect
from edge_agent.forward.sinks.postgres.sqlstates import PostgresError
from edge_agent.forward.sinks.postgres.table import Target
from tests.forward.sinks.postgres.server import new_database
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.needs("postgresql", "psycopg")

FITS = """
    CREATE TABLE records (note text, agent varchar(40), epoch text, log text, variant text,
        stream text, source text, time_quality text, seq bigint, time timestamptz NOT NULL,
        time_ns bigint, fields json, UNIQUE (epoch, log, seq, variant, time))
"""


async def connected(setup: str = "") -> tuple[PostgresConnection, partial[str]]:
    server, database = await trio.to_thread.run_sync(new_database)
    psql = partial(server.psql, database=database)
    if setup:
        await trio.to_thread.run_sync(psql, setup)
    parameters = {"port": server.port, "dbname": database, "user": "edge", "password": "secret"}
    return await connect(parameters, "127.0.0.1", PATIENCE_S), psql


async def prepared(setup: str = "", *, name: str = "records", create: bool = True) -> partial[str]:
    connection, psql = await connected(setup)
    try:
        await Target(name, create=create).prepare(connection, PATIENCE_S)
        await connection.run("COMMIT")
    finally:
        await connection.aclose()
    return psql


async def test_a_table_is_made_where_it_is_missing_and_found_the_next_time() -> None:
    psql = await prepared("CREATE SCHEMA iot", name="iot.readings")
    columns = await trio.to_thread.run_sync(
        psql, "SELECT count(*) FROM information_schema.columns WHERE table_schema = 'iot'"
    )
    assert columns == "11"


async def test_a_table_of_ones_own_may_have_more_columns_and_other_widths() -> None:
    await prepared(FITS, create=False)


async def test_a_table_that_is_missing_and_may_not_be_made_is_told() -> None:
    with pytest.raises(SinkUnavailable, match="there is no table records") as caught:
        await prepared(create=False)
    assert caught.value.slow


@pytest.mark.parametrize("setup, said", [
    (FITS.replace("time_ns bigint,", ""), 'column "time_ns".* does not exist'),
    (FITS.replace("time_ns bigint", "time_ns date"), 'column "time_ns" is of type date'),
    ("CREATE VIEW records AS SELECT 1 AS agent", 'column "epoch"'),
])  # fmt: skip
async def test_columns_that_do_not_fit_are_told_in_postgresqls_words(setup: str, said: str) -> None:
    with pytest.raises(PostgresError, match=said):
        await prepared(setup)


@pytest.mark.parametrize("key", [
    "", ", UNIQUE (epoch, log, seq)", ", UNIQUE (epoch, log, seq, variant, note)",
    ", UNIQUE (epoch, log, seq, variant) DEFERRABLE INITIALLY DEFERRED",
])  # fmt: skip
async def test_a_table_without_a_key_by_which_repeats_are_known_is_refused(key: str) -> None:
    setup = FITS.replace(", UNIQUE (epoch, log, seq, variant, time)", key)
    with pytest.raises(SinkUnavailable, match="ADD UNIQUE") as caught:
        await prepared(setup)
    assert caught.value.slow


async def test_a_table_that_may_not_be_written_is_told() -> None:
    setup = FITS + "; REVOKE INSERT ON records FROM edge"
    with pytest.raises(PostgresError, match="permission denied") as caught:
        await prepared(setup)
    assert caught.value.sqlstate == "42501"
