"""What a whole agent must do that starts on what a power cut left: it goes on by itself.

The agent's own `run` starts in memory, on a clock that jumps; the sensors come back with what they
had not been acked, and a hub is there that has what the recorded one may have had at that moment.
In the end, acked ⊆ hub ⊆ sent, nothing is at the hub twice, and everything that numbered sensors
ever sent is there, except what was discarded and counted.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import trio

from edge_agent import agent
from edge_agent.config import Config, parse
from edge_agent.store import Engine, nowhere
from tests.crash.aggregates import Aggregate
from tests.crash.history import AGENT, History, Known, Moment
from tests.crash.hub import FakeHub, Lane
from tests.crash.images import Image
from tests.crash.sensor import KINDS, Sensor
from tests.crash.verdict import CLOCK, CONSUMER, Verdict, settings
from tests.crash.workload import CONFIG, LOGS, with_key
from tests.model.determinism import SimulatedClock, run_inline, run_seeded
from tests.model.memory_network import MemoryNetwork

HUB, SENSORS = "127.0.0.1:1", "127.0.0.1:2"
#: On the clock that jumps.
PATIENCE_S: Final = 300.0
#: New records of each sensor, after it has sent what was left.
MORE: Final = 3


class Survivor:
    """Starts agents on images of one history, in ``bench``."""

    def __init__(self, history: History, bench: Path) -> None:
        self._history = history
        self._path = bench / AGENT
        self._settings = settings(self._path)
        text = CONFIG.format(port=2, hub_port=1, path=self._path)
        self._config = parse(with_key(text, bench.with_suffix(".key")), "survivor")

    def judge(self, moment: Moment, image: Image) -> Verdict:
        """Start on what lies in the bench, let everything go on, stop, compare."""
        verdict = Verdict()
        seed = int.from_bytes(image.hash[:4], "big")
        life = _Life(self._history, moment.known, random.Random(seed), verdict)
        run_seeded(seed, partial(life.run, self._config))
        life.compare()
        if any(self._path.glob("damaged-*")):
            verdict.salvaged = True
            verdict.problems.append("the store was salvaged")
        self._look(life, verdict)
        return verdict

    def _look(self, life: _Life, verdict: Verdict) -> None:
        engine = Engine.open(self._path, self._settings, clock=CLOCK, entropy=bytes)
        try:
            for log in LOGS:
                floor, _ = engine.position(CONSUMER, log)
                if floor != engine.last_seq(log):
                    verdict.problems.append(
                        f"log {log} ends at {engine.last_seq(log)}, its position is {floor}"
                    )
                discarded = engine._state.logs[log].discarded
                lane = life.hub.lanes.get(log, Lane())
                gaps = lane.gaps - lane.withheld
                if gaps > discarded:
                    verdict.lost += gaps - discarded
                    verdict.problems.append(
                        f"log {log}: the hub lacks {gaps}, {discarded} were discarded"
                    )
        finally:
            engine.close()


class _Life:
    """One start: the agent, its sensors, its hub."""

    def __init__(
        self, history: History, known: Known, dice: random.Random, verdict: Verdict
    ) -> None:
        self._history, self._known, self._dice = history, known, dice
        self._verdict = verdict
        self._network = MemoryNetwork()
        self._last: dict[str, int] = {}
        self.hub = FakeHub(self._lanes())
        self.sensors = [
            self._sensor(source) for source, kind in KINDS.items() if kind.mode != "plain"
        ]

    async def run(self, config: Config, chance: random.Random) -> None:
        stop = trio.Event()
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                await nursery.start(self._serve)
                ended: trio.Event = await nursery.start(self._agent, config, chance, stop)
                for sensor in self.sensors:
                    stream = await self._network.dial("127.0.0.1", 2)
                    await sensor.connect(nursery, stream)
                    await sensor.send(MORE)
                for sensor in self.sensors:
                    await sensor.settled()
                await self._forwarded()
                stop.set()
                await ended.wait()
                nursery.cancel_scope.cancel()

    async def _agent(
        self,
        config: Config,
        chance: random.Random,
        stop: trio.Event,
        *,
        task_status: trio.TaskStatus[trio.Event],
    ) -> None:
        ended = trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(
                partial(
                    agent.run,
                    config,
                    stop=stop,
                    clock=SimulatedClock(),
                    random=chance,
                    entropy=chance.randbytes,
                    run_blocking=run_inline,
                    listen=self._network.listen,
                    dial=self._network.dial,
                    trace=self._note,
                    medium=nowhere,
                )
            )
            task_status.started(ended)
        ended.set()

    async def _serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        listeners = await self._network.listen(HUB)
        task_status.started()
        await trio.serve_listeners(self.hub.serve, list(listeners))

    async def _forwarded(self) -> None:
        while any(
            log not in self.hub.lanes or self.hub.lanes[log].next <= last
            for log, last in self._last.items()
        ):
            await self.hub.news.wait()

    def _note(self, event: str, facts: Mapping[str, object]) -> None:
        if event == "commit":
            last = facts["last_seq"]
            assert isinstance(last, dict)
            self._last.update(last)

    def _lanes(self) -> dict[str, Lane]:
        """What the hub may have had: at least what it had told, at most what was on its way."""
        lanes: dict[str, Lane] = {}
        for log, messages in self._history.messages.items():
            sent = self._known.forwarded.get(log, 0)
            arrived = self._known.arrived.get(log)
            if arrived is None:
                continue
            lane = lanes[log] = Lane()
            least = sum(last < arrived for _, last, _ in messages[:sent])
            for first, last, tokens in messages[: self._dice.randint(least, sent)]:
                if last < lane.next:
                    continue
                lane.gaps += max(first - lane.next, 0)
                lane.gaps += 0 if tokens else last - max(first, lane.next) + 1
                lane.tokens += tokens[max(lane.next - first, 0) :]
                lane.next = last + 1
        return lanes

    def _sensor(self, source: str) -> Sensor:
        """The sensor as it was: what it had made, and how much of it it knew to be acked."""
        kind, known = KINDS[source], self._known
        order = self._history.order.get(source, [])
        received = known.received.get(source, 0)
        begin = known.greeted.get(source, 1)
        made = max(order[received - 1] + 1 if received else 1, begin)
        acked = max(known.acked.get(source, 1), begin)
        # The last acks may have been lost on their way.
        heard = self._dice.choice((acked, self._dice.randint(begin, acked)))
        epoch = known.epoch or ("fedcba9876543210" if kind.mixed else None)
        return Sensor(kind, epoch, heard, made, sent=set(order[:received]))

    def _counted(self, log: str, lane: Lane) -> Iterator[str]:
        """The token of each record that the hub has, and of each for which an aggregate stands."""
        sent = {sensor.kind.source: sensor.sent for sensor in self.sensors}
        for token in filter(None, lane.tokens):
            aggregate = Aggregate.of_token(token)
            if aggregate is None:
                yield token
                continue
            kind = KINDS[aggregate.source]
            there = [number for number in sorted(sent[kind.source]) if kind.log(number) == log]
            numbers = aggregate.stands_for(kind, there)
            if isinstance(numbers, str):
                self._verdict.problems.append(f"log {log}: the hub has {numbers}")
            else:
                yield from (f"{kind.source}:{number}" for number in numbers)

    def compare(self) -> None:
        """What is at the hub with what was sent and acked."""
        verdict, known = self._verdict, self._known
        verdict.problems += self.hub.problems
        tokens = Counter(
            token for log, lane in self.hub.lanes.items() for token in self._counted(log, lane)
        )
        doubled = [token for token, times in tokens.items() if times > 1]
        if doubled:
            verdict.doubled += len(doubled)
            verdict.problems.append(f"twice at the hub: {doubled[:5]} of {len(doubled)}")
        wanted = {
            f"{sensor.kind.source}:{number}": sensor.kind.log(number)
            for sensor in self.sensors
            for number in sensor.sent
            if not sensor.kind.is_rejected(number)
        }
        plain = [f"plain:{number}" for number in range(1, known.received.get("plain", 0) + 1)]
        invented = tokens.keys() - wanted.keys() - set(plain)
        if invented:
            verdict.problems.append(f"never sent, but at the hub: {sorted(invented)[:5]}")
        acked_plain = plain[: known.acked.get("plain", 1) - 1]
        for log in LOGS:
            missing = [token for token, where in wanted.items() if where == log]
            verdict.checked += len(missing)
            missing = [token for token in missing if token not in tokens]
            unsure = 0
            if log == "main":
                missing += [token for token in acked_plain if token not in tokens]
                unsure = sum(token not in tokens for token in plain)
            gaps = self.hub.lanes[log].gaps if log in self.hub.lanes else 0
            if len(missing) > gaps or gaps > len(missing) + unsure:
                verdict.lost += max(len(missing) - gaps, 0)
                verdict.problems.append(
                    f"log {log}: {len(missing)} are not at the hub ({missing[:5]}),"
                    f" of which {gaps} were told to be discarded"
                )
