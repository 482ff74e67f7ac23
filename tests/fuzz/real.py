"""A real agent, fuzzed through real sockets beside a canary; see the package."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from tests.end_to_end.support import AgentProcess, agents
from tests.fuzz.canary import STREAM
from tests.fuzz.inputs import Inputs
from tests.fuzz.singing import now, p99, singing
from tests.patience import PATIENCE_S
from tests.server.frames import TEXT, frame
from tests.server.support import upgrade
from tests.wire.framing import BINARY

#: Connections that fuzz at one time; two cores have the agent, the canary and the fuzzer to carry.
AT_ONCE = 4
#: Seconds of rest before each burst, in which the canary sings undisturbed.
REST_S = 1.0
BURST_INPUTS = 1500
#: How long an answer is waited for; most inputs get none.
LISTEN_S = 0.05
UPSTREAMS = 8
CONFIG = """
# All that is said wrong comes from one address, and has to be heard.
[listen]
unproved_per_address = 10000
[http]
unproved_per_address = 10000
[store]
size = "64MiB"
[log.main]
commit_interval = "20ms"
"""
UPSTREAM = '[[upstream]]\nname = "u{0}"\nurl = "http://127.0.0.1:{1}/in"\nstreams = ["fuzz/**"]\n'
#: What no journal shows while everything is foreseen.
UNHANDLED = re.compile(r"Traceback|Error\(|Exception|never awaited|mistake of ours", re.IGNORECASE)


@dataclass
class Report:
    """What a run came to. Latencies are the canary's, in seconds."""

    inputs: Counter[str] = field(default_factory=Counter)
    finds: list[str] = field(default_factory=list)
    canary_errors: list[str] = field(default_factory=list)
    usual: list[float] = field(default_factory=list)
    fuzzed: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """The canary's p99 while fuzzed, against its usual one."""
        return p99(self.fuzzed) / p99(self.usual)


async def run(folder: Path, count: int, seed: int) -> Report:
    """``count`` inputs through sockets, beside what an upstream answers meanwhile."""
    report = Report()
    async with answering(report, seed) as port:
        upstreams = "".join(UPSTREAM.format(number, port) for number in range(UPSTREAMS))
        agent = AgentProcess(folder, "fuzzed", CONFIG + upstreams)
        async with agents(agent):
            await _beside_a_canary(agent, report, count, seed)
            await _examine(agent, report)
            process = agent.process
            assert process is not None
            if process.poll() is not None:
                report.finds.append(f"the agent ended with {process.returncode}")
            else:
                code = await agent.stop()
                report.finds += [f"the agent stopped with {code}"] if code else []
        journal = (agent.folder / "stderr.txt").read_text(errors="replace")
    report.finds += [line for line in journal.splitlines() if UNHANDLED.search(line)][:20]
    return report


async def _beside_a_canary(agent: AgentProcess, report: Report, count: int, seed: int) -> None:
    bursts: list[tuple[float, float]] = []
    async with singing(agent.url) as song:
        first = turn = 0
        while first < count and agent.process is not None and agent.process.poll() is None:
            await song.rest(REST_S)
            begun = now()
            last = min(first + BURST_INPUTS, count)
            first, turn = await _burst(agent, report, first, last, turn, seed)
            bursts.append((begun, now()))
        await song.rest(REST_S)
    report.canary_errors += song.errors
    report.usual, report.fuzzed = song.parted(bursts)
    report.inputs["canary records"] = len(song.sung)


async def _burst(
    agent: AgentProcess, report: Report, first: int, last: int, turn: int, seed: int
) -> tuple[int, int]:
    """Inputs ``first`` to ``last``, `AT_ONCE` connections at a time, the next of which is number
    ``turn``; how far both have come.
    """
    number = first

    async def fuzz() -> None:
        nonlocal number, turn
        while number < last:
            mine = turn
            kind, size, talk = KINDS[mine % len(KINDS)]
            number, turn = number + size, turn + 1
            inputs = Inputs(f"{seed}/{mine}")
            try:
                with trio.fail_after(PATIENCE_S):
                    await talk(agent, inputs, size)
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # It hung up, as it may.
            except trio.TooSlowError:
                report.finds.append(f"{kind}, seed {seed}, number {mine}: no end")
            report.inputs[kind] += size

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(fuzz)
    return number, turn


