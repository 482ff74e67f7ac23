"""`edge-agent erase`: asked, done, and told what it could not reach."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge_agent.cli.erase import command
from edge_agent.config import Alarm, Duration
from edge_agent.live import rule_consumer
from edge_agent.live.alarm_state import AlarmStates
from edge_agent.live.stored_state import unpack_state
from edge_agent.store import Position
from edge_agent.store.process_lock import StoreLock
from edge_agent.store.tools.check import check_store
from edge_agent.system.clock import Reading
from edge_agent.values.record import Record
from tests.ops.real import Agent, agent


@pytest.fixture
async def store(tmp_path: Path) -> Path:
    async with agent(tmp_path, serve=False) as running:
        for number in range(3):
            await running.keep("secret/anna", [f"anna was here {number}"])
            await running.keep("open/1", [number])
    return tmp_path


def run(store: Path, *arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(command, [*arguments, "--data", str(store)], input=answer)


def raw(store: Path) -> bytes:
    return (store / "store" / "data.mdb").read_bytes()


async def test_it_asks_and_no_means_no(store: Path) -> None:
    done = run(store, "secret/anna", answer="n\n")
    assert done.exit_code == 1 and "for good?" in done.output
    assert b"anna was here" in raw(store)


async def test_yes_and_its_bytes_are_gone(store: Path) -> None:
    done = run(store, "secret/*", "--yes")
    assert done.exit_code == 0, done.output
    assert "erased secret/anna: 3 records" in done.output and "backups" in done.output
    assert b"anna" not in raw(store) and b"open/1" in raw(store)
    assert check_store(store).problems == []
    async with agent(store, serve=False) as running:
        assert [one.stream for one in await _all(running)] == ["open/1"] * 3


async def test_what_rules_remember_of_it_is_gone_too(store: Path) -> None:
    made = AlarmStates(Alarm(absent=Duration(300)))
    for number, stream in enumerate(("secret/anna", "open/1")):
        one = Record("main", number, stream, 1, "sensor", 1, True, "s", 0, {})
        made.add(one, Reading(1, 1, b"b" * 16, synced=True))
    async with agent(store, serve=False) as running:
        position = Position(rule_consumer("lost"), "main", 3, made.encode())
        await running.log.acknowledge(position, durable=True)
    done = run(store, "secret/*", "--yes")
    assert done.exit_code == 0 and "still there" not in done.output
    async with agent(store, serve=False) as running:
        floor, state = await running.log.position(rule_consumer("lost"), "main")
    assert floor == 3 and state is not None
    (left,) = unpack_state(state)[2]
    assert left[0] == "open/1"


async def test_json_tells_what_was_erased_and_nothing_is_said_so(store: Path) -> None:
    told = json.loads(run(store, "secret/anna", "--yes", "--json").stdout)
    assert told["records"] == {"secret/anna": 3} and told["damaged"] == 0
    assert "nothing of it" in run(store, "secret/anna", "--yes").output


async def test_a_bad_pattern_and_a_store_in_use_are_clear_errors(store: Path) -> None:
    done = run(store, "a//b", "--yes")
    assert done.exit_code == 2 and "a pattern is" in done.output
    lock = StoreLock(store / "lock")
    done = run(store, "secret/anna", "--yes")
    lock.release()
    assert done.exit_code == 75


async def _all(running: Agent) -> list[Record]:
    items = await running.log.read("main", 0)
    found = [record for item in items for record in item.records()]  # type: ignore[union-attr]  # a Gap fails the test
    return [record for record in found if not record.stream.startswith("$")]
