"""What ``docs/http-api.md`` says, held against the application and against a real agent."""

from __future__ import annotations

import json
import re
import shlex
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
import trio
from msgspec import Struct
from msgspec.structs import fields

from edge_agent.config import Limits
from edge_agent.config.render import toml_value
from edge_agent.errors import ProtocolError
from edge_agent.live.query import parse_query
from edge_agent.ops.access import FORM_PATHS, ORDER_PATHS, Rules
from edge_agent.ops.app import make_routes
from edge_agent.ops.orders.orders import ConsumerOrder, QuarantineOrder
from edge_agent.ops.orders.resends import ResendGiven
from edge_agent.ops.orders.source_orders import SourceMove
from edge_agent.ops.page.files import static_files
from edge_agent.ops.sign_in import SignIn
from tests.end_to_end.support import AgentProcess, agents, eventually
from tests.end_to_end.talking import Peer
from tests.ops.real import agent
from tests.patience import PATIENCE_S

ROOT = Path(__file__).parent.parent.parent
DOCUMENT = (ROOT / "docs" / "http-api.md").read_text(encoding="utf-8")
#: A dead upstream, so that there is a consumer; and nobody waits for the first commit.
CONFIG = """
[log.main]
commit_interval = "0s"
[[upstream]]
name = "hub"
url = "http://127.0.0.1:9/in"
"""
#: Only where they say something, which the text says.
SOMETIMES = {"log", "quality", "time_quality", "synced", "origin"}


class Example(NamedTuple):
    """A request of the document, and what it says of the answer."""

    route: str
    command: str
    status: int
    content_type: str
    kind: str
    answer: str


def examples() -> list[Example]:
    found = []
    for section in re.split(r"^## ", DOCUMENT, flags=re.MULTILINE):
        for match in re.finditer(
            r"```sh\n(.+?)\n```\n\nAnswers (\d+), `(.+?)`[^\n]*\n(?:\n```(\w+)\n(.+?)\n```)?",
            section,
            re.DOTALL,
        ):
            route = section.partition("\n")[0]
            command, status, content_type, kind, answer = match.groups(default="")
            found.append(Example(route, command, int(status), content_type, kind, answer))
    return found


