"""Agents forked from a preloaded process are agents, and none outlives it."""

from __future__ import annotations

from pathlib import Path

import trio

from benchmarks.processes import free_port
from tests.crash.preloaded import Nest
from tests.crash.world import HUB, Kept
from tests.patience import PATIENCE_S


async def test_an_exit_code_is_the_agents_own(tmp_path: Path) -> None:
    async with Nest(tmp_path) as nest:
        forked = await nest.fork(["run", "--config", "none"], tmp_path / "out", intercept=False)
        with trio.fail_after(PATIENCE_S):
            assert await forked.wait() == 78
        assert "none" in (tmp_path / "out").read_text()
        forked = await nest.fork(["--version"], tmp_path / "version", intercept=False)
        with trio.fail_after(PATIENCE_S):
            assert await forked.wait() == 0


async def test_a_run_that_fails_leaves_no_agent_behind(tmp_path: Path) -> None:
    async with Nest(tmp_path) as nest:
        agent = Kept(nest, tmp_path, "agent", HUB, (free_port(), free_port()))
        async with trio.open_nursery() as nursery:
            await nursery.start(agent.keep)
            assert agent.present is not None
            one = agent.present.pid
            nursery.cancel_scope.cancel()
        await gone(one)
        arguments = ["run", "--data", str(tmp_path / "data"), "--http", "off"]
        arguments += ["--listen", f"127.0.0.1:{free_port()}"]
        another = await nest.fork(arguments, tmp_path / "out", intercept=False)
        assert running(another.pid)
    await gone(another.pid)
    another.close()


async def gone(pid: int) -> None:
    with trio.fail_after(PATIENCE_S):
        while running(pid):
            await trio.sleep(0.02)


def running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
