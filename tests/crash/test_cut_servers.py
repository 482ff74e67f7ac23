"""A few of `make crash`'s cuts on the way to a real server."""

from __future__ import annotations

import pytest

from tests.crash import cut_servers
from tests.crash.cut_servers import cut_off, prove
from tests.crash.proof import Scale


async def test_a_nats_server_has_each_record_once_however_often_its_word_is_lost() -> None:
    result = await cut_off("nats", 3, 1)
    assert (result.cuts, result.doubled, result.problems) == (3, 0, [])


def test_what_is_missing_at_the_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cut_servers, "SIDES", {"nats": cut_servers.SIDES["nats"]})
    held = "tests.forward.sinks.nats.side.NatsSide.durable"

    async def nothing(self: object) -> list[tuple[str, int]]:
        return []

    monkeypatch.setattr(held, nothing)
    outcome = prove(Scale(1), 1)
    assert not outcome.ok and "nats: lost" in outcome.failures[0]
