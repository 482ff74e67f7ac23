"""Files that change under a running agent, and crowds at its door; TLS, tokens and processes."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import trio

from edge_agent.client import Producer, Trouble
from tests.end_to_end.keys import (
    QUICK,
    STORE,
    Keys,
    ask_people,
    edge_agent,
    numbers,
    sensor,
    serial_of,
    serial_shown,
    wss,
)
from tests.end_to_end.support import AgentProcess, agents, eventually, producer_to
from tests.patience import PATIENCE_S
from tests.storm import STORMING


@contextmanager
def beside(work: Callable[[], None]) -> Iterator[None]:
    """``work`` over and over, in a thread."""
    stopped = threading.Event()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            while not stopped.is_set():
                work()
        except BaseException as error:  # noqa: BLE001 - raised below, in the test's own thread
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
    if failed:
        raise failed[0]


async def test_a_storm_of_sighups_over_files_that_are_half_written_harms_nobody(
    tmp_path: Path,
) -> None:
    keys = Keys.make(tmp_path / "keys")
    keys.add("sensor", "--write", "**")
    agent = AgentProcess(tmp_path, "agent", STORE + keys.listen)
    tls = keys.folder / "tls"
    files = {path: path.read_bytes() for path in (tls / "server.pem", tls / "server-key.pem")}
    files[keys.tokens] = keys.tokens.read_bytes()
    async with agents(agent):
        process = agent.process
        assert process is not None
        turn = 0

        def half_written() -> None:
            nonlocal turn
            for path, whole in files.items():
                path.write_bytes(whole[: turn * 37 % len(whole)])
                os.kill(process.pid, signal.SIGHUP)
                time.sleep(0.002)
            turn += 1

        first = serial_of(tls / "server.pem")
        with beside(half_written):
            await eventually(
                partial(_said, agent, "keep their old certificate", "tokens known last"),
                describe="it is told",
            )
            async with sensor(wss(agent), keys) as (producer, told):
                for n in range(40):
                    # Each with a handshake of its own.
                    assert await trio.to_thread.run_sync(serial_shown, agent.port, keys) == first
                    await producer.send({"n": n})
            assert told == []
        for path, whole in files.items():
            path.write_bytes(whole)
        # A renewal counts as soon as it is whole; and so does a token.
        edge_agent("tls", "init", str(tls))
        late = keys.add("late", "--read", "**")
        os.kill(process.pid, signal.SIGHUP)

        async def renewed() -> bool:
            shown = await trio.to_thread.run_sync(serial_shown, agent.port, keys)
            return shown == serial_of(tls / "server.pem") != first

        await eventually(renewed, describe="the new certificate")
        asked = partial(ask_people, agent.http_port, "/api/status", token=late)
        assert (await trio.to_thread.run_sync(asked))[0] == 200
        assert await numbers(agent) == [*range(40)]
        assert agent.process is process and process.poll() is None
        said = (agent.folder / "stderr.txt").read_text()
        told_lines = [line for line in said.splitlines() if "keep their old" in line]
        assert len(told_lines) == len(set(map(_without_time, told_lines))) < 10
        assert 1 <= said.count("tokens known last") <= 3
        assert "mistake" not in said and "Traceback" not in said


async def _said(agent: AgentProcess, *texts: str) -> bool:
    said = (agent.folder / "stderr.txt").read_text()
    return all(text in said for text in texts)


def _without_time(line: str) -> str:
    return line.partition("the ports keep")[2]


async def test_a_token_gets_in_past_200_who_are_silent_and_come_back_at_once(
    tmp_path: Path, keys: Keys
) -> None:
    agent = AgentProcess(tmp_path, "agent", STORE + keys.listen)
    async with agents(agent):
        with silent_crowd(agent.port, 200) as at_sensors, silent_crowd(agent.http_port, 200) as at:
            async with sensor(wss(agent), keys) as (producer, told):
                for n in range(20):
                    await producer.send({"n": n})
                    await producer.flush(PATIENCE_S)
                    secret = keys.secrets["reader"]
                    asked = partial(ask_people, agent.http_port, "/api/status", token=secret)
                    assert (await trio.to_thread.run_sync(asked))[0] == 200
            for crowd in (at_sensors, at):
                # Most of them were closed for others, and came back.
                async def is_crowd(crowd: list[int] = crowd) -> bool:
                    return len(crowd) > 300

                await eventually(is_crowd, describe="the crowd comes back")
        assert told == []
        assert await numbers(agent) == [*range(20)]


@contextmanager
def silent_crowd(port: int, count: int) -> Iterator[list[int]]:
    """``count`` sockets from one address that say nothing; whichever is closed comes back at once.
    Everyone that came is in the list.
    """
    came: list[int] = []
    there: list[socket.socket] = []

    def come_back() -> None:
        while len(there) < count:
            came.append(port)
            # Who comes too fast may be sent away before this machine has told that it came.
            with suppress(ConnectionError):
                where = ("127.0.0.1", port)
                there.append(socket.create_connection(where, PATIENCE_S, (STORMING, 0)))
        gone, _, _ = select.select(there, [], [], 0.01)
        for one in gone:
            there.remove(one)
            one.close()

    try:
        with beside(come_back):
            while len(came) < count:
                time.sleep(0.001)
            yield came
    finally:
        for one in there:
            one.close()


@pytest.mark.parametrize("owned", [True, False])
async def test_two_buffers_cloned_from_one_card_that_live_at_once_lose_nothing(
    tmp_path: Path, keys: Keys, owned: bool
) -> None:
    agent = AgentProcess(tmp_path, "agent", STORE + (keys.listen if owned else ""))
    url = wss(agent, "{}") if owned else f"ws://127.0.0.1:{agent.port}/ingest/{{}}"
    token, ca = (keys.secrets["sensor"], str(keys.ca)) if owned else (None, None)
    told: list[Trouble] = []

    def clone(name: str) -> Producer:
        return producer_to(
            url.format(name), source="pi", buffer_path=tmp_path / name, on_error=told.append,
            backoff=QUICK, token=token, ca_file=ca,
        )  # fmt: skip

    async with agents(agent):
        async with clone("first") as producer:
            await producer.send([{"n": n} for n in range(10)])
            await producer.flush(PATIENCE_S)
        shutil.copyfile(tmp_path / "first", tmp_path / "second")
        started = {name: trio.Event() for name in ("first", "second")}

        async def live(name: str, other: str) -> None:
            async with clone(name) as producer:
                for n in range(10, 40):
                    await producer.send({"n": n})
                    if n == 20:
                        # Each is in the middle of it while the other one is.
                        started[name].set()
                        await started[other].wait()
                    await trio.sleep(0.005)
                # They throw each other out, each time later: the last words need patience.
                await producer.flush(2 * PATIENCE_S)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(live, "first", "second")
            nursery.start_soon(live, "second", "first")
        assert set(await numbers(agent, "first")) == {*range(40)}
        assert set(await numbers(agent, "second")) >= {*range(10, 40)}
        warnings = (await agent.get("/healthz"))["warnings"]
        assert "source_copied" in {one["code"] for one in warnings}
