"""Every command of ``docs/post.md`` is run against a real agent, and prints what the page says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import trio

from tests.docs.examples import examples_of
from tests.end_to_end.support import AgentProcess, agents
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.needs("curl")
CONFIG = '[log.main]\ncommit_interval = "0s"\n'


async def test_the_page_says_what_is_printed(tmp_path: Path) -> None:
    agent = AgentProcess(tmp_path, "agent", CONFIG)
    async with agents(agent):
        found = examples_of("post.md", "sh")
        assert len(found) == 4
        for example in found:
            script = example.code.replace("127.0.0.1:8765", f"127.0.0.1:{agent.port}")
            done = await trio.to_thread.run_sync(run, script)
            assert done == example.printed, example.title


def run(script: str) -> str:
    command = ["bash", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    return done.stdout
