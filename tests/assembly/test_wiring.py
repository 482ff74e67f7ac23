"""What the parts are told follows from the configuration."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest
import trio
import trustme
from msgspec import structs

from edge_agent.assembly.wiring import (
    address_of,
    connection_status,
    group_limits,
    listen_tcp,
    set_bridge,
    store_settings,
)
from edge_agent.bridge import UpstreamBridge
from edge_agent.config import Upstream, parse
from edge_agent.server import Visitor
from edge_agent.server.admission import Grant, Peer
from edge_agent.wire import parse_target
from tests.model.memory_network import MemoryNetwork

TEXT = """
[store]
size = "64MiB"
group_bytes = "512KiB"
group_records = 77
[limits]
in_flight_bytes = "4MiB"
window_bytes = "2MiB"
[log.main]
share = "40%"
[log.alarms]
streams = ["alarms/**"]
keep = "1d"
when_full = "refuse"
share = "20%"
[[upstream]]
name = "hub"
url = "ws://127.0.0.1:1/forward"
[[upstream]]
name = "extra"
url = "http://127.0.0.1:2/"
required = false
[[rule]]
name = "hourly"
streams = ["**"]
window = "1h"
into = "hourly/{stream}"
[[rule]]
name = "hot"
streams = ["**"]
alarm = { field = "t", above = 30 }
[[rule]]
name = "hide"
streams = ["**"]
drop = ["secret"]
"""


def test_an_upstream_that_names_logs_is_a_consumer_of_these_alone() -> None:
    settings = store_settings(parse(TEXT.replace("required", 'logs = ["alarms"]\nrequired'), "x"))
    assert [one.log for one in settings.consumers if one.name == "upstream/extra"] == ["alarms"]


def test_every_upstream_and_rule_after_storing_is_a_consumer_of_every_log() -> None:
    settings = store_settings(parse(TEXT, "test"))

    assert {(one.name, one.log, one.required) for one in settings.consumers} == {
        (name, log, required)
        for log in ("main", "alarms")
        for name, required in (
            *((f"upstream/hub{part}", True) for part in ("", "/backlog", "/older")),
            *((f"upstream/extra{part}", False) for part in ("", "/backlog", "/older")),
            ("rule/hourly", False), ("rule/hot", False),
        )
    }  # fmt: skip


def test_logs_keep_their_names_order_and_policy() -> None:
    settings = store_settings(parse(TEXT, "test"))
    alarms = settings.log("alarms")

    assert settings.size == 64 * 1024 * 1024
    assert [log.name for log in settings.logs] == ["main", "alarms"]
    assert alarms.patterns == ("alarms/**",)
    assert (alarms.keep_s, alarms.when_full, alarms.share) == (86_400, "refuse", 0.2)


def test_a_commit_starts_early_where_the_configuration_says() -> None:
    limits = group_limits(parse(TEXT, "test"))

    assert (limits.bytes, limits.records, limits.in_flight_bytes) == (524_288, 77, 4 * 1024 * 1024)


async def test_port_zero_takes_a_free_one_and_says_which() -> None:
    (listener,) = await listen_tcp("127.0.0.1:0", None)
    async with listener:
        host, port = address_of(listener).split(":")

        assert host == "127.0.0.1"
        await (await trio.open_tcp_stream(host, int(port))).aclose()


async def test_a_taken_address_is_told_with_its_key() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        with pytest.raises(OSError, match=f"listen.address = {address}: "):
            await listen_tcp(address, None)


async def test_with_a_context_the_port_speaks_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    (listener,) = await listen_tcp("127.0.0.1:0", context)
    async with listener:
        assert isinstance(listener, trio.SSLListener)
        assert address_of(listener).startswith("127.0.0.1:")


async def test_a_listener_in_memory_has_no_address() -> None:
    (listener,) = await MemoryNetwork().listen("anywhere:1")

    assert address_of(listener) == "memory"


def test_a_connection_is_shown_with_its_age() -> None:
    target = parse_target("/ingest/greenhouse/1")
    visitor = Visitor(Peer("127.0.0.1", True), Grant("local"), target, "json", 2_000_000_000)
    visitor.source, visitor.next, visitor.acked = "pi/1", 12, 10

    status = connection_status(visitor, 5_500_000_000)

    assert (status.source, status.stream, status.mode) == ("pi/1", "greenhouse/1", "ingest json")
    assert (status.connected_s, status.next, status.acked) == (3.5, 12, 10)


def test_the_upstream_that_bridges_is_found_with_its_logs() -> None:
    hub = Upstream(name="hub", url="ws://h/")
    bridge = UpstreamBridge()
    set_bridge(bridge, (hub,), ("main", "old"))
    assert (bridge.upstream, bridge.is_whole) == ("", False)
    every = structs.replace(hub, bridge=True)
    set_bridge(bridge, (hub, every), ("main", "old"))
    assert (bridge.upstream, bridge.is_whole) == ("hub", True)
    assert bridge.lacks({"old": 1}) == ("old", 1)
    some = structs.replace(every, logs=("main",))
    set_bridge(bridge, (some,), ("main", "old"))
    assert (bridge.upstream, bridge.is_whole) == ("hub", False)
    assert (bridge.lacks({"main": 1}), bridge.lacks({"old": 1})) == (("main", 1), None)
    # Of streams that it is not sent nobody behind this hub has anything.
    set_bridge(bridge, (structs.replace(every, streams=("a/**",)),), ("main", "old"))
    assert (bridge.upstream, bridge.is_whole) == ("hub", False)
