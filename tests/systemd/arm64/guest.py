#!/usr/lib/edge-agent/bin/python
"""The first process of an emulated machine: two agents of the installed package, and what they do.

    sensor ─▶ agent "arm64" ◀─▶ agent "amd64" ◀─ a store that another machine wrote

It runs as /init with the libraries of the package, sees nothing else of this project, and is told
in its environment what time it is. All that it found goes onto the second disk, as a tar:
``result.json`` and both stores. Then the machine is off.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import pwd
import resource
import signal
import socket
import struct
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import trio

from edge_agent.client import Backoff, Producer

CARD, RESULTS = Path("/card"), Path("/dev/vdb")
RECORDS = 200
#: Between two records of those that are sent while an agent is killed.
PAUSE_S = 0.05
#: Commits, one after the other, over which is measured what each writes, and before: until the tree
#: has grown by a level, which some two hundred do, a commit writes half of what it does ever after.
COMMITS, GROWING = 50, 200
#: How long one thing may take: an agent starts in a minute.
PATIENCE_S = 600.0
#: History keeps what came for no longer than two seconds, and needs some more on this machine.
SETTLING_S = 20.0
CONFIG = """
[listen]
handshake_timeout = "60s"
[limits]
query_seconds = "300s"
[store]
size = "32MiB"
[log.main]
commit_interval = "20ms"
[[upstream]]
name = "{other}"
url = "ws://127.0.0.1:{port}/forward"
streams = ["{name}/**"]
backoff_max = "2s"
"""
_FINIT_MODULE = 273
_POWER_OFF = 0x4321FEDC
_SIOCSIFFLAGS, _UP = 0x8914, 1
LIBC = ctypes.CDLL(None, use_errno=True)


def boot() -> None:
    """What an init does before anything can run."""
    for kind, place in (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")):
        mount(kind, kind, place)
    for module in sorted(Path("/modules").iterdir()):
        with module.open("rb") as file:
            called(LIBC.syscall(_FINIT_MODULE, file.fileno(), b"", 0))
    now = dict(
        word.split("=", 1) for word in Path("/proc/cmdline").read_text().split() if "=" in word
    )
    time.clock_settime(time.CLOCK_REALTIME, float(now["now"]))
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _UP))
    CARD.mkdir()
    mount("/dev/vda", "ext4", str(CARD))


def mount(source: str, kind: str, place: str) -> None:
    called(LIBC.mount(source.encode(), place.encode(), kind.encode(), 0, None))


def called(answer: int) -> None:
    if answer != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Agent:
    """The package's program, as its user, with its store on the card."""

    def __init__(self, name: str, other: str, port: int, other_port: int) -> None:
        self.name, self.port = name, port
        self.store = CARD / name
        self.config = CARD / f"{name}.toml"
        self.config.write_text(CONFIG.format(name=name, other=other, port=other_port))
        self.store.mkdir(exist_ok=True)
        owner = pwd.getpwnam("edge-agent")
        for path in (self.config, self.store, *self.store.rglob("*")):
            os.chown(path, owner.pw_uid, owner.pw_gid)

    def start(self) -> None:
        self.process = subprocess.Popen(
            ["/usr/bin/edge-agent", "run", "--config", self.config, "--data", self.store,
             "--listen", f"127.0.0.1:{self.port}", "--http", f"127.0.0.1:{self.port + 1}"],
            user="edge-agent", group="edge-agent", extra_groups=[], stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def get(self, path: str) -> Any:
        url = f"http://127.0.0.1:{self.port + 1}{path}"
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return json.load(answer)

    async def ready(self) -> None:
        def answers() -> bool:
            assert self.process.poll() is None, f"{self.name} ended"
            try:
                return bool(self.get("/api/status"))
            except OSError:
                return False

        await until(answers, f"{self.name} answers")

    def numbers(self, source: str) -> list[int]:
        answer = self.get(f"/api/query?stream={source}/n&limit=20000")
        return [record["fields"]["n"] for record in answer["records"]]

    def command(self, *arguments: str) -> str:
        done = subprocess.run(
            ["/usr/bin/edge-agent", *arguments, "--data", self.store],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False,
        )  # fmt: skip
        return f"{done.stdout}exit code {done.returncode}\n"


async def until(condition: Callable[[], bool], what: str) -> None:
    with trio.fail_after(PATIENCE_S):
        while not await trio.to_thread.run_sync(condition):
            await trio.sleep(3.0)
    say(what)


def say(what: str) -> None:
    print(f"[{time.monotonic():.0f} s] {what}", flush=True)


async def send(agent: Agent, numbers: range, *, stream: str, one_by_one: bool = False) -> None:
    """Records with ``numbers``, until all are acked; one by one, each is a commit of its own."""
    url = f"ws://127.0.0.1:{agent.port}/ingest/{stream}"
    async with Producer(
        url, source=f"sensor/{stream}", backoff=Backoff(maximum=2.0), connect_timeout=60.0,
        close_timeout=PATIENCE_S, on_error=lambda trouble: say(f"sensor: {trouble}"),
        on_open=lambda opened: say(f"sensor: {opened}"),
    ) as producer:  # fmt: skip
        for number in numbers:
            await producer.send({"n": number})
            if one_by_one:
                await producer.flush()
            else:
                await trio.sleep(PAUSE_S)


def written() -> int:
    """Bytes that the card's device got, once all that waits in memory is there."""
    os.sync()
    return int(Path("/sys/block/vda/stat").read_text().split()[6]) * 512


def settled(agent: Agent) -> tuple[int, Any]:
    """As `written`, and the agent's status of the same moment, once history has gone on to write
    what came. It is asked once, and last: each question touches LMDB's lock file, which the next
    sync writes.
    """
    time.sleep(SETTLING_S)
    device = written()
    return device, agent.get("/api/status")


async def exchange() -> dict[str, Any]:
    """What comes of a kill on one side of two agents that forward to one another, and a measured
    stretch before, in which nobody else writes.
    """
    fresh, moved = Agent("arm64", "amd64", 8765, 8775), Agent("amd64", "arm64", 8775, 8765)
    fresh.start()
    await fresh.ready()
    await send(fresh, range(GROWING), stream="measured/n", one_by_one=True)
    say("the tree has grown")
    begun, status = settled(fresh)
    before = status["wear"]["since_start"]
    await send(fresh, range(COMMITS), stream="measured/n", one_by_one=True)
    ended, status = settled(fresh)
    device, after = ended - begun, status["wear"]["since_start"]
    wear = {key: after[key] - before[key] for key in ("commits", "written_bytes", "card_bytes")}
    say("measured what commits write")
    doctor = fresh.command("doctor", "--offline", "--config", str(fresh.config))
    moved.start()
    await moved.ready()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: send(fresh, range(RECORDS), stream="arm64/n"))
        await until(
            lambda: len(moved.numbers("arm64")) > 0 and len(fresh.numbers("amd64")) > 0,
            "both forward",
        )
        fresh.end(signal.SIGKILL)
        fresh.start()
        await fresh.ready()
    held: dict[str, dict[str, list[int]]] = {}

    def has_all() -> bool:
        for agent in (fresh, moved):
            held[agent.name] = {source: agent.numbers(source) for source in ("arm64", "amd64")}
        counts = [len(found) for has in held.values() for found in has.values()]
        say(f"they have {counts}")
        return all(count >= RECORDS for count in counts)

    await until(has_all, "both have all")
    pages = {
        agent.name: agent.get("/api/status")["store"]["page_bytes"] for agent in (fresh, moved)
    }
    exits = [agent.end(signal.SIGTERM) for agent in (fresh, moved)]
    said = {agent.name: agent.command("check", "--deep") for agent in (fresh, moved)}
    return {
        "page_bytes": resource.getpagesize(), "release": os.uname().release, "held": held,
        "wear": wear | {"device": device}, "doctor": doctor, "store_pages": pages, "exits": exits,
        "check": said,
    }  # fmt: skip


def main() -> None:
    """A failure ends the first process, which is a panic, and the emulator with it."""
    boot()
    say("booted")
    result = json.dumps(trio.run(exchange)).encode()
    with RESULTS.open("r+b") as disk, tarfile.open(fileobj=disk, mode="w") as tar:
        member = tarfile.TarInfo("result.json")
        member.size = len(result)
        tar.addfile(member, BytesIO(result))
        for name in ("arm64", "amd64"):
            tar.add(CARD / name, name)
    say("written down")
    os.sync()
    LIBC.reboot(_POWER_OFF)


if __name__ == "__main__":
    main()
