"""What the tests of these pages share: an agent behind TLS and tokens, and a sensor's process."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from operator import itemgetter
from pathlib import Path

from edge_agent.cli.demo.relay import Relay
from tests.end_to_end.keys import STORE, Keys
from tests.end_to_end.relay import uplink
from tests.end_to_end.support import AgentProcess, agents, eventually
from tests.patience import PATIENCE_S

STREAM = "greenhouse/1"


@asynccontextmanager
async def behind_a_relay(folder: Path, keys: Keys) -> AsyncIterator[tuple[AgentProcess, Relay]]:
    """An agent as `edge-agent setup` leaves it, and a line to it that can be cut."""
    agent = AgentProcess(folder, "agent", STORE + keys.listen)
    async with agents(agent), uplink(agent.port) as relay:
        yield agent, relay


def filled_in(code: str, port: int, keys: Keys, token: str = "sensor") -> str:
    """An example as its reader completes it."""
    for placeholder, value in {
        "greenhouse.local:8765": f"localhost:{port}",
        "greenhouse.local": "localhost",
        "8765": str(port),
        "PUT-THE-TOKEN-HERE": keys.secrets[token],
        "PUT-THE-TEXT-OF-ca.pem-HERE": keys.ca.read_text(),
    }.items():
        code = code.replace(placeholder, value)
    return code


@contextmanager
def running(
    command: Sequence[str | Path], folder: Path, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A sensor's process, which goes on until it is ended; what it prints is in ``said.txt``."""
    with (folder / "said.txt").open("ab") as output:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait(PATIENCE_S)


def said(folder: Path) -> str:
    """What the sensor has printed."""
    return (folder / "said.txt").read_text(errors="replace")


async def more_than(agent: AgentProcess, count: int, folder: Path) -> None:
    """Wait until the agent has more than ``count`` records."""

    async def there() -> bool:
        return await agent.count(STREAM) > count

    try:
        await eventually(there, describe="records")
    except AssertionError as error:
        raise AssertionError(f"{error}; the sensor said: {said(folder)[-2000:]}") from error


async def values(agent: AgentProcess, field: str = "t") -> list[float]:
    """That field of every record, in the order in which it arrived."""
    found = sorted(await agent.records(STREAM), key=itemgetter("seq"))
    return [record["fields"][field] for record in found]
