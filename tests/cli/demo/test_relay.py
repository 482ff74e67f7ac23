from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest
import trio

from edge_agent.cli.demo.relay import Relay
from tests.patience import PATIENCE_S, eventually


async def echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)


async def relay_to_echo(nursery: trio.Nursery) -> Relay:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, echo, listeners)
    relay = Relay(listeners[0].socket.getsockname()[1])
    await nursery.start(relay.run)
    return relay


async def connect(relay: Relay) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", relay.port)


async def say(stream: trio.SocketStream) -> bytes:
    await stream.send_all(b"hello")
    return await stream.receive_some()


async def test_bytes_pass_until_the_cut_which_resets_what_is_open(nursery: trio.Nursery) -> None:
    relay = await relay_to_echo(nursery)
    async with await connect(relay) as stream:
        assert await say(stream) == b"hello"
        relay.cut()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()


async def test_while_it_is_cut_nothing_gets_through_and_after_it_everything(
    nursery: trio.Nursery,
) -> None:
    relay = await relay_to_echo(nursery)
    relay.cut()
    relay.cut()
    async with await connect(relay) as stream:
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
    relay.restore()
    async with await connect(relay) as stream:
        assert await say(stream) == b"hello"
    assert relay.cuts == 1


async def test_a_cut_while_a_pair_is_being_closed_meets_no_error(nursery: trio.Nursery) -> None:
    relay = await relay_to_echo(nursery)
    async with await connect(relay) as stream:
        assert await say(stream) == b"hello"
        first, _ = relay._open
        first.socket.close()
        relay.cut()
        assert relay._open == set()


async def test_a_target_that_is_not_there_looks_like_a_cut(nursery: trio.Nursery) -> None:
    relay = Relay(1)
    await nursery.start(relay.run)
    async with await connect(relay) as stream:
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()


async def test_what_is_being_connected_at_the_cut_is_cut_as_well(nursery: trio.Nursery) -> None:
    with socket.socket() as busy, ExitStack() as waiting:
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)
        # As long as others wait to be accepted, it lets nobody else connect.
        for _ in range(2):
            other = waiting.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(busy.getsockname())
        relay = Relay(busy.getsockname()[1])
        await nursery.start(relay.run)
        async with await connect(relay) as stream:
            await eventually(lambda: bool(relay._open), "it is connecting")
            relay.cut()
            relay.restore()
            for _ in range(2):
                busy.accept()[0].close()
            with trio.fail_after(PATIENCE_S), pytest.raises(trio.BrokenResourceError):
                await say(stream)
