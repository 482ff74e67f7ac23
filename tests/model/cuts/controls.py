"""Negative controls: mistakes planted in the sinks, each of which the simulation must notice."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final
from unittest.mock import patch

import trio

from edge_agent.config import InfluxTable
from edge_agent.errors import SinkUnavailable
from edge_agent.forward.sink import Acknowledged, Batch
from edge_agent.forward.sinks.http.sink import HttpSink
from edge_agent.forward.sinks.influx.sink import InfluxSink
from edge_agent.forward.sinks.kafka import sink as kafka_sink
from edge_agent.forward.sinks.kafka.sink import KafkaSink
from edge_agent.forward.sinks.mqtt.sink import MqttSink
from edge_agent.forward.sinks.nats.sink import NatsSink
from edge_agent.forward.sinks.postgres import sink as postgres_sink
from edge_agent.forward.sinks.postgres.rows import RenderedRows, render_rows
from edge_agent.forward.sinks.postgres.sink import PostgresSink
from edge_agent.values.record import Record
from tests.model.cuts.relayed import RELAYED
from tests.model.cuts.servers import InfluxServer, JetStream, Published, Server
from tests.model.cuts.world import Result, simulate

#: Among so many seeds a control has to show; where servers are real, cuts are few and no two runs
#: the same.
SEEDS: Final = 5
REAL_SEEDS: Final = 15
Planted = tuple[str, Callable[[], AbstractContextManager[Any]], Callable[[], Server] | None]


class _TellsNothing(JetStream):
    """A stream that does not say what it has; the window in which ids are known is all there is."""

    def _publish(self, batch: list[Published]) -> dict[str, Any]:
        batch[0][1]["Nats-Expected-Last-Subject-Sequence"] = str(self._last.get(batch[0][0], 0))
        return super()._publish(batch)


class _Unchained(JetStream):
    """A stream in which each message is taken whatever came before it."""

    def __init__(self) -> None:
        super().__init__(atomic=False, window_s=0.0)

    def _publish(self, batch: list[Published]) -> dict[str, Any]:
        batch[0][1].pop("Nats-Expected-Last-Msg-Id", None)
        return super()._publish(batch)


class _SameTimes(InfluxServer):
    def __init__(self) -> None:
        super().__init__()
        self.options["influx"] = InfluxTable(unique_times=False)


def _hopeful(kind: type[Any]) -> Callable[[], AbstractContextManager[Any]]:
    """What did not get through counts as acknowledged."""
    send = kind.send

    async def hopeful(self: Any, batch: Batch) -> Acknowledged:
        try:
            taken: Acknowledged = await send(self, batch)
        except SinkUnavailable:
            return Acknowledged(batch.last)
        return taken

    return lambda: patch.object(kind, "send", hopeful)


def _other_keys() -> AbstractContextManager[Any]:
    return patch.object(Batch, "variant", property(lambda _: f"/{secrets.token_hex(4)}"))


def _has_nothing() -> AbstractContextManager[Any]:
    return patch.object(NatsSink, "_has", lambda self, batch: 0)


def _has_one_more() -> AbstractContextManager[Any]:
    has = NatsSink._has

    def one_more(self: NatsSink, batch: Batch) -> int:
        upto = has(self, batch)
        return upto and upto + 1

    return patch.object(NatsSink, "_has", one_more)


def _leaves_open() -> AbstractContextManager[Any]:
    async def left(self: NatsSink, subject: str, batch: str) -> None:
        await trio.lowlevel.checkpoint()

    return patch.object(NatsSink, "_end", left)


def _new_epochs() -> AbstractContextManager[Any]:
    def other(records: Iterable[Record], agent: str, _: str) -> RenderedRows:
        return render_rows(records, agent, secrets.token_hex(4))

    return patch.object(postgres_sink, "render_rows", other)


@contextmanager
def _hopeful_and_hasty() -> Iterator[None]:
    # In real seconds: an attempt fails soon, and so this shows soon.
    with patch.object(kafka_sink, "_ALL_DOWN_S", 0.02), _hopeful(KafkaSink)():
        yield


#: Name to the kind of server, what is planted, and a server of its own where it needs one.
CONTROLS: Final[dict[str, Planted]] = {
    "nats sends what the stream has": ("nats", _has_nothing, _TellsNothing),
    "nats takes one too many for there": ("nats", _has_one_more, None),
    "nats leaves a fast batch open": ("nats, fast", _leaves_open, None),
    "nats chains nothing": ("nats, chained", nullcontext, _Unchained),
    "influx times are not unique": ("influx", nullcontext, _SameTimes),
    "influx gives up a batch": ("influx", _hopeful(InfluxSink), None),
    "http keys change": ("http", _other_keys, None),
    "http gives up a batch": ("http", _hopeful(HttpSink), None),
    "mqtt gives up a batch": ("mqtt", _hopeful(MqttSink), None),
    "postgres gives up a batch": ("postgres", _hopeful(PostgresSink), None),
    "postgres keys change": ("postgres", _new_epochs, None),
    "kafka gives up a batch": ("kafka", _hopeful_and_hasty, None),
}
#: Those with real servers.
RELAYED_CONTROLS: Final = frozenset(name for name, it in CONTROLS.items() if it[0] in RELAYED)


def caught(name: str) -> Result | None:
    """The first simulation that notices it; None where none does."""
    server, plant, make = CONTROLS[name]
    for seed in range(1, (REAL_SEEDS if server in RELAYED else SEEDS) + 1):
        with plant():
            result = simulate(server, seed, make)
        if result.problems:
            return result
    return None
