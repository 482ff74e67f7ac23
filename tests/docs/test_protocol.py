"""What ``docs/protocol.md`` says, held against real agents over real WebSockets, and the code."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import msgpack
import pytest
import trio
from trio_websocket import WebSocketConnection

from edge_agent import session, wire
from edge_agent.config import Limits, Listen
from edge_agent.config.render import toml_value
from edge_agent.server import closing
from edge_agent.values.record import ForeignBlock, Origin
from edge_agent.wire import Segment, encode_segments
from tests.docs.conversations import (
    PAGE,
    SEGMENTS,
    Happening,
    Player,
    Said,
    encoded,
    happenings,
    sections,
    shown,
)
from tests.end_to_end.support import AgentProcess, agents
from tests.end_to_end.talking import connected
from tests.patience import PATIENCE_S, receive_to_end, receive_until

TEXT = PAGE.read_text()
CONVERSATIONS = sections(TEXT)
#: What the page explains byte by byte.
NOW_NS = 1_795_946_400_000_000_000
PAYLOAD = msgpack.packb(
    [["greenhouse/1", "pi-7", 1, NOW_NS - 10**9, True, 1, [{"t": 21.5}, {"t": 21.6}]]]
)
ORIGIN = Origin(
    agent="0123456789ab",
    epoch="5f0c1d2e3a4b5c6d",
    log="main",
    first=1,
    boot_id=bytes.fromhex("00112233445566778899aabbccddeeff"),
    boot_ns=60 * 10**9,
    stored_ns=NOW_NS,
    synced=True,
    path=("0123456789ab",),
)
FORWARDED = [
    Segment(1, 1, "filtered"),
    Segment.of(
        ForeignBlock(2, 3, 2, 0, len(PAYLOAD), PAYLOAD, NOW_NS - 10**9, NOW_NS - 10**9, ORIGIN)
    ),
]


def agent_of_the_page(tmp_path: Path) -> AgentProcess:
    found = re.search(r"^```toml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None
    return AgentProcess(tmp_path, "agent", found[1])


@pytest.mark.parametrize("title", CONVERSATIONS)
async def test_every_conversation_is_held_as_the_page_says(tmp_path: Path, title: str) -> None:
    agent = agent_of_the_page(tmp_path)
    async with agents(agent):
        await Player(agent).play([*happenings(CONVERSATIONS[title])])


def faults(text: str) -> list[str]:
    """Messages whose bytes are not those of the value beside them."""
    found = []
    for body in sections(text).values():
        for said in happenings(body):
            if isinstance(said, Said) and said.value == SEGMENTS:
                right: str | bytes = encode_segments(FORWARDED)
            elif isinstance(said, Said):
                right = said.value if isinstance(said.data, str) else encoded(said.value)
            else:
                continue
            if said.data != right:
                found.append(said.value)
    return found


def test_the_bytes_of_every_message_are_those_of_its_value() -> None:
    assert not faults(TEXT)
    assert shown(TEXT) == TEXT, "python -m tests.docs.conversations writes them anew"
    said = [one for body in CONVERSATIONS.values() for one in happenings(body)]
    assert sum(isinstance(one, Said) for one in said) > 30
    assert sum(one.what == "connect" for one in said if isinstance(one, Happening)) > 8


def test_a_byte_that_is_not_right_is_found_wherever_it_stands() -> None:
    dumped = re.compile(r"^  ((?:[0-9a-f]{2} ){0,15}[0-9a-f]{2})(?=\s)", re.MULTILINE)
    places = [
        start for line in dumped.finditer(TEXT) for start in range(line.start(1), line.end(1), 3)
    ]
    assert len(places) > 1000
    for place in places[:: len(places) // 150]:
        byte = int(TEXT[place : place + 2], 16)
        wrong = f"{TEXT[:place]}{byte ^ 1:02x}{TEXT[place + 2 :]}"
        try:
            found = faults(wrong)
        except UnicodeDecodeError:
            continue
        assert found, TEXT[place - 40 : place + 40]


async def test_the_requests_are_answered_over_http_as_the_page_says(tmp_path: Path) -> None:
    both = r"^```text\n(GET .*?)```\n\n```text\n(HTTP/.*?)```$"
    pairs = re.findall(both, TEXT, re.MULTILINE | re.DOTALL)
    assert len(pairs) == 2
    agent = agent_of_the_page(tmp_path)
    async with agents(agent):
        for asked, answered in pairs:
            head, _, body = answered.partition("\n\n")
            wanted = (head.rstrip() + "\n\n").replace("\n", "\r\n") + body
            async with await trio.open_tcp_stream("127.0.0.1", agent.port) as stream:
                await stream.send_all((asked + "\n").replace("\n", "\r\n").encode())
                if " 101 " in head:
                    got = await receive_until(stream, b"\r\n\r\n")
                else:
                    got = await receive_to_end(stream)
            assert got.decode() == wanted


class SmallClient:
    """The page's small client, step by step; without waits and pings."""

    def __init__(self) -> None:
        self.queue: list[dict[str, int]] = []
        self.epoch: str | None = None
        self.oldest = self.sent = 1

    async def run(self, socket: WebSocketConnection, messages: int) -> None:
        """One connection, which is cut after so many messages of the agent's (at least the welcome:
        a hello that comes late would take the next connection over), or once all is acked.
        """
        hello: dict[str, object] = {"type": "hello", "source": "small"}
        if self.epoch is not None:
            hello |= {"epoch": self.epoch, "first": self.oldest}
        await socket.send_message(json.dumps(hello))
        said = json.loads(await socket.get_message())
        self._welcome(said)
        number = self.oldest
        for heard in range(1, messages + 1):
            while number < self.oldest + len(self.queue):
                self.sent = max(self.sent, number + 1)
                await socket.send_message(json.dumps(self.queue[number - self.oldest]))
                number += 1
            if not self.queue or heard == messages:
                return
            said = json.loads(await socket.get_message())
            assert said["type"] == "ack", said
            del self.queue[: said["next"] - self.oldest]
            self.oldest = said["next"]

    def _welcome(self, said: dict[str, Any]) -> None:
        number = said["next"]
        is_ours = said["epoch"] == self.epoch and not said.get("forked")
        if is_ours and self.oldest <= number <= self.sent:
            del self.queue[: number - self.oldest]
            self.sent = max(self.sent, number)
        else:
            self.sent = number
        self.oldest, self.epoch = number, said["epoch"]


