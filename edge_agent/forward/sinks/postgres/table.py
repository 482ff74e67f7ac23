"""This module gets a connection ready: its settings, and a table that every record goes into once.

The table is made where it is missing. One that is there may have further columns, other widths and
indexes, be partitioned, or be a TimescaleDB hypertable; whether our rows fit is asked of PostgreSQL
itself, by an INSERT of none. What it has to have is a unique key of epoch, log, seq and variant,
with whatever else of a row: without one a batch that is sent again would be there twice.

A row that is left out, as its key is there, is the same record again, unless this store was set
back and has given the number to another one. `Target.others` asks for such: for a record of ours
that has another time than the row, where neither time is one that is ever put right (``sensor`` and
``synced``). Nothing else that is the same for a record for good is sure to be the same in a table
of a person's own, who may rename streams or change fields there; and a false alarm sends records
twice. So what a clock dated that was not set is taken at its word.
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
        self.name, self._create = name, create
        self._quoted = quoted = ".".join(f'"{part}"' for part in name.split("."))
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
        self._limited = self._others = ""

    def others(self, epoch: str) -> str:
        """Statements, the last one a question with a row where the table has other records under
        numbers of ``epoch`` than the batch that was copied in this transaction.
        """
        return f"{self._limited}{self._others} AND epoch = '{epoch}' LIMIT 1"

    async def prepare(self, connection: PostgresConnection, timeout: float) -> None:
        """Settings, the table, and a table for a batch that lasts as long as the connection: in a
        transaction that is left open, to be committed, or rolled back where this is a trial.

        Raises:
            PostgresError: what the server says; there is no table, or it does not fit.
            SinkUnavailable: slow; there is no key by which repeats are known.
        """
        # A server that waits for a lock would otherwise do so long after we have gone.
        limit = max(int(timeout * 1000), 100)
        await connection.run(
            f"BEGIN; SET synchronous_commit = on; SET lock_timeout = {limit};"
            " SET client_min_messages = warning"
        )
        row, *_ = await connection.rows(f"SELECT {self._found}") or [(None,)]
        (found, *_) = row
        if found is None and self._create:
            try:
                await connection.run(f"SAVEPOINT missing; {self._made}")
            except PostgresError as error:
                if error.sqlstate not in _MADE_MEANWHILE:
                    raise
                await connection.run("ROLLBACK TO missing")
        elif found is None:
            raise SinkUnavailable(
                f"there is no table {self.name}, and postgres.create is false", slow=True
            )
        columns = ", ".join(f"{column} {kind}" for column, kind in COLUMNS.items())
        await connection.run(f"CREATE TEMP TABLE {_BATCH} ({columns}) ON COMMIT DELETE ROWS")
        await connection.run(self._insert)
        # Of that key alone: what another one of the table refuses is refused, and not left out.
        key = sorted(await self._key(connection))
        self._limited = f"SET LOCAL statement_timeout = {limit}; "
        self.put = f"{self._limited}{self._insert} ON CONFLICT ({', '.join(key)}) DO NOTHING"
        # Row by row, by the key: a join might read all of a table that has been filled for years.
        same = " AND ".join(f"there.{name} = batch.{name}" for name in (*key, "time_quality"))
        self._others = (
            f"SELECT 1 FROM {_BATCH} AS batch WHERE time_quality IN ('sensor', 'synced')"
            f" AND time_ns <> (SELECT there.time_ns FROM {self._quoted} AS there"
            f" WHERE {same} LIMIT 1)"
        )

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
            f"the table {self.name} has no unique key by which repeats are known:"
            f" ALTER TABLE {self.name} ADD UNIQUE ({', '.join(KEY)})",
            slow=True,
        )