async def test_the_documented_routes_are_those_that_there_are(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as parts:
        rules = Rules.of("127.0.0.1", (), (), None, insecure=False)
        routes = make_routes(parts.watch, SignIn(parts.watch.sources, rules))
    real = {
        f"{method} {route.path}"
        for route in routes
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert set(re.findall(r"^## ((?:GET|POST) .+)$", DOCUMENT, re.MULTILINE)) == real
    assert set(re.findall(r"^\| \[?`((?:GET|POST) .+?)`", DOCUMENT, re.MULTILINE)) == real
    posts = {each.removeprefix("POST ") for each in real if each.startswith("POST")}
    assert posts == ORDER_PATHS | FORM_PATHS
    assert {example.route for example in examples()} == real, "each route has an example"
    assert len(examples()) == DOCUMENT.count("```sh\n"), "each example says what it answers"


def test_the_documented_codes_are_those_that_the_port_can_answer() -> None:
    port = [path.read_text() for path in (ROOT / "edge_agent" / "ops").rglob("*.py")]
    asked = [path.read_text() for path in (ROOT / "edge_agent" / "live").glob("*.py")]
    asked += [path.read_text() for path in (ROOT / "edge_agent" / "history").rglob("*.py")]
    asked += [
        (ROOT / "edge_agent" / f"{name}.py").read_text()
        for name in ("values/stream_names", "questions/asking")
    ]
    raised = re.findall(r'ProtocolError\(\s*"(\w+)"', "\n".join(port + asked))
    answered = re.findall(r'\b[45]\d\d,\s*"(\w+_\w+|failed|full|refused)"', "\n".join(port))
    documented = re.findall(r"^\| [45]\d\d \| `(\w+)` \|", DOCUMENT, re.MULTILINE)
    # These two are said of what is no request yet, from variables.
    assert set(documented) - {"no_tls", "bad_request"} == {*raised, *answered} - {"bad_request"}


def test_the_documented_parameters_of_queries_and_keys_of_orders_are_those_that_are_taken() -> None:
    with pytest.raises(ProtocolError) as refused:
        parse_query({"nonsense": ""}, 0)
    taken = refused.value.message.partition("there are ")[2].partition(" (")[0].split(", ")
    assert set(rows("GET /api/query")) == {*taken, "format"}
    orders: dict[str, type[Struct]] = {
        "consumers": ConsumerOrder,
        "sources": SourceMove,
        "resends": ResendGiven,
        "quarantine": QuarantineOrder,
    }
    for name, kind in orders.items():
        assert rows(f"POST /api/{name}") == [field.name for field in fields(kind)]


def rows(route: str) -> list[str]:
    """The names in the first column of a route's table."""
    section = DOCUMENT.partition(f"\n## {route}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]


def test_the_documented_limits_are_the_defaults_of_the_configuration() -> None:
    told = re.findall(r"`limits\.(\w+)`\s\((.+?)\)", DOCUMENT)
    assert len(told) >= 5
    for key, value in told:
        shown = (toml_value(getattr(Limits(), key)) or "").strip('"')
        assert re.sub("[ ,]", "", value) == shown, key


@pytest.fixture
async def running(tmp_path: Path) -> Any:
    """An agent that holds what the examples ask for: two records, and one that is none."""
    process = AgentProcess(tmp_path, "agent", CONFIG)
    async with agents(process):
        async with await Peer.open(process, "/ingest/greenhouse/1") as peer:
            await peer.hello("pi-7")
            await peer.say([{"t": 21.5, "h": 40}, {"t": 21.7, "h": 41}, {"stream": "a b"}])
            while (await peer.hear()).get("next") != 4:
                pass

        async def seen() -> bool:
            return bool((await process.get("/api/streams"))["streams"])

        await eventually(seen, describe="the streams were looked at")
        yield process


async def test_every_example_is_answered_as_the_document_says(running: AgentProcess) -> None:
    for example in examples():
        status, content_type, body = await trio.to_thread.run_sync(
            ask, example.command, running.http_port
        )
        assert (status, content_type) == (example.status, example.content_type), example.command
        if example.kind == "json":
            assert_alike(json.loads(example.answer), json.loads(body), example.command)
        elif example.kind == "csv":
            assert body.decode().splitlines()[0] == example.answer.splitlines()[0], example.command


def ask(command: str, port: int) -> tuple[int, str, bytes]:
    """Do what a curl command says; of an answer without end, the first line that is not empty."""
    words = shlex.split(command)
    assert words.pop(0) == "curl"
    headers, body, method = {}, None, "GET"
    url = urlsplit(words.pop())
    assert url.netloc == "127.0.0.1:8766"
    while words:
        option = words.pop(0)
        if option == "-H":
            name, _, value = words.pop(0).partition(": ")
            headers[name] = value.replace(":8766", f":{port}")
        elif option == "-d":
            body, method = words.pop(0).encode(), "POST"
        elif option == "-X":
            method = words.pop(0)
        else:
            assert option in ("-s", "-sN", "-sL"), option
    path = url.path.replace("/HASH/", f"/{static_files().version}/")
    target = url._replace(netloc=f"127.0.0.1:{port}", path=path).geturl()
    request = urllib.request.Request(target, body, headers, method=method)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        kind = answer.headers["Content-Type"]
        if url.path == "/api/subscribe":
            return answer.status, kind, next(line for line in answer if line.strip())
        return answer.status, kind, answer.read()


def assert_alike(shown: Any, real: Any, where: str) -> None:
    """The same keys, all the way down to what the document does not show."""
    assert isinstance(real, type(shown)) or shown is None or real is None, where
    if isinstance(shown, dict) and shown:
        assert shown.keys() == real.keys() - (SOMETIMES - shown.keys()), where
        for key, value in shown.items():
            assert_alike(value, real[key], f"{where}: {key}")
    elif isinstance(shown, list) and shown and real:
        assert_alike(shown[0], real[0], f"{where}[0]")
