"""Where a source goes on: epochs, gaps, takeovers, commits that are held."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio_websocket import ConnectionClosed

from tests.patience import eventually
from tests.server.support import (
    Session,
    hurried,
    serving,
    session,
)


async def test_a_source_goes_on_where_it_was(tmp_path: Path) -> None:
    async with serving(tmp_path) as port:
        async with session(port) as sensor:
            await sensor.hello("pi")
            await sensor.send([{"t": 1}, {"t": 2}])
            await sensor.acked(3)
        async with session(port) as sensor:
            assert (await sensor.hello("pi"))["next"] == 3


async def test_an_unknown_epoch_starts_at_the_sources_first_number(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, session(port) as sensor:
        welcome = await sensor.hello("pi", epoch="of another store", first=100)
        assert welcome["next"] == 100
        await sensor.send({"t": 1})
        await sensor.acked(101)
        assert [r.source_seq for r in await port.records()] == [100]


async def test_a_known_epoch_resumes_at_next(tmp_path: Path) -> None:
    async with serving(tmp_path) as port:
        async with session(port) as sensor:
            await sensor.hello("pi")
            await sensor.send([{"t": 1}] * 9)
            await sensor.acked(10)
        async with session(port) as sensor:
            epoch = port.log.identity.epoch
            assert (await sensor.hello("pi", epoch=epoch, first=5))["next"] == 10


async def test_another_history_is_told_and_noted_until_it_has_sent_something(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as port:
        epoch = port.log.identity.numbering
        known = {"epoch": epoch, "first": 1}
        async with session(port) as sensor:
            await sensor.hello("pi", history={"opening": "a", "done": 1})
            await sensor.send([{"t": 1}] * 9)
            await sensor.acked(10)
        # Its own opening, and one that follows it: no fork, whatever was acknowledged.
        for history in (
            {"opening": "a", "done": 3},
            {"opening": "b", "done": 3, "before": [["a", 10]]},
        ):
            async with session(port) as sensor:
                welcome = await sensor.hello("pi", history=history, **known)
                assert "forked" not in welcome
        # A copy that was made at 5. Until it has sent something, it is one each time.
        copy = {"opening": "c", "done": 3, "before": [["a", 5]]}
        for _ in range(2):
            async with session(port) as sensor:
                welcome = await sensor.hello("pi", history=copy, **known)
                assert (welcome["forked"], welcome["next"]) == (True, 10)
        assert port.metrics.get("sources_copied_total") == 2
        async with session(port) as sensor:
            await sensor.hello("pi", history=copy, **known)
            await sensor.send({"t": 2})
            await sensor.acked(11)
        async with session(port) as sensor:
            assert "forked" not in await sensor.hello("pi", history=copy, **known)
        # Now it is the original that has another history; who says none is taken at its word.
        async with session(port) as sensor:
            original = {"opening": "a", "done": 10}
            assert (await sensor.hello("pi", history=original, **known))["forked"]
        async with session(port) as sensor:
            assert "forked" not in await sensor.hello("pi", **known)


async def test_a_gap_is_counted_and_shown(tmp_path: Path) -> None:
    async with serving(tmp_path) as port:
        async with session(port) as sensor:
            await sensor.hello("pi")
            await sensor.send({"t": 1})
            await sensor.acked(2)
        async with session(port) as sensor:
            epoch = port.log.identity.epoch
            assert (await sensor.hello("pi", epoch=epoch, first=50))["next"] == 50
        assert port.metrics.get("source_gaps_total") == 48


async def test_what_the_old_connection_appended_settles_before_next_is_told(tmp_path: Path) -> None:
    # The old connection waits that long for its acks.
    listen = hurried(close_timeout=0.4)
    async with serving(tmp_path, listen=listen) as port, session(port) as old:
        await old.hello("pi")
        port.held.hold()
        await old.send([{"t": 1}, {"t": 2}])
        await eventually(lambda: port.held.began == 1, "the commit begins")
        async with session(port) as new, trio.open_nursery() as nursery:
            welcomes = []

            async def hello() -> None:
                welcomes.append(await new.hello("pi"))

            nursery.start_soon(hello)
            code, _ = await old.closed()
            assert code == 4409
            await trio.sleep(0.05)
            assert welcomes == []
            port.held.let_go()
            await eventually(lambda: welcomes != [], "the welcome")
            assert welcomes[0]["next"] == 3
        assert len(await port.records()) == 2
        assert port.metrics.get("takeovers_total") == 1


async def test_so_does_what_a_connection_appended_that_is_gone(tmp_path: Path) -> None:
    async with serving(tmp_path) as port:
        async with session(port) as old:
            await old.hello("pi")
            port.held.hold()
            await old.send([{"t": 1}, {"t": 2}])
            await eventually(lambda: port.held.began == 1, "the commit begins")
            await old.socket.aclose()
        # Its socket is gone and counts no more, although its claim stands.
        await eventually(lambda: port.metrics.get("connections") == 0, "its socket is gone")
        async with session(port) as new:
            await new.send({"type": "hello", "source": "pi"})
            await trio.sleep(0.05)
            port.held.let_go()
            assert (await new.receive())["next"] == 3


async def test_nothing_more_is_read_from_a_connection_that_was_taken_over(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, session(port) as old, session(port) as new:
        await old.hello("pi")
        await new.hello("pi")
        with pytest.raises(ConnectionClosed):
            await flood(old)
        await new.send({"t": 1})
        await new.acked(2)
        assert [r.fields for r in await port.records()] == [{"t": 1}]


async def test_a_hello_that_waits_for_another_can_itself_be_taken_over(tmp_path: Path) -> None:
    listen = hurried(close_timeout=0.4)
    async with (
        serving(tmp_path, listen=listen) as port,
        session(port) as first,
        session(port) as second,
        session(port) as third,
    ):
        await first.hello("pi")
        port.held.hold()
        await first.send({"t": 1})
        await eventually(lambda: port.held.began == 1, "the commit begins")
        await second.send({"type": "hello", "source": "pi"})
        await first.closed()
        await third.send({"type": "hello", "source": "pi"})
        assert (await second.closed())[0] == 4409
        port.held.let_go()
        assert (await third.receive())["next"] == 2


async def flood(sensor: Session) -> None:
    """Send for ever."""
    while True:
        await sensor.send({"late": 1})
