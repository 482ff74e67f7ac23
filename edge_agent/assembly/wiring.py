"""Gives each part its settings, and gathers from each part what people are shown.

Translations only: nothing here runs. `edge_agent.agent` puts the parts together.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import trio

from edge_agent.bridge import UpstreamBridge
from edge_agent.commit import GroupLimits
from edge_agent.config import Config, Upstream, format_address, parse_address
from edge_agent.digest import Keep
from edge_agent.live import rule_consumer
from edge_agent.net.accepting import endpoints, listen_on
from edge_agent.net.kept_sockets import Endpoint, KeptSockets
from edge_agent.ops import ConnectionStatus
from edge_agent.seal import OPEN, KeyRing, read_keys
from edge_agent.server import Visitor
from edge_agent.store import (
    BACKLOG,
    OLDER,
    ConsumerSettings,
    LogSettings,
    LookAtMedium,
    StoreSettings,
    board_fingerprint,
    machine_fingerprint,
    nowhere,
)
from edge_agent.values.record import NANOSECONDS

Listeners = Sequence[trio.abc.Listener[trio.abc.Stream]]
Listen = Callable[[str, ssl.SSLContext | None], Awaitable[Listeners]]
"""Opens ``host:port`` for sensors, with TLS where there is a context; raises OSError."""


def store_keys(config: Config, entropy: Callable[[int], bytes] | None = None) -> KeyRing:
    """What seals the store and its history, and opens them. Raises ConfigError."""
    return read_keys(config.store.key_file, entropy, seals=config.store.seal)


def store_settings(
    config: Config, medium: LookAtMedium = nowhere, keys: KeyRing = OPEN
) -> StoreSettings:
    """What the store is told. ``medium`` tells where its file is; ``keys`` are `store_keys`, read
    by whoever may.
    """
    store, limits = config.store, config.limits
    return StoreSettings(
        size=int(store.size),
        block_bytes=int(store.block_bytes),
        compression_level=store.compression_level,
        quarantine_share=float(store.quarantine_share),
        logs=tuple(
            LogSettings(name, log.streams, float(log.keep), log.when_full, float(log.share))
            for name, log in config.log.items()
        ),
        consumers=consumers_of(config),
        sources_max=limits.sources,
        source_forgotten_s=float(limits.source_forgotten_after),
        board=board_fingerprint(),
        machine=machine_fingerprint(),
        medium=medium,
        keys=keys,
    )


def consumers_of(
    config: Config, upstreams: Sequence[Upstream] | None = None
) -> tuple[ConsumerSettings, ...]:
    """Whom retention considers: the upstreams, ``config``'s where none are given, and the rules
    that act after storing.

    It does not wait for rules: their outputs go into the same logs, so that a rule on a full log
    would wait for room that only its own position could give. Nor for history, which writes each
    half an hour: a log that refuses while it is full would refuse for so long.
    """
    rules = [rule_consumer(rule.name) for rule in config.rule if rule.acts_after]
    consumers = [
        # Where there is no backlog the second of each has no position, and counts for nothing.
        ConsumerSettings(one.consumer + part, log, one.required)
        for part in ("", BACKLOG, OLDER)
        for one in (config.upstream if upstreams is None else upstreams)
        for log in one.logs or config.log
    ]
    consumers += [ConsumerSettings(name, log, False) for log in config.log for name in rules]
    return tuple(consumers)


def set_bridge(bridge: UpstreamBridge, upstreams: Sequence[Upstream], logs: Sequence[str]) -> None:
    """Let the upstream bridge that is to, if there is one, of what it is sent of these logs."""
    for one in upstreams:
        if one.bridge:
            its_logs = one.logs or logs
            is_whole = set(its_logs) >= set(logs) and "**" in one.streams
            bridge.choose(one.name, its_logs, is_whole=is_whole)
            return
    bridge.choose("")


def history_keep(config: Config) -> Keep:
    """How long history keeps what."""
    given = config.history
    ages = (given.keep, given.keep_minutes, given.keep_hours)
    return Keep(*(round(float(age) * NANOSECONDS) for age in ages))


def history_bytes(config: Config) -> int:
    """What history may hold."""
    return int(float(config.history.share) * file_size(config))


def file_size(config: Config) -> int:
    """Bytes of the store's file; a configuration whose logs are wrong still says so much."""
    return StoreSettings(size=int(config.store.size)).map_size


def group_limits(config: Config) -> GroupLimits:
    """When a commit starts early, and what may wait for one."""
    return GroupLimits(
        int(config.store.group_bytes),
        config.store.group_records,
        int(config.limits.in_flight_bytes),
    )


async def listen_tcp(
    address: str, tls: ssl.SSLContext | None, kept: KeptSockets | None = None
) -> Listeners:
    """Sockets on ``host:port``, TLS over them where there is a context; ``kept`` ones first.

    Raises:
        OSError: the address is taken or not this machine's. No ConfigError: the one who has it
            may be about to stop, and a supervisor should try again.
    """
    listeners = await listen_on(*parse_address(address), "listen.address", kept)
    if tls is None:
        return listeners
    return [trio.SSLListener(listener, tls, https_compatible=True) for listener in listeners]


async def ports_of(config: Config) -> set[Endpoint]:
    """Where ``config`` listens. An address that means nothing is told when it is opened."""
    found: set[Endpoint] = set()
    for address in (config.listen.address, config.http.address):
        if address != "off":
            with suppress(OSError):
                found.update(await endpoints(*parse_address(address)))
    return found


async def run_all(tasks: Sequence[Callable[[], Awaitable[None]]], done: trio.Event) -> None:
    """Run them beside one another; ``done`` is set when the last of them has returned."""
    async with trio.open_nursery() as nursery:
        for task in tasks:
            nursery.start_soon(task)
    done.set()


def address_of(listener: trio.abc.Listener[trio.abc.Stream]) -> str:
    """Where it listens, as ``host:port``; ``memory`` for one without a socket."""
    inner = getattr(listener, "transport_listener", listener)
    if not isinstance(inner, trio.SocketListener):
        return "memory"
    host, port = inner.socket.getsockname()[:2]
    return format_address(host, port)


def connection_status(visitor: Visitor, now_ns: int) -> ConnectionStatus:
    """One open connection, for people; ``now_ns`` is the wall clock."""
    session = visitor.session
    return ConnectionStatus(
        source=visitor.source,
        stream=visitor.target.name,
        peer=visitor.peer.address,
        mode=f"{visitor.target.kind} {visitor.mode}",
        connected_s=max(0.0, (now_ns - visitor.since_ns) / 1e9),
        next=visitor.next if session is None else session.number,
        acked=visitor.acked if session is None else session.acked,
        in_flight_bytes=0 if session is None else session.bytes_in_flight,
    )
