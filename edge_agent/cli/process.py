"""Settings of the whole process: threads' turns, memory, garbage, signals at its edges, and files
that it is started with.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import threading
from typing import Final

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
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1
#: What is larger has pages of its own, which are there once they are written to, and so much may
#: stay free at the heap's end. glibc raises both after the largest that was ever given back, and
#: then clears what it takes from its heap: LMDB asks for 2 MiB for each file, of which it hardly
#: ever uses more than a page. History's cost 1.9 MB.
LARGE_BYTES = 1024 * 1024


class EarlyHangup:
    """A SIGHUP from before anybody obeys it: noted, where it would end the process.

    Importing and opening the store take a board seconds, and whoever changed a certificate or the
    configuration meanwhile says so with SIGHUP.

    Attributes:
        came: whether there was one.
    """

    def __init__(self) -> None:
        self.came = False

    def watch(self) -> None:
        """From now on, whenever nobody else does."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGHUP, self._note)

    def _note(self, number: int, frame: object) -> None:
        self.came = True


EARLY_HANGUP: Final = EarlyHangup()


def open_standard_files() -> None:
    """Open stdin, stdout and stderr on nothing, where whoever started this has closed them. What is
    opened next would have their numbers: a store's file would be 2, and take in what is written
    to stderr.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free, as those before it are open by now.
            os.open(os.devnull, os.O_RDWR)
            if getattr(sys, name) is None:
                setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - for as long as the process lives


def discard_stdout() -> None:
    """What is still to be written to stdout goes nowhere."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)


def before_start() -> None:
    """Set what has to be set before there are threads."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # glibc gives each thread an arena of its own, each of which keeps what was once freed in it:
    # over 60,000 connections that grew by 60 KB per 1,000, against a third of it with one arena.
    # Python's lock lets hardly two threads allocate at a time anyway.
    _tell_libc("mallopt", _M_ARENA_MAX, 1)
    _tell_libc("mallopt", _M_MMAP_THRESHOLD, LARGE_BYTES)
    _tell_libc("mallopt", _M_TRIM_THRESHOLD, LARGE_BYTES)


def after_start() -> None:
    """What is there now stays: it need not be looked at again. What imports left goes back."""
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    _tell_libc("malloc_trim", 0)


def _tell_libc(function: str, *numbers: int) -> None:
    try:
        getattr(ctypes.CDLL(None), function)(*numbers)
    except (OSError, AttributeError):
        pass  # Another libc has no such function, and other habits.
