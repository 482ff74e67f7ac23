from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.clock import ManualClock
from edge_agent.errors import ConfigError
from edge_agent.forward.sink import Batch, Sink, make_sink
from edge_agent.store import Gap, Identity
from tests.forward.support import inline, running_station, upstream

IDENTITY = Identity("00" * 16, "e0" * 8, "a1" * 6, 0)


def made(url: str) -> Sink:
    clock = ManualClock()
    return make_sink(upstream(url), "main", identity=IDENTITY, clock=clock, run_blocking=inline)


@pytest.mark.parametrize(
    "url, keyed",
    [
        ("ws://hub/forward", False),
        ("wss://hub/forward", False),
        ("http://hub/in", True),
        ("https://hub/in", True),
    ],
)
def test_the_scheme_says_which_sink(url: str, keyed: bool) -> None:
    assert made(url).keyed is keyed


def test_a_scheme_without_a_sink_is_an_error_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match="upstream hub: url"):
        made("mqtt://hub/")


def test_the_http_library_is_loaded_only_when_it_is_used() -> None:
    script = (
        "import sys, edge_agent.forward as f\n"
        "assert 'httpx2' not in sys.modules\n"
        "import tests.forward.test_sink as t\n"
        "t.made('ws://hub/forward')\n"
        "assert 'httpx2' not in sys.modules\n"
        "t.made('http://hub/in')\n"
        "assert 'httpx2' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2])


async def test_a_batch_gives_the_records_of_its_range(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station:
        await station.put(4)
        await station.put(4, stream="x", start=4)
        items = (*await station.log.read("main", 0), Gap("main", 9, 12, "damaged"))
        batch = Batch("main", 3, 10, items)
        assert [record.seq for record in batch.records(lambda _: True)] == [3, 4, 5, 6, 7, 8]
        assert [record.seq for record in batch.records("x".__eq__)] == [5, 6, 7, 8]
