"""The program of docs/sensors/esp-idf.md: compiled, and run against a real agent.

``board/esp`` has what it includes, with a real TLS line below. Compiled as C++, as the stand-ins
are; the page keeps to what both languages take.
"""

from __future__ import annotations

import re
import subprocess
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.docs.examples import examples_of
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


def compiled(code: str, folder: Path) -> Path:
    """The program, each of whose headers is the one that stands for all of ESP-IDF."""
    for header in re.findall(r'#include "(.+)"', code):
        (folder / header).parent.mkdir(exist_ok=True)
        (folder / header).write_text(f'#include "{BOARD / "esp" / "esp_idf.h"}"\n')
    (folder / "sensor.c").write_text(code)
    command = ["g++", "-x", "c++", "-std=c++20", "-O0", "-Wall", "-Werror", "-I", "."]
    command += ["sensor.c", "-lssl", "-lcrypto", "-o", "sensor"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=4 * PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder / "sensor"


async def test_with_acks_nothing_is_lost_or_there_twice(tmp_path: Path, keys: Keys) -> None:
    async with behind_a_relay(tmp_path, keys) as (agent, relay):
        (example,) = examples_of("sensors/esp-idf.md", "c")
        keys.add("idf-board", "--write", "greenhouse/**")
        code = filled_in(example.code, relay.port, keys, "idf-board")
        for ours, here in {
            'extern const char ca_pem[] asm("_binary_ca_pem_start")': (
                f'static const char ca_pem[] = R"({keys.ca.read_text()})"'
            ),
            "(10 * 1000000LL)": "20000",
            "return 21.5f;": "static int made; return made++;",
            "reconnect_timeout_ms = 5000": "reconnect_timeout_ms = 100",
            "pdMS_TO_TICKS(50)": "pdMS_TO_TICKS(5)",
        }.items():
            assert ours in code
            code = code.replace(ours, here)
        program = await trio.to_thread.run_sync(partial(compiled, code, tmp_path))
        with running([program], tmp_path):
            for _ in range(3):
                await more_than(agent, await agent.count(), tmp_path)
                relay.cut()
                await trio.sleep(0.1)
                relay.restore()
            # One that closes, and one that is gone without a word.
            await agent.stop()
            await agent.start()
            await more_than(agent, await agent.count(), tmp_path)
            await agent.kill()
            await agent.start()
            await more_than(agent, await agent.count() + 10, tmp_path)
            edge_agent("token", "revoke", "idf-board", "--file", str(keys.tokens))
            with trio.fail_after(PATIENCE_S):
                while "esp_ws_handshake_status_code=401" not in said(tmp_path):
                    await trio.sleep(0.05)
        found = await values(agent)
        assert found == list(range(len(found)))
