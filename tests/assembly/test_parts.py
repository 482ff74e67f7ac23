"""What an agent is made of follows from its configuration; that it runs is in `test_agent`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_agent.assembly.parts import AgentParts, Surroundings
from edge_agent.assembly.wiring import listen_tcp
from edge_agent.config import parse, with_sending
from edge_agent.net.dial import dial_tcp
from edge_agent.security.tokens import add_token
from tests.manual_clock import ManualClock
from tests.waist import inline, open_engine


@contextmanager
def made(path: Path, text: str) -> Iterator[AgentParts]:
    clock = ManualClock()
    around = Surroundings(
        clock=clock,
        random=random.Random(1),
        run_blocking=inline,
        listen=listen_tcp,
        dial=dial_tcp,
        trace=None,
        hangups=None,
        reread=None,
        kept=None,
    )
    with open_engine(path / "store", clock) as engine:
        yield AgentParts(with_sending(parse(text, "test")), engine, around)


async def test_what_is_switched_off_is_not_made(tmp_path: Path) -> None:
    with made(tmp_path, 'http.address = "off"\nhistory.enabled = false\n') as parts:
        told = parts.sources()
        assert told.tokens is None and told.digester is None and told.asker is None
        assert not parts.upstreams.configured and not told.connections()


async def test_all_share_one_log_and_people_look_at_the_same_parts(tmp_path: Path) -> None:
    add_token(tmp_path / "tokens", "pi", write=["**"], created_ns=0)
    text = (
        f'[listen]\ntokens = "{tmp_path / "tokens"}"\n'
        '[[upstream]]\nname = "hub"\nurl = "ws://127.0.0.1:1/forward"\n'
        '[[rule]]\nname = "mute"\nstreams = ["**"]\ndrop = ["x"]\n'
    )
    with made(tmp_path, text) as parts:
        told = parts.sources()
        assert [one.name for one in parts.upstreams.configured] == ["hub"]
        assert told.tokens is not None and told.tokens is parts.tokens
        assert told.log is parts.log and told.rules is parts.rules and parts.rules.are_any
        assert told.digester is parts.digester and told.digester is not None
