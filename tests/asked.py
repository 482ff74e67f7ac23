"""A store whose records history digests, and an `Asker` with its real process; no agent around."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgpack
import trio

from edge_agent.config import Config
from edge_agent.digest import Digester, Keep
from edge_agent.history import parse_question
from edge_agent.net.access import Readable, everything
from edge_agent.ops import Sources
from edge_agent.questions.asking import Asker, HistoryAnswer
from edge_agent.seal import OPEN, KeyRing
from edge_agent.store.types import Entry
from edge_agent.values.record import Run
from tests.ops.real import agent
from tests.patience import PATIENCE_S

DAYS_NS = 86_400 * 1_000_000_000
KEEP = Keep(300 * DAYS_NS, 300 * DAYS_NS, 300 * DAYS_NS)


@dataclass
class Asked:
    """The parts, and questions to them."""

    parts: Any
    sources: Sources
    digester: Digester
    asker: Asker

    async def keep(self, stream: str, records: Sequence[dict[str, Any]]) -> None:
        """Store records and wait until they are durable."""
        now = self.parts.clock.read()
        body = b"".join(map(msgpack.packb, records))
        run = Run(
            stream, "s", 0, now.wall_ns, True, len(records), body, now.wall_ns, now.wall_ns
        )  # fmt: skip
        ticket = await self.parts.log.append(Entry((run,)))
        await ticket.wait()

    async def ask(
        self, form: str, may_read: Readable = everything, /, **asked: object
    ) -> HistoryAnswer:
        """An answer to the parameters, from an hour before now on where they do not say."""
        parameters = {name.rstrip("_"): str(value) for name, value in asked.items()}
        now_ns = self.parts.clock.read().wall_ns + 1_000_000_000
        question = parse_question(parameters, now_ns, 100_000)
        # On a slow machine the last records may wait longer than a question does.
        while (answer := await self.asker.ask(question, form, may_read)).rest.get("lag"):
            pass
        return answer

    async def json(self, **asked: object) -> Any:
        return json.loads(b"".join((await self.ask("json", everything, **asked)).pieces))

    @property
    def pid(self) -> int:
        """The process that answers; 0 where none runs."""
        worker = self.asker._worker
        return 0 if worker is None else worker._process.pid

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    async def flush(self) -> None:
        """Let the digester write what is durable by now."""
        with trio.fail_after(PATIENCE_S):
            while await self.digester.catch_up():
                pass
            history = self.digester.history
            assert history is not None
            before = history.flushes
            while history.tail.records and history.flushes == before:
                self.digester._flushed_at = -math.inf
                self.digester._asked.set()
                await trio.sleep(0.005)


@asynccontextmanager
async def asked(
    folder: Path,
    *,
    seconds: float = 30.0,
    digests: bool = True,
    serve: bool = False,
    config: Config | None = None,
    change: Callable[[Sources], Sources] = lambda sources: sources,
    seals: KeyRing = OPEN,
) -> AsyncIterator[Asked]:
    """The parts, running; ``serve``: with the people's port; ``seals``: of history."""
    made: list[Asked] = []

    def with_history(sources: Sources) -> Sources:
        digester = Digester(
            sources.log, folder, 16 << 20, KEEP, clock=sources.clock, metrics=sources.metrics,
            seals=seals,
        )  # fmt: skip
        asker = Asker(digester, seconds=seconds, metrics=sources.metrics)
        made.append(Asked(None, sources, digester, asker))
        made[0].sources = change(replace(sources, digester=digester, asker=asker))
        return made[0].sources

    async with agent(folder, config=config, serve=serve, change=with_history) as parts:
        (one,) = made
        one.parts = parts
        async with trio.open_nursery() as nursery:
            if digests:
                nursery.start_soon(one.digester.run)
            nursery.start_soon(one.asker.run)
            yield one
            nursery.cancel_scope.cancel()


def children() -> list[int]:
    """This process's children, zombies included."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            stat = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(stat[1]) == os.getpid():
            found.append(int(path.parent.name))
    return found
