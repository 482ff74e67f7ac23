"""What changes while others connect: tokens, and the places that an identity may have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio_websocket import ConnectionClosed, ConnectionRejected

from edge_agent.config.shape import Limits
from edge_agent.security.tokens import add_token, revoke_token, rotate_token
from tests.patience import PATIENCE_S, eventually
from tests.server.support import SETTINGS, Serving, serving, session


def bearer(secret: str) -> list[tuple[bytes, bytes]]:
    return [(b"Authorization", b"Bearer " + secret.encode())]


async def test_a_token_that_gets_new_secrets_while_it_is_used_opens_to_the_newest_alone(
    tmp_path: Path,
) -> None:
    path, acked = tmp_path / "tokens", 0
    secrets = [add_token(path, "pi", write=["**"], sources=["**"])]
    newest = trio.Event()

    async def send_for_ever(port: Serving, number: int) -> None:
        """A sensor that always comes back, with the newest secret that it knows."""
        nonlocal acked
        upto = 0
        while not newest.is_set():
            try:
                async with session(port, headers=bearer(secrets[-1])) as sensor:
                    welcome = await sensor.hello(f"pi-{number}")
                    # Of what was acked nothing is asked for again.
                    assert welcome["next"] >= upto
                    upto = welcome["next"]
                    while not newest.is_set():
                        await sensor.send({"n": upto})
                        await sensor.acked(upto + 1)
                        upto, acked = upto + 1, acked + 1
            except* (ConnectionClosed, ConnectionRejected, OSError):
                await trio.sleep(0.01)

    async with serving(tmp_path, tokens=path) as port:
        with trio.fail_after(4 * PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for number in range(5):
                    nursery.start_soon(send_for_ever, port, number)
                for _ in range(8):
                    secret = await trio.to_thread.run_sync(rotate_token, path, "pi")
                    assert secret is not None
                    secrets.append(secret)
                    # The one that was printed a moment ago lets in, at the first attempt.
                    async with session(port, headers=bearer(secret)) as sensor:
                        assert (await sensor.hello("owner"))["type"] == "welcome"
                    before = acked
                    await eventually(lambda before=before: acked > before, "sensors go on")  # type: ignore[misc]  # mypy wants no defaults
                newest.set()
            for old in secrets[:-1]:
                with pytest.raises(BaseExceptionGroup) as refused:
                    async with session(port, headers=bearer(old)):
                        pass
                (error,) = refused.value.exceptions
                assert isinstance(error, ConnectionRejected) and error.status_code == 401
            async with session(port, headers=bearer(secrets[-1])) as sensor:
                await sensor.hello("pi-0")
                revoke_token(path, "pi")
                assert (await sensor.closed())[0] == 1008
            assert port.metrics.get("connection_faults_total") == 0
            sent = [record for record in await port.records() if record.source != "owner"]
            assert len(sent) >= acked


async def test_an_identity_that_takes_all_that_it_may_leaves_the_others_theirs(
    tmp_path: Path,
) -> None:
    path, most = tmp_path / "tokens", 12
    greedy, modest = (add_token(path, name, write=["**"], sources=["**"]) for name in "ab")
    settings = replace(SETTINGS, sources_max=most)
    answers: list[str] = []
    async with serving(
        tmp_path, tokens=path, limits=Limits(sources=most), settings=settings
    ) as port:
        done = trio.Event()

        async def grab(number: int) -> None:
            """One name after the other, some of them at once with the modest one's."""
            turn = 0
            while not done.is_set():
                async with session(port, headers=bearer(greedy)) as sensor:
                    told = await sensor.hello(f"greedy/{number}/{turn}")
                answers.append(told.get("code", told["type"]))
                turn += 1

        with trio.fail_after(2 * PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for number in range(6):
                    nursery.start_soon(grab, number)
                await eventually(lambda: "too_many_sources" in answers, "its share is used up")
                for number in range(most // 2):
                    async with session(port, headers=bearer(modest)) as sensor:
                        welcome = await sensor.hello(f"modest/{number}")
                        assert welcome["type"] == "welcome", (number, welcome)
                        await sensor.send({"n": number})
                        await sensor.acked(2)
                done.set()
        held = [one.owner for one in await port.log.sources()]
        assert (held.count("a"), held.count("b")) == (most // 2, most // 2)
