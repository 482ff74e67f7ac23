from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.patience import eventually, receive_to_end, receive_until

ROOT = Path(__file__).parent.parent
HANGING = """
import signal
import trio
import trio.testing
from tests.patience import limited

async def hangs_here() -> None:
    await trio.sleep_forever()

async def main() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hangs_here)
        await trio.testing.wait_all_tasks_blocked()
        # Its end comes at once, and not before it hangs.
        signal.setitimer(signal.ITIMER_REAL, 0.01)

def test_hangs() -> None:
    with limited(300):
        trio.run(main)
"""


def test_a_test_that_hangs_ends_and_shows_all_its_tasks(tmp_path: Path) -> None:
    (tmp_path / "test_hanging.py").write_text(HANGING)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:trio",
         "--rootdir", tmp_path, tmp_path / "test_hanging.py"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "1 failed" in done.stdout
    assert "in hangs_here" in done.stdout + done.stderr


async def test_what_is_received_until_its_end_is_everything() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(b"one")
    await theirs.send_all(b"two")
    assert await receive_until(ours, b"w") == b"onetwo"
    await theirs.send_all(b"three")
    assert await receive_until(ours, 5) == b"three"
    await theirs.send_all(b"four")
    await theirs.send_eof()
    assert await receive_to_end(ours) == b"four"


async def test_a_stream_that_ends_too_early_fails_at_once() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(b"half")
    await theirs.send_eof()
    with pytest.raises(AssertionError, match="ended after b'half'"):
        await receive_until(ours, b"whole")


async def test_what_never_happens_is_told_with_its_name() -> None:
    with pytest.raises(AssertionError, match="never happened: the moon"):
        await eventually(lambda: False, "the moon", seconds=0.01)
