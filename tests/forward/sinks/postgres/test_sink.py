"""The PostgreSQL sink against a real server: content, rights, TLS, and kills."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from msgspec import structs

from benchmarks.ports import free_port
from benchmarks.upstreams.servers import Postgres, postgresql
from edge_agent.config import PostgresTable, Upstream
from edge_agent.errors import SinkRefused, SinkUnavailable
from edge_agent.forward.probing import probe_record
from edge_agent.forward.sink import Batch, LaneResume
from edge_agent.forward.sinks.postgres.sink import PostgresSink, parameters_of, probe
from edge_agent.store import Position
from tests.forward.sinks.influx.test_sink import forwarding, is_below, put, sent
from tests.forward.sinks.postgres.server import new_database
from tests.forward.sinks.postgres.side import secret_file
from tests.forward.support import Station, parts_for, running_station, until, upstream
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.needs("postgresql", "psycopg")
Psql = partial[str]


def to(server: Postgres, database: str, folder: Path, query: str = "", **more: Any) -> Upstream:
    url = f"postgresql://edge@127.0.0.1:{server.port}/{database}{query}"
    return upstream(url, **{"password_file": str(secret_file(folder)), **more})


@asynccontextmanager
async def database(folder: Path) -> AsyncIterator[tuple[Station, Upstream, Psql]]:
    server, name = await trio.to_thread.run_sync(new_database)
    async with running_station(folder / "near") as station:
        yield station, to(server, name, folder), partial(server.psql, database=name)


async def ask(psql: Psql, question: str) -> list[str]:
    return (await trio.to_thread.run_sync(psql, question)).splitlines()


async def refused(station: Station, configured: Upstream) -> SinkRefused | SinkUnavailable:
    with pytest.raises(ExceptionGroup) as caught:
        await sent(station, configured)
    (error,) = caught.value.exceptions
    assert isinstance(error, (SinkRefused, SinkUnavailable))
    return error


async def test_a_record_is_there_with_its_exact_time_and_its_fields(tmp_path: Path) -> None:
    async with database(tmp_path) as (station, configured, psql):
        await put(station, {"time": "2026-11-22T10:00:00.123456Z", "t": 21.5, "deep": {"a": [1]}})
        acknowledged = await sent(station, configured)
        assert (acknowledged.upto, acknowledged.records) == (1, 1)
        question = (
            "SELECT stream, source, seq, agent, extract(epoch FROM time), time_ns, time_quality,"
            " fields->>'t', fields->'deep' FROM records"
        )
        agent = station.log.identity.agent_id
        times = "1795341600.123456|1795341600123456000|sensor"
        assert await ask(psql, question) == [f't/1|s|1|{agent}|{times}|21.5|{{"a": [1]}}']


async def test_the_same_batch_again_changes_nothing(tmp_path: Path) -> None:
    async with database(tmp_path) as (station, configured, psql):
        await station.put(100)
        for _ in range(3):
            assert (await sent(station, configured)).records == 100
        assert await ask(psql, "SELECT count(*) FROM records") == ["100"]


async def test_a_text_that_postgresql_cannot_store_is_set_aside_alone(tmp_path: Path) -> None:
    async with database(tmp_path) as (station, configured, psql):
        await put(station, *({"n": n, "s": "a\x00b" if n == 7 else "a"} for n in range(20)))
        async with forwarding(station, configured) as lane:
            await until(lambda: lane.statistics().backlog_records == 0)
        assert await ask(psql, "SELECT count(*) FROM records WHERE seq <> 8") == ["19"]
        ((_, item),) = await station.log.quarantine(0, 10)
        assert item.seq == 8 and "character 0" in item.reason


async def test_what_a_constraint_of_ones_own_refuses_is_found_by_halving(tmp_path: Path) -> None:
    async with database(tmp_path) as (station, configured, psql):
        await sent_one(station, configured)
        await ask(psql, "ALTER TABLE records ADD CHECK ((fields->>'n')::int <> 7)")
        await put(station, *({"n": n} for n in range(20)))
        async with forwarding(station, configured) as lane:
            await until(lambda: lane.statistics().backlog_records == 0)
        assert await ask(psql, "SELECT count(*) FROM records") == ["20"]
        ((_, item),) = await station.log.quarantine(0, 10)
        assert item.seq == 9 and "violates check constraint" in item.reason


async def test_what_another_key_of_the_table_refuses_is_set_aside_and_not_dropped(
    tmp_path: Path,
) -> None:
    async with database(tmp_path) as (station, configured, psql):
        await sent_one(station, configured)
        await ask(psql, "CREATE UNIQUE INDEX ON records ((fields->>'n'))")
        await put(station, *({"n": n} for n in (5, 6, 5, 7)))
        async with forwarding(station, configured) as lane:
            await until(lambda: lane.statistics().backlog_records == 0)
        assert await ask(psql, "SELECT seq FROM records ORDER BY seq") == ["1", "2", "3", "5"]
        ((_, item),) = await station.log.quarantine(0, 10)
        assert item.seq == 4 and "duplicate key value" in item.reason


async def sent_one(station: Station, configured: Upstream) -> None:
    await station.put(1)
    await sent(station, configured)


@pytest.mark.parametrize("more, said", [
    ({"password_file": "wrong"}, "password authentication failed"),
    ({"postgres": PostgresTable(table="no_schema.records")}, 'schema "no_schema" does not exist'),
    ({"postgres": PostgresTable(create=False)}, "there is no table records"),
    ({"query": "?sslmode=require"}, "sslmode=disable"),
    ({"name": "nope"}, 'database "nope" does not exist'),
])  # fmt: skip
async def test_what_a_person_has_to_change_is_said_in_a_sentence(
    more: dict[str, Any], said: str, tmp_path: Path
) -> None:
    server, name = await trio.to_thread.run_sync(new_database)
    if "password_file" in more:
        more = {"password_file": str(secret_file(tmp_path / "wrong"))}
        Path(more["password_file"]).write_text("wrong\n")
    more = dict(more)
    name = more.pop("name", name)
    configured = to(server, name, tmp_path, **more)
    async with running_station(tmp_path / "near") as station:
        await station.put(1)
        error = await refused(station, configured)
        assert isinstance(error, SinkUnavailable) and error.slow and said in str(error)


async def test_a_server_that_takes_no_writes_for_a_while_is_waited_for(tmp_path: Path) -> None:
    async with database(tmp_path) as (station, configured, psql):
        await sent_one(station, configured)
        name = psql.keywords["database"]
        await ask(psql, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        error = await refused(station, configured)
        assert isinstance(error, SinkUnavailable) and not error.slow
        assert str(error).startswith("it takes no writes now (a replica, or default_trans")


async def test_the_driver_is_loaded_for_a_server_that_can_be_reached_and_for_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = "edge_agent.forward.sinks.postgres.connection"
    monkeypatch.delitem(sys.modules, driver, raising=False)
    async with database(tmp_path) as (station, configured, psql):
        await station.put(1)
        nobody = structs.replace(configured, url="postgresql://edge@127.0.0.1:1/edge")
        error = await refused(station, nobody)
        assert isinstance(error, SinkUnavailable) and not error.slow
        assert "127.0.0.1:1: " in str(error) and driver not in sys.modules
        await sent(station, configured)
        assert driver in sys.modules
        # From then on it is libpq that tells.
        assert "connection failed" in str(await refused(station, nobody))
        assert await ask(psql, "SELECT count(*) FROM records") == ["1"]


async def test_a_lock_that_somebody_holds_is_waited_for_no_longer_than_the_timeout(
    tmp_path: Path,
) -> None:
    server, name = await trio.to_thread.run_sync(new_database)
    psql = partial(server.psql, database=name)
    async with running_station(tmp_path / "near") as station, trio.open_nursery() as nursery:
        await sent_one(station, to(server, name, tmp_path))
        lock = f"BEGIN; LOCK TABLE records; SELECT pg_sleep({4 * PATIENCE_S}); COMMIT"
        nursery.start_soon(holds_until_ended, psql, lock)
        held = "pg_locks WHERE mode = 'AccessExclusiveLock' AND granted"
        with trio.fail_after(PATIENCE_S):
            while await ask(psql, f"SELECT count(*) FROM {held}") == ["0"]:
                await trio.sleep(0.02)
        error = await refused(station, to(server, name, tmp_path, timeout=0.5))
        assert isinstance(error, SinkUnavailable) and not error.slow
        await ask(psql, f"SELECT pg_terminate_backend(pid) FROM {held}")


async def holds_until_ended(psql: Psql, lock: str) -> None:
    with pytest.raises(RuntimeError, match="terminating connection"):
        await ask(psql, lock)


def test_what_libpq_is_told(tmp_path: Path) -> None:
    url = "postgresql://me%40x@db.example/iot?sslmode=verify-ca"
    secret = str(secret_file(tmp_path))
    given = Upstream(name="x", url=url, password_file=secret, ca_file="/ca.pem")
    parameters, host = parameters_of(given)
    assert host == "db.example"
    chosen = {"user": "me@x", "dbname": "iot", "port": 5432, "password": "secret"}
    chosen |= {"sslmode": "verify-ca", "sslrootcert": "/ca.pem"}
    assert chosen.items() <= parameters.items()
    plain = parameters_of(Upstream(name="x", url="postgresql://me@127.0.0.1/iot"))[0]
    assert plain["sslmode"] == "disable" and "password" not in plain
    strict = parameters_of(Upstream(name="x", url="postgresql://me@db.example/iot"))[0]
    assert strict["sslmode"] == "verify-full" and strict["sslrootcert"]


async def test_tls_is_checked_against_the_authority_and_the_name(tmp_path: Path) -> None:
    authority = trustme.CA()
    folder = tmp_path / "tls"
    folder.mkdir()
    folder.chmod(0o755)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(folder / "server.pem")
    certificate.private_key_pem.write_to_path(folder / "server-key.pem")
    trustme.CA().cert_pem.write_to_path(folder / "other.pem")
    server, name = await trio.to_thread.run_sync(new_database)
    data = Path(await trio.to_thread.run_sync(server.as_root, "SHOW data_directory"))
    key = data / "server-key.pem"
    key.write_bytes((folder / "server-key.pem").read_bytes())
    key.chmod(0o600)
    (data / "server.pem").write_bytes((folder / "server.pem").read_bytes())
    owner = data.stat()
    if owner.st_uid != key.stat().st_uid:
        os.chown(key, owner.st_uid, owner.st_gid)
    for setting in ("ssl_cert_file = 'server.pem'", "ssl_key_file = 'server-key.pem'", "ssl = on"):
        await trio.to_thread.run_sync(server.as_root, f"ALTER SYSTEM SET {setting}")
    await trio.to_thread.run_sync(server.as_root, "SELECT pg_reload_conf()")
    try:
        async with running_station(tmp_path / "near") as station:
            await station.put(1)
            right = to(
                server, name, tmp_path, "?sslmode=verify-full", ca_file=str(folder / "ca.pem")
            )
            with trio.fail_after(30):
                while True:
                    try:
                        await sent(station, right)
                        break
                    except ExceptionGroup:
                        await trio.sleep(0.05)  # The server has not read its settings yet.
            other = str(folder / "other.pem")
            wrong = to(server, name, tmp_path, "?sslmode=verify-full", ca_file=other)
            error = await refused(station, wrong)
            assert isinstance(error, SinkUnavailable) and error.slow
            assert "certificate verify failed" in str(error)
    finally:
        await trio.to_thread.run_sync(server.as_root, "ALTER SYSTEM SET ssl = off")
        await trio.to_thread.run_sync(server.as_root, "SELECT pg_reload_conf()")


async def test_a_server_that_is_killed_has_every_record_once(tmp_path: Path) -> None:
    with postgresql(free_port(), sync=True) as server:
        async with running_station(tmp_path / "near") as station:
            for n in range(0, 10_000, 1000):
                await station.put(1000, start=n)
            configured = to(server, "edge", tmp_path, batch_records=250, backoff_max=0.2)
            async with forwarding(station, configured) as lane:
                for part in (8000, 4000):
                    await until(partial(is_below, lane, part))
                    await trio.to_thread.run_sync(server.kill)
                    await trio.to_thread.run_sync(server.start)
                await until(lambda: lane.statistics().backlog_records == 0)
            psql = partial(server.psql, database="edge")
            assert await ask(
                psql, "SELECT count(*), count(DISTINCT seq), max(seq) FROM records"
            ) == ["10000|10000|10000"]


async def test_a_table_that_somebody_else_makes_meanwhile_ends_no_trial(tmp_path: Path) -> None:
    async with database(tmp_path) as (station, configured, psql):
        await put(station, {"t": 1})
        made = "CREATE TABLE records (LIKE other INCLUDING ALL)"
        await sent(station, structs.replace(configured, postgres=PostgresTable(table="other")))
        for trial in (True, False):
            async with trio.open_nursery() as nursery:
                slow = f"BEGIN; {made}; GRANT ALL ON records TO edge; SELECT pg_sleep(1); COMMIT"
                nursery.start_soon(ask, psql, slow)
                asked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
                while await ask(psql, asked) == ["0"]:
                    await trio.sleep(0.01)
                # It is not there yet, and its name is taken.
                if trial:
                    (step,) = await probe(parts_for(station, configured), 100)
                    assert step.good, step
                else:
                    assert (await sent(station, configured)).records == 1
            assert await ask(psql, "SELECT count(*) FROM records") == ["0" if trial else "1"]
            await ask(psql, "DROP TABLE records")


async def test_a_record_that_cannot_be_stored_is_no_good_trial(tmp_path: Path) -> None:
    async with database(tmp_path) as (station, configured, _):
        record = structs.replace(probe_record(0, 100, synced=True), fields={"s": "a\x00b"})
        with pytest.raises(SinkRefused, match="record 1: a text with the character 0"):
            await PostgresSink(parts_for(station, configured)).try_out(record)


class Card:
    """A store on a card, sent to the database each time that it is in use."""

    def __init__(self, near: Path, configured: Upstream) -> None:
        self.near, self._configured = near, configured

    async def used(self, *fields: dict[str, Any]) -> int:
        """Records come and are sent; how often it was found to be a copy by now."""
        async with running_station(self.near) as station:
            if fields:
                await put(station, *fields)
            async with forwarding(station, self._configured) as lane:
                await until(lambda: lane.statistics().backlog_records == 0)
                assert lane.statistics().floor == station.log.last_seq("main")
            copied = station.engine.identity.copied
            return copied.times if copied else 0


def at(minute: int, count: int, **more: Any) -> list[dict[str, Any]]:
    return [
        {"time": f"2026-11-22T10:{minute:02}:{n:02}Z", "n": 100 * minute + n, **more}
        for n in range(count)
    ]


@pytest.mark.parametrize("order", ["live first", "in order"])
async def test_a_store_that_was_set_back_is_noticed_by_its_rows_and_loses_none(
    tmp_path: Path, order: str
) -> None:
    server, name = await trio.to_thread.run_sync(new_database)
    configured = to(server, name, tmp_path, order=order)
    card, image = Card(tmp_path / "near", configured), tmp_path / "image"
    psql = partial(server.psql, database=name)
    assert await card.used(*at(0, 10)) == 0
    shutil.copytree(card.near, image)
    assert await card.used(*at(1, 10)) == 0
    shutil.rmtree(card.near)
    shutil.copytree(image, card.near)
    # More than there were, and then other ones.
    assert await card.used(*at(2, 30)) == 1
    assert await card.used(*at(3, 5)) == 1
    found = "SELECT DISTINCT (fields->>'n')::int AS n FROM records ORDER BY n"
    assert [int(n) for n in await ask(psql, found)] == [
        100 * minute + n for minute, count in enumerate((10, 10, 30, 5)) for n in range(count)
    ]


async def test_rows_that_are_there_already_make_no_copy(tmp_path: Path) -> None:
    """A position that was lost, restarts, rows that a person has changed, a table for two."""
    server, name = await trio.to_thread.run_sync(new_database)
    configured, psql = to(server, name, tmp_path), partial(server.psql, database=name)
    card, image = Card(tmp_path / "near", configured), tmp_path / "image"
    assert await card.used(*at(0, 5)) == 0
    shutil.copytree(card.near, image)
    assert await card.used({"n": 7}, *at(1, 20)) == 0
    await ask(psql, "UPDATE records SET stream = 'mine', fields = '{}', source = 'x'")
    for again in range(3):
        async with running_station(card.near) as station:
            await consumer_rewind(station, configured)
        assert await card.used(*at(2 + again, 1)) == 0
    count = await ask(psql, "SELECT count(*) FROM records")
    assert count == ["29"]


async def consumer_rewind(station: Station, configured: Upstream) -> None:
    """As if no acknowledgement had become durable."""
    position = Position(configured.consumer, "main", 0, rewind=True)
    await station.log.acknowledge(position, durable=True)


async def test_what_an_order_sends_once_more_may_have_other_times(tmp_path: Path) -> None:
    """As minutes have that history gives in the place of records."""
    async with database(tmp_path) as (station, configured, psql):
        await put(station, *at(0, 3))
        await sent(station, configured)
        await ask(psql, "UPDATE records SET time_ns = time_ns - 1")
        sink = PostgresSink(parts_for(station, configured))
        items = tuple(await station.log.read("main", 0))
        async with trio.open_nursery() as nursery:
            resume = LaneResume(0, 1, 3, None)
            for resent, forked in ((1, False), (0, True)):
                await sink.open(nursery, resume)
                with pytest.raises(SinkUnavailable) if forked else nullcontext():
                    await sink.send(Batch("main", 1, 3, items, resent=resent))
                assert bool((await sink.open(nursery, resume)).forked) is forked
        # As another store it goes on.
        other = replace(station.log.identity, epoch="f" * 16)
        async with trio.open_nursery() as nursery:
            again = LaneResume(0, 1, 3, None, other)
            assert not (await sink.open(nursery, again)).forked
            assert (await sink.send(Batch("main", 1, 3, items))).records == 3
        await sink.aclose()


@pytest.mark.parametrize("change", [
    # As much as ON CONFLICT needs, and no more.
    """REVOKE ALL ON records FROM edge; GRANT INSERT ON records TO edge;
    GRANT SELECT (epoch, log, seq, variant) ON records TO edge""",
    """CREATE TYPE quality AS ENUM ('sensor', 'synced', 'unsynced', 'corrected');
    CREATE CAST (text AS quality) WITH INOUT AS ASSIGNMENT;
    ALTER TABLE records ALTER time_quality TYPE quality USING time_quality::quality""",
    # Two rows under one number, of which PostgreSQL makes no single value.
    """CREATE TABLE older () INHERITS (records); INSERT INTO older SELECT * FROM records;
    GRANT ALL ON older TO edge""",
])  # fmt: skip
async def test_a_table_that_cannot_be_asked_is_taken_at_its_word(
    tmp_path: Path, change: str
) -> None:
    async with database(tmp_path) as (station, configured, psql):
        await put(station, *at(0, 3))
        assert (await sent(station, configured)).records == 3
        await ask(psql, change)
        await put(station, *at(1, 3))
        assert (await sent(station, configured)).upto == 6


async def test_trying_one_out_puts_a_row_into_the_table_and_leaves_nothing(tmp_path: Path) -> None:
    async with database(tmp_path) as (station, configured, psql):
        (step,) = await probe(parts_for(station, configured), 2000)
        assert step.good and "records took a row" in step.told
        # Neither the row nor the table that was missing.
        assert await ask(psql, "SELECT coalesce(to_regclass('records')::text, 'none')") == ["none"]
        await put(station, {"t": 1})
        await sent(station, configured)
        (step,) = await probe(parts_for(station, configured), 100)
        assert step.good and await ask(psql, "SELECT count(*) FROM records") == ["1"]


async def test_trying_one_out_tells_what_would_keep_every_row_back(tmp_path: Path) -> None:
    async with database(tmp_path) as (station, configured, psql):
        wrong = tmp_path / "wrong"
        wrong.write_text("other\n")
        elsewhere = structs.replace(configured, url=configured.url.replace("/edge_", "/no_"))
        missing = PostgresTable(create=False)
        await ask(psql, "CREATE TABLE mine (epoch text, log text, seq bigint)")
        for one, told in (
            (structs.replace(configured, password_file=str(wrong)), "password authentication"),
            (elsewhere, "does not exist"),
            (structs.replace(configured, postgres=missing), "there is no table records"),
            (structs.replace(configured, postgres=PostgresTable(table="mine")), "does not exist"),
        ):
            (step,) = await probe(parts_for(station, one), 100)
            assert (step.good, told in step.told) == (False, True), step
