"""How tests wait: for what must happen, with one patience for all; and what ends a test that hangs.

`PATIENCE_S` ends a wait that would not end and decides nothing else. What a busy machine makes slow
is not wrong, so it is much longer than anything takes. Only a test *of* a deadline sets a shorter
one, and then nothing else may rest on it.

`limited` gives every test an end of its own, as some waits have no deadline to set: it shows where
every task and every thread stands and fails the test. (pytest-timeout knows threads; what hangs
here is a task.)
"""

from __future__ import annotations

import faulthandler
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CoroutineType, FrameType, GeneratorType

import pytest
import trio

#: Seconds that any one thing may take until it has happened.
PATIENCE_S = 30.0
#: Seconds that one test may take. The slowest take two minutes where nothing else runs.
TEST_S = 900.0
#: Between two looks at what nobody tells of.
_LOOK_S = 0.005


async def eventually(condition: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> None:
    """Wait until ``condition`` holds; for what happens without anybody being told."""
    with trio.move_on_after(seconds):
        while not condition():
            await trio.sleep(_LOOK_S)
        return
    raise AssertionError(f"never happened: {what}")


async def receive_until(
    stream: trio.abc.ReceiveStream, enough: bytes | int | Callable[[bytes], bool]
) -> bytes:
    """Everything up to what is ``enough``: these bytes, that many, or a question to what came.

    Fails where the stream ends before, so that no loop goes round on the b"" at a stream's end.
    """
    received = b""
    with trio.fail_after(PATIENCE_S):
        while not _is_enough(received, enough):
            piece = await stream.receive_some(65536)
            assert piece, f"the stream ended after {received[:1000]!r}"
            received += piece
    return received


async def receive_to_end(stream: trio.abc.ReceiveStream) -> bytes:
    """Everything until the other side closes or resets."""
    received = b""
    with trio.fail_after(PATIENCE_S):
        try:
            while piece := await stream.receive_some(65536):
                received += piece
        except trio.BrokenResourceError:
            pass
    return received


def _is_enough(received: bytes, enough: bytes | int | Callable[[bytes], bool]) -> bool:
    if isinstance(enough, bytes):
        return enough in received
    return len(received) >= enough if isinstance(enough, int) else enough(received)


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Fail what takes longer than ``seconds``, after a dump of all tasks and threads."""
    is_over = False

    def end(_signal: int, _frame: FrameType | None) -> None:
        nonlocal is_over
        is_over = True
        print(f"\n{seconds:.0f} s are over. All tasks:", *tasks(), sep="\n", file=sys.stderr)
        faulthandler.dump_traceback(sys.__stderr__ or sys.stderr)
        # Trio brings an interrupt to the main task where it is safe; what is raised in a handler
        # may meet Trio's own code and leave it broken.
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except BaseException as interrupt:
        if not is_over:
            raise
        pytest.fail(f"took longer than {seconds:.0f} s, see the dump of all tasks: {interrupt!r}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def tasks() -> list[str]:
    """All tasks of the run in this thread, each with where it stands; empty outside a run."""
    try:
        root = trio.lowlevel.current_root_task()
    except RuntimeError:
        return []
    return [] if root is None else list(_tasks(root, 0))


def _tasks(task: trio.lowlevel.Task, depth: int) -> Iterator[str]:
    indent = "  " * depth
    yield f"{indent}{task.name}"
    for line in traceback.format_list(_stack(task.coro)):
        yield from (indent + "    " + each for each in line.rstrip().splitlines())
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from _tasks(child, depth + 1)


def _stack(awaitable: object) -> traceback.StackSummary:
    frames: list[tuple[FrameType, int]] = []
    while True:
        if isinstance(awaitable, CoroutineType):
            frame, inner = awaitable.cr_frame, awaitable.cr_await
        elif isinstance(awaitable, GeneratorType):
            frame, inner = awaitable.gi_frame, awaitable.gi_yieldfrom
        else:
            return traceback.StackSummary.extract(iter(frames))
        if frame is not None:
            frames.append((frame, frame.f_lineno))
        awaitable = inner