async def _handshake(agent: AgentProcess, inputs: Inputs, _: int) -> None:
    await _say(agent.port, inputs.request())


async def _request(agent: AgentProcess, inputs: Inputs, _: int) -> None:
    await _say(agent.http_port, inputs.request())


async def _say(port: int, data: bytes) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(data)
        await _listen(stream)


async def _listen(stream: trio.SocketStream) -> None:
    with trio.move_on_after(LISTEN_S):
        await stream.receive_some(65536)


@asynccontextmanager
async def _open(
    agent: AgentProcess, path: str, protocol: str = ""
) -> AsyncIterator[trio.SocketStream]:
    async with await trio.open_tcp_stream("127.0.0.1", agent.port) as stream:
        head = upgrade(path, *([f"Sec-WebSocket-Protocol: {protocol}"] if protocol else []))
        await stream.send_all(head.replace("\n", "\r\n").encode())
        await stream.receive_some(4096)
        yield stream


async def _frames(agent: AgentProcess, inputs: Inputs, size: int) -> None:
    async with _open(agent, "/ingest/fuzz/frames") as stream:
        for _ in range(size):
            await stream.send_all(inputs.frames())
        await _listen(stream)


async def _messages(agent: AgentProcess, inputs: Inputs, size: int) -> None:
    async with _open(agent, "/ingest/fuzz/messages", "edge-agent.v1+json") as stream:
        await stream.send_all(frame(TEXT, inputs.hello().encode()))
        await _listen(stream)
        await _send(stream, inputs, size)


async def _plain(agent: AgentProcess, inputs: Inputs, size: int) -> None:
    async with _open(agent, "/ingest/fuzz/plain?ack=1") as stream:
        await _send(stream, inputs, size)


async def _send(stream: trio.SocketStream, inputs: Inputs, size: int) -> None:
    for _ in range(size):
        message = inputs.message()
        if isinstance(message, str):
            await stream.send_all(frame(TEXT, message.encode("utf-8", "surrogatepass")))
        else:
            await stream.send_all(frame(BINARY, message))
    await _listen(stream)


async def _segments(agent: AgentProcess, inputs: Inputs, size: int) -> None:
    async with _open(agent, "/forward", "edge-agent.v1+msgpack") as stream:
        hello = inputs.hello("0a1b2c3d4e5f/fuzz/main/live")
        await stream.send_all(frame(TEXT, hello.encode()))
        await _listen(stream)
        for _ in range(size):
            await stream.send_all(frame(BINARY, inputs.segments()))
        await _listen(stream)


Talk = Callable[[AgentProcess, Inputs, int], Awaitable[None]]
#: Kind, inputs that one connection takes, and how it is said.
KINDS: tuple[tuple[str, int, Talk], ...] = (
    ("handshakes", 1, _handshake),
    ("HTTP requests", 1, _request),
    ("frames", 7, _frames),
    ("messages", 17, _messages),
    ("plain messages", 11, _plain),
    ("segments", 3, _segments),
)


@asynccontextmanager
async def answering(report: Report, seed: int) -> AsyncIterator[int]:
    """An upstream whose answers are drawn; its port."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            try:
                request = await stream.receive_some(65536)
                number = report.inputs["answers"] if request else 0
                report.inputs["answers"] += bool(request)
                await stream.send_all(Inputs(f"{seed}/answer/{number}").raw_answer())
                await _listen(stream)
            except trio.BrokenResourceError:
                pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def _examine(agent: AgentProcess, report: Report) -> None:
    """What the agent itself says, and whether all that the canary was acked is there once."""
    if agent.process is None or agent.process.poll() is not None:
        return
    faults = 0.0
    for line in (await _metrics(agent)).splitlines():
        if line.startswith("edge_agent_connection_faults_total"):
            faults += float(line.split()[-1])
    if faults:
        report.finds.append(f"the guards of connections caught {faults:.0f} exceptions")
    told = [record["fields"]["n"] for record in await agent.records(STREAM)]
    sung = report.inputs["canary records"]
    if told[:sung] != list(range(sung)):
        report.canary_errors.append(f"{sung} records were acked, these are there: {told[:9]} …")


async def _metrics(agent: AgentProcess) -> str:
    import urllib.request

    def read() -> str:
        url = f"http://127.0.0.1:{agent.http_port}/metrics"
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return str(answer.read().decode())

    return await trio.to_thread.run_sync(read)
