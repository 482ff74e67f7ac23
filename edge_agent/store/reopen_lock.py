"""This lock lets readers run beside one another, and a reopening only alone.

LMDB needs no lock between readers and the writer. But closing the environment under a reader
would unmap what it is reading, so every call passes here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Many may be inside `shared`, or one inside `alone`. Calls are short (one transaction), so
    waiting has no deadline; nobody waits inside for anything else than the disk.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._closing = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Beside others of this kind. Not to be nested: `alone` would wait for ever."""
        with self._changed:
            while self._closing:
                self._changed.wait()
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """With nobody else inside; newcomers wait meanwhile."""
        with self._changed:
            while self._closing:
                self._changed.wait()
            self._closing = True
            while self._inside:
                self._changed.wait()
        try:
            yield
        finally:
            with self._changed:
                self._closing = False
                self._changed.notify_all()
