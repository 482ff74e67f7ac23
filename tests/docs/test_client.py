"""What ``docs/client.md`` says: each example runs against a real agent and prints what it shows."""

from __future__ import annotations

import inspect
import os
import sys
from pathlib import Path
from typing import Any, get_args

import trio

from edge_agent.client import BlockingProducer, Opened, Producer, Trouble
from edge_agent.client.blocking import Options
from edge_agent.client.reports import TroubleKind
from tests.docs.examples import Example, examples_of, table_of
from tests.end_to_end.keys import STORE, Keys
from tests.end_to_end.support import AgentProcess, agents
from tests.patience import PATIENCE_S

PAGE = "client.md"
EXAMPLES = examples_of(PAGE, "python")
SECURED = "TLS and tokens"
#: What the examples together send, by stream; one record of `roof` is refused.
STORED = {"greenhouse/2": 3, "cellar": 3, "site": 3, "site/door": 1, "shed": 3, "import": 3}


async def ran(example: Example, agent: AgentProcess, folder: Path) -> tuple[str, str]:
    """What an example, as a script of its own in ``folder``, prints to both outputs."""
    script = folder / "example.py"
    script.write_text(example.code.replace(":8765/", f":{agent.port}/"))
    with trio.fail_after(PATIENCE_S):
        done = await trio.run_process(
            [sys.executable, script.name], cwd=folder, env={**os.environ, "TZ": "UTC"},
            capture_stdout=True, capture_stderr=True, check=False,
        )  # fmt: skip
    return done.stdout.decode(), done.stderr.decode()


async def test_every_example_prints_what_the_page_says_and_its_records_are_stored(
    tmp_path: Path,
) -> None:
    agent = AgentProcess(tmp_path, "agent", STORE)
    async with agents(agent):
        for example in EXAMPLES:
            if example.title != SECURED:
                printed = await ran(example, agent, tmp_path)
                assert printed[0] == example.printed, printed
        records = await agent.records()
    streams = [each["stream"] for each in records]
    assert {stream: streams.count(stream) for stream in streams} == STORED
    # As it was measured, to the moment.
    assert [each["time"] for each in records if each["stream"] == "site"][:2] == [
        "2026-11-29T10:00:00Z",
        "2026-11-29T10:01:00Z",
    ]


async def test_the_example_with_tls_and_a_token_is_let_in(tmp_path: Path) -> None:
    (example,) = [each for each in EXAMPLES if each.title == SECURED]
    keys = await trio.to_thread.run_sync(Keys.make, tmp_path / "keys")
    await trio.to_thread.run_sync(keys.add, "greenhouse", "--write", "greenhouse/**")
    agent = AgentProcess(tmp_path, "agent", STORE + keys.listen)
    (tmp_path / "ca.pem").write_bytes(keys.ca.read_bytes())
    async with agents(agent):
        # Its token is known, but there is none.
        assert "FileNotFoundError" in (await ran(example, agent, tmp_path))[1]
        (tmp_path / "greenhouse.token").write_text(keys.secrets["greenhouse"] + "\n")
        printed = await ran(example, agent, tmp_path)
    assert printed[0] == example.printed, printed


def test_every_example_says_what_it_prints() -> None:
    assert len(EXAMPLES) >= 9
    assert all(example.printed for example in EXAMPLES)


def test_the_settings_are_those_of_the_producer_with_its_defaults() -> None:
    parameters = dict(inspect.signature(Producer).parameters)
    told: dict[str, str] = {}
    for names, default, _ in table_of(PAGE, "Argument"):
        told |= {name.strip("`"): default.strip("`") for name in names.split(", ")}
    assert list(told) == list(parameters)
    for name, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty:
            assert told[name] == "must be given"
        elif told[name]:
            assert told[name] == repr(parameter.default), name
    assert set(Options.__annotations__) - {"random"} <= {
        n for n, default in told.items() if default
    }


def test_the_kinds_of_trouble_and_the_callbacks_are_those_that_there_are() -> None:
    assert [row[0].strip("`") for row in table_of(PAGE, "`kind`")] == [*get_args(TroubleKind)]
    arguments: dict[str, Any] = {"on_open": Opened, "on_error": Trouble}
    for callback, argument, _ in table_of(PAGE, "Callback"):
        kind = arguments.get(callback.strip("`"))
        if kind is not None:
            named = [part.strip("` ") for part in argument.partition(":")[2].split(",")]
            assert named == [*kind.__dataclass_fields__]


def test_the_blocking_producer_has_the_methods_of_the_other_one() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(Producer) - public(BlockingProducer) == {"send_nowait"}
