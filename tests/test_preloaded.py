"""What is forked from a preloaded process is a process like any other, and none outlives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trio

from benchmarks.ports import free_port
from tests.crash.world import HUB, Kept
from tests.patience import PATIENCE_S
from tests.preloaded import Nest, nest, run

ENVIRONMENT = {**os.environ, "TZ": "Asia/Kathmandu", "EDGE_AGENT_WORD": "höst"}
#: Starts an agent and waits to be killed.
ASKER = """
import sys, time
from tests.preloaded import nest
arguments = ["run", "--data", sys.argv[1], "--listen", "127.0.0.1:0", "--http", "off"]
print(nest().fork(["edge_agent", *arguments]).pid, nest().pid, flush=True)
time.sleep(60)
"""


def facts() -> dict[str, Any]:
    """What a process has of its own and from whoever started it."""
    status = dict(
        line.split(":\t", 1) for line in Path("/proc/self/status").read_text().split("\n") if line
    )
    kept = ("Threads", "SigBlk", "SigIgn", "SigCgt", "NoNewPrivs", "Seccomp", "Umask", "Uid")
    return {
        **{name: status[name] for name in kept},
        "arguments": sys.argv[1:],
        "environment": dict(os.environ),
        "folder": str(Path.cwd()),
        "files": sorted(one.name for one in Path("/proc/self/fd").iterdir()),
        "session": [os.getsid(0), os.getpgid(0)],
        "zone": time.tzname,
        "name": __name__,
        "outputs": [
            [each.encoding, each.errors, each.line_buffering, each.isatty()]
            for each in (sys.stdin, sys.stdout, sys.stderr)
        ],
    }  # fmt: skip


def test_it_has_nothing_that_a_new_interpreter_has_not(tmp_path: Path) -> None:
    arguments = ["tests.test_preloaded", "a word", "--höst"]
    with (tmp_path / "forked").open("w+b") as out, (tmp_path / "new").open("w+b") as new:
        forked = nest().fork(arguments, stdout=out, stderr=out, env=ENVIRONMENT)
        assert forked.wait(PATIENCE_S) == 0
        subprocess.run(
            [sys.executable, "-m", *arguments], stdin=subprocess.DEVNULL, stdout=new, stderr=new,
            env=ENVIRONMENT, check=True,
        )  # fmt: skip
    told = [json.loads((tmp_path / name).read_text()) for name in ("forked", "new")]
    assert told[0] == told[1]
    assert told[0]["arguments"] == arguments[1:] and told[0]["zone"][0] == "+0545"


def test_what_it_says_and_its_exit_code_are_its_own() -> None:
    refused = run("run", "--config", "none")
    assert refused.returncode == 78 and "none" in refused.stderr and refused.stdout == ""
    shown = run("--version")
    assert (shown.returncode, shown.stderr) == (0, "") and "version" in shown.stdout


def test_an_error_nobody_catches_is_shown_and_is_exit_code_1(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w+") as out:
        assert nest().fork(["tests.none"], stderr=out).wait(PATIENCE_S) == 1
        out.seek(0)
        assert "Traceback" in (said := out.read()) and "No module named tests.none" in said


def test_those_that_end_at_once_beside_one_another_keep_their_answers() -> None:
    with ThreadPoolExecutor(8) as threads:
        ended = list(threads.map(lambda _: nest().fork(["edge_agent", "--version"]), range(16)))
    time.sleep(0.05)
    assert len({each.pid for each in ended}) == 16
    assert [each.wait(PATIENCE_S) for each in ended] == [0] * 16


def test_what_an_interpreter_reads_at_its_start_is_refused() -> None:
    with pytest.raises(AssertionError, match="needs a new interpreter"):
        nest().fork(["edge_agent"], env={**os.environ, "PYTHONOPTIMIZE": "2"})


async def test_a_run_that_fails_leaves_no_agent_behind(tmp_path: Path) -> None:
    agent = Kept(tmp_path, "agent", HUB, (free_port(), free_port()))
    async with trio.open_nursery() as nursery:
        await nursery.start(agent.keep)
        assert agent.present is not None
        one = agent.present.pid
        nursery.cancel_scope.cancel()
    await gone(one)


async def test_a_nest_ends_what_it_forked(tmp_path: Path) -> None:
    with Nest() as own:
        arguments = ["edge_agent", "run", "--data", str(tmp_path / "data"), "--http", "off"]
        forked = own.fork([*arguments, "--listen", f"127.0.0.1:{free_port()}"])
        assert running(forked.pid)
    await gone(forked.pid)
    forked.close()


async def test_all_of_it_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    asker = subprocess.Popen(
        [sys.executable, "-c", ASKER, str(tmp_path / "data")], stdout=subprocess.PIPE
    )
    assert asker.stdout is not None
    agent, own = (int(pid) for pid in asker.stdout.readline().split())
    assert running(agent) and running(own)
    asker.send_signal(signal.SIGKILL)
    asker.communicate()
    await gone(agent)
    await gone(own)


async def gone(pid: int) -> None:
    with trio.fail_after(PATIENCE_S):
        while running(pid):
            await trio.sleep(0.02)


def running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


if __name__ == "__main__":
    print(json.dumps(facts()))
