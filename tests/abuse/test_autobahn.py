"""The public Autobahn cases for RFC 6455 against the real listener, with an echo behind it.

Every applicable case has to be green. `NOT_APPLICABLE` says which are not, and why; that this is
the reason, and no other, is shown for each.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from edge_agent.config.quantities import MIB, Size
from edge_agent.config.shape import Limits
from edge_agent.server import connection
from edge_agent.server.poller import SharedReader
from edge_agent.wire import frames
from tests.abuse.echo import echo
from tests.server.support import Serving, serving

pytestmark = pytest.mark.needs("kosoku")

#: The largest message of any case has 16 MiB.
LIMITS = Limits(
    message_bytes=Size(16 * MIB), window_bytes=Size(16 * MIB), in_flight_bytes=Size(64 * MIB)
)
NOT_APPLICABLE = {
    "12.*": "permessage-deflate: the port accepts no extension, so nothing is compressed",
    "13.*": "permessage-deflate with other parameters: the same",
    "9.3.1": "a message in 65,536 frames: a message has at most 4,096 (close 1009)",
    "9.3.2": "a message in 16,384 frames: the same",
    "9.4.1": "as 9.3.1, binary",
    "9.4.2": "as 9.3.2, binary",
}
MANY_FRAMES = [case for case in NOT_APPLICABLE if case.startswith("9.")]
#: A thousand round trips each: five seconds of waiting, whatever reads the sockets.
ROUND_TRIPS = ["9.7.*", "9.8.*"]


async def autobahn(
    port: Serving, *, only: list[str] | None = None, without: list[str] | None = None
) -> list[dict[str, Any]]:
    """Run cases; how each ended."""
    asked = {"url": f"ws://127.0.0.1:{port.port}/ingest/echo", "only": only, "without": without}
    command = [sys.executable, "-m", "tests.abuse.run_autobahn", json.dumps(asked)]
    done = await trio.to_thread.run_sync(
        partial(subprocess.run, command, capture_output=True, text=True, check=False)
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@asynccontextmanager
async def echoing(folder: Path, patch: pytest.MonkeyPatch) -> AsyncIterator[Serving]:
    """The real port, with an echo in the place of what stores records."""
    patch.setattr(connection, "serve_plain", echo)
    async with serving(folder, limits=LIMITS) as port:
        yield port
        assert port.metrics.total("connection_faults_total") == 0


def unclean(results: list[dict[str, Any]]) -> list[str]:
    """Cases that are not green."""
    return [str(result) for result in results if not result["passed"]]


@pytest.mark.parametrize("reader", ["the shared reader", "a task of its own"])
async def test_every_applicable_case_is_green(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    excluded = list(NOT_APPLICABLE)
    if reader == "a task of its own":  # As behind TLS.
        monkeypatch.setattr(SharedReader, "if_available", lambda: None)
        excluded += ROUND_TRIPS
    async with echoing(tmp_path, monkeypatch) as port:
        results = await autobahn(port, without=excluded)
    assert unclean(results) == []
    assert len(results) == (297 if excluded == list(NOT_APPLICABLE) else 285)
    told = Counter(result["behavior"] for result in results)
    # 6.4.3 and 6.4.4 would like a frame judged before it is there as a whole; what the
    # informational ones (7.1.6, 7.13.*) come to is for nobody to judge.
    assert told == {"OK": len(results) - 5, "NON-STRICT": 2, "INFORMATIONAL": 3}


async def test_a_message_in_too_many_frames_is_refused_for_that_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with echoing(tmp_path / "as it is", monkeypatch) as port:
        refused = await autobahn(port, only=MANY_FRAMES)
    assert {(result["passed"], result["code"]) for result in refused} == {(False, 1009)}
    monkeypatch.setattr(frames, "FRAMES_MAX", 65_536)
    async with echoing(tmp_path / "with more", monkeypatch) as port:
        assert unclean(await autobahn(port, only=MANY_FRAMES)) == []


async def test_compression_is_offered_and_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with echoing(tmp_path, monkeypatch) as port:
        results = await autobahn(port, only=["12.1.1", "12.5.1", "13.1.1", "13.7.1"])
    told = [(result["behavior"], result["close"]) for result in results]
    assert told == [("UNIMPLEMENTED", "OK")] * 4
