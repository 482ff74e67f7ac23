"""Single keys of a terminal, where there is one; without one, nothing is ever pressed."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from types import TracebackType
from typing import Any, Self


class Keys:
    """``with`` it keys come as they are pressed, unseen; after it the terminal is as it was."""

    def __init__(self, file: int | None = None) -> None:
        #: Descriptor of the terminal, None where nobody can press anything.
        self._file = _terminal() if file is None else file
        self._before: list[Any] | None = None

    def __enter__(self) -> Self:
        if self._file is not None:
            self._before = termios.tcgetattr(self._file)
            # Ctrl-C stays what it is.
            tty.setcbreak(self._file)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None and self._before is not None:
            termios.tcsetattr(self._file, termios.TCSADRAIN, self._before)

    def wait(self, seconds: float) -> str:
        """The next key that is pressed within ``seconds``, "" where none is."""
        if self._file is None:
            time.sleep(seconds)
            return ""
        ready, _, _ = select.select([self._file], [], [], seconds)
        if not ready:
            return ""
        key = os.read(self._file, 1)
        if not key:
            # The terminal is gone: from here on as without one.
            self._file = None
        return key.decode("ascii", "ignore")


def _terminal() -> int | None:
    try:
        return sys.stdin.fileno() if sys.stdin.isatty() else None
    except (OSError, ValueError, AttributeError):
        return None