@pytest.mark.parametrize("seed", [1, 2])
async def test_the_small_client_of_the_page_loses_nothing_and_nothing_is_there_twice(
    tmp_path: Path, seed: int
) -> None:
    dice, client, count = random.Random(seed), SmallClient(), 0
    agent = agent_of_the_page(tmp_path)
    path = ("/ingest/small", "edge-agent.v1+json")
    async with agents(agent):
        for attempt in range(40):
            new = dice.randrange(4)
            client.queue += [{"n": count + n} for n in range(new)]
            count += new
            if attempt == 20:
                await agent.kill()
                await agent.start()
            async with connected(agent, *path) as socket:
                with trio.fail_after(PATIENCE_S):
                    await client.run(socket, dice.randrange(1, 5))
        async with connected(agent, *path) as socket:
            with trio.fail_after(PATIENCE_S):
                await client.run(socket, count + 2)
        told = [record["fields"]["n"] for record in await agent.records()]
    assert not client.queue
    assert told == [*range(count)]


def codes_in(heading: str) -> set[str]:
    """What stands in the first column of the table below a table head."""
    table = TEXT.partition(f"\n| {heading} |")[2].partition("\n\n")[0]
    cells = re.findall(r"^\| (.+?) \|", table, re.MULTILINE)
    return {code.strip("`") for cell in cells for code in cell.split(", ")}


def test_every_close_code_is_told() -> None:
    ours = {value for name, value in vars(session).items() if name.startswith("CLOSE_")}
    ours |= {closing.CLOSE_NORMAL, closing.CLOSE_GONE}
    assert codes_in("Close code") == set(map(str, ours))


def test_the_codes_are_those_of_the_specification() -> None:
    specified = wire.__doc__ or ""
    rejects = re.findall(r"^(\w+_\w+) {2,}\S", specified.partition("=====\n")[2], re.MULTILINE)
    told = codes_in("Code") | {"undecodable", "too_big_message"}
    assert set(rejects) - {"undecodable"} <= told
    stops = re.findall(r"``(\w+)``", specified.partition("**Stop**")[2].partition("**Whose")[0])
    assert set(stops) - {"retry_after"} <= codes_in("Code of a stop")


def test_the_statuses_are_those_that_the_port_answers_with() -> None:
    code = "".join(
        (Path(closing.__file__).parent / name).read_text()
        for name in ("handshake.py", "admission.py", "connection.py")
    )
    answered = set(re.findall(r"HandshakeRefusal\(\s*(\d{3})", code))
    assert codes_in("Status") == answered | set(map(str, wire.HTTP_STATUS.values()))


def test_the_limits_are_the_defaults_of_the_configuration() -> None:
    told = re.findall(r"^\| `(limits|listen)\.(\w+)` \| (.+?) \|", TEXT, re.MULTILINE)
    assert len(told) >= 10
    for section, key, value in told:
        real = getattr(Limits() if section == "limits" else Listen(), key)
        assert value.replace(" ", "") == (toml_value(real) or "").strip('"'), key
