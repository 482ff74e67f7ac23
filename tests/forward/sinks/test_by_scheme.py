from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.errors import ConfigError
from edge_agent.forward import Sink, make_sink
from edge_agent.store import Identity
from tests.forward.support import inline, upstream
from tests.manual_clock import ManualClock

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
        ("file:///mnt/usb", True),
    ],
)
def test_the_scheme_says_which_sink(url: str, keyed: bool) -> None:
    assert made(url).keyed is keyed


def test_a_scheme_without_a_sink_is_an_error_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match="upstream hub: url"):
        made("gopher://hub/")


def test_no_http_library_beside_h11_is_loaded() -> None:
    script = (
        "import sys\n"
        "import tests.forward.sinks.test_by_scheme as t\n"
        "t.made('http://hub/in')\n"
        "assert 'h11' in sys.modules\n"
        "assert not {'httpx2', 'httpcore2', 'urllib.request'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[3])
