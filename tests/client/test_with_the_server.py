"""The producer against the real sensors' port on a real store, and a cable that is cut."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import trio

from edge_agent.cli.demo.relay import Relay
from edge_agent.client import Backoff, Producer, Trouble
from edge_agent.config.quantities import Size
from edge_agent.config.shape import Limits
from edge_agent.values.record import Record
from tests.patience import PATIENCE_S
from tests.server.support import Serving, serving

QUICK = Backoff(base=0.01, maximum=0.05, slow=0.1)


def producer_for(port: int, **options: Any) -> Producer:
    given: dict[str, Any] = {
        "source": "me",
        "backoff": QUICK,
        "close_timeout": PATIENCE_S,
    } | options
    return Producer(f"ws://127.0.0.1:{port}/ingest/s", **given)


def numbers(records: list[Record]) -> list[tuple[int, Any]]:
    return [(record.source_seq, record.fields.get("n")) for record in records]


async def test_what_is_acked_is_stored_once_and_in_order_though_the_cable_is_cut(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    async with serving(tmp_path) as agent:
        relay = Relay(agent.port)
        await nursery.start(relay.run)

        async def cut_again_and_again() -> None:
            while True:
                await trio.sleep(0.015)
                relay.cut()
                await trio.sleep(0.01)
                relay.restore()
                # A session, however long it takes on a busy machine.
                before = producer.acked
                while producer.acked == before:
                    await trio.sleep(0.005)

        async with producer_for(relay.port) as producer:
            nursery.start_soon(cut_again_and_again)
            for begin in range(1, 3001, 30):
                await producer.send([{"n": n} for n in range(begin, begin + 30)])
                await trio.sleep(0.002)
            await producer.flush(PATIENCE_S)
        assert relay.cuts > 1
        assert numbers(await agent.records()) == [(n, n) for n in range(1, 3001)]
    nursery.cancel_scope.cancel()


async def test_limits_that_only_the_welcome_told_cost_one_record_and_no_more(
    tmp_path: Path,
) -> None:
    limits = Limits(message_bytes=Size(2000), record_bytes=Size(500), batch_records=5)
    troubles: list[Trouble] = []
    async with serving(tmp_path, limits=limits) as agent:
        async with producer_for(agent.port, on_error=troubles.append) as producer:
            # Handed over before there is a connection, when usual limits are assumed.
            producer.send_nowait([{"n": n} for n in range(1, 8)])
            producer.send_nowait({"n": 8, "pad": "x" * 600})
            producer.send_nowait({"n": 9, "pad": "x" * 5000})
            producer.send_nowait([{"n": n} for n in range(10, 30)])
            await producer.flush(PATIENCE_S)
        stored = numbers(await agent.records())
        assert stored == [(n, n) for n in range(1, 30) if n not in (8, 9)]
        nacks = [(t.number, t.code) for t in troubles if t.kind == "nack"]
        assert [number for number, _ in nacks] == [8, 9]
        assert [number for _, number in await agent.quarantine()] == [8, 9]


async def test_a_restarted_agent_is_resumed_and_a_new_store_gets_what_is_not_acked(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    troubles: list[Trouble] = []
    relay = Relay(1)
    await nursery.start(relay.run)
    producer = producer_for(relay.port, on_error=troubles.append)

    async def point_at(agent: Serving) -> None:
        relay._target_port = agent.port
        relay.restore()

    async with producer:
        async with serving(tmp_path) as agent:
            await point_at(agent)
            await producer.send([{"n": 1}, {"n": 2}])
            await producer.flush(PATIENCE_S)
            relay.cut()
        await producer.send({"n": 3})
        async with serving(tmp_path) as agent:
            await point_at(agent)
            await producer.flush(PATIENCE_S)
            assert numbers(await agent.records()) == [(1, 1), (2, 2), (3, 3)]
            relay.cut()
        assert "renumbered" not in [trouble.kind for trouble in troubles]
        await producer.send({"n": 4})
        shutil.rmtree(tmp_path / "agent")
        async with serving(tmp_path) as agent:
            await point_at(agent)
            await producer.send({"n": 5})
            await producer.flush(PATIENCE_S)
            assert numbers(await agent.records()) == [(4, 4), (5, 5)]
    assert "renumbered" in [trouble.kind for trouble in troubles]
    nursery.cancel_scope.cancel()


async def test_who_is_taken_over_does_not_hurry_back_and_loses_nothing(tmp_path: Path) -> None:
    troubles: list[Trouble] = []
    patient = Backoff(base=0.01, maximum=0.02, slow=0.2)
    async with (
        serving(tmp_path) as agent,
        producer_for(agent.port, backoff=patient, on_error=troubles.append) as first,
    ):
        await first.send({"n": 1})
        await first.flush(PATIENCE_S)
        async with producer_for(agent.port) as second:
            await second.send({"n": 2})
            await second.flush(PATIENCE_S)
            await first.send({"n": 3})
        await first.flush(PATIENCE_S)
        assert {n for _, n in numbers(await agent.records())} == {1, 2, 3}
    assert troubles[0].message == "another connection took this source over"
    assert (troubles[0].retry_in or 0) >= 0.1


async def test_a_commit_that_hangs_holds_back_acks_and_nothing_else(tmp_path: Path) -> None:
    async with serving(tmp_path) as agent, producer_for(agent.port) as producer:
        agent.held.hold()
        await producer.send({"n": 1})
        with trio.move_on_after(0.05):
            await producer.flush()
        assert producer.unacked == 1
        await producer.send({"n": 2})
        agent.held.let_go()
        await producer.flush(PATIENCE_S)
        assert numbers(await agent.records()) == [(1, 1), (2, 2)]


async def test_json_sessions_store_the_same(tmp_path: Path) -> None:
    async with serving(tmp_path) as agent:
        async with producer_for(agent.port, format="json") as producer:
            await producer.send([{"n": 1, "t": 21.5, "who": "ä"}, {"n": 2}])
            await producer.send(3.5, stream="other")
        records = await agent.records()
        assert [record.stream for record in records] == ["s", "s", "other"]
        assert records[0].fields == {"n": 1, "t": 21.5, "who": "ä"}
        assert records[2].fields == {"value": 3.5}
