"""This module gets a connection ready: its settings, and a table that every record goes into once.

The table is made where it is missing. One that is there may have further columns, other widths and
indexes, be partitioned, or be a TimescaleDB hypertable; whether our rows fit is asked of PostgreSQL
itself, by an INSERT of none. What it has to have is a unique key of epoch, log, seq and variant,
with whatever else of a row: without one a batch that is sent again would be there twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from edge_agent.errors import SinkUnavailable
from edge_agent.forward.sinks.postgres.rows import COLUMNS
from edge_agent.forward.sinks.postgres.sqlstates import PostgresError

if TYPE_CHECKING:
    from edge_agent.forward.sinks.postgres.connection import PostgresConnection

KEY: Final = ("epoch", "log", "seq", "variant")
_BATCH: Final = "edge_agent_batch"
_NAMES: Final = ", ".join(COLUMNS)
#: Somebody else made it at the same time.
_MADE_MEANWHILE: Final = ("23505", "42P07")


class Target:
    """A table and the statements that fill it.

    Args:
        name: TABLE or SCHEMA.TABLE, of letters, digits and _.
        create: make it where it is missing.
    """

    def __init__(self, name: str, *, create: bool) -> None:
        self._name, self._create = name, create
        quoted = ".".join(f'"{part}"' for part in name.split("."))
        columns = ", ".join(f"{column} {kind} NOT NULL" for column, kind in COLUMNS.items())
        self._made = (
            f"CREATE TABLE IF NOT EXISTS {quoted} ({columns}, PRIMARY KEY ({', '.join(KEY)}))"
        )
        self._insert = f"INSERT INTO {quoted} ({_NAMES}) SELECT {_NAMES} FROM {_BATCH}"
        self._found = f"to_regclass('{quoted}')"
        #: Takes the rows of a batch.
        self.copy = f"COPY {_BATCH} ({_NAMES}) FROM STDIN (FORMAT binary)"
        #: Puts those that are new into the table; both are of one transaction.
        self.put = ""

    async def prepare(self, connection: PostgresConnection, timeout: float) -> None:
        """Settings, the table, and a table for a batch that lasts as long as the connection.

        Raises:
            PostgresError: what the server says; there is no table, or it does not fit.
            SinkUnavailable: slow; there is no key by which repeats are known.
        """
        # A server that waits for a lock would otherwise do so long after we have gone.
        limit = max(int(timeout * 1000), 100)
        await connection.run(
            f"SET synchronous_commit = on; SET lock_timeout = {limit};"
            " SET client_min_messages = warning"
        )
        row, *_ = await connection.rows(f"SELECT {self._found}") or [(None,)]
        (found, *_) = row
        if found is None and self._create:
            try:
                await connection.run(self._made)
            except PostgresError as error:
                if error.sqlstate not in _MADE_MEANWHILE:
                    raise
        elif found is None:
            raise SinkUnavailable(
                f"there is no table {self._name}, and postgres.create is false", slow=True
            )
        columns = ", ".join(f"{column} {kind}" for column, kind in COLUMNS.items())
        await connection.run(f"CREATE TEMP TABLE {_BATCH} ({columns}) ON COMMIT DELETE ROWS")
        await connection.run(self._insert)
        # Of that key alone: what another one of the table refuses is refused, and not left out.
        key = ", ".join(sorted(await self._key(connection)))
        insert = f"{self._insert} ON CONFLICT ({key}) DO NOTHING"
        self.put = f"SET LOCAL statement_timeout = {limit}; {insert}"

    async def _key(self, connection: PostgresConnection) -> set[str]:
        """The columns by which repeats are known."""
        rows = await connection.rows(
            "SELECT (SELECT string_agg(attname, ' ') FROM pg_attribute"
            " WHERE attrelid = indrelid AND attnum = ANY (indkey)) FROM pg_index"
            f" WHERE indrelid = {self._found} AND indisunique AND indisvalid AND indimmediate"
            " AND indpred IS NULL AND indexprs IS NULL"
        )
        keys = [set((row[0] or "").split()) for row in rows]
        for key in keys:
            if set(KEY) <= key <= COLUMNS.keys():
                return key
        raise SinkUnavailable(
            f"the table {self._name} has no unique key by which repeats are known:"
            f" ALTER TABLE {self._name} ADD UNIQUE ({', '.join(KEY)})",
            slow=True,
        )
