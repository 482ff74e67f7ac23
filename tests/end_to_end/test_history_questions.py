"""History asked of a real agent, over HTTP and over a WebSocket; its process killed meanwhile."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import termios
from pathlib import Path
from typing import Any

from edge_agent.security.tokens import add_token
from tests.end_to_end.support import AgentProcess, agents, eventually
from tests.end_to_end.talking import Peer

CONFIG = """
[store]
size = "16MiB"
[log.main]
commit_interval = "0s"
[listen]
tokens = "{tokens}"
"""


async def fill(process: AgentProcess, token: str, stream: str, records: list[Any]) -> None:
    async with await Peer.open(process, f"/ingest/{stream}", token=token) as peer:
        await peer.hello(stream.replace("/", "-"))
        await peer.say(records)
        while (await peer.hear()).get("next") != len(records) + 1:
            pass


async def ask(peer: Peer, **question: object) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The pieces of an answer, and its end."""
    await peer.say({"id": "q", **question})
    pieces: list[dict[str, Any]] = []
    while True:
        heard = await peer.hear()
        assert heard["id"] == "q"
        if heard["type"] in ("answer", "error"):
            return pieces, heard
        pieces.append(heard)


def worker_of(pid: int) -> int | None:
    """The process of an agent that answers."""
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in path.read_text().split():
            if b"answering" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
    return None


def unread_of(pid: int) -> int:
    """Bytes that a process was sent, and has not read."""
    pipe = os.open(f"/proc/{pid}/fd/0", os.O_RDONLY | os.O_NONBLOCK)
    try:
        return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
    finally:
        os.close(pipe)


async def test_history_is_asked_over_both_ports(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    writer = add_token(tokens, "w", write=["**"], sources=["**"])
    reader = add_token(tokens, "r", read=["open/**"])
    process = AgentProcess(tmp_path, "agent", CONFIG.format(tokens=tokens))
    async with agents(process):
        await fill(process, writer, "open/a", [{"t": n, "n": {"x": n * 2}} for n in range(3000)])
        await fill(process, writer, "shut/b", [{"secret": 1}])
        table = await process.get("/api/query", step="all", aggregate="count,max", fields="t,n.x")
        assert table["columns"][2:] == ["t_count", "t_max", "n.x_count", "n.x_max"]
        assert table["rows"][0][1:] == ["open/a", 3000, 2999, 3000, 5998]
        async with await Peer.open(process, "/query", token=reader) as peer:
            pieces, end = await ask(peer, step="all", aggregate="count", stream="**")
            assert [piece["type"] for piece in pieces] == ["rows"]
            assert pieces[0]["columns"][1:] == ["stream", "t_count", "n.x_count"]
            assert [row[1:] for row in pieces[0]["rows"]] == [["open/a", 3000, 3000]]
            assert (end["type"], end["truncated"], end["next"]) == ("answer", False, None)

            pieces, end = await ask(peer, order="newest", limit=2500)
            assert len(pieces) > 1 and {piece["type"] for piece in pieces} == {"records"}
            assert max(len(json.dumps(piece)) for piece in pieces) < 128 * 1024
            seqs = [one["seq"] for piece in pieces for one in piece["records"]]
            assert seqs == list(range(3000, 500, -1)) and end["truncated"]
            rest, end = await ask(peer, order="newest", limit=2500, next=end["next"])
            assert [one["seq"] for piece in rest for one in piece["records"]] == list(
                range(500, 0, -1)
            )

            for hidden in ({"stream": "shut/b"}, {"stream": "shut/*"}):
                pieces, end = await ask(peer, fields="secret", **hidden)
                assert [piece["rows"] for piece in pieces] == [[]]
                assert end["truncated"] is False
            _, end = await ask(peer, step="1m", aggregate="mode")
            assert (end["type"], end["code"]) == ("error", "bad_query")

            assert process.process is not None
            first = worker_of(process.process.pid)
            assert first is not None
            os.kill(first, signal.SIGKILL)
            _, end = await ask(peer, step="all", aggregate="count")
            if end["type"] == "error":
                assert "ask again" in end["message"]
                _, end = await ask(peer, step="all", aggregate="count")
            assert end["type"] == "answer"

            # Whoever goes away leaves nothing behind.
            second = worker_of(process.process.pid)
            assert second is not None and second != first
            os.kill(second, signal.SIGSTOP)
            await peer.say({"id": "q", "order": "newest"})

            async def reached() -> bool:
                return unread_of(second) > 0

            await eventually(reached, describe="the question lies in its pipe")

        async def gone() -> bool:
            return not Path(f"/proc/{second}").exists()

        await eventually(gone, describe="the process of a cancelled question is ended and buried")
        assert (await process.get("/api/query", order="newest", limit=1))["records"]
