"""A package's sink within its bounds; that it keeps the contract is in test_sink_contract.py."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from edge_agent.config import parse, sink_package
from edge_agent.errors import ConfigError, SinkUnavailable
from edge_agent.forward import Forwarder, Sink, make_sink
from edge_agent.forward.own_sink import GuardedSink
from edge_agent.forward.sink import Acknowledged, LaneResume, Resumed
from edge_agent.store import Identity
from tests.forward.support import FakeSink, inline, running_station, until, upstream
from tests.manual_clock import ManualClock
from tests.own_sink.installed import installed

IDENTITY = Identity("00" * 16, "e0" * 8, "a1" * 6, 0)


def made(url: str = "spool:///x.db") -> Sink:
    return make_sink(
        upstream(url), "main", identity=IDENTITY, clock=ManualClock(), run_blocking=inline
    )


def test_a_package_that_is_installed_brings_a_scheme_with_options(tmp_path: Path) -> None:
    text = '[[upstream]]\nname = "x"\nurl = "spool:///x.db"\noptions = { source = "pi" }\n'
    with pytest.raises(ConfigError, match="url: expected"):
        parse(text, "f")
    with installed(tmp_path / "site"):
        (one,) = parse(text, "f").upstream
        assert (one.kind, one.options) == ("spool", {"source": "pi"})
        assert made().keyed is True
    assert sink_package("spool") is None


def test_options_are_not_for_kinds_of_our_own() -> None:
    text = '[[upstream]]\nname = "x"\nurl = "https://h/x"\noptions = { a = "b" }\n'
    with pytest.raises(ConfigError, match="options: expected a URL whose scheme a package brings"):
        parse(text, "f")


@pytest.mark.parametrize(
    "value, said",
    [
        ("edge_agent_spool:make_broken", "that it fails: RuntimeError: no such luck"),
        ("edge_agent_spool:no_such", "that it fails: AttributeError"),
        ("no_such_module:make", "that it fails: ModuleNotFoundError"),
        ("edge_agent_spool:unquote", "that it fails"),
        ("builtins:repr", "one without keyed, open, send, settle, drained, aclose"),
    ],
)
def test_a_package_that_cannot_be_used_is_an_error_of_the_configuration_with_its_name(
    tmp_path: Path, value: str, said: str
) -> None:
    schemes: Mapping[str, str] = {"spool": value}
    with installed(tmp_path / "site", schemes):
        with pytest.raises(ConfigError) as caught:
            made()
        assert "upstream hub: url" in str(caught.value) and said in str(caught.value)
        assert "edge-agent-spool 1.0" in str(caught.value)


class Clumsy(FakeSink):
    """One that fails in each way in which foreign code can."""

    def __init__(self, how: str) -> None:
        super().__init__(keyed=True)
        self.how = how

    async def open(self, nursery: trio.Nursery, resume: LaneResume) -> Resumed:
        if self.how == "open":
            raise KeyError("open")
        if self.how == "task":
            nursery.start_soon(self.fail)
        if self.how == "nonsense":
            return None  # type: ignore[return-value]  # what a stranger may do
        return await super().open(nursery, resume)

    async def fail(self) -> None:
        raise ZeroDivisionError("in a task")

    async def send(self, batch: Any) -> Acknowledged:
        if self.how == "task":
            await trio.sleep_forever()
        if self.how == "send":
            raise TypeError("send")
        if self.how == "too much":
            return Acknowledged(10**6, 1, 1)
        return await super().send(batch)

    async def aclose(self) -> None:
        raise OSError("aclose")


@pytest.mark.parametrize(
    "how, said",
    [
        ("open", "KeyError: 'open'"),
        ("task", "ZeroDivisionError: in a task"),
        ("nonsense", "gave no Resumed"),
        ("send", "TypeError: send"),
        ("too much", "which was never sent"),
    ],
)
async def test_whatever_it_does_wrong_is_a_failure_of_this_upstream_and_ends_nothing(
    tmp_path: Path, how: str, said: str
) -> None:
    config = upstream("ws://x/forward")
    clumsy = Clumsy(how)
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        forwarder = Forwarder(
            config, station.log, lambda _: GuardedSink(clumsy, "edge-agent-clumsy 2"),
            clock=station.clock, dice=random.Random(1), metrics=station.metrics,
        )  # fmt: skip
        nursery.start_soon(forwarder.run)
        await station.put(1)
        await until(lambda: said in (forwarder.statistics().error or ""))
        assert "edge-agent-clumsy 2" in (forwarder.statistics().error or "")
        clumsy.how = ""
        await until(lambda: forwarder.statistics().records == 1)
        nursery.cancel_scope.cancel()


async def test_what_a_sink_says_itself_passes() -> None:
    sink = GuardedSink(FakeSink(open_script=[SinkUnavailable("not now")]), "x 1")
    async with trio.open_nursery() as nursery:
        with pytest.raises(SinkUnavailable, match="not now"):
            await sink.open(nursery, LaneResume(0, 1, 0, None))
        nursery.cancel_scope.cancel()
    assert (sink.keyed, sink.drained) == (False, True)
