"""What brokers may do that Mosquitto does not do on demand, by a peer that follows a script."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock, memory_stream_pair

from edge_agent.config import MqttTable
from edge_agent.errors import SinkUnavailable
from edge_agent.forward.sinks.mqtt.connection import Delivery, MqttConnection
from edge_agent.forward.sinks.mqtt.incoming import Delivered
from edge_agent.forward.sinks.mqtt.outgoing import MqttMessage, publish
from edge_agent.forward.sinks.mqtt.settings import settings_of
from tests.forward.support import upstream
from tests.patience import PATIENCE_S, receive_until

WELCOME = b"\x20\x03\0\0\0"
PACKETS = [publish("5", MqttMessage(b"t", b"x"), number) for number in range(1, 11)]
SIZE = len(PACKETS[0])

Peer = trio.StapledStream[Any, Any]


@asynccontextmanager
async def connected(
    welcome: bytes = WELCOME, timeout: float = PATIENCE_S, **table: Any
) -> AsyncIterator[tuple[MqttConnection, Peer, list[Delivered]]]:
    settings = settings_of(upstream("mqtt://h", mqtt=MqttTable(**table)), "main", "a" * 32)
    near, far = memory_stream_pair()
    heard: list[Delivered] = []
    connection = MqttConnection(near, settings, timeout, heard.append)
    await far.send_all(welcome)
    await connection.log_in(None, None)
    await far.receive_some()
    try:
        yield connection, far, heard
    finally:
        await connection.aclose()


async def failing(
    script: Callable[[Peer], Awaitable[None]], timeout: float = PATIENCE_S, **table: Any
) -> SinkUnavailable:
    """What a delivery fails by, where the peer acts as ``script`` says."""
    link = connected(timeout=timeout, **table)
    async with link as (connection, far, _), trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        nursery.start_soon(script, far)
        with pytest.raises(SinkUnavailable) as caught:
            await connection.deliver(PACKETS, Delivery())
        assert not connection.is_good
        with pytest.raises(SinkUnavailable):
            await connection.deliver(PACKETS, Delivery())
        nursery.cancel_scope.cancel()
    return caught.value


def acks(*numbers: int) -> bytes:
    return b"".join(b"\x40\x02" + number.to_bytes(2, "big") for number in numbers)


async def test_no_more_is_in_flight_than_the_broker_takes_and_a_free_place_is_used_at_once() -> (
    None
):
    link = connected(b"\x20\x06\0\0\x03\x21\0\x03")
    async with link as (connection, far, _), trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        nursery.start_soon(connection.deliver, PACKETS, Delivery())
        assert await receive_until(far, 3 * SIZE) == b"".join(PACKETS[:3])
        with trio.move_on_after(0.02):
            await far.receive_some()
            raise AssertionError("more than three are in flight")
        # In any order: some services acknowledge as it suits them.
        await far.send_all(acks(2))
        assert await receive_until(far, SIZE) == PACKETS[3]
        await far.send_all(acks(1, 4))
        assert await receive_until(far, 2 * SIZE) == b"".join(PACKETS[4:6])
        nursery.cancel_scope.cancel()


async def test_what_is_refused_is_told_by_its_place_and_the_rest_arrives() -> None:
    async with connected() as (connection, far, _), trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        await far.send_all(b"")

        async def answer() -> None:
            await receive_until(far, 10 * SIZE)
            await far.send_all(
                b"\x40\x03\0\x03\x87" + b"\x40\x03\0\x04\x10" + acks(1, 2, *range(5, 11))
            )

        nursery.start_soon(answer)
        found = Delivery()
        await connection.deliver(PACKETS, found)
        assert found.refused == {2: (0x87, "not authorised (0x87)")} and found.unheard == 1
        assert connection.is_good
        nursery.cancel_scope.cancel()


async def test_what_is_made_meanwhile_follows_what_is_under_way() -> None:
    link = connected(b"\x20\x06\0\0\x03\x21\0\x04")
    async with link as (connection, far, _), trio.open_nursery() as nursery:
        parts, asked = [PACKETS[2:3], [], PACKETS[3:], None], trio.Event()

        async def following() -> list[bytes] | None:
            if len(parts) == 1:
                asked.set()
            await trio.lowlevel.checkpoint()
            return parts.pop(0)

        async def deliver() -> None:
            await connection.deliver(PACKETS[:2], Delivery(), following)
            nursery.cancel_scope.cancel()

        nursery.start_soon(connection.run)
        nursery.start_soon(deliver)
        # Nothing of the first is acknowledged yet.
        assert await receive_until(far, 4 * SIZE) == b"".join(PACKETS[:4])
        await asked.wait()
        await far.send_all(acks(2, 3))
        assert await receive_until(far, 2 * SIZE) == b"".join(PACKETS[4:6])
        await far.send_all(acks(1, 4, 5, 6))
        assert await receive_until(far, 4 * SIZE) == b"".join(PACKETS[6:])
        await far.send_all(acks(7, 8, 9, 10))
        await trio.sleep(PATIENCE_S)
        raise AssertionError("it is delivered, and nobody says so")


async def test_what_is_acknowledged_while_the_last_part_is_asked_for_is_heard_at_a_pace(
    autojump_clock: MockClock,
) -> None:
    link = connected(in_flight=2, messages_per_second=1000.0, keep_alive=10)
    async with link as (connection, far, _), trio.open_nursery() as nursery:
        parts = [PACKETS[:5], None]

        async def following() -> list[bytes] | None:
            part = parts.pop(0)
            await trio.sleep(0.05 if part is None else 0)
            return part

        async def acknowledge() -> None:
            for number in range(1, 6):
                await receive_until(far, SIZE)
                await far.send_all(acks(number))

        nursery.start_soon(connection.run)
        nursery.start_soon(acknowledge)
        with trio.fail_after(PATIENCE_S):
            await connection.deliver((), Delivery(), following)
        nursery.cancel_scope.cancel()


async def test_nothing_more_is_made_for_a_connection_that_has_ended() -> None:
    async with connected() as (connection, far, _), trio.open_nursery() as nursery:
        made = 0

        async def following() -> list[bytes]:
            nonlocal made
            made += 1
            await far.aclose()
            while connection.failure is None:
                await trio.lowlevel.checkpoint()
            return PACKETS[2:3]

        async def run() -> None:
            with suppress(SinkUnavailable):
                await connection.run()

        nursery.start_soon(run)
        with pytest.raises(SinkUnavailable):
            await connection.deliver(PACKETS[:2], Delivery(), following)
        assert made == 1
        nursery.cancel_scope.cancel()


async def test_an_acknowledgement_of_nothing_ends_the_connection() -> None:
    for number in (0x4000, 11):

        async def script(far: Peer, number: int = number) -> None:
            await far.send_all(acks(number))

        assert "not in flight" in str(await failing(script))


async def test_a_broker_that_says_why_it_hangs_up_is_told() -> None:
    async def script(far: Peer) -> None:
        await receive_until(far, SIZE)
        await far.send_all(b"\xe0\x01\x95")
        await far.aclose()

    error = await failing(script)
    assert "the packet is too large (0x95)" in str(error) and error.cut


async def test_a_broker_that_just_hangs_up_has_cut_the_batch() -> None:
    async def script(far: Peer) -> None:
        await receive_until(far, SIZE)
        await far.aclose()

    error = await failing(script)
    assert "hung up" in str(error) and error.cut


async def test_a_broker_that_talks_and_acknowledges_nothing_is_given_its_time(
    autojump_clock: MockClock,
) -> None:
    async def script(far: Peer) -> None:
        while True:
            await far.send_all(publish("5", MqttMessage(b"x", b"", 0)))
            await trio.sleep(1)

    began = trio.current_time()
    error = await failing(script, timeout=20.0)
    assert "nothing was acknowledged for 20 s" in str(error) and error.cut
    assert 20 <= trio.current_time() - began < 25


async def test_a_ping_that_nobody_answers_ends_an_idle_connection(
    autojump_clock: MockClock,
) -> None:
    async with connected(timeout=10.0) as (connection, far, _):
        with pytest.raises(SinkUnavailable, match="not heard for 10 s"):
            await connection.run()
        assert await far.receive_some() == b"\xc0\0"
        assert 40 <= trio.current_time() < 45


async def test_an_idle_connection_is_kept_by_pings(autojump_clock: MockClock) -> None:
    async with connected(timeout=10.0) as (connection, far, _), trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        for _ in range(5):
            assert await far.receive_some() == b"\xc0\0"
            await far.send_all(b"\xd0\0")
        assert connection.is_good and 150 <= trio.current_time() < 160
        nursery.cancel_scope.cancel()


async def test_a_cancelled_delivery_leaves_nothing_to_be_sent_over() -> None:
    async with connected() as (connection, _, _), trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        with trio.move_on_after(0.01):
            await connection.deliver(PACKETS, Delivery())
        assert not connection.is_good
        nursery.cancel_scope.cancel()


async def test_so_many_messages_in_a_second(autojump_clock: MockClock) -> None:
    table: dict[str, Any] = {"messages_per_second": 2.0}
    async with connected(**table) as (connection, far, _), trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)

        async def answer() -> None:
            taken = acked = 0
            while acked < len(PACKETS):
                taken += len(await far.receive_some())
                await far.send_all(acks(*range(acked + 1, taken // SIZE + 1)))
                acked = taken // SIZE

        nursery.start_soon(answer)
        began = trio.current_time()
        await connection.deliver(PACKETS, Delivery())
        assert trio.current_time() - began == pytest.approx(4, abs=0.1)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "answer, words",
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "speaks no MQTT"),
        (b"\xd0\0", "speaks no MQTT"),
        (b"\x20\x03\0\x87\0", "not authorised"),
        (b"\x20\x02\0\x01", 'version = "3.1.1"'),
        (b"\x20\x05\0\0\x02\x24\0", "no QoS 1"),
    ],
)
async def test_who_does_not_welcome_us_is_told(answer: bytes, words: str) -> None:
    with pytest.raises(SinkUnavailable, match=words) as caught:
        async with connected(answer):
            pass
    assert caught.value.slow and caught.value.obstacle == "there"


async def test_a_broker_without_retained_messages_is_no_place_for_them() -> None:
    with pytest.raises(SinkUnavailable, match="retain = false does without"):
        async with connected(b"\x20\x05\0\0\x02\x25\0", retain=True):
            pass


async def test_birth_comes_behind_the_welcome_and_the_end_is_told() -> None:
    settings = settings_of(
        upstream("mqtt://h", mqtt=MqttTable(status_topic="s", version="3.1.1")), "main", "a"
    )
    near, far = memory_stream_pair()
    connection = MqttConnection(near, settings, 5, print)
    await far.send_all(b"\x20\x02\0\0")
    await connection.log_in("u", "p")
    login = bytes(await far.receive_some())
    assert b"\0\x01s\0\x07offline\0\x01u\0\x01p" in login
    assert login.endswith(publish("3.1.1", MqttMessage(b"s", b"online", 0, retain=True)))
    await connection.aclose()
    goodbye = publish("3.1.1", MqttMessage(b"s", b"offline", 0, retain=True)) + b"\xe0\0"
    assert bytes(await far.receive_some()) == goodbye


async def test_a_message_for_us_is_handed_on() -> None:
    async with connected() as (connection, far, heard), trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        await connection.subscribe(b"ha/status")
        assert b"ha/status" in await far.receive_some()
        await far.send_all(
            b"\x90\x04\xff\xff\0\0" + publish("5", MqttMessage(b"ha/status", b"on", 0))
        )
        while not heard:
            await trio.lowlevel.checkpoint()
        assert heard == [Delivered("ha/status", b"on")]
        nursery.cancel_scope.cancel()
