"""The sketches of docs/sensors/arduino.md: compiled, and run against a real agent.

There is no board here: ``board/`` has what the sketches include, with a real TLS line below, and
sends what the two libraries send, header by header and frame by frame.
"""

from __future__ import annotations

import subprocess
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.docs.examples import examples_of
from tests.docs.sensors.lives import two_lives
from tests.docs.sensors.sensors import (
    behind_a_relay,
    filled_in,
    more_than,
    running,
    said,
    values,
)
from tests.end_to_end.keys import Keys, edge_agent
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.needs("g++", "libssl-dev")
BOARD = Path(__file__).parent / "board"
REFUSED = "not connected: WebSocket handshake failed - HTTP 401"
SKETCHES = {example.title: example.code for example in examples_of("sensors/arduino.md", "cpp")}


def compiled(code: str, folder: Path) -> Path:
    """The sketch as a program of this machine; a warning is a mistake of the page."""
    (folder / "sketch.cpp").write_text(code)
    command = ["g++", "-std=c++17", "-O0", "-Wall", "-Wextra", "-Werror", "-I", str(BOARD)]
    command += ["sketch.cpp", str(BOARD / "main.cpp"), "-lssl", "-lcrypto", "-o", "sketch"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=4 * PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder / "sketch"


async def sketch(title: str, port: int, keys: Keys, folder: Path, token: str = "sensor") -> Path:
    """One of the page's sketches, a hundred times as fast."""
    code = filled_in(SKETCHES[title], port, keys, token)
    for slow, quick in {
        "EVERY_MS = 10000": "EVERY_MS = 20",
        "POST_MS = 60000": "POST_MS = 100",
        "setReconnectInterval(5000)": "setReconnectInterval(100)",
        "tried > 5000": "tried > 100",
    }.items():
        code = code.replace(slow, quick)
    return await trio.to_thread.run_sync(partial(compiled, code, folder))


async def test_the_plain_sketches_come_back_after_a_cut_and_say_why_they_are_refused(
    tmp_path: Path, keys: Keys
) -> None:
    async with behind_a_relay(tmp_path, keys) as (agent, relay):
        keys.add("board", "--write", "greenhouse/**")
        for title in ("The other library", "The shortest"):
            program = await sketch(title, relay.port, keys, tmp_path, "board")
            # Of the one before nothing is under way any more.
            await agent.kill()
            await agent.start()
            before = len(await values(agent))
            with running([program], tmp_path):
                await more_than(agent, before + 3, tmp_path)
                relay.cut()
                relay.restore()
                await more_than(agent, await agent.count() + 3, tmp_path)
                if title == "The shortest":
                    edge_agent("token", "revoke", "board", "--file", str(keys.tokens))
                    with trio.fail_after(PATIENCE_S):
                        while REFUSED not in said(tmp_path):
                            await trio.sleep(0.05)
            found = (await values(agent))[before:]
            assert found == sorted(set(found))
        assert said(tmp_path).count("\nconnected\n") >= 3


@pytest.mark.parametrize("title", ["With acks", "By POST"])
async def test_with_acks_nothing_is_lost_or_there_twice(
    tmp_path: Path, keys: Keys, title: str
) -> None:
    async with behind_a_relay(tmp_path, keys) as (agent, relay):
        program = await sketch(title, relay.port, keys, tmp_path)
        with running([program], tmp_path):
            for _ in range(3):
                await more_than(agent, await agent.count(), tmp_path)
                relay.cut()
                await trio.sleep(0.1)
                relay.restore()
            await agent.kill()
            await agent.start()
            await more_than(agent, await agent.count() + 10, tmp_path)
        # Nothing is under way any more. After a reset the board counts from 21.5 again.
        await agent.kill()
        await agent.start()
        with running([program], tmp_path):
            for life in await two_lives(agent, 21.5, tmp_path):
                assert life == [round(21.5 + n / 100, 2) for n in range(len(life))]
