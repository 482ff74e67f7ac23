"""The PostgreSQL sink sends one transaction for each batch, and every record is there once.

::

    BEGIN; COPY edge_agent_batch … FROM STDIN     (a temporary table)
    INSERT INTO records … SELECT … FROM edge_agent_batch ON CONFLICT (KEY) DO NOTHING; COMMIT

It is acknowledged by the answer to COMMIT, which PostgreSQL gives when its log is on the disk
(``synchronous_commit`` is switched on). A batch whose answer was lost comes again and conflicts
with itself: nothing is done, and that is acknowledged. Where fewer rows were put in than were sent,
it is looked first whether those that are there are the same records (`Target.others`): a store that
was set back gives its numbers a second time, and becomes another one before anything is lost.

psycopg is 6 MB of memory and a fifth of a second of imports, so it is loaded, in a thread, once
there is something to be sent and a server can be reached: an upstream that rests, or whose server
is away, goes without.
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import trio

from edge_agent import __version__
from edge_agent.config import PostgresTable, Upstream
from edge_agent.errors import SinkError, SinkUnavailable
from edge_agent.forward.credentials import read_secret
from edge_agent.forward.keyed_sink import KeyedSink
from edge_agent.forward.probing import ProbeStep, probe_by_sending
from edge_agent.forward.sink import Acknowledged, Batch, LaneResume, Resumed, SinkParts
from edge_agent.forward.sinks.postgres.rows import RenderedRows, render_rows
from edge_agent.forward.sinks.postgres.sqlstates import PostgresError, has_no_answer, sink_error
from edge_agent.forward.sinks.postgres.table import Target
from edge_agent.net.access import is_loopback
from edge_agent.output.printable import printable, why
from edge_agent.values.record import Record

if TYPE_CHECKING:
    from edge_agent.forward.sinks.postgres.connection import PostgresConnection

_PORT: Final = 5432
_DRIVER: Final = "edge_agent.forward.sinks.postgres.connection"
_OTHERS: Final = "a table has other records under its numbers"


class PostgresSink(KeyedSink):
    """One log's transactions in one database."""

    def __init__(self, parts: SinkParts) -> None:
        super().__init__(parts)
        table = parts.upstream.postgres or PostgresTable()
        self._target = Target(table.table, create=table.create)
        self._connection: PostgresConnection | None = None
        #: The epoch under whose numbers the table has other records.
        self._forked = ""

    async def open(self, nursery: trio.Nursery, resume: LaneResume) -> Resumed:
        """Nothing to agree on, but where the batch before has shown that this store is a copy."""
        resumed = await super().open(nursery, resume)
        return replace(resumed, forked=_OTHERS * (self._identity.epoch == self._forked))

    async def _send(self, batch: Batch) -> Acknowledged:
        rows: RenderedRows = await self._run_blocking(self._rows, batch)
        if rows.number:
            connection = await self._connected()
            new = await self._store(connection, rows, "BEGIN; ", "COMMIT")
            # What an order sends once more may be minutes, of other times than their records had.
            if new < rows.number and not batch.resent:
                await self._compare(connection, rows)
        rows.raise_refused()
        return Acknowledged(batch.last, rows.number, len(rows.body) if rows.number else 0)

    async def try_out(self, record: Record) -> str:
        """Put a record that is in no log into the table, and roll back, also a table that was made:
        what a person is told.

        Raises:
            SinkUnavailable, SinkRefused: as `send`.
        """
        agent, epoch = self._identity.agent_id, self._identity.epoch
        rows = await self._run_blocking(render_rows, [record], agent, epoch)
        rows.raise_refused()
        try:
            await self._store(await self._connected(trial=True), rows, "", "ROLLBACK")
        finally:
            await self.aclose()
        return f"logged in; the table {self._target.name} took a row, which was rolled back"

    def _rows(self, batch: Batch) -> RenderedRows:
        records = batch.records(self._matches)
        return render_rows(records, self._identity.agent_id, self._identity.epoch)

    async def _store(
        self, connection: PostgresConnection, rows: RenderedRows, begin: str, end: str
    ) -> int:
        """Put them into the table; how many were new."""
        with self._border(rows):
            await connection.copy(begin + self._target.copy, rows.body)
            done = await connection.statuses(f"{self._target.put}; {end}")
            if done[-1:] != [end]:
                told = f"{printable(done[-1][:100]) if done else 'nothing'} instead of {end}"
                raise SinkUnavailable(told, obstacle="there")
            _, _, count = "".join(done[-2:-1]).rpartition(" ")  # Of INSERT 0 COUNT.
            return int(count) if count.isdecimal() else 0

    async def _compare(self, connection: PostgresConnection, rows: RenderedRows) -> None:
        """Look whether those that were not new are the same records.

        Raises:
            SinkUnavailable: they are others; `open` tells.
        """
        epoch = self._identity.epoch
        with self._border(rows):
            await connection.copy("BEGIN; " + self._target.copy, rows.body)
            try:
                others = await connection.rows(self._target.others(epoch))
            except PostgresError as error:
                if not has_no_answer(error.sqlstate):
                    raise
                others = []  # What was sent is there, and that much is all that is known.
            await connection.run("ROLLBACK")
            if others:
                self._forked = epoch
                raise SinkUnavailable(_OTHERS, obstacle="there")

    @contextmanager
    def _border(self, rows: RenderedRows) -> Iterator[None]:
        """What goes wrong with a batch, as the sink's errors."""
        failure: SinkError
        try:
            yield
            return
        except SinkError as error:
            failure = error
        except PostgresError as error:
            failure = sink_error(str(error), error.sqlstate)
        except trio.TooSlowError:
            failure = SinkUnavailable(self._no_answer(), cut=True)
        failure.sent_bytes = len(rows.body)
        raise failure

    def _no_answer(self) -> str:
        return f"no answer within {self._upstream.timeout:g} s"

    async def _connected(self, *, trial: bool = False) -> PostgresConnection:
        """The connection that is open, or a new one that is ready for rows: for a ``trial`` in a
        transaction, in which everything was made that was missing.
        """
        if self._connection is not None and self._connection.is_good:
            return self._connection
        await self.aclose()
        upstream = self._upstream
        parameters, host = await self._run_blocking(parameters_of, upstream)
        try:
            driver = await self._driver(host, parameters["port"])
            self._connection = await driver.connect(parameters, host, upstream.timeout)
            await self._target.prepare(self._connection, upstream.timeout)
            if not trial:
                await self._connection.run("COMMIT")
        except PostgresError as error:
            raise sink_error(str(error), error.sqlstate, log_in=True) from error
        except trio.TooSlowError:
            raise SinkUnavailable(self._no_answer()) from None
        except OSError as error:
            raise SinkUnavailable(f"{host}: {why(error)}") from error
        return self._connection

    async def _driver(self, host: str, port: int) -> ModuleType:
        """The module that connects, loaded if need be.

        Raises:
            SinkUnavailable: nobody is there, for whom it would be loaded, or it cannot be.
            trio.TooSlowError: nobody has answered.
        """
        if _DRIVER not in sys.modules:
            try:
                with trio.fail_after(self._upstream.timeout):
                    await trio.aclose_forcefully(await self._dial(host, port, None))
            except OSError as error:
                raise SinkUnavailable(why(error)) from error
        try:
            return await self._run_blocking(import_module, _DRIVER)
        except ImportError as error:
            # It is installed, and the libpq that it needs is not.
            text = f"psycopg cannot be loaded: {why(error)}"
            raise SinkUnavailable(text, slow=True, obstacle="here") from error


