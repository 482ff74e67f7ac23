"""docs/sensors/shelly.md: its commands told to a device, which then does what a Shelly does.

The device is ours. It takes the page's orders over HTTP, and connects as Mongoose OS does, which
the firmware is built on (cesanta/mongoose 6, ``mg_connect_ws``).
"""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio

from tests.docs.examples import DOCS, examples_of
from tests.docs.sensors.sensors import filled_in
from tests.end_to_end.keys import STORE, Keys
from tests.end_to_end.support import AgentProcess, agents, eventually, run_command
from tests.patience import PATIENCE_S, receive_to_end, receive_until
from tests.wire.framing import TEXT, frame

pytestmark = pytest.mark.needs("curl")
PAGE = "sensors/shelly.md"
HEAD = """GET {path} HTTP/1.1
Upgrade: websocket
Connection: Upgrade
Sec-WebSocket-Version: 13
Sec-WebSocket-Key: 3q2+796tvu/erb7v3q2+7w==
Host: {at}

"""


@contextmanager
def device() -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """A Shelly's HTTP port, and what it was told."""
    told: list[dict[str, Any]] = []

    class Rpc(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/rpc"
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"id":1,"src":"shelly","result":{"restart_required":true}}')

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Rpc) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.server_port, told
        finally:
            server.shutdown()
            thread.join()


async def connected(url: str, ca: str) -> trio.SSLStream[trio.SocketStream]:
    """The device's line to its server, up to the answer."""
    where = urlsplit(url)
    assert where.hostname is not None and where.port is not None
    context = ssl.create_default_context(cadata=ca)
    stream = await trio.open_ssl_over_tcp_stream(where.hostname, where.port, ssl_context=context)
    head = HEAD.format(path=where.path, at=where.netloc).replace("\n", "\r\n")
    await stream.send_all(head.encode())
    return stream


async def test_a_device_that_was_told_so_is_let_in_and_its_status_becomes_records(
    tmp_path: Path, keys: Keys
) -> None:
    (rule,) = examples_of(PAGE, "toml")
    agent = AgentProcess(tmp_path, "agent", STORE + keys.listen + rule.code)
    token, orders = (one.code for one in examples_of(PAGE, "sh"))
    words = token.replace("'", "").split()[1:]
    made = await run_command(*words, "--file", str(keys.tokens))
    assert made.returncode == 0 and "In a URL: wss://" in made.stderr, made.stderr
    keys.secrets["kitchen"] = made.stdout.strip()
    (tmp_path / "ca.pem").write_text(keys.ca.read_text())
    with device() as (port, told):
        script = filled_in(orders, agent.port, keys, "kitchen")
        script = script.replace("192.168.1.50", f"127.0.0.1:{port}")
        run = partial(
            subprocess.run, ["sh", "-e", "-c", script], cwd=tmp_path, check=True,
            capture_output=True, timeout=PATIENCE_S,
        )  # fmt: skip
        await trio.to_thread.run_sync(run)
    put, configured, reboot = told
    assert [put["method"], reboot["method"]] == ["Shelly.PutUserCA", "Shelly.Reboot"]
    config = configured["params"]["config"]
    assert config["enable"] is True and config["ssl_ca"] == "user_ca.pem"
    lines = re.findall(r"^([>=]) (.+)$", (DOCS / PAGE).read_text(), re.MULTILINE)
    wanted = [text.split(" ", 1) for mark, text in lines if mark == "="]
    async with agents(agent):
        stream = await connected(config["server"], put["params"]["data"])
        assert b" 101 " in await receive_until(stream, b"\r\n\r\n")
        for mark, text in lines:
            if mark == ">":
                await stream.send_all(frame(TEXT, text.encode()))

        async def all_there() -> bool:
            return await agent.count() == len(wanted)

        await eventually(all_there, describe="the records")
        found = sorted(await agent.records(), key=itemgetter("stream", "seq"))
        # Of one stream they keep their order; what one read brings of several is put together.
        assert [[one["stream"], one["fields"]] for one in found] == [
            [stream, json.loads(text)] for stream, text in sorted(wanted, key=itemgetter(0))
        ]
        assert found[0]["time"] == "2026-06-01T10:00:00.5Z"
        await trio.aclose_forcefully(stream)
        wrong = config["server"].replace("/shelly/kitchen", "/greenhouse/1")
        stream = await connected(wrong, put["params"]["data"])
        assert (await receive_to_end(stream)).startswith(b"HTTP/1.1 403 ")
        await trio.aclose_forcefully(stream)
        assert keys.secrets["kitchen"] not in agent.output()
