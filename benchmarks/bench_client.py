"""Memory of a sensor's process that has the client and nothing else, connected and idle.

It is part of the chapter on memory; ``python -m benchmarks.bench_client`` prints it alone.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.processes import ROOT, Agent
from benchmarks.table import markdown
from benchmarks.watching import rss_anon_mb

_BLOCKING = """
import sys
from edge_agent.client import BlockingProducer
with BlockingProducer(sys.argv[1], source="idle", {options}) as producer:
    producer.send({{"t": 21.5, "h": 40.2}})
    producer.flush()
    print("connected", flush=True)
    sys.stdin.read()
"""
_TRIO = """
import sys, trio
from edge_agent.client import Producer
async def main():
    async with Producer(sys.argv[1], source="idle") as producer:
        await producer.send({"t": 21.5, "h": 40.2})
        await producer.flush()
        print("connected", flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
trio.run(main)
"""
#: Programs that send one record, have it acked, and wait.
WAYS = {
    "Producer, buffer in memory": _TRIO,
    "BlockingProducer, buffer in memory": _BLOCKING.format(options=""),
    "BlockingProducer, buffer in a file": _BLOCKING.format(options='buffer_path="buffer"'),
}


def run(folder: Path, *, settle_s: float = 3.0) -> dict[str, float]:
    """RssAnon of each of `WAYS`, in MB (10^6 bytes)."""
    folder.mkdir(parents=True, exist_ok=True)
    agent = Agent(folder / "agent", '[log.main]\ncommit_interval = "20ms"\n', http=False)
    try:
        url = f"ws://127.0.0.1:{agent.port}/ingest/idle"
        return {way: _idle(program, url, folder, settle_s) for way, program in WAYS.items()}
    finally:
        agent.stop()


def render(found: dict[str, float]) -> str:
    """The table in Markdown."""
    rows = [(way, f"{memory:.1f} MB") for way, memory in found.items()]
    return markdown(("a sensor's process with the client, connected and idle", "RssAnon"), rows)


def _idle(program: str, url: str, folder: Path, settle_s: float) -> float:
    command = [sys.executable, "-c", f"import sys; sys.path[0] = {str(ROOT)!r}\n{program}", url]
    with subprocess.Popen(
        command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        told = process.stdout.readline()
        if told != "connected\n":
            raise RuntimeError(f"the sensor did not connect: {process.wait()}")
        time.sleep(settle_s)
        memory = rss_anon_mb(process.pid)
        process.stdin.close()
    return memory


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="edge-agent-bench-", dir="/var/tmp") as name:
        print(render(run(Path(name))))


if __name__ == "__main__":
    main()
