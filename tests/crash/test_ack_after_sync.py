"""No byte of an ack leaves before the sync, data and meta, of the transaction with its records.

The real agent runs under strace while three sources send single records and batches; the log of
its system calls is the witness. Three negative controls break the promise from outside and must
be caught, or the witness proves nothing.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import trio
from trio_websocket import open_websocket_url

from tests.crash.syscalls import NUMBERS_PER_SOURCE, Verdict, judge
from tests.end_to_end.support import AgentProcess, agents
from tests.patience import PATIENCE_S

TRACED = "openat,fdatasync,fsync,pwrite64,pwritev,writev,write,sendto,sendmsg"
# Uncompressed, so that the log shows the records' tokens; short intervals for many commits.
CONFIG = """
[store]
size = "16MiB"
compression_level = 0
[log.main]
commit_interval = "5ms"
"""
RECORDS_PER_SOURCE = 120
SOURCES = 3


async def send_as_source(url: str, source: int, dice: random.Random) -> None:
    """Send every record of one source in singles and batches, and wait for the last ack."""
    first = source * NUMBERS_PER_SOURCE + 1
    last = first + RECORDS_PER_SOURCE - 1
    async with open_websocket_url(
        f"{url}/ingest/crash/{source}", subprotocols=["edge-agent.v1+json"]
    ) as connection:
        hello = {"type": "hello", "source": f"crash/{source}", "epoch": "none", "first": first}
        await connection.send_message(json.dumps(hello))
        welcome = json.loads(await connection.get_message())
        assert welcome["next"] == first
        number = first
        while number <= last:
            size = min(dice.choice((1, 1, 1, 7)), last - number + 1)
            records = [{"token": f"rec-{number + index:06d}"} for index in range(size)]
            await connection.send_message(json.dumps(records[0] if size == 1 else records))
            number += size
            await trio.sleep(dice.random() * 0.01)
        while True:
            message = json.loads(await connection.get_message())
            assert message["type"] == "ack"
            if message["next"] > last:
                return


async def run_traced(folder: Path, control: str) -> Verdict:
    """One run of the agent under strace with one promise broken, or none."""
    log = folder / "calls.txt"
    agent = AgentProcess(
        folder,
        "agent",
        CONFIG,
        wrapper=("strace", "-f", "-qq", "-s", "300000", "-e", f"trace={TRACED}", "-o", str(log)),
    )
    agent.module = ("tests.crash.patched_agent", control)
    dice = random.Random(7)
    async with agents(agent):
        with trio.fail_after(4 * PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for source in range(SOURCES):
                    nursery.start_soon(send_as_source, agent.url, source, dice)
        await agent.stop()
    return judge(log)


@pytest.mark.needs("strace")
async def test_no_ack_leaves_before_the_sync_of_its_records(tmp_path: Path) -> None:
    verdict = await run_traced(tmp_path, "none")

    assert verdict.early == []
    assert verdict.numbers_acked == RECORDS_PER_SOURCE * SOURCES
    # How many commits share the load is the machine's affair; one for all would show nothing.
    assert verdict.acks > 10
    assert verdict.commits > 10


@pytest.mark.needs("strace")
@pytest.mark.parametrize("control", ["sync-off", "metasync-off", "ack-before-commit"])
async def test_a_broken_promise_is_caught(tmp_path: Path, control: str) -> None:
    verdict = await run_traced(tmp_path, control)

    assert verdict.numbers_acked == RECORDS_PER_SOURCE * SOURCES
    assert verdict.early
