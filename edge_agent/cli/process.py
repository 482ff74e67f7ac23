"""Settings of the whole process: threads' turns, memory and its collection of garbage."""

from __future__ import annotations

import ctypes
import gc
import sys

#: How long one thread may keep the interpreter while another wants it. With Python's 5 ms, a commit
#: that has synced waits that long for a busy event loop before it can say so, and the event loop as
#: long for one that compresses: with half a millisecond, 7 % more records a second became durable
#: (batches of 100, four interleaved runs), and acks beside large queries came sooner.
SWITCH_INTERVAL_S = 0.0005
#: Python looks for cycles after so many new containers, and every so many looks at older ones. With
#: its own 700, 10, 10 it looked at everything in the middle of a commit's acks: with 500 sensors at
#: 20 messages a second the slowest hundredth was acked after 45-57 ms instead of 32.
GC_THRESHOLDS = (20_000, 20, 50)
#: mallopt(3): for glibc alone.
_M_ARENA_MAX = -8


def before_start() -> None:
    """Set what has to be set before there are threads."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    _one_arena()


def after_start() -> None:
    """What is there now stays: it need not be looked at again."""
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _one_arena() -> None:
    # glibc gives each thread an arena of its own, each of which keeps what was once freed in it:
    # over 60,000 connections that grew by 60 KB per 1,000, against a third of it with one arena.
    # Python's lock lets hardly two threads allocate at a time anyway.
    try:
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
    except (OSError, AttributeError):
        pass  # Another libc has no such function, and other habits.