def parameters_of(upstream: Upstream) -> tuple[dict[str, Any], str]:
    """Libpq's parameters for this moment, and the host. Blocks: files are read.

    Raises:
        SinkUnavailable: slow; a file cannot be read.
    """
    parts = urlsplit(upstream.url)
    host = parts.hostname or ""
    default = "disable" if is_loopback(host) else "verify-full"
    mode = parse_qs(parts.query).get("sslmode", [default])[-1]
    given = {
        "port": parts.port or _PORT,
        "dbname": unquote(parts.path.removeprefix("/")),
        "user": unquote(parts.username or upstream.user or ""),
        "password": read_secret("password_file", upstream.password_file),
        "sslmode": mode,
        "sslcert": upstream.tls_certificate,
        "sslkey": upstream.tls_key,
        # Asking for a ticket would block.
        "gssencmode": "disable",
        "client_encoding": "UTF8",
        "application_name": f"edge-agent/{__version__}",
    }
    if mode.startswith("verify"):
        given["sslrootcert"] = upstream.ca_file or ssl.get_default_verify_paths().cafile or "system"
    return {name: value for name, value in given.items() if value is not None}, host


def make(parts: SinkParts) -> PostgresSink:
    """The sink of a ``postgresql`` upstream."""
    return PostgresSink(parts)


async def probe(parts: SinkParts, size: int) -> list[ProbeStep]:
    """Log in and put a row of about ``size`` bytes into the table, all of it rolled back."""
    return await probe_by_sending("row", parts.clock, size, make(parts).try_out)
