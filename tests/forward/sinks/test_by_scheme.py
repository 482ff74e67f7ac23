from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from edge_agent.errors import ConfigError, SinkUnavailable
from edge_agent.extras import library_needed
from edge_agent.forward import Sink, make_sink
from edge_agent.forward.sink import Batch
from edge_agent.store import Block, Identity, encode_runs
from tests.forward.support import NOW_NS, inline, make_run, upstream
from tests.manual_clock import ManualClock

IDENTITY = Identity("00" * 16, "e0" * 8, "a1" * 6, 0)


def made(url: str, **more: Any) -> Sink:
    clock = ManualClock()
    return make_sink(
        upstream(url, **more), "main", identity=IDENTITY, clock=clock, run_blocking=inline
    )


@pytest.mark.parametrize(
    "url, keyed",
    [
        ("ws://hub/forward", False),
        ("wss://hub/forward", False),
        ("http://hub/in", True),
        ("https://hub/in", True),
        ("file:///mnt/usb", True),
        ("nats://one,two", True),
        ("nats+tls://one", True),
        ("kafka://one,two", True),
    ],
)
def test_the_scheme_says_which_sink(url: str, keyed: bool) -> None:
    assert made(url).keyed is keyed


def test_a_scheme_without_a_sink_is_an_error_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match="upstream hub: url"):
        made("gopher://hub/")


def test_a_library_that_is_missing_is_named_with_what_installs_it() -> None:
    script = (
        "import sys\n"
        "sys.modules['confluent_kafka'] = None\n"
        "import tests.forward.sinks.test_by_scheme as t\n"
        "t.made('kafka://one')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parents[3], capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert f"{library_needed('kafka')}, found none" in done.stderr


def test_lines_are_a_kind_of_their_own() -> None:
    assert type(made("http://hub/write", format="line")).__name__ == "InfluxSink"


def test_a_library_that_is_missing_is_named_with_the_way_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [one for one in sys.modules if "sinks.postgres" in one]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=re.escape(library_needed("postgres"))):
        made("postgresql://me@db/iot")


async def test_psycopg_is_loaded_by_the_first_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import sys\n"
        "import tests.forward.sinks.test_by_scheme as t\n"
        "t.made('postgresql://me@db/iot')\n"
        "assert not {'psycopg', 'psycopg_binary'} & set(sys.modules)\n"
    )
    root = Path(__file__).parents[3]
    await trio.run_process([sys.executable, "-c", script], cwd=root)
    # What it needs may be missing although it is there itself.
    monkeypatch.setitem(sys.modules, "edge_agent.forward.sinks.postgres.connection", None)
    raw = encode_runs([make_run("t/1", 1)])
    block = Block("main", 1, 1, 0, len(raw), raw, bytes(16), 1, NOW_NS, True, NOW_NS, NOW_NS)
    with pytest.raises(SinkUnavailable, match="psycopg cannot be loaded: ") as caught:
        await made("postgresql://me@db/iot").send(Batch("main", 1, 1, (block,)))
    assert caught.value.slow and caught.value.obstacle == "here"


def test_no_http_library_beside_h11_is_loaded() -> None:
    script = (
        "import sys\n"
        "import tests.forward.sinks.test_by_scheme as t\n"
        "t.made('http://hub/in')\n"
        "assert 'h11' in sys.modules\n"
        "assert not {'httpx2', 'httpcore2', 'urllib.request'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[3])
